//! Fetch: the request from the cold path, the answer written by hand as a chain of buffers.

use bytes::Bytes;

use alluvium_types::{ErrorCode, Offset, PartitionIndex};

use crate::produce::TopicRef;
use crate::request::{Request, RequestError};

/// A Fetch request, versions 4 to 18.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    /// Longest wait, in milliseconds.
    pub max_wait_ms: i32,
    /// Answer at once when there are this many bytes.
    pub min_bytes: i32,
    /// Bytes of the whole answer; the first batch may exceed it.
    pub max_bytes: i32,
    /// Read only what is committed.
    pub read_committed: bool,
    /// Fetch session (KIP-227); 0 is none.
    pub session_id: i32,
    /// Epoch in the session; -1 is "no session", 0 asks for a new one.
    pub session_epoch: i32,
    /// What to fetch.
    pub partitions: Vec<FetchPartition>,
    /// What to take out of the session.
    pub forgotten: Vec<(TopicRef, PartitionIndex)>,
    /// The consumer's zone (KIP-392).
    pub rack: String,
}

/// One partition of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPartition {
    /// Its topic.
    pub topic: TopicRef,
    /// Its index.
    pub partition: PartitionIndex,
    /// The leader epoch the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// Leader epoch of the last record it has, -1 for none.
    pub last_fetched_epoch: i32,
    /// From where.
    pub offset: Offset,
    /// Bytes of this partition; the first batch may exceed it.
    pub max_bytes: i32,
}

impl FetchRequest {
    /// Decodes a Fetch body.
    ///
    /// # Errors
    /// [`RequestError::Body`].
    pub fn decode(request: &Request) -> Result<Self, RequestError> {
        let _ = request;
        todo!()
    }
}

/// A Fetch answer. Partitions of one topic must be neighbours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchResponse {
    /// How long the client is asked to wait, in milliseconds.
    pub throttle_ms: i32,
    /// An error of the whole request.
    pub error: ErrorCode,
    /// The session, 0 for none.
    pub session_id: i32,
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// The answer for one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPartition {
    /// Its topic.
    pub topic: TopicRef,
    /// Its index.
    pub partition: PartitionIndex,
    /// Success is [`ErrorCode::None`].
    pub error: ErrorCode,
    /// -1 on error.
    pub high_watermark: Offset,
    /// -1 on error.
    pub last_stable_offset: Offset,
    /// -1 on error.
    pub log_start: Offset,
    /// Aborted transactions in the range, (producer id, first offset); `None` unless read_committed.
    pub aborted: Option<Vec<(i64, Offset)>>,
    /// The batches, ready for the client, as a chain of buffers.
    pub records: Vec<Bytes>,
}

impl FetchResponse {
    /// Encodes the answer as one whole frame: a chain of buffers to be written one after another.
    /// Record buffers of 16 KiB and more are passed on as they are; smaller ones are joined.
    #[must_use]
    pub fn encode(&self, correlation_id: i32, version: i16) -> Vec<Bytes> {
        let _ = (correlation_id, version);
        todo!()
    }
}
