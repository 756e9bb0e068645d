//! A partition's manifest: which runs of bytes hold its offsets.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_types::{
    AgentEpoch, AgentId, ChunkNumber, Millis, ObjectId, Offset, PartitionIndex, ProducerId,
};

use crate::command::SettleRun;
use crate::producers::{ProducerState, Producers};

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
    /// In the write-ahead buffers that [`State::journal_chunk`](crate::State::journal_chunk) names,
    /// from `position` of the chunk on.
    Journal {
        /// Which chunk.
        chunk: JournalChunkId,
        /// First byte within the chunk.
        position: u64,
    },
    /// In an object, from `position` on. The batches bear their own offsets in their headers, and
    /// some offsets of the run have no record: keys were compacted.
    Sparse {
        /// Which.
        object: ObjectId,
        /// First byte.
        position: u64,
    },
    /// No record is left at these offsets, or none was ever there: all keys were compacted away, or
    /// the chunk was lost before anybody could read it. The run's length is 0.
    Gap,
}

/// A chunk in write-ahead buffers: the registration that sealed it, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JournalChunkId {
    /// Who sealed it.
    pub agent: AgentId,
    /// Under which registration.
    pub epoch: AgentEpoch,
    /// Its number.
    pub chunk: ChunkNumber,
}

impl Run {
    /// The bytes themselves, while they are here.
    pub(crate) const fn inline(&self) -> Option<&Bytes> {
        match &self.location {
            RunLocation::Inline(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Whether `next` lies right behind this run in the same object.
    fn is_followed_by(&self, next: &Self) -> bool {
        let (
            RunLocation::Object { object, position },
            RunLocation::Object {
                object: next_object,
                position: next_position,
            },
        ) = (&self.location, &next.location)
        else {
            return false;
        };
        object == next_object
            && self.end_offset == next.base_offset
            && position.checked_add(self.length) == Some(*next_position)
    }

    fn extend(&mut self, next: &Self) {
        self.end_offset = next.end_offset;
        self.max_timestamp = self.max_timestamp.max(next.max_timestamp);
        self.length = self.length.saturating_add(next.length);
    }
}

/// A partition's manifest and producers.
///
/// Its runs tile the offsets up to [`Self::next_offset`] without a gap; the first of them may begin
/// below the log start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredPartition")]
pub struct Partition {
    log_start: Offset,
    next_offset: Offset,
    runs: VecDeque<Run>,
    producers: Option<Box<Producers>>,
    // What follows is counted from the runs and not stored.
    #[serde(skip_serializing)]
    bytes: u64,
    #[serde(skip_serializing)]
    inline_runs: u32,
    /// How many runs have a greatest timestamp below that of the run before them.
    #[serde(skip_serializing)]
    descents: u32,
}

/// What a snapshot holds of a partition.
#[derive(Deserialize)]
pub(crate) struct StoredPartition {
    pub(crate) log_start: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) runs: VecDeque<Run>,
    pub(crate) producers: Option<Box<Producers>>,
}

impl From<StoredPartition> for Partition {
    fn from(stored: StoredPartition) -> Self {
        let StoredPartition {
            log_start,
            next_offset,
            runs,
            producers,
        } = stored;
        let mut partition = Self {
            log_start,
            next_offset,
            runs,
            producers,
            ..Self::default()
        };
        partition.bytes = partition
            .runs
            .iter()
            .fold(0, |sum: u64, run| sum.saturating_add(run.length));
        partition.inline_runs = partition.count_inline();
        partition.descents = partition.descents_in(0, usize::MAX);
        partition
    }
}

impl Partition {
    /// First offset that can be read.
    #[must_use]
    pub const fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset the next record will get.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// One past the last offset that may be read. Every location known today is durable before
    /// its offsets are given, so this is the next offset; a location that may yet vanish will hold
    /// it back.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.next_offset
    }

    /// One past the last offset that a read_committed reader may read. There are no transactions
    /// yet, so nothing holds it below the high watermark.
    #[must_use]
    pub const fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// Below this offset each key is there once (log compaction); 0 when nothing was compacted.
    #[must_use]
    pub const fn clean_to(&self) -> Offset {
        0
    }

    /// All runs, in the order of their offsets.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = &Run> {
        self.runs.iter()
    }

    /// Runs from the one that holds `offset` (or the first after it) on. Found by binary search.
    pub fn runs_from(&self, offset: Offset) -> impl Iterator<Item = &Run> {
        let first = self.runs.partition_point(|run| run.end_offset <= offset);
        self.runs.range(first..)
    }

