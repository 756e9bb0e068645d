//! Cleans one partition: notes the newest offset of each key, then goes through the log from its start
//! and leaves out what is older.
//!
//! When the keys do not fit into memory, a pass goes only as far as they do, and the next begins
//! there. Each pass goes through the log in the order of its offsets and stops where the quorum
//! refuses a stretch (its runs were merged meanwhile, say), to go on from there with what the
//! manifest says then: the map knows offsets, not places.

use std::collections::BTreeSet;
use std::ops::Range;

use alluvium_protocol::batch::BatchError;
use alluvium_protocol::records::UnpackedBatch;
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{Offset, ProducerId, TopicPartition, limits};

use super::aborted::Aborted;
use super::filter::{Rules, Tally, Verdict, placed};
use super::map::OffsetMap;
use super::output::{CleanedRun, Kept, Output, OutputError};
use super::plan::{SourcePlace, SourceRun, standing};
use super::read::{PlacedBatch, ReadError, RunBatches};
use crate::birth::Birth;
use crate::{Context, TopicPolicy};

/// A run of which all stays is left where it is, unless it is smaller than this and the run before it
/// is written anew: then the two are better off together.
const UNCHANGED_BYTES: u64 = 4 << 20;

/// How often a run is read before it is left as it is.
const READS: u32 = 3;

/// How often a pass goes on after a refusal.
const REFUSALS: u32 = 16;

/// Why a partition was not cleaned.
#[derive(Debug, thiserror::Error)]
pub(super) enum CleanError {
    #[error("{0}")]
    Output(#[from] OutputError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("its runs changed too often meanwhile")]
    Changed,
}

/// What was done to a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// How often the log was gone through.
    pub passes: u32,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Records that were left out, over all passes.
    pub removed: u64,
    /// Records that stay, as far as they were looked at, in the last pass.
    pub kept: u64,
    /// Batches that cannot be decoded and stay as they are.
    pub unreadable_batches: u64,
    /// Runs that cannot be read and stay as they are.
    pub unreadable_runs: u64,
}

pub(super) struct Job<'a> {
    pub(super) context: &'a Context,
    pub(super) bucket: &'a Bucket,
    pub(super) partition: TopicPartition,
    pub(super) policy: &'a TopicPolicy,
    /// Bytes for the keys.
    pub(super) map_bytes: u64,
    pub(super) cleaned: Cleaned,
    /// See [`Tally::open`].
    pub(super) open: BTreeSet<ProducerId>,
}

/// What became of a source run.
enum RunVerdict {
    /// It stays where it is.
    Left,
    Changed(CleanedRun),
}

/// What a pass is about.
struct Pass<'a> {
    rules: Rules<'a>,
    /// Up to where the log is clean afterwards.
    end: Offset,
}

impl<'a> Job<'a> {
    /// Cleans the partition as far as it may be. The last stretch may still wait in `output`.
    pub(super) async fn run(&mut self, output: &mut Output<'_>) -> Result<(), CleanError> {
        let mut goal: Option<Offset> = None;
        loop {
            let now = self.context.clock.now();
            let Some(standing) = self
                .context
                .metadata
                .read(|state| standing(state.partition(self.partition)?, self.policy, now))
            else {
                return Ok(());
            };
            let goal = *goal.get_or_insert(standing.end);
            let end = goal.min(standing.end);
            if standing.first_dirty >= end {
                return Ok(());
            }
            let span = u64::try_from(end.saturating_sub(standing.first_dirty)).unwrap_or(0);
            let mut newest = OffsetMap::new(standing.first_dirty, span, self.map_bytes);
            let from = standing.first_dirty;
            let end = self.fill(&mut newest, from..end, output).await?;
            self.cleaned.passes += 1;
            self.cleaned.kept = 0;
            let rules = Rules {
                newest: &newest,
                aborted: Aborted::default(),
                end,
                now,
                delete_retention: self.policy.delete_retention,
            };
            self.open.clear();
            self.pass(Pass { rules, end }, output).await?;
            if end >= goal {
                return Ok(());
            }
            // The next pass begins where the manifest says that this one ended.
            self.flush(output).await?;
            let clean_to = self
                .context
                .metadata
                .read(|state| Some(state.partition(self.partition)?.clean_to()));
            if clean_to.is_none_or(|clean_to| clean_to < end) {
                return Ok(());
            }
        }
    }

