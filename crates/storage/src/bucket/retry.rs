//! How often a failed request is tried again, and how soon.
//!
//! Each bucket has a budget of retries: a retry takes one token, a success gives a quarter of
//! one back, and time gives some. While a store fails for everybody the tokens run out, and each request
//! is made once: a sick store gets about as many requests as a healthy one, not several times as many.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alluvium_types::random;
use tokio::time::Instant;

use super::error::Failure;

/// Most attempts at one request.
pub(super) const ATTEMPTS: u32 = 6;

/// No attempt begins this long after the first.
const TRYING: Duration = Duration::from_secs(60);

/// Bound of the first pause; each next one is twice as long. Short, for the commonest failure is a
/// connection that the store had closed.
const FIRST_PAUSE_MILLIS: u64 = 50;

const LONGEST_PAUSE_MILLIS: u64 = 10_000;

/// Tokens at most.
const CAPACITY: f64 = 100.0;

/// Tokens that a success gives back.
const PER_SUCCESS: f64 = 0.25;

/// Tokens that a second gives back.
const PER_SECOND: f64 = 2.0;

/// The retries that a bucket has left.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: Mutex<(f64, Instant)>,
}

/// Attempts at one request so far.
#[derive(Debug)]
pub(super) struct Attempts {
    made: u32,
    began: Instant,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            made: 0,
            began: Instant::now(),
        }
    }
}

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self {
            tokens: Mutex::new((CAPACITY, Instant::now())),
        }
    }

    fn add(&self, more: f64) -> bool {
        let mut held = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(held.1).as_secs_f64() * PER_SECOND;
        let tokens = (held.0 + earned).min(CAPACITY);
        let allowed = tokens + more >= 0.0;
        *held = (
            if allowed { tokens + more } else { tokens }.min(CAPACITY),
            now,
        );
        allowed
    }

    pub(super) fn succeeded(&self) {
        self.add(PER_SUCCESS);
    }

    /// Waits before the next attempt and answers true; or answers false, because the failure will
    /// not pass, or enough was tried.
    pub(super) async fn again(&self, attempts: &mut Attempts, failure: &Failure) -> bool {
        attempts.made += 1;
        if !failure.is_passing() || attempts.made >= ATTEMPTS || !self.add(-1.0) {
            return false;
        }
        let limit = (FIRST_PAUSE_MILLIS << (attempts.made - 1)).min(LONGEST_PAUSE_MILLIS);
        let pause = Duration::from_millis(random::range(limit / 2..limit));
        if attempts.began.elapsed() + pause > TRYING {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Failure {
        Failure::Unavailable("down".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_tried_a_few_times_with_longer_and_longer_pauses() {
        let budget = RetryBudget::new();
        let mut attempts = Attempts::new();
        let mut last = Instant::now();
        let mut pauses = Vec::new();
        while budget.again(&mut attempts, &down()).await {
            pauses.push(last.elapsed().as_millis() as u64);
            last = Instant::now();
        }
        assert_eq!(pauses.len() as u32, ATTEMPTS - 1);
        for (nth, pause) in pauses.iter().enumerate() {
            let limit = FIRST_PAUSE_MILLIS << nth;
            assert!((limit / 2..=limit).contains(pause), "{pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_everything_fails_retries_end_and_come_back_with_time() {
        let budget = RetryBudget::new();
        let retries = async |requests: u32| {
            let mut made = 0;
            for _ in 0..requests {
                // One retry each; the pause is not waited for, or time would give tokens.
                made += u32::from(budget.add(-1.0));
            }
            made
        };
        assert_eq!(retries(500).await, CAPACITY as u32);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(retries(500).await, 20);
        (0..50).for_each(|_| budget.succeeded());
        assert_eq!(retries(500).await, 12);
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_not_tried_again() {
        let budget = RetryBudget::new();
        for failure in [
            Failure::NotFound,
            Failure::Exists,
            Failure::Denied("no".to_owned()),
        ] {
            assert!(!budget.again(&mut Attempts::new(), &failure).await);
        }
        let slow = Failure::SlowDown("503".to_owned());
        assert!(budget.again(&mut Attempts::new(), &slow).await);
    }
}
