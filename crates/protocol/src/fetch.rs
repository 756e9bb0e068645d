//! Fetch, both ways by hand; the answer is a chain of buffers.

use bytes::{BufMut, Bytes};

use alluvium_types::{ErrorCode, Offset, PartitionIndex};

use crate::api;
use crate::produce::TopicRef;
use crate::request::{LIMITS, Request, RequestError};
use crate::wire::{Malformed, Reader, Writer};

/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// The first version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// Record buffers from this size on are passed on as they are; a system call for less costs more
/// than the copy.
const JOIN_BYTES: usize = 16 << 10;
/// Most bytes of records in one answer: what an `int32` frame length holds with room for the rest.
const RECORD_BYTES: usize = 0x7000_0000;
/// Partitions for which room is made before they are read.
const RESERVED_PARTITIONS: usize = 1024;

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
        let version = request.api_version;
        let body = |reason: String| RequestError::Body {
            api: "Fetch",
            version,
            reason,
        };
        if request.api_key != api::FETCH {
            return Err(body(format!("the request's key is {}", request.api_key)));
        }
        if !api::served(api::FETCH).is_some_and(|api| api.serves(version)) {
            return Err(body("the version is not served".to_owned()));
        }
        Self::read(
            Reader::new(request.body.clone(), version >= FLEXIBLE),
            version,
        )
        .map_err(|malformed| body(malformed.to_string()))
    }

    fn read(mut reader: Reader, version: i16) -> Result<Self, Malformed> {
        if version <= 14 {
            // The replica id. We have no followers; whoever asks is answered as a consumer.
            reader.i32()?;
        }
        let max_wait_ms = reader.i32()?;
        let min_bytes = reader.i32()?;
        let max_bytes = reader.i32()?;
        let read_committed = reader.i8()? == 1;
        let (session_id, session_epoch) = if version >= 7 {
            (reader.i32()?, reader.i32()?)
        } else {
            (0, -1)
        };
        let partitions = read_partitions(&mut reader, version)?;
        let forgotten = if version >= 7 {
            read_forgotten(&mut reader, version)?
        } else {
            vec![]
        };
        let rack = if version >= 11 {
            reader.string()?.into_string()
        } else {
            String::new()
        };
        reader.skip_tags()?;
        reader.finish()?;
        Ok(Self {
            max_wait_ms,
            min_bytes,
            max_bytes,
            read_committed,
            session_id,
            session_epoch,
            partitions,
            forgotten,
            rack,
        })
    }
}

fn read_partitions(reader: &mut Reader, version: i16) -> Result<Vec<FetchPartition>, Malformed> {
    // The shortest partition has an index, an offset and a size.
    const PARTITION_BYTES: usize = 16;
    let mut partitions = Vec::new();
    for _ in 0..reader.count(2)? {
        let topic = reader.topic(version >= TOPIC_IDS)?;
        let count = reader.count(PARTITION_BYTES)?;
        if count > LIMITS.elements - partitions.len().min(LIMITS.elements) {
            return Err(reader.malformed("too many partitions"));
        }
        partitions.reserve(count.min(RESERVED_PARTITIONS));
        for _ in 0..count {
            partitions.push(read_partition(reader, version, &topic)?);
        }
        reader.skip_tags()?;
    }
    Ok(partitions)
}

fn read_partition(
    reader: &mut Reader,
    version: i16,
    topic: &TopicRef,
) -> Result<FetchPartition, Malformed> {
    let partition = reader.i32()?;
    let current_leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
    let offset = reader.i64()?;
    let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
    if version >= 5 {
        // A follower's log start offset.
        reader.i64()?;
    }
    let max_bytes = reader.i32()?;
    reader.skip_tags()?;
    Ok(FetchPartition {
        topic: topic.clone(),
        partition,
        current_leader_epoch,
        last_fetched_epoch,
        offset,
        max_bytes,
    })
}

fn read_forgotten(
    reader: &mut Reader,
    version: i16,
) -> Result<Vec<(TopicRef, PartitionIndex)>, Malformed> {
    let mut forgotten = Vec::new();
    for _ in 0..reader.count(2)? {
        let topic = reader.topic(version >= TOPIC_IDS)?;
        let count = reader.count(4)?;
        if count > LIMITS.elements - forgotten.len().min(LIMITS.elements) {
            return Err(reader.malformed("too many forgotten partitions"));
        }
        for _ in 0..count {
            forgotten.push((topic.clone(), reader.i32()?));
        }
        reader.skip_tags()?;
    }
    Ok(forgotten)
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
    /// The node that the client should fetch from instead (KIP-392), -1 for this one.
    pub preferred_read_replica: i32,
    /// The batches, ready for the client, as a chain of buffers.
    pub records: Vec<Bytes>,
}

