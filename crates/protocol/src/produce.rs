//! Produce: the request decoded by hand, with the record sets as slices of the frame.

use bytes::Bytes;

use alluvium_types::{ErrorCode, Millis, Offset, PartitionIndex, TopicId};

use crate::messages::StrBytes;
use crate::request::{Request, RequestError};

/// A Produce request, versions 3 to 13.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceRequest {
    /// Set by transactional producers.
    pub transactional_id: Option<StrBytes>,
    /// 0: no answer is wanted; 1 or -1 (all): answer once durable.
    pub acks: i16,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: i32,
    /// The record sets, in the request's order.
    pub partitions: Vec<ProducePartition>,
}

/// How a request names a topic: by name up to version 12, by id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(StrBytes),
    /// By id.
    Id(TopicId),
}

/// One partition's record set.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducePartition {
    /// Position of its topic in the request; equal for neighbours of one topic.
    pub topic_index: u32,
    /// Its topic.
    pub topic: TopicRef,
    /// Its index.
    pub partition: PartitionIndex,
    /// One or more batches; `None` when the client sent null.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Decodes a Produce body.
    ///
    /// # Errors
    /// [`RequestError::Body`].
    pub fn decode(request: &Request) -> Result<Self, RequestError> {
        let _ = request;
        todo!()
    }
}

/// The answer for one partition, in the request's order.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceResult {
    /// Success is [`ErrorCode::None`].
    pub error: ErrorCode,
    /// What went wrong, for people.
    pub message: Option<String>,
    /// Offset of the first record, -1 on error.
    pub base_offset: Offset,
    /// When the broker stamped it (LogAppendTime), else -1.
    pub log_append_time: Millis,
    /// The partition's log start offset, -1 on error.
    pub log_start: Offset,
}

/// Encodes the answer to `request` as one whole frame. `results` has one entry per partition of the
/// request, in its order.
#[must_use]
pub fn encode_response(
    correlation_id: i32,
    version: i16,
    request: &ProduceRequest,
    results: &[ProduceResult],
    throttle_ms: i32,
) -> Bytes {
    let _ = (correlation_id, version, request, results, throttle_ms);
    todo!()
}
