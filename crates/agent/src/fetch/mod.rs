//! The read path: plan, read, assemble; and waiting at the tail.

use std::time::Duration;

use bytes::Bytes;

use alluvium_cluster::Metadata;
use alluvium_storage::cache::Cache;
use alluvium_types::{ErrorCode, Millis, Offset, TopicPartition};

use crate::AgentConfig;

/// The read path of an agent.
#[derive(Debug)]
pub struct Fetch {}

/// Recently written chunks, in memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recent {}

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPartition {
    /// Which.
    pub partition: TopicPartition,
    /// From where.
    pub offset: Offset,
    /// Bytes of this partition; the first batch may exceed it.
    pub max_bytes: usize,
}

/// How much, and how long to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Longest wait for `min_bytes`.
    pub max_wait: Duration,
    /// Answer at once when there are this many bytes.
    pub min_bytes: usize,
    /// Bytes over all partitions; the first batch of the first partition that has one may exceed it.
    pub max_bytes: usize,
    /// Stop at the last stable offset.
    pub read_committed: bool,
}

/// What was read of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadResult {
    /// Success is [`ErrorCode::None`].
    pub error: ErrorCode,
    /// -1 when the partition is unknown.
    pub high_watermark: Offset,
    /// -1 when the partition is unknown.
    pub last_stable_offset: Offset,
    /// -1 when the partition is unknown.
    pub log_start: Offset,
    /// Whole batches, base offset and leader epoch in place, as a chain of buffers.
    pub records: Vec<Bytes>,
}

/// What ListOffsets asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset (-2, and -4: earliest local).
    Earliest,
    /// The high watermark, or the last stable offset (-1).
    Latest {
        /// The last stable offset.
        read_committed: bool,
    },
    /// The record with the greatest timestamp (-3, KIP-734).
    MaxTimestamp,
    /// The first record at or after a time.
    Timestamp(Millis),
}

impl Fetch {
    /// Starts the read path.
    pub(crate) fn start(config: &AgentConfig, metadata: Metadata, cache: Cache) -> Self {
        let _ = (config, metadata, cache);
        todo!()
    }

    /// The chunks that producers just wrote.
    pub(crate) fn recent(&self) -> Recent {
        todo!()
    }

    /// Reads, waiting at the tail as `limits` say. Answers in the order of `partitions`.
    pub async fn read(&self, partitions: &[ReadPartition], limits: ReadLimits) -> Vec<ReadResult> {
        let _ = (partitions, limits);
        todo!()
    }

    /// Answers ListOffsets: (offset, timestamp), (-1, -1) when no record qualifies.
    ///
    /// # Errors
    /// Unknown partition, or the bytes cannot be read now.
    pub async fn list_offset(
        &self,
        partition: TopicPartition,
        spec: OffsetSpec,
    ) -> Result<(Offset, Millis), ErrorCode> {
        let _ = (partition, spec);
        todo!()
    }

    /// Ends every wait and stops.
    pub async fn shutdown(&self) {
        todo!()
    }
}
