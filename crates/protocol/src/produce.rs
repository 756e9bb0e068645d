//! Produce: the request decoded by hand, with the record sets as slices of the frame.

use bytes::{BufMut, Bytes};

use alluvium_types::{ErrorCode, Millis, Offset, PartitionIndex, TopicId};

use crate::api;
use crate::messages::StrBytes;
use crate::request::{LIMITS, Request, RequestError};
use crate::wire::{Malformed, Reader, Writer};

/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 9;
/// The first version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// Shortest topic on the wire: an empty name, no partitions, no tagged fields.
const TOPIC_BYTES: usize = 3;
/// Shortest partition on the wire: its index and a null of one byte.
const PARTITION_BYTES: usize = 5;
/// Partitions for which room is made before they are read.
const RESERVED_PARTITIONS: usize = 1024;

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
        let version = request.api_version;
        let body = |reason: String| RequestError::Body {
            api: "Produce",
            version,
            reason,
        };
        if request.api_key != api::PRODUCE {
            return Err(body(format!("the request's key is {}", request.api_key)));
        }
        if !api::served(api::PRODUCE).is_some_and(|api| api.serves(version)) {
            return Err(body("the version is not served".to_owned()));
        }
        Self::read(
            Reader::new(request.body.clone(), version >= FLEXIBLE),
            version >= TOPIC_IDS,
        )
        .map_err(|malformed| body(malformed.to_string()))
    }

    fn read(mut reader: Reader, by_id: bool) -> Result<Self, Malformed> {
        let transactional_id = reader.nullable_string()?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let mut partitions = Vec::new();
        let topics = reader.count(TOPIC_BYTES)?;
        for topic_index in (0u32..).take(topics) {
            let topic = reader.topic(by_id)?;
            let count = reader.count(PARTITION_BYTES)?;
            if count > LIMITS.elements - partitions.len().min(LIMITS.elements) {
                return Err(reader.malformed("too many partitions"));
            }
            // One allocation for what is usual; a count alone earns no more.
            partitions.reserve(count.min(RESERVED_PARTITIONS));
            for _ in 0..count {
                let partition = reader.i32()?;
                let records = reader.nullable_bytes()?;
                reader.skip_tags()?;
                let topic = topic.clone();
                partitions.push(ProducePartition {
                    topic_index,
                    topic,
                    partition,
                    records,
                });
            }
            reader.skip_tags()?;
        }
        reader.skip_tags()?;
        reader.finish()?;
        Ok(Self {
            transactional_id,
            acks,
            timeout_ms,
            partitions,
        })
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

impl ProduceResult {
    const UNANSWERED: Self = Self {
        error: ErrorCode::UnknownServerError,
        message: None,
        base_offset: -1,
        log_append_time: -1,
        log_start: -1,
    };

    /// The answer for a partition whose records were refused.
    #[must_use]
    pub fn refused(error: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            error,
            message: Some(message.into()),
            ..Self::UNANSWERED
        }
    }
}

/// Encodes the answer to `request` as one whole frame. `results` has one entry per partition of the
/// request, in its order; one that is missing is answered with UNKNOWN_SERVER_ERROR.
#[must_use]
pub fn encode_response(
    correlation_id: i32,
    version: i16,
    request: &ProduceRequest,
    results: &[ProduceResult],
    throttle_ms: i32,
) -> Bytes {
    let capacity = 32 + request.partitions.len() * 48 + text_bytes(request, results);
    let mut writer = Writer::response(capacity, correlation_id, version >= FLEXIBLE);
    let topics = || {
        request
            .partitions
            .chunk_by(|a, b| a.topic_index == b.topic_index)
    };
    let mut results = results.iter();
    writer.length(Some(topics().count()));
    for partitions in topics() {
        if let Some(first) = partitions.first() {
            writer.topic(&first.topic, version >= TOPIC_IDS);
        }
        writer.length(Some(partitions.len()));
        for partition in partitions {
            let result = results.next().unwrap_or(&ProduceResult::UNANSWERED);
            write_result(&mut writer, version, partition.partition, result);
        }
        writer.no_tags();
    }
    writer.buffer.put_i32(throttle_ms);
    writer.no_tags();
    writer.finish(0)
}

fn write_result(
    writer: &mut Writer,
    version: i16,
    partition: PartitionIndex,
    result: &ProduceResult,
) {
    writer.buffer.put_i32(partition);
    writer.buffer.put_i16(result.error.code());
    writer.buffer.put_i64(result.base_offset);
    writer.buffer.put_i64(result.log_append_time);
    if version >= 5 {
        writer.buffer.put_i64(result.log_start);
    }
    if version >= 8 {
        // Single records are never refused: no record errors.
        writer.length(Some(0));
        writer.nullable_string(result.message.as_deref());
    }
    writer.no_tags();
}

fn text_bytes(request: &ProduceRequest, results: &[ProduceResult]) -> usize {
    let topics = request
        .partitions
        .chunk_by(|a, b| a.topic_index == b.topic_index);
    let topics = topics
        .filter_map(|partitions| partitions.first())
        .map(|first| {
            24 + match &first.topic {
                TopicRef::Name(name) => name.len(),
                TopicRef::Id(_) => 0,
            }
        });
    let messages = results
        .iter()
        .filter_map(|result| result.message.as_deref())
        .map(str::len);
    topics.chain(messages).sum()
}

#[cfg(test)]
mod tests;
