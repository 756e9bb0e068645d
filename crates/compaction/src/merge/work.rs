//! Does one job: reads its pieces, writes them as one object, and proposes to put it in their place.
//!
//! Each attempt has an object of its own, so two that do the same job do not disturb each other: the
//! quorum takes what comes first, and refuses what names sources that are gone.

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_metadata::{
    AgentOrigin, Command, Compact, CompactStretch, CompactedObject, CompactedPlace, CompactedRun,
    Outcome, Refusal,
};
use alluvium_objects::{BuiltObject, Level, ObjectWriter, key};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{Millis, ObjectId};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};

use super::backlog::{Piece, Stretch};
use super::copy::{RunInMaking, check};
use super::pace::{Calm, Pace};
use super::plan::Job;
use super::read::{Read, Window, windows};
use crate::birth::Birth;
use crate::{CompactionConfig, Context, is_missing};

/// Stretches and sources of one command, most: it stays well below a MiB.
const COMMAND_STRETCHES: usize = 2048;
const COMMAND_SOURCES: usize = 16_384;

/// Bytes that are checked before other tasks get a turn.
const TURN_BYTES: u64 = 1 << 20;

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("{0}")]
    Propose(#[from] ProposeError),
    #[error("the quorum refused it: {0}")]
    Refused(Refusal),
    #[error("the quorum answered something else: {0:?}")]
    Unexpected(Outcome),
    #[error("it took so long that its object may have been taken for one that nobody wants")]
    TooOld,
    #[error("none of {0} stretches was as it was when the merge began")]
    Overtaken(usize),
}

/// What became of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Stretches that the new object replaced.
    pub(crate) replaced: usize,
    /// Stretches that were something else by then.
    pub(crate) refused: usize,
    /// Pieces whose bytes are damaged or missing, by object and position.
    pub(crate) damaged: Vec<(ObjectId, u64)>,
    /// Runs that went.
    pub(crate) runs_gone: usize,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

/// Does jobs, one at a time.
#[derive(Debug)]
pub(crate) struct Worker {
    bucket: Bucket,
    metadata: Metadata,
    context: Context,
    concurrent_objects: usize,
    reading: Pace,
    writing: Pace,
    calm: Calm,
}

/// A stretch as it was copied.
#[derive(Debug)]
struct Copied {
    stretch: Stretch,
    /// Bytes of the object; the run of it that they are in comes from the writer.
    run: usize,
}

impl Worker {
    pub(crate) fn new(context: &Context, config: &CompactionConfig, bucket: Bucket) -> Self {
        Self {
            bucket,
            metadata: context.metadata.clone(),
            context: context.clone(),
            concurrent_objects: config.concurrent_objects.max(1),
            reading: Pace::new(config.bytes_per_second),
            writing: Pace::new(config.bytes_per_second),
            calm: Calm::default(),
        }
    }

    /// Does a job under a registration.
    ///
    /// # Errors
    /// The bucket fails, the quorum does not answer, or the registration is over. At worst an object
    /// stays that no run names.
    pub(crate) async fn work(
        &mut self,
        job: &Job,
        origin: AgentOrigin,
    ) -> Result<Report, WorkError> {
        let mut report = Report::default();
        let read = self.read(job, &mut report).await?;
        let object = ObjectId(alluvium_types::random::value());
        // From now on the object may be taken for one that nobody wants.
        let birth = Birth::now(&self.context);
        let made_at = self.context.clock.now();
        let (built, copied) = self.copy(job, (object, made_at), read, &mut report).await;
        if copied.is_empty() {
            return Ok(report);
        }
        let slowdown = self.calm.wait(&self.bucket).await;
        self.writing.take(built.bytes, slowdown).await;
        let BuiltObject {
            parts, bytes, runs, ..
        } = built;
        self.bucket.create(&key(object), parts).await?;
        report.bytes_written = bytes;
        let compacted = CompactedObject {
            object,
            bytes,
            level: job.level.saturating_add(1),
        };
        let placed = copied.iter().filter_map(|copied| {
            let run = runs.get(copied.run)?;
            Some((copied, run.position, run.length))
        });
        let placed: Vec<_> = placed
            .map(|(copied, position, length)| stretch_of(&copied.stretch, position, length))
            .collect();
        for stretches in in_pieces(placed) {
            if !birth.is_recent() {
                return Err(WorkError::TooOld);
            }
            let compact = Compact {
                origin,
                objects: vec![compacted],
                stretches,
                at: birth.at(),
            };
            self.commit(compact, &mut report).await?;
        }
        Ok(report)
    }

