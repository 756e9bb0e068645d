//! Whether this process serves, and if not, why.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

/// Longest that a probe may take; what takes longer is not ready.
const PATIENCE: Duration = Duration::from_secs(2);
const NO_ANSWER: &str = "no answer within 2 s; the metadata quorum may have no leader";
/// An answer is given again for this long, so that a flood of questions costs nothing.
const FRESH: Duration = Duration::from_millis(500);

/// Asks the parts of a running process whether they can do their work now; the reason if not.
pub(crate) type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How far a process has come. Clones share it.
#[derive(Clone)]
pub(crate) struct Readiness {
    shared: Arc<Shared>,
}

struct Shared {
    phase: Mutex<Phase>,
    /// What the last probe said and when. The lock makes one probe serve all who ask meanwhile.
    last: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

#[derive(Clone)]
enum Phase {
    Starting(String),
    Serving(Probe),
    Stopping(String),
}

/// What `/health` and `/ready` tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whether clients or peers should use this process.
    pub(crate) ready: bool,
    /// `starting`, `serving` or `stopping`.
    pub(crate) state: &'static str,
    /// Why not, where it is not ready.
    pub(crate) reason: Option<String>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                phase: Mutex::new(Phase::Starting("the process is starting".to_owned())),
                last: tokio::sync::Mutex::new(None),
            }),
        }
    }

    /// It starts, and this is what it does or waits for.
    pub(crate) fn starting(&self, reason: impl Into<String>) {
        self.set(Phase::Starting(reason.into()));
    }

    /// It serves whenever the probe says so.
    pub(crate) fn serving(&self, probe: Probe) {
        self.set(Phase::Serving(probe));
    }

    /// It serves no more.
    pub(crate) fn stopping(&self, reason: impl Into<String>) {
        self.set(Phase::Stopping(reason.into()));
    }

    fn set(&self, phase: Phase) {
        *self.lock() = phase;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
        let phase = &self.shared.phase;
        phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has come, without asking anybody.
    pub(crate) fn state(&self) -> Told {
        let (ready, state, reason) = match &*self.lock() {
            Phase::Starting(reason) => (false, "starting", Some(reason.clone())),
            Phase::Serving(_) => (true, "serving", None),
            Phase::Stopping(reason) => (false, "stopping", Some(reason.clone())),
        };
        Told {
            ready,
            state,
            reason,
        }
    }

    /// Whether it serves this moment.
    pub(crate) async fn ask(&self) -> Told {
        let told = self.state();
        let probe = match &*self.lock() {
            Phase::Serving(probe) => Arc::clone(probe),
            Phase::Starting(_) | Phase::Stopping(_) => return told,
        };
        let mut last = self.shared.last.lock().await;
        let fresh = last
            .as_ref()
            .filter(|(at, _)| at.elapsed() < FRESH)
            .map(|(_, said)| said.clone());
        let said = match fresh {
            Some(said) => said,
            None => {
                let said = tokio::time::timeout(PATIENCE, probe())
                    .await
                    .unwrap_or_else(|_| Err(NO_ANSWER.to_owned()));
                *last = Some((Instant::now(), said.clone()));
                said
            }
        };
        Told {
            ready: said.is_ok(),
            reason: said.err(),
            ..told
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.state()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_probe_answers_everybody_who_asks_meanwhile() {
        let readiness = Readiness::new();
        readiness.starting("waiting for a:1");
        let told = readiness.ask().await;
        assert_eq!((told.ready, told.state), (false, "starting"));
        assert_eq!(told.reason.as_deref(), Some("waiting for a:1"));

        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        readiness.serving(Arc::new(move || {
            let count = counter.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match count {
                    0 => Ok(()),
                    1 => Err("no leader".to_owned()),
                    _ => std::future::pending().await,
                }
            })
        }));
        for _ in 0..100 {
            assert!(readiness.ask().await.ready);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(FRESH).await;
        assert_eq!(readiness.ask().await.reason.as_deref(), Some("no leader"));
        tokio::time::advance(FRESH).await;
        let told = readiness.ask().await;
        assert_eq!(told.reason.as_deref(), Some(NO_ANSWER));

        readiness.stopping("draining");
        assert_eq!(readiness.ask().await.state, "stopping");
    }
}