    /// The first run whose greatest timestamp is at or after `timestamp`, at or after the log start.
    /// A binary search, unless timestamps go back from run to run.
    #[must_use]
    pub fn run_at_time(&self, timestamp: Millis) -> Option<&Run> {
        if self.descents > 0 {
            return self.runs.iter().find(|run| run.max_timestamp >= timestamp);
        }
        self.runs.get(
            self.runs
                .partition_point(|run| run.max_timestamp < timestamp),
        )
    }

    /// The earliest run that holds the partition's greatest timestamp.
    #[must_use]
    pub fn run_of_max_timestamp(&self) -> Option<&Run> {
        let greatest = if self.descents > 0 {
            self.runs.iter().map(|run| run.max_timestamp).max()?
        } else {
            self.runs.back()?.max_timestamp
        };
        self.run_at_time(greatest)
    }

    /// Bytes of all its runs. Constant time.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The idempotent producers it remembers, by producer id (Kafka's DescribeProducers). Those
    /// that have expired may still be among them.
    pub fn producer_states(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().flat_map(|producers| producers.iter())
    }

    /// How many partitions a topic with `partitions` has, as Kafka counts them.
    #[must_use]
    pub fn count(partitions: &[Self]) -> PartitionIndex {
        PartitionIndex::try_from(partitions.len()).unwrap_or(PartitionIndex::MAX)
    }

    pub(crate) const fn has_inline(&self) -> bool {
        self.inline_runs > 0
    }

    pub(crate) fn producers(&self) -> Option<&Producers> {
        self.producers.as_deref()
    }

    pub(crate) fn producers_mut(&mut self) -> &mut Producers {
        self.producers.get_or_insert_default()
    }

    /// Forgets a producer if it has expired; if not, says when to look again.
    pub(crate) fn expire_producer(
        &mut self,
        id: ProducerId,
        at: Millis,
        expiration: Millis,
    ) -> Option<Millis> {
        self.producers.as_mut()?.expire(id, at, expiration)
    }

    /// Whether `records` more offsets and `bytes` more bytes can be counted.
    pub(crate) const fn has_room(&self, records: Offset, bytes: u64) -> bool {
        self.next_offset.checked_add(records).is_some() && self.bytes.checked_add(bytes).is_some()
    }

    /// Appends a run that begins at the next offset. True when it became a row of its own, false
    /// when it continued the last run.
    pub(crate) fn push(&mut self, run: Run) -> bool {
        self.next_offset = run.end_offset;
        self.bytes = self.bytes.saturating_add(run.length);
        if self
            .runs
            .back()
            .is_some_and(|last| last.is_followed_by(&run))
        {
            let before_last = self.runs.len().saturating_sub(2);
            let descents = self.descents_in(before_last, usize::MAX);
            if let Some(last) = self.runs.back_mut() {
                last.extend(&run);
            }
            self.descents = self.descents - descents + self.descents_in(before_last, usize::MAX);
            return false;
        }
        let last = self
            .runs
            .back()
            .map_or(Millis::MIN, |last| last.max_timestamp);
        self.descents += u32::from(run.max_timestamp < last);
        self.inline_runs += u32::from(run.inline().is_some());
        if self.runs.len() == self.runs.capacity() {
            // Most partitions of a large cluster have few runs: do not start with four.
            self.runs.reserve_exact((self.runs.len() / 2).max(1));
        }
        self.runs.push_back(run);
        true
    }

    /// Replaces the inline runs that cover exactly the settled offsets by one run in `object`.
    /// Returns how many of its neighbours that run swallowed, or nothing when it does not fit.
    pub(crate) fn settle(&mut self, object: ObjectId, settled: &SettleRun) -> Option<u32> {
        let first = self
            .runs
            .binary_search_by_key(&settled.base_offset, |run| run.base_offset)
            .ok()?;
        let mut length = 0u64;
        let mut max_timestamp = Millis::MIN;
        let mut count = 0usize;
        let mut end = settled.base_offset;
        for run in self
            .runs
            .range(first..)
            .take_while(|run| run.end_offset <= settled.end_offset)
        {
            run.inline()?;
            length = length.checked_add(run.length)?;
            max_timestamp = max_timestamp.max(run.max_timestamp);
            end = run.end_offset;
            count += 1;
        }
        if count == 0 || end != settled.end_offset || length != settled.length {
            return None;
        }
        let before = first.saturating_sub(1);
        let descents = self.descents_in(before, first + count);
        let run = self.runs.get_mut(first)?;
        run.end_offset = end;
        run.max_timestamp = max_timestamp;
        run.length = length;
        run.location = RunLocation::Object {
            object,
            position: settled.position,
        };
        self.runs.drain(first + 1..first + count);
        self.descents = self.descents - descents + self.descents_in(before, first + 1);
        self.inline_runs = self
            .inline_runs
            .saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        let mut swallowed = u32::from(self.join(first));
        if first > 0 {
            swallowed += u32::from(self.join(first - 1));
        }
        Some(swallowed)
    }

