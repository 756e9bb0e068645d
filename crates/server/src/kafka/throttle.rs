//! A client beyond its quota: its connection is not read for a while, and its answers say for how long
//! (KIP-219).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Until when a connection is not read.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Lets the client wait for so long from now on, if it does not already for longer.
    pub(crate) fn extend(&self, wait: Duration) {
        let end = Instant::now() + wait;
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(until.map_or(end, |before| before.max(end)));
    }

    fn left(&self) -> Duration {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.map_or(Duration::ZERO, |end| {
            end.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            *until = None;
        }
        left
    }

    /// What is left, in milliseconds.
    pub(crate) fn millis(&self) -> i32 {
        i32::try_from(self.left().as_millis()).unwrap_or(i32::MAX)
    }

    /// Waits until the connection may be read.
    pub(crate) async fn passed(&self) {
        loop {
            let left = self.left();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// The time that a future takes of its thread, without what it waits.
#[derive(Debug)]
pub(crate) struct Spent;

impl Spent {
    /// A future's value, and the seconds that it took.
    pub(crate) async fn of<T>(work: impl Future<Output = T>) -> (T, f64) {
        let mut work = pin!(work);
        let mut spent = Duration::ZERO;
        let value = poll_fn(|context| {
            let began = std::time::Instant::now();
            let polled = work.as_mut().poll(context);
            spent += began.elapsed();
            polled
        })
        .await;
        (value, spent.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_wait_counts_and_passes() {
        let throttle = Throttle::default();
        throttle.passed().await;
        throttle.extend(Duration::from_secs(3));
        throttle.extend(Duration::from_secs(1));
        assert_eq!(throttle.millis(), 3000);
        let began = Instant::now();
        throttle.passed().await;
        assert_eq!(began.elapsed().as_secs(), 3);
        assert_eq!(throttle.millis(), 0);
    }

    #[tokio::test]
    async fn waiting_is_not_spending() {
        let (value, spent) = Spent::of(async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            7
        })
        .await;
        assert_eq!(value, 7);
        assert!(spent < 0.1, "{spent}");
    }
}
