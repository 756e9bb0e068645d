//! State and queries (skeleton; the owner of this crate moves this into rooms of its own).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_types::{AgentEpoch, AgentId, Millis, ObjectId, Offset, PartitionIndex, TopicId, TopicPartition};

use crate::command::{Change, Command, GroupRecord, Outcome};

/// The whole metadata of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Configuration that differs from the defaults.
    pub configs: BTreeMap<String, String>,
    /// Replication factor to show to tools.
    pub replication_factor: i16,
    /// Its partitions, by index.
    pub partitions: Vec<Partition>,
    /// When it was created.
    pub created_at: Millis,
}

/// A partition's manifest and producers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {}

/// A stretch of a partition's offsets that lies in one piece of one location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First offset.
    pub base_offset: Offset,
    /// One past the last offset.
    pub end_offset: Offset,
    /// Greatest record timestamp in it.
    pub max_timestamp: Millis,
    /// Bytes of its batches.
    pub length: u64,
    /// Where they are.
    pub location: RunLocation,
}

/// Where a run's batches are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunLocation {
    /// In an object, from `position` on.
    Object {
        /// Which.
        object: ObjectId,
        /// First byte.
        position: u64,
    },
    /// Here. Exactly the run's bytes.
    Inline(Bytes),
}

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its current registration.
    pub epoch: AgentEpoch,
    /// The identity it registered with.
    pub identity: u128,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its availability zone.
    pub zone: Option<String>,
    /// When it last registered.
    pub registered_at: Millis,
}

/// A consumer group's durable part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Membership, for groups that have had members.
    pub record: Option<GroupRecord>,
    /// Committed offsets.
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// What the client wanted kept beside it.
    pub metadata: String,
    /// When it was committed.
    pub committed_at: Millis,
}

impl State {
    /// Applies a command. Pushes what readers wait for to `changes`.
    pub fn apply(&mut self, command: Command, changes: &mut Vec<Change>) -> Outcome {
        let _ = (command, changes);
        todo!()
    }

    /// The cluster's id, once an agent has registered.
    #[must_use]
    pub fn cluster_id(&self) -> Option<TopicId> {
        todo!()
    }

    /// Settings of the whole cluster that were changed while running.
    #[must_use]
    pub fn cluster_configs(&self) -> &BTreeMap<String, String> {
        todo!()
    }

    /// A topic by id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        let _ = id;
        todo!()
    }

    /// A topic by name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        let _ = name;
        todo!()
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        std::iter::empty()
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        let _ = partition;
        todo!()
    }

    /// All registered agents, by id.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        std::iter::empty()
    }

    /// A group.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<&Group> {
        let _ = id;
        todo!()
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        std::iter::empty()
    }

    /// Bytes of batches that are inline and wait to be settled.
    #[must_use]
    pub fn inline_bytes(&self) -> u64 {
        todo!()
    }

    /// Partitions that hold inline runs, in order.
    pub fn inline_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        std::iter::empty()
    }

    /// The state as bytes: versioned, checksummed.
    #[must_use]
    pub fn to_snapshot(&self) -> Bytes {
        todo!()
    }

    /// Reads [`Self::to_snapshot`]'s bytes.
    ///
    /// # Errors
    /// They are damaged or of a version from the future.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let _ = bytes;
        todo!()
    }
}

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot, cut short, or changed.
    #[error("metadata snapshot is damaged: {0}")]
    Damaged(String),
    /// Written by a later release.
    #[error("metadata snapshot has version {found}, this release reads up to {newest}")]
    Version {
        /// Its version.
        found: u16,
        /// The newest that can be read.
        newest: u16,
    },
}

impl Partition {
    /// First offset that can be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        todo!()
    }

    /// The offset the next record will get.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        todo!()
    }

    /// One past the last offset that may be read.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        todo!()
    }

    /// One past the last offset that a read_committed reader may read.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        todo!()
    }

    /// Runs from the one that holds `offset` (or the first after it) on.
    pub fn runs_from(&self, offset: Offset) -> impl Iterator<Item = &Run> {
        let _ = offset;
        std::iter::empty()
    }

    /// The first run whose greatest timestamp is at or after `timestamp`, at or after the log start.
    #[must_use]
    pub fn run_at_time(&self, timestamp: Millis) -> Option<&Run> {
        let _ = timestamp;
        todo!()
    }

    /// The earliest run that holds the partition's greatest timestamp.
    #[must_use]
    pub fn run_of_max_timestamp(&self) -> Option<&Run> {
        todo!()
    }

    /// Bytes of all its runs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// How many partitions a topic with `partitions` has, as Kafka counts them.
    #[must_use]
    pub fn count(partitions: &[Self]) -> PartitionIndex {
        PartitionIndex::try_from(partitions.len()).unwrap_or(PartitionIndex::MAX)
    }
}
