//! The data objects of the bucket, seen beside the restored state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, stream};

use alluvium_metadata::{BatchStamp, InTransaction, ProducerStamp, RunLocation, Standing, State};
use alluvium_objects::{
    ChunkOrigin, Footer, HEADER_BYTES, Header, Level, RunEntry, TRAILER_BYTES, parse_key,
};
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_storage::bucket::{Bucket, BucketError, ObjectMeta};
use alluvium_types::{Millis, ObjectId, Offset, ProducerId, TopicPartition};

use super::report::LostRun;
use super::{RestoreError, RestoreStep, Restoring, Watcher, elsewhere};

/// A chunk may be sequenced this long after it was sealed (producers are answered within half a
/// minute), and clocks differ. One that was sealed earlier before the archive's end and is named by
/// nothing is an orphan.
pub(super) const LEEWAY: Millis = 5 * 60 * 1000;
/// Objects that the store says are older than the archive's end by this are not read at all.
const STORE_LEEWAY: Millis = 60 * 60 * 1000;
/// Objects read at once.
const AT_ONCE: usize = 8;
/// No chunk and no settled object is larger.
const LARGEST: u64 = 1 << 30;
/// Of larger objects the header is read first: most are compacted ones, of which no more is needed.
const LARGE: u64 = 16 << 20;
/// The end of an object, read first to find its footer.
const TAIL_BYTES: u64 = 64 << 10;
/// Data objects' keys begin with hexadecimal digits; no other key comes before this.
const BEHIND_ALL: &str = "g";

/// A batch of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) object: ObjectId,
    /// The object's whole length.
    pub(super) object_bytes: u64,
    pub(super) partition: TopicPartition,
    pub(super) position: u64,
    pub(super) stamp: BatchStamp,
    /// CRC32C, as its header has it.
    pub(super) crc: u32,
    /// The offset it had, where that is known: in settled objects.
    pub(super) base_offset: Option<Offset>,
    /// Whose transaction it ends, if it is a marker.
    pub(super) ends: Option<ProducerId>,
}

/// A chunk that no manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) object: ObjectId,
    pub(super) origin: Option<ChunkOrigin>,
    pub(super) created_at: Millis,
    pub(super) batches: Vec<Batch>,
}

impl Chunk {
    pub(super) fn sealed_at(&self) -> Millis {
        self.origin
            .map_or(self.created_at, |origin| origin.sealed_at)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Chunks whose commands may be in the lost tail of the log.
    pub(super) chunks: Vec<Chunk>,
    /// Batches of settled objects that no manifest names. They were sequenced, with these offsets.
    pub(super) settled: Vec<Batch>,
    /// Objects that the state names and the bucket does not have.
    pub(super) missing: BTreeSet<ObjectId>,
    /// Objects that cannot be used, and why.
    pub(super) damaged: Vec<String>,
    /// Objects that no manifest names and that are not taken.
    pub(super) passed_over: u64,
}

/// What an unnamed object holds.
enum Content {
    Chunk(Chunk),
    Settled(Millis, Vec<Batch>),
    /// Nothing that was not in other objects, which are still there: they go later than the archive
    /// learns of it.
    Compacted,
}

/// Lists all data objects and reads those that the state does not name and may have.
pub(super) async fn find(
    bucket: &Bucket,
    restoring: &Restoring,
    at: Option<Millis>,
    watch: Watcher<'_>,
) -> Result<Found, RestoreError> {
    let state = &restoring.current.state;
    let mut found = Found {
        missing: state.live_objects().map(|(object, _)| object).collect(),
        ..Found::default()
    };
    let dead: BTreeSet<ObjectId> = state.dead_objects().map(|(object, ..)| object).collect();
    let live = found.missing.clone();
    let store_since = restoring.last_at.saturating_sub(STORE_LEEWAY);
    let (mut unnamed, mut named) = (Vec::new(), Vec::new());
    let mut listed = 0u64;
    let mut after: Option<String> = None;
    'pages: loop {
        let page = bucket.list("", after.as_deref(), 1000).await?;
        let is_last = page.len() < 1000;
        after = page.last().map(|meta| meta.key.clone()).or(after);
        for meta in page {
            if meta.key.as_str() >= BEHIND_ALL {
                break 'pages;
            }
            let Some(object) = parse_key(&meta.key) else {
                continue;
            };
            listed += 1;
            found.missing.remove(&object);
            let is_young = meta.modified >= store_since;
            if live.contains(&object) || dead.contains(&object) {
                named.extend(is_young.then_some((object, meta)));
            } else if is_young {
                unnamed.push((object, meta));
            } else {
                found.passed_over += 1;
            }
        }
        watch(RestoreStep::Listed(listed));
        if is_last {
            break;
        }
    }
    if unnamed.is_empty() {
        return Ok(found);
    }
    // Attempts at chunks that the state has under another object's name.
    let sequenced = origins(bucket, named).await;
    read_unnamed(
        bucket,
        restoring,
        (at, &sequenced),
        unnamed,
        &mut found,
        watch,
    )
    .await?;
    let all = found.chunks.len();
    elsewhere::take_out(bucket, restoring, &mut found.chunks).await?;
    found.passed_over += u64::try_from(all - found.chunks.len()).unwrap_or(0);
    Ok(found)
}

