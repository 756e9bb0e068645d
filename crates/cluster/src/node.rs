//! A metadata voter in this process.

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_storage::disk::Disk;

use crate::client::Metadata;

/// Where a voter keeps its log and snapshots.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Folder for log and snapshots, owned by this process.
    pub dir: PathBuf,
    /// A snapshot is taken, and the log purged, after this many bytes of log.
    pub snapshot_log_bytes: u64,
}

/// Why a voter could not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// A running voter.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Starts the voter, forming a quorum of one on an empty folder, and waits until it leads and
    /// the state is as it was.
    ///
    /// # Errors
    /// The log or snapshot cannot be read.
    pub async fn start(config: NodeConfig, disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        let _ = (config, disk);
        todo!()
    }

    /// The interface to the metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        todo!()
    }

    /// Stops the voter; what was applied is durable.
    pub async fn shutdown(self) {
        todo!()
    }
}