    /// Merges the run at `index` with the one after it if they touch.
    fn join(&mut self, index: usize) -> bool {
        let touching = match (self.runs.get(index), self.runs.get(index + 1)) {
            (Some(run), Some(next)) => run.is_followed_by(next),
            _ => false,
        };
        if !touching {
            return false;
        }
        let before = index.saturating_sub(1);
        let descents = self.descents_in(before, index + 2);
        if let Some(next) = self.runs.remove(index + 1)
            && let Some(run) = self.runs.get_mut(index)
        {
            run.extend(&next);
        }
        self.descents = self.descents - descents + self.descents_in(before, index + 1);
        true
    }

    /// Raises the log start and lets go of the runs that lie wholly below it.
    pub(crate) fn advance(&mut self, log_start: Offset, mut dropped: impl FnMut(Run)) {
        self.log_start = log_start;
        while self
            .runs
            .front()
            .is_some_and(|run| run.end_offset <= log_start)
        {
            self.descents -= self.descents_in(0, 1);
            if let Some(run) = self.runs.pop_front() {
                self.bytes = self.bytes.saturating_sub(run.length);
                self.inline_runs -= u32::from(run.inline().is_some()).min(self.inline_runs);
                dropped(run);
            }
        }
        if self.runs.len() < self.runs.capacity() / 4 {
            self.runs.shrink_to_fit();
        }
    }

    fn count_inline(&self) -> u32 {
        let count = self
            .runs
            .iter()
            .filter(|run| run.inline().is_some())
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many runs of `first + 1..=last` have a timestamp below that of the run before them.
    fn descents_in(&self, first: usize, last: usize) -> u32 {
        let end = last.saturating_add(1).min(self.runs.len());
        let runs = self.runs.range(first.min(end)..end);
        let descents = runs
            .clone()
            .zip(runs.skip(1))
            .filter(|(run, next)| next.max_timestamp < run.max_timestamp);
        u32::try_from(descents.count()).unwrap_or(u32::MAX)
    }

    /// What must hold, whatever was applied. Says what does not.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.log_start < 0 || self.log_start > self.high_watermark() {
            return Err(format!(
                "log start {} and high watermark {}",
                self.log_start, self.next_offset
            ));
        }
        let mut expected = self
            .runs
            .front()
            .map_or(self.log_start, |run| run.base_offset);
        if expected < 0 || expected > self.log_start {
            return Err(format!(
                "first run begins at {expected}, log start is {}",
                self.log_start
            ));
        }
        let mut bytes = 0u64;
        for run in &self.runs {
            if run.base_offset != expected || run.end_offset <= run.base_offset {
                return Err(format!(
                    "run {}..{}, expected {expected}",
                    run.base_offset, run.end_offset
                ));
            }
            if run.end_offset <= self.log_start {
                return Err(format!(
                    "run {}..{} is below the log start",
                    run.base_offset, run.end_offset
                ));
            }
            let inline = run
                .inline()
                .map(|bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            if run.length == 0 || inline.is_some_and(|inline| inline != run.length) {
                return Err(format!(
                    "run {expected} has length {}, inline {inline:?}",
                    run.length
                ));
            }
            expected = run.end_offset;
            bytes = bytes.checked_add(run.length).ok_or("bytes overflow")?;
        }
        if expected != self.next_offset {
            return Err(format!(
                "runs end at {expected}, next offset is {}",
                self.next_offset
            ));
        }
        if (bytes, self.count_inline(), self.descents_in(0, usize::MAX))
            != (self.bytes, self.inline_runs, self.descents)
        {
            return Err("counts do not match the runs".to_owned());
        }
        self.producers()
            .map_or(Ok(()), |producers| producers.check(self.next_offset))
    }
}

#[cfg(test)]
mod tests;