async fn read_unnamed(
    bucket: &Bucket,
    restoring: &Restoring,
    (at, sequenced): (Option<Millis>, &BTreeSet<ChunkOrigin>),
    unnamed: Vec<(ObjectId, ObjectMeta)>,
    found: &mut Found,
    watch: Watcher<'_>,
) -> Result<(), RestoreError> {
    let state = &restoring.current.state;
    let since = restoring.last_at.saturating_sub(LEEWAY);
    let is_taken = |time: Millis| time >= since && at.is_none_or(|at| time <= at);
    let all = u64::try_from(unnamed.len()).unwrap_or(u64::MAX);
    let mut done = 0;
    let reads = unnamed
        .into_iter()
        .map(|(object, meta)| async move { (read(bucket, object, &meta).await, meta) });
    let mut reads = stream::iter(reads).buffered(AT_ONCE);
    while let Some((content, meta)) = reads.next().await {
        done += 1;
        watch(RestoreStep::Objects { done, all });
        match content {
            Err(ReadError::Bucket(BucketError::NotFound { .. })) => {}
            Err(ReadError::Bucket(error)) => return Err(error.into()),
            Err(ReadError::Damaged(reason)) => {
                found.damaged.push(format!("{}: {reason}", meta.key));
            }
            Ok(Content::Chunk(chunk))
                if is_taken(chunk.sealed_at())
                    && chunk.origin.is_none_or(|origin| {
                        !sequenced.contains(&origin) && may_write(state, origin)
                    }) =>
            {
                found.chunks.push(chunk);
            }
            Ok(Content::Settled(written, batches)) if is_taken(written) => {
                found.settled.extend(batches);
            }
            Ok(_) => found.passed_over += 1,
        }
    }
    Ok(())
}

/// Whether a chunk of this registration may have been sequenced after the state: not when the state
/// knows that the registration had ended.
fn may_write(state: &State, origin: ChunkOrigin) -> bool {
    state.agent(origin.agent).is_none_or(|agent| {
        let has_ended = matches!(agent.standing, Standing::Ended { .. });
        agent.epoch < origin.epoch || (agent.epoch == origin.epoch && !has_ended)
    })
}

