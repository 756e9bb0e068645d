//! Gathers what stays into objects, and tells the quorum.
//!
//! Partitions come one after another, in order; small ones share an object. A command holds at most
//! one stretch of a partition, so that a stretch that is refused never has a later one of its
//! partition accepted behind it: a tombstone may go only after all that it deletes has gone.

use alluvium_cluster::ProposeError;
use alluvium_metadata::{
    Command, Compact, CompactStretch, CompactedObject, CompactedPlace, CompactedRun, Outcome,
    Refusal,
};
use alluvium_objects::{Level, ObjectWriter, key};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{Millis, ObjectId, Offset, TopicPartition};
use bytes::Bytes;

use crate::Context;
use crate::birth::Birth;
use crate::merge::pace::{Calm, Pace};

/// Most runs replaced by one command: it stays below a MiB.
const SOURCES: usize = 8192;

/// Why what was cleaned did not get into the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("{0}")]
    Propose(#[from] ProposeError),
    #[error("the quorum refused it: {0}")]
    Refused(Refusal),
    #[error("the quorum answered something else: {0:?}")]
    Unexpected(Outcome),
    #[error("the agent's lease is not valid")]
    NoLease,
    #[error("it took so long that its objects may have been taken for ones that nobody wants")]
    TooOld,
}

impl OutputError {
    /// Whether it says nothing of other logs.
    pub(super) const fn is_of_one_log(&self) -> bool {
        matches!(self, Self::TooOld)
    }
}

/// A batch to be written.
#[derive(Debug)]
pub(super) struct Kept {
    /// One past its last offset.
    pub(super) end_offset: Offset,
    pub(super) bytes: Bytes,
    pub(super) max_timestamp: Millis,
}

/// What is left of one source run.
#[derive(Debug)]
pub(super) struct CleanedRun {
    pub(super) partition: TopicPartition,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    /// The object it came from, and that object's level; none for a gap.
    pub(super) source: Option<(ObjectId, u8)>,
    /// Of the source; stands where nothing is left.
    pub(super) max_timestamp: Millis,
    /// Objects that were written already, because it is a large run.
    pub(super) early: Vec<(CompactedObject, CompactedRun)>,
    /// When the first of them was begun.
    pub(super) early_since: Option<Birth>,
    /// The batches behind those.
    pub(super) rest: Vec<Kept>,
}

/// Neighbouring batches of one partition in the object that is being gathered.
#[derive(Debug)]
struct Segment {
    partition: TopicPartition,
    base_offset: Offset,
    batches: Vec<Kept>,
}

/// A stretch whose last run may still lie in the object that is being gathered.
#[derive(Debug)]
struct Pending {
    stretch: CompactStretch,
    /// Its last run is this segment.
    segment: Option<usize>,
}

/// How fast it may go: a share of what the store can bear.
#[derive(Debug)]
pub(super) struct Throttle {
    reading: Pace,
    writing: Pace,
    calm: Calm,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            reading: Pace::new(bytes_per_second),
            writing: Pace::new(bytes_per_second),
            calm: Calm::default(),
        }
    }

    /// Waits for its turn to read so many bytes.
    pub(super) async fn read(&mut self, bucket: &Bucket, bytes: u64) {
        let slowdown = self.calm.wait(bucket).await;
        self.reading.take(bytes, slowdown).await;
    }

    async fn write(&mut self, bucket: &Bucket, bytes: u64) {
        let slowdown = self.calm.wait(bucket).await;
        self.writing.take(bytes, slowdown).await;
    }
}

