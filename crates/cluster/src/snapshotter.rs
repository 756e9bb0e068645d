//! Takes a snapshot whenever the log has grown enough.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_storage::watch;
use tokio::sync::Mutex;
use tokio::time::sleep;

use alluvium_storage::blocking;

use crate::growth::LogGrowth;
use crate::raft::Voter;
use crate::snapshots::Snapshots;
use crate::view::{Current, View};

/// How long to wait after a snapshot that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// How long to wait when one is due again at once: what has grown may not be applied yet.
const DUE_AGAIN_PAUSE: Duration = Duration::from_secs(1);

/// Owns the decision when to take one.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    view: Arc<View>,
    snapshots: Arc<Snapshots>,
    growth: Arc<LogGrowth>,
    voter: Voter,
    /// One at a time, so that none undoes what a later one counted.
    taking: Mutex<()>,
}

impl Snapshotter {
    pub(crate) fn new(
        view: Arc<View>,
        snapshots: Arc<Snapshots>,
        growth: Arc<LogGrowth>,
        voter: Voter,
    ) -> Self {
        Self {
            view,
            snapshots,
            growth,
            voter,
            taking: Mutex::new(()),
        }
    }

    /// Runs until told to stop. A snapshot that was begun is finished.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                () = self.growth.wait_due() => {}
            }
            let pause = match self.take().await {
                Ok(()) if self.growth.is_due() => DUE_AGAIN_PAUSE,
                Ok(()) => continue,
                Err(error) => {
                    metrics::counter!("alluvium_metadata_snapshot_failures_total").increment(1);
                    tracing::error!(%error, "metadata snapshot failed; the log grows until one succeeds");
                    RETRY_PAUSE
                }
            };
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Whether the log has grown so much that replaying it would be felt.
    pub(crate) fn is_worthwhile(&self) -> bool {
        self.growth.is_noticeable()
    }

    /// Takes one and has the log purged up to it.
    pub(crate) async fn take(&self) -> io::Result<()> {
        let _taking = self.taking.lock().await;
        let started = Instant::now();
        // Counted before the state is copied: what is appended meanwhile counts again.
        let size = self.growth.size();
        let next_index = self.view.read(|current| current.checkpoint.next_index());
        if self
            .snapshots
            .current()
            .is_some_and(|file| file.checkpoint.next_index() >= next_index)
        {
            return Ok(());
        }
        let view = Arc::clone(&self.view);
        let snapshots = Arc::clone(&self.snapshots);
        let file = blocking(move || {
            let current = view.read(Current::clone);
            snapshots.write(&current)
        })
        .await??;
        self.growth.settle(size);
        let next_index = file.checkpoint.next_index();
        self.voter
            .publish_snapshot(next_index)
            .await
            .map_err(io::Error::other)?;
        tracing::info!(
            entries = next_index,
            log_bytes = size.bytes,
            took = ?started.elapsed(),
            "metadata snapshot"
        );
        Ok(())
    }
}