    /// Reads all pieces. What is not there is left out.
    async fn read(&mut self, job: &Job, report: &mut Report) -> Result<Read, WorkError> {
        let pieces = job.stretches.iter().flat_map(|stretch| &stretch.pieces);
        let windows = windows(pieces);
        let mut read = Read::default();
        let Self {
            bucket,
            calm,
            reading,
            ..
        } = self;
        for some in windows.chunks(self.concurrent_objects) {
            let slowdown = calm.wait(bucket).await;
            let bytes = some.iter().map(Window::bytes).sum();
            reading.take(bytes, slowdown).await;
            let gets = some.iter().map(|window| {
                let (bucket, key) = (bucket.clone(), key(window.object));
                async move { (window, bucket.read(&key, window.range()).await) }
            });
            let mut gets: FuturesUnordered<_> = gets.collect();
            while let Some((window, answer)) = gets.next().await {
                match answer {
                    Ok(bytes) => {
                        report.bytes_read += window.bytes();
                        read.add(window, bytes);
                    }
                    // Its pieces will be found missing.
                    Err(error) if is_missing(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(read)
    }

    /// Puts the object together. A piece that is damaged or cannot be had ends its stretch; the others
    /// go on.
    async fn copy(
        &self,
        job: &Job,
        (object, at): (ObjectId, Millis),
        mut read: Read,
        report: &mut Report,
    ) -> (BuiltObject, Vec<Copied>) {
        let mut sound = Vec::with_capacity(job.stretches.len());
        let mut turn = Turn::default();
        for stretch in &job.stretches {
            let mut whole = 0;
            for piece in &stretch.pieces {
                if !self.is_sound(stretch, piece, &mut read, report).await {
                    break;
                }
                whole += 1;
                turn.after(piece.length).await;
            }
            sound.push(whole);
        }
        let read = read.freeze();
        let mut writer = ObjectWriter::new(object, Level::Compacted, at);
        let mut copied: Vec<Copied> = Vec::new();
        for (stretch, whole) in job.stretches.iter().zip(sound) {
            let mut stretch = stretch.clone();
            stretch.pieces.truncate(whole);
            let Some(first) = stretch.pieces.first() else {
                continue;
            };
            let mut making = RunInMaking::new(stretch.partition, first.base_offset);
            for piece in &stretch.pieces {
                if let Some(bytes) = read.piece(piece) {
                    making.add(&mut writer, &bytes);
                }
                turn.after(piece.length).await;
            }
            if making.has_begun() {
                let run = copied.len();
                copied.push(Copied { stretch, run });
            }
        }
        (writer.finish(), copied)
    }

    /// Whether the bytes of a piece are there and what they should be, perhaps when read once more. A
    /// store that does not answer is no damage: the stretch waits for another merge.
    async fn is_sound(
        &self,
        stretch: &Stretch,
        piece: &Piece,
        read: &mut Read,
        report: &mut Report,
    ) -> bool {
        let first = read.piece(piece);
        if first.is_some_and(|bytes| check(piece, stretch.sparse, bytes).is_ok()) {
            return true;
        }
        let reason = match self.again(piece).await {
            Ok(bytes) => {
                report.bytes_read += piece.length;
                read.replace(piece, bytes);
                let bytes = read.piece(piece).unwrap_or_default();
                match check(piece, stretch.sparse, bytes) {
                    Ok(()) => return true,
                    Err(damage) => damage.to_string(),
                }
            }
            Err(error) if is_missing(&error) => error.to_string(),
            Err(error) => {
                tracing::warn!(%error, "a run cannot be read now; it is merged another time");
                return false;
            }
        };
        self.damaged(stretch, piece, &reason, report);
        false
    }

    /// Tells of a run that cannot be copied, unless somebody else has done that meanwhile.
    fn damaged(&self, stretch: &Stretch, piece: &Piece, reason: &str, report: &mut Report) {
        let is_named = self.metadata.read(|state| {
            let partition = state.partition(stretch.partition)?;
            let run = partition.runs_from(piece.base_offset).next()?;
            super::object_of(&run.location)
        });
        if is_named != Some(piece.object) {
            return;
        }
        tracing::error!(
            topic = %stretch.partition.topic,
            partition = stretch.partition.partition,
            offset = piece.base_offset,
            object = %key(piece.object),
            position = piece.position,
            "a run cannot be merged, its bytes are damaged or missing: {reason}",
        );
        metrics::counter!("alluvium_compaction_damaged_runs_total").increment(1);
        report.damaged.push((piece.object, piece.position));
    }

    async fn again(&self, piece: &Piece) -> Result<Bytes, BucketError> {
        let end = piece.position.saturating_add(piece.length);
        self.bucket
            .read(&key(piece.object), piece.position..end)
            .await
    }

    async fn commit(&self, compact: Compact, report: &mut Report) -> Result<(), WorkError> {
        let counts: Vec<_> = compact
            .stretches
            .iter()
            .map(|stretch| stretch.sources.len().saturating_sub(stretch.runs.len()))
            .collect();
        let applied = self.metadata.propose(Command::Compact(compact)).await?;
        match applied.outcome {
            Outcome::Compacted(replaced) => {
                for (replaced, gone) in replaced.iter().zip(counts) {
                    if *replaced {
                        report.replaced += 1;
                        report.runs_gone += gone;
                    } else {
                        report.refused += 1;
                    }
                }
                Ok(())
            }
            Outcome::Refused(refusal) => Err(WorkError::Refused(refusal)),
            other => Err(WorkError::Unexpected(other)),
        }
    }
}

/// Lets other tasks go on now and then.
#[derive(Debug, Default)]
struct Turn {
    bytes: u64,
}

impl Turn {
    async fn after(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= TURN_BYTES {
            self.bytes = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// What the quorum is told of a stretch that lies in the object now.
fn stretch_of(stretch: &Stretch, position: u64, length: u64) -> CompactStretch {
    let base_offset = stretch.pieces.first().map_or(0, |piece| piece.base_offset);
    let end_offset = stretch.pieces.last().map_or(0, |piece| piece.end_offset);
    let timestamps = stretch.pieces.iter().map(|piece| piece.max_timestamp);
    let run = CompactedRun {
        base_offset,
        end_offset,
        max_timestamp: timestamps.max().unwrap_or(Millis::MIN),
        place: Some(CompactedPlace {
            object: 0,
            position,
            length,
            sparse: stretch.sparse,
        }),
    };
    CompactStretch {
        partition: stretch.partition,
        base_offset,
        end_offset,
        sources: stretch.pieces.iter().map(|piece| piece.object).collect(),
        runs: vec![run],
        clean_to: None,
    }
}

/// Stretches by the command, none too large.
fn in_pieces(stretches: Vec<CompactStretch>) -> Vec<Vec<CompactStretch>> {
    let mut pieces: Vec<Vec<CompactStretch>> = Vec::new();
    let mut sources = 0;
    for stretch in stretches {
        let more = stretch.sources.len();
        match pieces.last_mut() {
            Some(piece) if piece.len() < COMMAND_STRETCHES && sources + more <= COMMAND_SOURCES => {
                sources += more;
                piece.push(stretch);
            }
            _ => {
                sources = more;
                pieces.push(vec![stretch]);
            }
        }
    }
    pieces
}
