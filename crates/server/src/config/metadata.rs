//! `[metadata]`.

use std::time::Duration;

use super::errors::ConfigError;
use super::section;
use super::value::ByteSize;

section! {
    /// The voter of the metadata quorum.
    pub struct Metadata in "metadata." {
        /// This node's number among the metadata nodes, from 1. Each has one of its own and keeps it,
        /// also when its disk is new. It must be set where there are several; alone, a node is 1.
        node_id: Option<u32> = None,
        /// A snapshot is taken after this many bytes of log, at least 1MiB.
        snapshot_log_bytes: ByteSize = ByteSize(64 << 20),
        /// How often the leader tells the others that it is there, from 10ms.
        heartbeat: Duration = Duration::from_millis(100),
        /// A node that does not hear of a leader for a random time between this, at least twice the
        /// heartbeat,
        election_timeout_min: Duration = Duration::from_millis(200),
        /// and this, up to 1m, calls for an election.
        election_timeout_max: Duration = Duration::from_millis(400),
        /// How far the copy of the metadata in the bucket may be behind, from 100ms to 1h. A cluster
        /// whose metadata disks are all lost is restored to what the copy holds.
        archive_interval: Duration = Duration::from_secs(1),
        /// How far back that copy reaches: a cluster can be restored to any moment since, up to 365d.
        archive_retention: Duration = Duration::from_secs(7 * 24 * 3600),
    }
}

impl Metadata {
    /// This node's number.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.node_id.unwrap_or(1)
    }

    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        let mut refuse = |key: &str, reason: &str| errors.push(ConfigError::of(key, reason));
        if self.snapshot_log_bytes.0 < 1 << 20 {
            refuse("metadata.snapshot_log_bytes", "is less than 1MiB");
        }
        // Kafka's tools show it as a signed number of 32 bits.
        if self
            .node_id
            .is_some_and(|id| id == 0 || id > i32::MAX.unsigned_abs())
        {
            refuse("metadata.node_id", "is not between 1 and 2147483647");
        }
        if self.heartbeat < Duration::from_millis(10) {
            refuse("metadata.heartbeat", "is shorter than 10ms");
        }
        if self.election_timeout_min < self.heartbeat * 2 {
            refuse(
                "metadata.election_timeout_min",
                "is shorter than two heartbeats (metadata.heartbeat): one that is late would cost \
                 the leader its place",
            );
        }
        if self.election_timeout_max <= self.election_timeout_min {
            refuse(
                "metadata.election_timeout_max",
                "is not longer than metadata.election_timeout_min",
            );
        }
        if self.election_timeout_max > Duration::from_secs(60) {
            refuse("metadata.election_timeout_max", "is longer than 1m");
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3600))
            .contains(&self.archive_interval)
        {
            refuse("metadata.archive_interval", "is not between 100ms and 1h");
        }
        if self.archive_retention > Duration::from_secs(365 * 24 * 3600) {
            refuse("metadata.archive_retention", "is longer than 365d");
        }
    }
}
