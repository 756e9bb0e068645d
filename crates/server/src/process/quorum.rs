//! This process's part in the metadata quorum.

use std::sync::Arc;
use std::time::Duration;

use alluvium_cluster::{Metadata, Node, NodeConfig};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::Disk;
use alluvium_types::Clock;

use super::ports::Port;
use super::waiting::wait_for;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::readiness::Readiness;

/// Longest that a voter takes to hand leadership over, write what is worth writing, and stop.
const STOP: Duration = Duration::from_secs(20);

/// How this process takes part.
#[derive(Debug)]
pub(crate) enum Quorum {
    /// A durable voter, and where the others reach it, if they can.
    Voter(Node),
    /// With objects in memory there is nothing that metadata could outlive.
    Memory(Metadata),
}

/// What a quorum is started with besides the configuration.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bucket: Bucket,
    pub(crate) readiness: Readiness,
}

impl Quorum {
    /// Starts it. Another process that is needed and not there is waited for, however long.
    pub(crate) async fn start(
        config: &Config,
        data_dir: &DataDir,
        port: Option<Port>,
        around: &Surroundings,
    ) -> Result<Self, StartError> {
        if around.bucket.url().starts_with("memory:") {
            return Ok(Self::Memory(Metadata::in_memory()));
        }
        let _ = (port, &around.clock);
        let readiness = &around.readiness;
        let node_config = NodeConfig {
            dir: data_dir.metadata(),
            snapshot_log_bytes: config.metadata.snapshot_log_bytes.0,
        };
        let starting = Node::start(node_config, Arc::clone(&around.disk));
        wait_for(readiness, "the metadata quorum", starting)
            .await
            .map(Self::Voter)
            .map_err(|error| StartError::Metadata(error.to_string()))
    }

    pub(crate) fn metadata(&self) -> Metadata {
        match self {
            Self::Voter(node) => node.metadata(),
            Self::Memory(metadata) => metadata.clone(),
        }
    }

    /// Resolves, with the reason, when this process's part has ended by itself.
    pub(crate) async fn stopped(&self) -> String {
        match self {
            Self::Voter(node) => format!("the metadata node stopped: {}", node.stopped().await),
            Self::Memory(_) => std::future::pending().await,
        }
    }

    /// Hands leadership over, if this node leads and another can, and stops. The others are served
    /// to the end: they are needed for it.
    pub(crate) async fn shutdown(self) {
        let stopping = async {
            match self {
                Self::Voter(node) => node.shutdown().await,
                Self::Memory(_) => {}
            }
        };
        if tokio::time::timeout(STOP, stopping).await.is_err() {
            tracing::warn!(
                seconds = STOP.as_secs(),
                "the metadata node did not stop in time; what it acknowledged is on disk"
            );
        }
    }
}
