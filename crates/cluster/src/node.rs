//! A metadata voter in this process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use alluvium_storage::disk::{Disk, create_dir_durable};

use crate::client::Metadata;
use crate::growth::{LogGrowth, LogSize};
use crate::raft::{LogStore, StateMachine, Voter};
use crate::snapshots::Snapshots;
use crate::snapshotter::Snapshotter;
use crate::view::{Current, View};

#[cfg(test)]
mod tests;

/// Bytes of one file of the log, of which there are a few, preallocated and used again.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Replaying more entries than this would be felt at the next start, however small they are.
const SNAPSHOT_LOG_ENTRIES: u64 = 50_000;

/// Where a voter keeps its log and snapshots.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Folder for log and snapshots, owned by this process.
    pub dir: PathBuf,
    /// A snapshot is taken, and the log purged, after this many bytes of log (or 50,000 entries).
    pub snapshot_log_bytes: u64,
}

/// Why a voter could not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// A running voter. Dropped without [`Node::shutdown`] it stops as if the process had been killed,
/// once the last [`Metadata`] is gone: nothing that was acknowledged is lost.
#[derive(Debug)]
pub struct Node {
    view: Arc<View>,
    voter: Voter,
    log: LogStore,
    snapshotter: Arc<Snapshotter>,
    stop: watch::Sender<bool>,
    snapshots_taken: Option<JoinHandle<()>>,
}

/// What a folder holds.
struct Opened {
    log: LogStore,
    snapshots: Snapshots,
    current: Current,
}

impl Node {
    /// Starts the voter, forming a quorum of one on an empty folder, and waits until it leads and
    /// the state is as it was.
    ///
    /// # Errors
    /// The log or snapshot cannot be read.
    pub async fn start(config: NodeConfig, disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        let growth = Arc::new(LogGrowth::new(LogSize {
            entries: SNAPSHOT_LOG_ENTRIES,
            bytes: config.snapshot_log_bytes,
        }));
        let opening = {
            let growth = Arc::clone(&growth);
            alluvium_storage::blocking(move || open(&disk, &config.dir, growth))
        };
        let opened = opening
            .await
            .map_err(|error| StartError(format!("cannot open the metadata log: {error}")))??;
        let view = Arc::new(View::new(opened.current));
        let snapshots = Arc::new(opened.snapshots);
        let state_machine = StateMachine::new(Arc::clone(&view), Arc::clone(&snapshots));
        let voter = Voter::start(opened.log.clone(), state_machine).await?;

        let snapshotter = Arc::new(Snapshotter::new(
            Arc::clone(&view),
            snapshots,
            growth,
            voter.clone(),
        ));
        let (stop, stopped) = watch::channel(false);
        let snapshots_taken = tokio::spawn(Arc::clone(&snapshotter).run(stopped));
        Ok(Self {
            view,
            voter,
            log: opened.log,
            snapshotter,
            stop,
            snapshots_taken: Some(snapshots_taken),
        })
    }

    /// The interface to the metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata::with_voter(Arc::clone(&self.view), self.voter.clone())
    }

    /// Resolves when the voter stops by itself, with the reason: its disk failed. Every proposal is
    /// then refused until the process is started again.
    pub async fn stopped(&self) -> String {
        self.voter.stopped().await
    }

    /// Takes a snapshot now and purges the log up to it.
    ///
    /// # Errors
    /// The disk's. The voter goes on.
    pub async fn snapshot(&self) -> io::Result<()> {
        self.snapshotter.take().await
    }

    /// Stops the voter; what was applied is durable. A log that has grown noticeably is first
    /// replaced by a snapshot, so that the next start is quick.
    pub async fn shutdown(mut self) {
        // An error says that the snapshotter has ended.
        let _ = self.stop.send(true);
        if let Some(snapshots_taken) = self.snapshots_taken.take()
            && let Err(error) = snapshots_taken.await
        {
            tracing::warn!(%error, "the snapshot task failed");
        }
        if self.snapshotter.is_worthwhile()
            && let Err(error) = self.snapshotter.take().await
        {
            tracing::warn!(%error, "no metadata snapshot at shutdown; the log is replayed instead");
        }
        self.voter.shutdown().await;
        let log = self.log.clone();
        if let Err(error) = alluvium_storage::blocking(move || log.close()).await {
            tracing::warn!(%error, "metadata log did not close cleanly");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(snapshots_taken) = &self.snapshots_taken {
            snapshots_taken.abort();
        }
    }
}

/// Opens what is in `dir`, or makes it. Blocks.
fn open(disk: &Arc<dyn Disk>, dir: &Path, growth: Arc<LogGrowth>) -> Result<Opened, StartError> {
    let named = |error: io::Error| StartError(format!("{}: {error}", dir.display()));
    let (log_dir, snapshot_dir) = (dir.join("log"), dir.join("snapshots"));
    create_dir_durable(disk.as_ref(), &log_dir).map_err(named)?;
    create_dir_durable(disk.as_ref(), &snapshot_dir).map_err(named)?;
    let log = LogStore::open(Arc::clone(disk), &log_dir, SEGMENT_BYTES, growth)
        .map_err(|error| StartError(format!("metadata log: {error}")))?;
    let (snapshots, current) = Snapshots::open(Arc::clone(disk), &snapshot_dir, log.begin())
        .map_err(|error| StartError(format!("metadata snapshot: {error}")))?;
    if current.checkpoint.next_index() < log.begin() {
        return Err(StartError(format!(
            "{}: the log begins at entry {} but the newest snapshot covers only {}; restore the \
             missing snapshot from a copy, or rebuild the node from its peers or the bucket",
            dir.display(),
            log.begin(),
            current.checkpoint.next_index(),
        )));
    }
    log.count_from(current.checkpoint.next_index())
        .map_err(|error| StartError(format!("metadata log: {error}")))?;
    Ok(Opened {
        log,
        snapshots,
        current,
    })
}