    /// Writes what waits; the offset at which this partition's stretch was refused, if it was.
    async fn flush(&self, output: &mut Output<'_>) -> Result<Option<Offset>, CleanError> {
        let refused = output.flush().await?;
        let own = refused.into_iter().find(|(at, _)| *at == self.partition);
        Ok(own.map(|(_, base)| base))
    }

    /// The runs that hold offsets from `from` on and begin below `end`.
    fn runs(&self, from: Offset, end: Offset) -> (Vec<SourceRun>, Aborted) {
        self.first_runs(usize::MAX, from, end)
    }

    /// The first of them.
    fn run_at(&self, from: Offset, end: Offset) -> Option<(SourceRun, Aborted)> {
        let (mut runs, aborted) = self.first_runs(1, from, end);
        Some((runs.pop()?, aborted))
    }

    fn first_runs(&self, most: usize, from: Offset, end: Offset) -> (Vec<SourceRun>, Aborted) {
        self.context.metadata.read(|state| {
            let Some(partition) = state.partition(self.partition) else {
                return (Vec::new(), Aborted::default());
            };
            let runs: Vec<SourceRun> = partition
                .runs_from(from)
                .take_while(|run| run.base_offset < end)
                .map_while(SourceRun::of)
                .take(most)
                .collect();
            let aborted = Aborted::within(partition, &runs);
            (runs, aborted)
        })
    }

