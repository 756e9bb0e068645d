//! Requests that do not wait for the slow ones: who has waited longer than most take asks a second
//! time, and the first good answer counts.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use metrics::Counter;
use tokio::time::timeout;

/// One request in so many may be made a second time,
const ONE_IN: u32 = 10;

/// and so many at once after a calm time.
const BURST: u32 = 8;

/// The second requests of one kind, and how many there may be.
#[derive(Debug)]
pub struct Hedges {
    /// In parts of a second request: [`ONE_IN`] of them pay for one.
    allowance: Mutex<u32>,
    started: Counter,
    won: Counter,
}

impl Hedges {
    /// `started` counts second requests, `won` those that answered first.
    #[must_use]
    pub const fn new(started: Counter, won: Counter) -> Self {
        Self {
            allowance: Mutex::new(BURST * ONE_IN),
            started,
            won,
        }
    }

    /// Makes a request, and while it is under way a second one when it has taken longer than `after`
    /// and one request in ten was not made twice already. The one that is late is dropped.
    ///
    /// # Errors
    /// That of the request; where two were made, that of the later one, when both failed.
    pub async fn first_of<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        after: Option<Duration>,
        request: impl Fn() -> F,
    ) -> Result<T, E> {
        self.earn();
        let mut first = pin!(request());
        let Some(after) = after else {
            return first.await;
        };
        if let Ok(answer) = timeout(after, &mut first).await {
            return answer;
        }
        if !self.spend() {
            return first.await;
        }
        self.started.increment(1);
        match select(first, pin!(request())).await {
            Either::Left((Ok(answer), _)) => Ok(answer),
            Either::Right((Ok(answer), _)) => {
                self.won.increment(1);
                Ok(answer)
            }
            // One failed: the other may yet answer.
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
        }
    }

    fn allowance(&self) -> MutexGuard<'_, u32> {
        self.allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn earn(&self) {
        let mut allowance = self.allowance();
        *allowance = (*allowance + 1).min(BURST * ONE_IN);
    }

    fn spend(&self) -> bool {
        let mut allowance = self.allowance();
        let left = allowance.checked_sub(ONE_IN);
        *allowance = left.unwrap_or(*allowance);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    const AFTER: Duration = Duration::from_millis(100);

    fn hedges() -> Hedges {
        Hedges::new(Counter::noop(), Counter::noop())
    }

    /// Takes so long and ends so, attempt by attempt; says which attempt answered.
    async fn ask(hedges: &Hedges, attempts: &[(u64, bool)]) -> (Result<u32, u32>, Duration) {
        let (made, began) = (AtomicU32::new(0), Instant::now());
        let request = || async {
            let attempt = made.fetch_add(1, Ordering::Relaxed);
            let (millis, good) = attempts[attempt as usize];
            sleep(Duration::from_millis(millis)).await;
            if good { Ok(attempt) } else { Err(attempt) }
        };
        let answer = hedges.first_of(Some(AFTER), request).await;
        (answer, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_is_made_twice_and_the_first_good_answer_counts() {
        let hedges = hedges();
        let millis = Duration::from_millis;
        assert_eq!(ask(&hedges, &[(99, true)]).await, (Ok(0), millis(99)));
        let slow = [(5000, true), (30, true)];
        assert_eq!(ask(&hedges, &slow).await, (Ok(1), millis(130)));
        let slower = [(150, true), (80, true)];
        assert_eq!(ask(&hedges, &slower).await, (Ok(0), millis(150)));
        let failing = [(200, true), (30, false)];
        assert_eq!(ask(&hedges, &failing).await, (Ok(0), millis(200)));
        let both = [(110, false), (30, false)];
        assert_eq!(ask(&hedges, &both).await, (Err(1), millis(130)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_one_in_ten_are_made_twice_in_the_long_run() {
        let hedges = hedges();
        let mut twice = 0;
        for _ in 0..1000 {
            let (answer, _) = ask(&hedges, &[(200, true), (1, true)]).await;
            twice += u32::from(answer == Ok(1));
        }
        assert!((100..=100 + BURST).contains(&twice), "{twice}");
    }
}
