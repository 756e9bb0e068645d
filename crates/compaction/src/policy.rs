//! What a topic's configuration asks for.

use std::fmt::Debug;
use std::time::Duration;

use alluvium_metadata::{State, Topic};

/// A topic's configuration as far as its records' life is concerned. Names are Kafka's.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicPolicy {
    /// `cleanup.policy` has `delete`.
    pub delete: bool,
    /// `cleanup.policy` has `compact`.
    pub compact: bool,
    /// `retention.ms`; none for -1.
    pub retention: Option<Duration>,
    /// `retention.bytes`, of a partition; none for -1.
    pub retention_bytes: Option<u64>,
    /// `delete.retention.ms`: how long a tombstone stays after it was compacted.
    pub delete_retention: Duration,
    /// `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag: Duration,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag: Duration,
}

/// Knows every topic's policy. Implemented over the agent's topic configuration.
pub trait Policies: Debug + Send + Sync + 'static {
    /// A topic's policy as it stands now.
    fn policy(&self, state: &State, topic: &Topic) -> TopicPolicy;
}