impl FetchResponse {
    /// Encodes the answer as one whole frame: a chain of buffers to be written one after another.
    /// Record buffers of 16 KiB and more are passed on as they are; smaller ones are joined. A
    /// partition whose records would take the frame past 1.75 GiB is answered with none.
    #[must_use]
    pub fn encode(&self, correlation_id: i32, version: i16) -> Vec<Bytes> {
        let mut chain = Chain {
            writer: Writer::response(self.head_bytes(), correlation_id, version >= FLEXIBLE),
            passed_on: Vec::new(),
            record_bytes: 0,
        };
        let writer = &mut chain.writer;
        writer.buffer.put_i32(self.throttle_ms);
        if version >= 7 {
            writer.buffer.put_i16(self.error.code());
            writer.buffer.put_i32(self.session_id);
        }
        writer.length(Some(self.topics().count()));
        for partitions in self.topics() {
            if let Some(first) = partitions.first() {
                chain.writer.topic(&first.topic, version >= TOPIC_IDS);
            }
            chain.writer.length(Some(partitions.len()));
            for partition in partitions {
                chain.partition(version, partition);
            }
            chain.writer.no_tags();
        }
        chain.writer.no_tags();
        chain.finish()
    }

    fn topics(&self) -> impl Iterator<Item = &[FetchedPartition]> {
        self.partitions.chunk_by(|a, b| a.topic == b.topic)
    }

    /// Room for everything that is not passed on, so that the heads are one allocation.
    fn head_bytes(&self) -> usize {
        let partitions = self.partitions.iter().map(|partition| {
            let joined = partition
                .records
                .iter()
                .map(Bytes::len)
                .filter(|len| *len < JOIN_BYTES);
            let aborted = partition.aborted.as_ref().map_or(0, Vec::len);
            64 + aborted * 17 + joined.sum::<usize>()
        });
        let topics = self
            .topics()
            .filter_map(|partitions| partitions.first())
            .map(|first| {
                24 + match &first.topic {
                    TopicRef::Name(name) => name.len(),
                    TopicRef::Id(_) => 0,
                }
            });
        32 + partitions.sum::<usize>() + topics.sum::<usize>()
    }
}

/// An answer being written: the heads in one buffer, and which record buffers go between them.
struct Chain<'a> {
    writer: Writer,
    /// Where in the heads, and what.
    passed_on: Vec<(usize, &'a Bytes)>,
    record_bytes: usize,
}

impl<'a> Chain<'a> {
    fn partition(&mut self, version: i16, partition: &'a FetchedPartition) {
        let writer = &mut self.writer;
        writer.buffer.put_i32(partition.partition);
        writer.buffer.put_i16(partition.error.code());
        writer.buffer.put_i64(partition.high_watermark);
        writer.buffer.put_i64(partition.last_stable_offset);
        if version >= 5 {
            writer.buffer.put_i64(partition.log_start);
        }
        writer.length(partition.aborted.as_ref().map(Vec::len));
        for (producer_id, first_offset) in partition.aborted.iter().flatten() {
            writer.buffer.put_i64(*producer_id);
            writer.buffer.put_i64(*first_offset);
            writer.no_tags();
        }
        if version >= 11 {
            writer.buffer.put_i32(partition.preferred_read_replica);
        }
        self.records(&partition.records);
        self.writer.no_tags();
    }

    fn records(&mut self, mut records: &'a [Bytes]) {
        let mut bytes = records
            .iter()
            .fold(0usize, |sum, part| sum.saturating_add(part.len()));
        if bytes > RECORD_BYTES.saturating_sub(self.record_bytes) {
            (records, bytes) = (&[], 0);
        }
        self.record_bytes += bytes;
        self.writer.length(Some(bytes));
        for part in records {
            if part.len() < JOIN_BYTES {
                self.writer.buffer.put_slice(part);
            } else {
                self.passed_on.push((self.writer.buffer.len(), part));
            }
        }
    }

    fn finish(self) -> Vec<Bytes> {
        let more = self.passed_on.iter().map(|(_, part)| part.len()).sum();
        let heads = self.writer.finish(more);
        let mut chain = Vec::with_capacity(self.passed_on.len() * 2 + 1);
        let mut done = 0;
        for (at, part) in self.passed_on {
            if at > done {
                chain.push(heads.slice(done..at));
                done = at;
            }
            chain.push(part.clone());
        }
        if done < heads.len() {
            chain.push(heads.slice(done..));
        }
        chain
    }
}

#[cfg(test)]
mod tests;
