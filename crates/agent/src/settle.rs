//! Gathers inline bytes into objects in the background.

use std::sync::Arc;

use alluvium_cluster::Metadata;
use alluvium_metadata::AgentOrigin;
use alluvium_storage::bucket::Bucket;
use alluvium_types::Clock;

use crate::AgentConfig;

/// The settling task.
#[derive(Debug)]
pub struct Settler {}

impl Settler {
    pub(crate) fn start(
        config: &AgentConfig,
        origin: AgentOrigin,
        metadata: Metadata,
        bucket: Bucket,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let _ = (config, origin, metadata, bucket, clock);
        todo!()
    }

    /// Settles what there is and stops.
    pub(crate) async fn shutdown(&self) {
        todo!()
    }
}