/// What waits to be written.
pub(super) struct Output<'a> {
    context: Context,
    bucket: Bucket,
    pub(super) throttle: &'a mut Throttle,
    object_bytes: u64,
    segments: Vec<Segment>,
    bytes: u64,
    level: u8,
    objects: Vec<CompactedObject>,
    pending: Vec<Pending>,
    sources: usize,
    /// Since when objects are there that nothing names yet.
    oldest: Option<Birth>,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        context: &Context,
        bucket: &Bucket,
        object_bytes: u64,
        throttle: &'a mut Throttle,
    ) -> Self {
        Self {
            context: context.clone(),
            bucket: bucket.clone(),
            throttle,
            object_bytes: object_bytes.max(1),
            segments: Vec::new(),
            bytes: 0,
            level: 0,
            objects: Vec::new(),
            pending: Vec::new(),
            sources: 0,
            oldest: None,
        }
    }

    /// Bytes of an object, about.
    pub(super) const fn object_bytes(&self) -> u64 {
        self.object_bytes
    }

    /// Whether a run that begins here can be added before a flush.
    pub(super) fn takes(&self, partition: TopicPartition, base: Offset, bytes: u64) -> bool {
        let follows = match self.pending.last() {
            Some(last) if last.stretch.partition == partition => last.stretch.end_offset == base,
            _ => true,
        };
        let has_room = self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.object_bytes;
        follows && has_room && self.sources < SOURCES
    }

    /// Adds a run. The caller has asked [`Self::takes`].
    pub(super) fn add(&mut self, run: CleanedRun) {
        let at = match self.pending.last() {
            Some(last) if last.stretch.partition == run.partition => self.pending.len() - 1,
            _ => {
                self.pending.push(Pending {
                    stretch: CompactStretch {
                        partition: run.partition,
                        base_offset: run.base_offset,
                        end_offset: run.base_offset,
                        sources: Vec::new(),
                        runs: Vec::new(),
                        clean_to: None,
                    },
                    segment: None,
                });
                self.pending.len() - 1
            }
        };
        self.sources += 1;
        let level = run.source.map_or(0, |(_, level)| level.saturating_add(1));
        self.level = self.level.max(level);
        let Some(pending) = self.pending.get_mut(at) else {
            return;
        };
        pending.stretch.end_offset = run.end_offset;
        pending
            .stretch
            .sources
            .extend(run.source.map(|(object, _)| object));
        self.oldest = self.oldest.or(run.early_since);
        for (object, mut placed) in run.early {
            if let Some(place) = &mut placed.place {
                place.object = u32::try_from(self.objects.len()).unwrap_or(u32::MAX);
            }
            self.objects.push(object);
            extend_to(&mut pending.stretch.runs, placed.base_offset);
            pending.stretch.runs.push(placed);
            pending.segment = None;
        }
        let Some(newest) = run.rest.iter().map(|batch| batch.max_timestamp).max() else {
            let last = pending.stretch.runs.last_mut();
            if let Some(last) = last {
                last.end_offset = run.end_offset;
            } else {
                pending.stretch.runs.push(CompactedRun {
                    base_offset: run.base_offset,
                    end_offset: run.end_offset,
                    max_timestamp: run.max_timestamp,
                    place: None,
                });
            }
            return;
        };
        self.bytes += run
            .rest
            .iter()
            .map(|batch| batch.bytes.len() as u64)
            .sum::<u64>();
        let segment = pending.segment.and_then(|at| self.segments.get_mut(at));
        if let (Some(segment), Some(last)) = (segment, pending.stretch.runs.last_mut()) {
            segment.batches.extend(run.rest);
            last.end_offset = run.end_offset;
            last.max_timestamp = last.max_timestamp.max(newest);
            return;
        }
        // A gap before it becomes a part of it: its offsets need no row of their own.
        let gap = pending.stretch.runs.pop_if(|last| last.place.is_none());
        let early_end = pending.stretch.runs.last().map(|last| last.end_offset);
        let base_offset = gap.map_or(early_end.unwrap_or(run.base_offset), |gap| gap.base_offset);
        pending.stretch.runs.push(CompactedRun {
            base_offset,
            end_offset: run.end_offset,
            max_timestamp: newest,
            place: None,
        });
        pending.segment = Some(self.segments.len());
        self.segments.push(Segment {
            partition: run.partition,
            base_offset,
            batches: run.rest,
        });
    }

    /// Whether the stretch that was added last is this partition's and ends here.
    pub(super) fn ends_at(&self, partition: TopicPartition, offset: Offset) -> bool {
        self.pending.last().is_some_and(|last| {
            last.stretch.partition == partition && last.stretch.end_offset == offset
        })
    }

    /// Notes that a partition is clean up to here: its earlier stretches were accepted, and the one
    /// that waits, if one does, is its last.
    pub(super) fn clean_to(&mut self, partition: TopicPartition, offset: Offset) {
        if let Some(last) = self.pending.last_mut()
            && last.stretch.partition == partition
        {
            last.stretch.clean_to = Some(offset);
            return;
        }
        // Nothing is replaced: a mark.
        self.pending.push(Pending {
            stretch: CompactStretch {
                partition,
                base_offset: offset,
                end_offset: offset,
                sources: Vec::new(),
                runs: Vec::new(),
                clean_to: Some(offset),
            },
            segment: None,
        });
    }

    /// Writes the object and proposes the command. Returns the stretches that stayed as they were,
    /// because what they replace had changed.
    pub(super) async fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, OutputError> {
        let segments = std::mem::take(&mut self.segments);
        let mut pending = std::mem::take(&mut self.pending);
        let mut objects = std::mem::take(&mut self.objects);
        let level = std::mem::take(&mut self.level);
        self.bytes = 0;
        self.sources = 0;
        // Once an object is old it may have been swept: the command is as old as the first of them.
        let birth = self.oldest.take();
        let birth = birth.unwrap_or_else(|| Birth::now(&self.context));
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        if !segments.is_empty() {
            let number = u32::try_from(objects.len()).unwrap_or(u32::MAX);
            let (object, places) = self.write(&segments, level, number).await?;
            objects.push(object);
            for one in &mut pending {
                let place = one.segment.and_then(|at| places.get(at));
                if let (Some(place), Some(last)) = (place, one.stretch.runs.last_mut()) {
                    last.place = Some(*place);
                }
            }
        }
        if !birth.is_recent() {
            return Err(OutputError::TooOld);
        }
        let origin = self.context.owner.origin().ok_or(OutputError::NoLease)?;
        let stretches: Vec<CompactStretch> = pending.into_iter().map(|one| one.stretch).collect();
        let bases: Vec<_> = stretches
            .iter()
            .map(|stretch| (stretch.partition, stretch.base_offset))
            .collect();
        let command = Command::Compact(Compact {
            origin,
            objects,
            stretches,
            at: birth.at(),
        });
        match self.context.metadata.propose(command).await?.outcome {
            Outcome::Compacted(done) => Ok(bases
                .into_iter()
                .zip(done.into_iter().chain(std::iter::repeat(false)))
                .filter_map(|(base, done)| (!done).then_some(base))
                .collect()),
            Outcome::Refused(refusal) => Err(OutputError::Refused(refusal)),
            other => Err(OutputError::Unexpected(other)),
        }
    }

    /// Writes batches of one large run as an object of their own.
    pub(super) async fn write_early(
        &mut self,
        partition: TopicPartition,
        base_offset: Offset,
        end_offset: Offset,
        batches: Vec<Kept>,
        level: u8,
    ) -> Result<(CompactedObject, CompactedRun), OutputError> {
        let max_timestamp = batches.iter().map(|batch| batch.max_timestamp).max();
        let segment = Segment {
            partition,
            base_offset,
            batches,
        };
        let (object, places) = self.write(&[segment], level.saturating_add(1), 0).await?;
        let run = CompactedRun {
            base_offset,
            end_offset,
            max_timestamp: max_timestamp.unwrap_or(-1),
            place: places.first().copied(),
        };
        Ok((object, run))
    }

    async fn write(
        &mut self,
        segments: &[Segment],
        level: u8,
        number: u32,
    ) -> Result<(CompactedObject, Vec<CompactedPlace>), OutputError> {
        let id = ObjectId(alluvium_types::random::value());
        let mut writer = ObjectWriter::new(id, Level::Compacted, self.context.clock.now());
        for segment in segments {
            writer.begin_run(segment.partition, Some(segment.base_offset));
            let mut from = segment.base_offset;
            for batch in &segment.batches {
                // Missing offsets count for the batch behind them.
                let taken =
                    u32::try_from(batch.end_offset.saturating_sub(from)).unwrap_or(u32::MAX);
                let bytes = std::slice::from_ref(&batch.bytes);
                writer.batch(bytes, taken, batch.max_timestamp);
                from = batch.end_offset;
            }
        }
        let built = writer.finish();
        let places = built.runs.iter().map(|run| CompactedPlace {
            object: number,
            position: run.position,
            length: run.length,
            sparse: true,
        });
        let places = places.collect();
        self.throttle.write(&self.bucket, built.bytes).await;
        self.bucket.create(&key(id), built.parts).await?;
        metrics::counter!("alluvium_clean_written_bytes_total").increment(built.bytes);
        let object = CompactedObject {
            object: id,
            bytes: built.bytes,
            level,
        };
        Ok((object, places))
    }
}

/// Lets the last of some runs reach up to an offset.
fn extend_to(runs: &mut [CompactedRun], offset: Offset) {
    if let Some(last) = runs.last_mut() {
        last.end_offset = last.end_offset.max(offset);
    }
}
