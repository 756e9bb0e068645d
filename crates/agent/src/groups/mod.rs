//! Consumer groups that this agent coordinates (the classic protocol).

use std::sync::Arc;

use alluvium_cluster::Metadata;
use alluvium_metadata::AgentOrigin;
use alluvium_types::Clock;

use crate::topics::Topics;

/// The groups of an agent.
#[derive(Debug)]
pub struct Groups {}

impl Groups {
    /// Starts with the groups that the quorum remembers.
    pub(crate) fn start(
        origin: AgentOrigin,
        metadata: Metadata,
        clock: Arc<dyn Clock>,
        topics: Topics,
    ) -> Self {
        let _ = (origin, metadata, clock, topics);
        todo!()
    }

    /// Answers whoever waits and stops.
    pub async fn shutdown(&self) {
        todo!()
    }
}