/// Whose chunks the objects are. One that cannot be read says nothing.
async fn origins(bucket: &Bucket, named: Vec<(ObjectId, ObjectMeta)>) -> BTreeSet<ChunkOrigin> {
    let reads = named
        .into_iter()
        .map(|(_, meta)| async move { footer(bucket, &meta).await.ok()?.origin });
    stream::iter(reads)
        .buffered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

enum ReadError {
    Bucket(BucketError),
    Damaged(String),
}

impl From<BucketError> for ReadError {
    fn from(error: BucketError) -> Self {
        Self::Bucket(error)
    }
}

fn damaged(reason: impl ToString) -> ReadError {
    ReadError::Damaged(reason.to_string())
}

async fn footer(bucket: &Bucket, meta: &ObjectMeta) -> Result<Footer, ReadError> {
    if meta.bytes < TRAILER_BYTES {
        return Err(damaged("it is cut short"));
    }
    let start = meta.bytes.saturating_sub(TAIL_BYTES);
    let mut tail = bucket.read(&meta.key, start..meta.bytes).await?;
    let wanted = Footer::tail_bytes(trailer(&tail), meta.bytes).map_err(damaged)?;
    if wanted > tail.len() as u64 {
        tail = bucket
            .read(&meta.key, meta.bytes - wanted..meta.bytes)
            .await?;
    }
    Footer::parse(&tail, meta.bytes).map_err(damaged)
}

/// The last bytes, or fewer where there are no more.
fn trailer(bytes: &Bytes) -> &[u8] {
    let trailer = usize::try_from(TRAILER_BYTES).unwrap_or(0);
    &bytes[bytes.len().saturating_sub(trailer)..]
}

/// Reads all of an object and checks all of it.
async fn read(bucket: &Bucket, object: ObjectId, meta: &ObjectMeta) -> Result<Content, ReadError> {
    if meta.bytes > LARGE {
        let header = bucket.read(&meta.key, 0..HEADER_BYTES).await?;
        if Header::parse(&header).is_ok_and(|header| header.level == Level::Compacted) {
            return Ok(Content::Compacted);
        }
    }
    if meta.bytes < HEADER_BYTES + TRAILER_BYTES || meta.bytes > LARGEST {
        return Err(damaged(format!(
            "{} bytes are no object of ours",
            meta.bytes
        )));
    }
    let bytes = bucket.read(&meta.key, 0..meta.bytes).await?;
    let header = Header::parse(&bytes).map_err(damaged)?;
    if header.object != object {
        return Err(damaged("it bears another object's name"));
    }
    let footer = Footer::parse(&bytes, meta.bytes).map_err(damaged)?;
    let mut batches = Vec::new();
    for run in &footer.runs {
        run_batches(&bytes, (object, meta.bytes), run, &mut batches)?;
    }
    Ok(match header.level {
        Level::Compacted => Content::Compacted,
        Level::Settled => Content::Settled(header.created_at, batches),
        Level::Chunk => Content::Chunk(Chunk {
            object,
            origin: footer.origin,
            created_at: header.created_at,
            batches,
        }),
    })
}

fn run_batches(
    bytes: &Bytes,
    (object, object_bytes): (ObjectId, u64),
    run: &RunEntry,
    batches: &mut Vec<Batch>,
) -> Result<(), ReadError> {
    let range = usize::try_from(run.position)
        .ok()
        .zip(usize::try_from(run.position + run.length).ok())
        .filter(|(_, end)| *end <= bytes.len());
    let Some((start, end)) = range else {
        return Err(damaged("a run lies outside"));
    };
    let content = bytes.slice(start..end);
    if !run.matches_checksum(&content) {
        return Err(damaged("the bytes of a run do not match its checksum"));
    }
    let mut position = run.position;
    let mut base_offset = run.base_offset;
    for bytes in batch::split(&content).map_err(damaged)? {
        let header = BatchHeader::parse(&bytes).map_err(damaged)?;
        batch::check_crc(&bytes).map_err(damaged)?;
        let stamp = stamp(&header).ok_or_else(|| damaged("a batch has no records"))?;
        batches.push(Batch {
            object,
            object_bytes,
            partition: run.partition,
            position,
            stamp,
            crc: header.crc,
            base_offset,
            ends: header.is_control().then_some(header.producer_id),
        });
        position += u64::from(stamp.bytes);
        base_offset = base_offset.map(|offset| offset.saturating_add(Offset::from(stamp.records)));
    }
    Ok(())
}

fn stamp(header: &BatchHeader) -> Option<BatchStamp> {
    let records = u32::try_from(i64::from(header.last_offset_delta) + 1).ok()?;
    // A marker takes an offset and is nobody's next batch.
    let is_data = header.producer_id >= 0 && !header.is_control();
    let producer = is_data.then_some(ProducerStamp {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transaction: if header.is_transactional() {
            InTransaction::Joins
        } else {
            InTransaction::No
        },
    });
    (records > 0).then_some(BatchStamp {
        bytes: u32::try_from(header.bytes).ok()?,
        records,
        max_timestamp: header.max_timestamp,
        producer,
    })
}

impl Found {
    /// Offsets that manifests name in objects that are not there.
    pub(super) fn missing_runs(&self, state: &State) -> Vec<LostRun> {
        let mut lost: BTreeMap<(TopicPartition, Offset), LostRun> = BTreeMap::new();
        if self.missing.is_empty() {
            return Vec::new();
        }
        for topic in state.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                for run in partition.runs() {
                    // Inline runs are in the state; whether a write-ahead buffer is still there is
                    // seen when its agent comes back.
                    let (RunLocation::Object { object, .. } | RunLocation::Sparse { object, .. }) =
                        &run.location
                    else {
                        continue;
                    };
                    if self.missing.contains(object) {
                        let place = TopicPartition::new(topic.id, index);
                        lost.insert(
                            (place, run.base_offset),
                            LostRun {
                                topic: topic.name.clone(),
                                partition: index,
                                first: run.base_offset,
                                last: run.end_offset - 1,
                                object: object.to_string(),
                            },
                        );
                    }
                }
            }
        }
        lost.into_values().collect()
    }
}
