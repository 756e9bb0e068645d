//! Whether a connection is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Under way now.
    busy: usize,
    /// When the last one ended; none before the first began.
    last: Option<Instant>,
}

/// A request, or a stream, that is under way.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Traffic>);

impl Traffic {
    pub(crate) fn enter(self: &Arc<Self>) -> Busy {
        self.with(|counts| {
            counts.busy += 1;
            counts.last = Some(Instant::now());
        });
        Busy(Arc::clone(self))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends when no first request came within `first` or, later, none for `idle`.
    pub(crate) async fn silence(&self, first: Duration, idle: Duration) {
        let begun = Instant::now();
        loop {
            let end = self.with(|counts| match (counts.busy, counts.last) {
                (0, None) => begun + first,
                (0, Some(last)) => last + idle,
                _ => Instant::now() + idle,
            });
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.with(|counts| {
            counts.busy = counts.busy.saturating_sub(1);
            counts.last = Some(Instant::now());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_end_of_the_last_request() {
        let begun = Instant::now();
        let traffic = Arc::new(Traffic::default());
        traffic.silence(FIRST, IDLE).await;
        assert_eq!(begun.elapsed(), FIRST);
        let busy = traffic.enter();
        let watched = Arc::clone(&traffic);
        let silence = tokio::spawn(async move { watched.silence(FIRST, IDLE).await });
        tokio::time::sleep(IDLE * 10).await;
        assert!(!silence.is_finished());
        drop(busy);
        let ended = Instant::now();
        silence.await.unwrap();
        assert!(ended.elapsed() >= IDLE && ended.elapsed() <= IDLE * 2);
    }
}
