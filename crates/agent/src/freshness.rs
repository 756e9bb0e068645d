//! Read-your-writes through any agent.
//!
//! A view of the metadata lags a little. Where a request asks for what the view does not know (a
//! topic, an offset past the high watermark), it may have learned of it from another agent: before it
//! is told that there is no such thing, one barrier brings the view up to date. A barrier costs the
//! quorum a round trip, so all who wait share one, and those who missed something begin one only so
//! often: a client that asks for nonsense in a loop is slowed, and costs the quorum little.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::time::{Duration, Instant, sleep_until, timeout};

use alluvium_cluster::{Metadata, ProposeError};

/// Least time between the beginnings of two barriers for misses.
const PAUSE: Duration = Duration::from_millis(20);

/// How long somebody who missed something waits; then the view is taken as it is.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) type Barrier =
    Box<dyn Fn() -> BoxFuture<'static, Result<(), ProposeError>> + Send + Sync>;

/// Brings the view up to date, for many at once. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Freshness {
    shared: Arc<Shared>,
}

struct Shared {
    barrier: Barrier,
    /// Held by whoever carries a barrier out; the others wait behind.
    turn: tokio::sync::Mutex<()>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Barriers begun so far. Whoever asks now needs one that begins later.
    begun: u64,
    begun_at: Option<Instant>,
    /// The last one that ended, and how.
    done: u64,
    result: Result<(), ProposeError>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.progress().fmt(f)
    }
}

impl Freshness {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let metadata = metadata.clone();
        Self::over(Box::new(move || {
            let metadata = metadata.clone();
            Box::pin(async move { metadata.barrier().await })
        }))
    }

    /// With another way to bring the view up to date.
    pub(crate) fn over(barrier: Barrier) -> Self {
        let progress = Progress {
            begun: 0,
            begun_at: None,
            done: 0,
            result: Ok(()),
        };
        Self {
            shared: Arc::new(Shared {
                barrier,
                turn: tokio::sync::Mutex::new(()),
                progress: Mutex::new(progress),
            }),
        }
    }

    /// Waits until the view holds everything that was committed when the call was made. Not held
    /// back: for answers that must be linearizable each time.
    ///
    /// # Errors
    /// The quorum is not available.
    pub(crate) async fn current(&self) -> Result<(), ProposeError> {
        let number = self.shared.progress().begun + 1;
        self.shared.reach(number).await
    }

    /// The same for somebody who missed something in the view: less often, and for no longer than a
    /// client should wait for "there is no such thing".
    ///
    /// # Errors
    /// The quorum is not available; the view may lag.
    pub(crate) async fn catch_up(&self) -> Result<(), ProposeError> {
        let (number, last) = {
            let progress = self.shared.progress();
            (progress.begun + 1, progress.begun_at)
        };
        let caught_up = async {
            if let Some(last) = last {
                sleep_until(last + PAUSE).await;
            }
            self.shared.reach(number).await
        };
        let caught_up = timeout(PATIENCE, caught_up).await;
        caught_up.unwrap_or(Err(ProposeError::TimedOut))
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the barrier `number`, or a later one, has ended; carries it out if nobody does.
    async fn reach(&self, number: u64) -> Result<(), ProposeError> {
        let turn = self.turn.lock().await;
        let number = {
            let mut progress = self.progress();
            if progress.done >= number {
                return progress.result.clone();
            }
            progress.begun += 1;
            progress.begun_at = Some(Instant::now());
            progress.begun
        };
        metrics::counter!("alluvium_view_barriers_total").increment(1);
        let result = (self.barrier)().await;
        let mut progress = self.progress();
        progress.done = number;
        progress.result = result.clone();
        drop(progress);
        drop(turn);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;

    const TRIP: Duration = Duration::from_millis(3);

    fn counted() -> (Freshness, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        let freshness = Freshness::over(Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Box::pin(async {
                sleep(TRIP).await;
                Ok(())
            })
        }));
        (freshness, count)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_a_barrier_runs_shares_the_next_one() {
        let (freshness, count) = counted();
        let first = tokio::spawn({
            let freshness = freshness.clone();
            async move { freshness.current().await }
        });
        sleep(TRIP / 3).await;
        let started = Instant::now();
        let others = join_all((0..50).map(|_| freshness.current())).await;
        assert!(others.iter().all(Result::is_ok));
        assert!(first.await.unwrap().is_ok());
        assert_eq!(count.load(Ordering::SeqCst), 2);
        // Not the one under way, which may have been answered before they asked.
        assert!(started.elapsed() > TRIP);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_of_misses_costs_fifty_barriers_a_second_and_holds_up_nobody_else() {
        let (freshness, count) = counted();
        let clients = (0..20).map(|_| async {
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until {
                freshness.catch_up().await.unwrap();
            }
        });
        join_all(clients).await;
        let cost = count.load(Ordering::SeqCst);
        assert!((30..=60).contains(&cost), "{cost} barriers");
        let started = Instant::now();
        freshness.current().await.unwrap();
        assert!(started.elapsed() <= TRIP * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_leaves_in_the_middle_does_not_leave_the_others_without_an_answer() {
        let (freshness, count) = counted();
        let leaves = timeout(TRIP / 2, freshness.current());
        let (left, stays) = tokio::join!(leaves, freshness.current());
        assert!(left.is_err() && stays.is_ok());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