    async fn open(&self, run: SourceRun, place: SourcePlace) -> Result<RunBatches<'a>, ReadError> {
        let bytes = self
            .context
            .metadata
            .read(|state| state.object_bytes(place.object))
            .unwrap_or(0);
        RunBatches::open(self.bucket, self.partition, run, place, bytes).await
    }

    /// Notes the keys from `from` on, up to `end` or until there is no more room. Returns up to where.
    async fn fill(
        &mut self,
        newest: &mut OffsetMap,
        within: Range<Offset>,
        output: &mut Output<'_>,
    ) -> Result<Offset, CleanError> {
        let Range { start: mut at, end } = within;
        let mut tries = 0;
        while at < end {
            let Some((run, aborted)) = self.run_at(at, end) else {
                return Err(CleanError::Changed);
            };
            output.throttle.read(self.bucket, run.length).await;
            match self.fill_run(newest, (run, &aborted), at..end).await {
                Ok(Some(full_at)) => return Ok(full_at),
                Ok(None) => {}
                Err(error) => {
                    tries += 1;
                    // What was noted of a run whose batches bear their own offsets may be wrong.
                    let is_doubtful = run.place.is_some_and(|place| place.sparse);
                    if is_gone(&error) && tries <= REFUSALS || !is_doubtful && tries < READS {
                        continue;
                    }
                    if is_doubtful || !is_damage(&error) {
                        return Err(error.into());
                    }
                }
            }
            tries = 0;
            at = run.end_offset;
        }
        Ok(end)
    }

    async fn fill_run(
        &mut self,
        newest: &mut OffsetMap,
        (run, aborted): (SourceRun, &Aborted),
        within: Range<Offset>,
    ) -> Result<Option<Offset>, ReadError> {
        let Some(place) = run.place else {
            return Ok(None);
        };
        self.cleaned.read_bytes += run.length;
        let mut batches = self.open(run, place).await?;
        let mut full_at = None;
        while let Some(batch) = batches.next().await? {
            let is_within =
                batch.header.last_offset() >= within.start && batch.base_offset < within.end;
            let has_records = !batch.header.is_control() && !aborted.hold(&batch);
            if full_at.is_none() && is_within && has_records {
                full_at = note(newest, &batch, within.clone());
            }
            // Only where all of a run vouches for each batch must it be read to its end.
            if full_at.is_some() && !place.sparse {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(full_at)
    }

    /// Goes through the log from its start.
    async fn pass(
        &mut self,
        mut pass: Pass<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), CleanError> {
        let mut from = 0;
        let mut refusals = 0;
        'again: loop {
            let (runs, aborted) = self.runs(from, pass.end);
            pass.rules.aborted = aborted;
            if runs.last().is_none_or(|last| last.end_offset < pass.end) {
                return Err(CleanError::Changed);
            }
            for run in runs {
                let Some(verdict) = self.clean_run(&pass, run, output).await? else {
                    refusals += 1;
                    if refusals > REFUSALS {
                        return Err(CleanError::Changed);
                    }
                    from = run.base_offset;
                    continue 'again;
                };
                let RunVerdict::Changed(run) = verdict else {
                    continue;
                };
                let bytes = run.rest.iter().map(|batch| batch.bytes.len() as u64).sum();
                let is_large = !run.early.is_empty();
                let must_flush = is_large || !output.takes(self.partition, run.base_offset, bytes);
                if must_flush && let Some(base) = self.flush(output).await? {
                    refusals += 1;
                    if refusals > REFUSALS {
                        return Err(CleanError::Changed);
                    }
                    from = base;
                    continue 'again;
                }
                output.add(run);
            }
            output.clean_to(self.partition, pass.end);
            return Ok(());
        }
    }

    /// What is left of a run; `None` when its object has gone meanwhile.
    async fn clean_run(
        &mut self,
        pass: &Pass<'_>,
        run: SourceRun,
        output: &mut Output<'_>,
    ) -> Result<Option<RunVerdict>, CleanError> {
        let Some(place) = run.place else {
            let joins = output.ends_at(self.partition, run.base_offset);
            return Ok(Some(if joins {
                RunVerdict::Changed(self.emptied(run, None))
            } else {
                RunVerdict::Left
            }));
        };
        let mut tries = 0;
        loop {
            output.throttle.read(self.bucket, run.length).await;
            let (before, open) = (self.cleaned, self.open.clone());
            match self.rewrite(pass, run, place, output).await {
                Ok(verdict) => return Ok(Some(verdict)),
                // Elsewhere by now; or lost, if the manifest names it there still.
                Err(CleanError::Read(error)) if is_gone(&error) && !self.is_at(run) => {
                    return Ok(None);
                }
                Err(CleanError::Read(error)) if is_damage(&error) => {
                    tries += 1;
                    (self.cleaned, self.open) = (before, open);
                    if tries < READS {
                        continue;
                    }
                    // What cannot be read may be read again one day, and be taken for committed.
                    if pass.rules.aborted.meet(run) {
                        return Err(error.into());
                    }
                    self.cleaned.unreadable_runs += 1;
                    metrics::counter!("alluvium_clean_unreadable_runs_total").increment(1);
                    tracing::error!(
                        topic = %self.partition.topic, partition = self.partition.partition,
                        base_offset = run.base_offset, end_offset = run.end_offset, %error,
                        "a run cannot be read; log compaction leaves it as it is",
                    );
                    return Ok(Some(RunVerdict::Left));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a run lies where it did.
    fn is_at(&self, run: SourceRun) -> bool {
        let there = self.run_at(run.base_offset, run.end_offset);
        there.is_some_and(|(there, _)| there.place == run.place)
    }

    fn emptied(&self, run: SourceRun, level: Option<u8>) -> CleanedRun {
        CleanedRun {
            partition: self.partition,
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            source: run
                .place
                .zip(level)
                .map(|(place, level)| (place.object, level)),
            max_timestamp: run.max_timestamp,
            early: Vec::new(),
            early_since: None,
            rest: Vec::new(),
        }
    }

    /// Whether anything of a run goes. It is found out before a run that is larger than an object is
    /// written anew.
    async fn changes(
        &mut self,
        pass: &Pass<'_>,
        run: SourceRun,
        place: SourcePlace,
    ) -> Result<bool, ReadError> {
        let mut batches = self.open(run, place).await?;
        let mut tally = Tally {
            open: self.open.clone(),
            ..Tally::default()
        };
        while let Some(batch) = batches.next().await? {
            self.cleaned.read_bytes += batch.bytes.len() as u64;
            if let Ok(Verdict::Gone | Verdict::Changed(..)) = pass.rules.judge(&batch, &mut tally) {
                return Ok(true);
            }
            tokio::task::yield_now().await;
        }
        self.cleaned.kept += tally.kept;
        self.open = tally.open;
        Ok(false)
    }

    async fn rewrite(
        &mut self,
        pass: &Pass<'_>,
        run: SourceRun,
        place: SourcePlace,
        output: &mut Output<'_>,
    ) -> Result<RunVerdict, CleanError> {
        let is_large = run.length > output.object_bytes();
        if is_large && !self.changes(pass, run, place).await? {
            return Ok(RunVerdict::Left);
        }
        self.cleaned.read_bytes += run.length;
        let level = self
            .context
            .metadata
            .read(|state| state.object_level(place.object))
            .unwrap_or(0);
        let mut cleaned = self.emptied(run, Some(level));
        let (mut bytes, mut is_changed) = (0u64, false);
        let mut tally = Tally {
            open: self.open.clone(),
            ..Tally::default()
        };
        let mut unreadable = 0u64;
        let mut written_to = run.base_offset;
        let mut batches = self.open(run, place).await?;
        while let Some(batch) = batches.next().await? {
            let base_offset = batch.base_offset;
            let verdict = pass.rules.judge(&batch, &mut tally);
            is_changed |= matches!(verdict, Ok(Verdict::Gone | Verdict::Changed(..)));
            let kept = match verdict {
                Ok(Verdict::Gone) => None,
                Ok(Verdict::Same) => Some(as_is(&batch, run)),
                Ok(Verdict::Changed(bytes, max_timestamp)) => Some(Kept {
                    end_offset: batch.header.last_offset().saturating_add(1),
                    bytes,
                    max_timestamp,
                }),
                Err(error) => {
                    unreadable += 1;
                    name_unreadable(self.partition, base_offset, &error);
                    Some(as_is(&batch, run))
                }
            };
            let Some(kept) = kept else { continue };
            let more = kept.bytes.len() as u64;
            if bytes > 0 && bytes + more > output.object_bytes() {
                let full = std::mem::take(&mut cleaned.rest);
                let context = self.context;
                cleaned
                    .early_since
                    .get_or_insert_with(|| Birth::now(context));
                let early = output
                    .write_early(self.partition, written_to, base_offset, full, level)
                    .await?;
                cleaned.early.push(early);
                (written_to, bytes) = (base_offset, 0);
            }
            bytes += more;
            cleaned.rest.push(kept);
            tokio::task::yield_now().await;
        }
        self.cleaned.removed += tally.removed;
        self.cleaned.kept += tally.kept;
        self.open = tally.open;
        self.cleaned.unreadable_batches += unreadable;
        let joins = run.length < UNCHANGED_BYTES && output.ends_at(self.partition, run.base_offset);
        Ok(if is_changed || joins {
            RunVerdict::Changed(cleaned)
        } else {
            RunVerdict::Left
        })
    }
}

/// Notes a batch's keys within some offsets. The offset of the first record that found no room.
fn note(newest: &mut OffsetMap, batch: &PlacedBatch, within: Range<Offset>) -> Option<Offset> {
    let limit = limits::DECOMPRESSED_BATCH_BYTES;
    let unpacked = UnpackedBatch::open(&batch.bytes, batch.base_offset, limit).ok()?;
    // A batch that cannot be decoded stays as it is, and is no reason for another's records to go.
    if unpacked.records().any(|record| record.is_err()) {
        return None;
    }
    unpacked
        .records()
        .flatten()
        .filter(|record| within.contains(&record.offset))
        .find(|record| {
            record
                .key
                .is_some_and(|key| !newest.put(key, record.offset))
        })
        .map(|record| record.offset)
}

fn as_is(batch: &PlacedBatch, run: SourceRun) -> Kept {
    let max_timestamp = batch.header.max_timestamp;
    Kept {
        end_offset: batch.header.last_offset().saturating_add(1),
        bytes: placed(&batch.bytes, batch.base_offset),
        // A marker counts as no younger than the records around it, not to mislead a search by time.
        max_timestamp: if batch.header.is_control() {
            max_timestamp.min(run.max_timestamp)
        } else {
            max_timestamp
        },
    }
}

fn name_unreadable(at: TopicPartition, base_offset: Offset, error: &BatchError) {
    metrics::counter!("alluvium_clean_unreadable_batches_total").increment(1);
    tracing::warn!(
        topic = %at.topic, partition = at.partition, base_offset, %error,
        "a batch cannot be decoded; log compaction leaves it as it is",
    );
}

/// The object is not there any more: its runs lie elsewhere by now.
const fn is_gone(error: &ReadError) -> bool {
    matches!(error, ReadError::Bucket(BucketError::NotFound { .. }))
}

const fn is_damage(error: &ReadError) -> bool {
    matches!(error, ReadError::Damaged { .. })
}
