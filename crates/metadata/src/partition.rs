//! A partition's manifest: which runs of bytes hold its offsets.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

use alluvium_types::{Millis, Offset, PartitionIndex, ProducerId};

use crate::producers::{ProducerState, Producers};
use crate::runs::{Run, RunLocation};

use transactions::Transactions;

pub use transactions::AbortedTransaction;

/// A partition's manifest and producers.
///
/// Its runs tile the offsets up to [`Self::next_offset`]; the first of them may begin below the log
/// start. Offsets without a record are a run of their own, a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "StoredPartition")]
pub struct Partition {
    log_start: Offset,
    next_offset: Offset,
    runs: VecDeque<Run>,
    bytes: u64,
    /// How many runs have a greatest timestamp below that of the run before them.
    descents: u32,
    /// What most partitions of a large cluster have nothing of.
    rest: Option<Box<Rest>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rest {
    producers: Option<Producers>,
    clean_to: Offset,
    inline_runs: u32,
    journal_runs: u32,
    /// First offsets of the runs that may yet vanish, ascending.
    unstable: VecDeque<Offset>,
    transactions: Option<Box<Transactions>>,
}

/// What a snapshot holds of a partition.
#[derive(Deserialize)]
pub(crate) struct StoredPartition {
    pub(crate) log_start: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) runs: VecDeque<Run>,
    pub(crate) producers: Option<Producers>,
    pub(crate) clean_to: Offset,
    /// First offsets of open transactions.
    pub(crate) open: BTreeMap<ProducerId, Offset>,
    pub(crate) aborted: VecDeque<AbortedTransaction>,
}

impl From<StoredPartition> for Partition {
    fn from(stored: StoredPartition) -> Self {
        let mut partition = Self {
            log_start: stored.log_start,
            next_offset: stored.next_offset,
            runs: stored.runs,
            ..Self::default()
        };
        partition.bytes = partition
            .runs
            .iter()
            .fold(0, |sum: u64, run| sum.saturating_add(run.length));
        partition.descents = partition.descents_in(0, usize::MAX);
        let (inline_runs, journal_runs) = partition.count_unsettled();
        partition.set_rest(Rest {
            producers: stored.producers,
            clean_to: stored.clean_to,
            inline_runs,
            journal_runs,
            unstable: VecDeque::new(),
            transactions: Transactions::of(stored.open, stored.aborted),
        });
        partition
    }
}

impl Serialize for Partition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut stored = serializer.serialize_struct("StoredPartition", 7)?;
        stored.serialize_field("log_start", &self.log_start)?;
        stored.serialize_field("next_offset", &self.next_offset)?;
        stored.serialize_field("runs", &self.runs)?;
        stored.serialize_field("producers", &self.producers())?;
        stored.serialize_field("clean_to", &self.clean_to())?;
        let transactions = self.transactions().cloned().unwrap_or_default();
        stored.serialize_field("open", transactions.open())?;
        stored.serialize_field("aborted", transactions.aborted())?;
        stored.end()
    }
}

/// Producers that were forgotten, and when each was to be looked at.
pub(crate) type Forgotten = Vec<(Millis, ProducerId)>;

/// Runs that left a manifest, and those that took their place.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) removed: Vec<Run>,
    pub(crate) added: Vec<Run>,
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

    /// One past the last offset that may be read: the first that lies in a chunk which may yet vanish
    /// ([`Location::Journal`](crate::Location::Journal), not stable), or the next offset. Constant
    /// time.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        let first_unstable = self.rest.as_ref().and_then(|rest| rest.unstable.front());
        first_unstable.copied().unwrap_or(self.next_offset)
    }

    /// One past the last offset that a read_committed reader may read: the first of an open
    /// transaction, or the high watermark. Constant time, or nearly.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        let first_open = self.transactions().and_then(Transactions::first_open);
        let stable = self.high_watermark().min(first_open.unwrap_or(Offset::MAX));
        // Records may be deleted under an open transaction.
        stable.max(self.log_start)
    }

    /// The transactions that are open here, by producer, with their first offsets.
    pub fn open_transactions(&self) -> impl Iterator<Item = (ProducerId, Offset)> {
        let transactions = self.transactions().into_iter();
        let open = transactions.flat_map(|transactions| transactions.open());
        open.map(|(producer, first)| (*producer, *first))
    }

    /// Where a producer's open transaction begins here, if one does.
    #[must_use]
    pub fn open_transaction(&self, producer: ProducerId) -> Option<Offset> {
        self.transactions()?.open().get(&producer).copied()
    }

    /// Below this offset each key is there once (log compaction), and no record of an aborted
    /// transaction; 0 when nothing was compacted.
    #[must_use]
    pub fn clean_to(&self) -> Offset {
        self.rest.as_ref().map_or(0, |rest| rest.clean_to)
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

    /// The first run with records whose greatest timestamp is at or after `timestamp`, at or after
    /// the log start. A binary search, unless timestamps go back from run to run.
    #[must_use]
    pub fn run_at_time(&self, timestamp: Millis) -> Option<&Run> {
        let first = if self.descents > 0 {
            0
        } else {
            self.runs
                .partition_point(|run| run.max_timestamp < timestamp)
        };
        // There are no two gaps beside one another.
        self.runs
            .range(first..)
            .find(|run| run.max_timestamp >= timestamp && !run.is_gap())
    }

    /// The earliest run that holds the partition's greatest timestamp.
    #[must_use]
    pub fn run_of_max_timestamp(&self) -> Option<&Run> {
        let mut times = self
            .runs
            .iter()
            .rev()
            .filter(|run| !run.is_gap())
            .map(|run| run.max_timestamp);
        let greatest = if self.descents > 0 {
            times.max()?
        } else {
            times.next()?
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
        self.producers()
            .into_iter()
            .flat_map(|producers| producers.iter())
    }

    /// How many partitions a topic with `partitions` has, as Kafka counts them.
    #[must_use]
    pub fn count(partitions: &[Self]) -> PartitionIndex {
        PartitionIndex::try_from(partitions.len()).unwrap_or(PartitionIndex::MAX)
    }

    pub(crate) fn has_inline(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.inline_runs > 0)
    }

    pub(crate) fn has_journal(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.journal_runs > 0)
    }

    pub(crate) fn producers(&self) -> Option<&Producers> {
        self.rest.as_ref()?.producers.as_ref()
    }

    pub(crate) fn producers_mut(&mut self) -> &mut Producers {
        self.rest_mut().producers.get_or_insert_default()
    }

    fn transactions(&self) -> Option<&Transactions> {
        self.rest.as_ref()?.transactions.as_deref()
    }

    /// A batch of a producer's transaction was appended here.
    pub(crate) fn begin_transaction(&mut self, producer: ProducerId, first_offset: Offset) {
        let transactions = &mut self.rest_mut().transactions;
        let transactions = transactions.get_or_insert_default();
        transactions.begin(producer, first_offset);
    }

    /// Appends the marker that ends a producer's transaction, as a run of its own, unless it has no
    /// transaction here. The run counts as old as what lies before it, not to mislead a search by time.
    pub(crate) fn end_transaction(
        &mut self,
        producer: ProducerId,
        marker: &Bytes,
        commit: bool,
        at: Millis,
    ) -> Option<Run> {
        self.open_transaction(producer)?;
        let offset = self.next_offset;
        let run = Run {
            base_offset: offset,
            end_offset: offset.checked_add(1)?,
            max_timestamp: self.runs.back().map_or(at, |last| last.max_timestamp),
            length: u64::try_from(marker.len()).unwrap_or(u64::MAX),
            location: RunLocation::Inline(marker.clone()),
        };
        self.push(run.clone());
        let next_offset = self.next_offset;
        if let Some(transactions) = self.rest_mut().transactions.as_mut() {
            transactions.end(producer, offset, !commit, next_offset);
        }
        self.tidy_transactions();
        Some(run)
    }

    fn tidy_transactions(&mut self) {
        if let Some(rest) = &mut self.rest
            && rest
                .transactions
                .as_ref()
                .is_some_and(|known| known.is_empty())
        {
            rest.transactions = None;
        }
    }

    /// Forgets a producer if it has expired; if not, says when to look again.
    pub(crate) fn expire_producer(
        &mut self,
        id: ProducerId,
        at: Millis,
        expiration: Millis,
    ) -> Option<Millis> {
        let producers = self.rest.as_mut()?.producers.as_mut()?;
        producers.expire(id, at, expiration)
    }

    /// Raises what is known to be compacted; it lies below the high watermark. No record of a transaction
    /// that was aborted is left there, so readers need not be told of those that ended there.
    pub(crate) fn clean(&mut self, to: Offset) {
        if to > self.clean_to() {
            self.rest_mut().clean_to = to;
            self.forget_aborted(to);
        }
    }

    fn rest_mut(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    fn set_rest(&mut self, rest: Rest) {
        self.rest = (rest != Rest::default()).then(|| Box::new(rest));
    }

    /// Lets go of the box when it holds nothing.
    fn tidy(&mut self) {
        if self.rest.as_deref() == Some(&Rest::default()) {
            self.rest = None;
        }
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
        self.count_in(&run);
        if self.runs.len() == self.runs.capacity() {
            // Most partitions of a large cluster have few runs: do not start with four.
            self.runs.reserve_exact((self.runs.len() / 2).max(1));
        }
        self.runs.push_back(run);
        true
    }

    /// Nothing from this run on is read before its chunk is settled.
    pub(crate) fn hold(&mut self, base_offset: Offset) {
        let unstable = &mut self.rest_mut().unstable;
        let index = unstable.partition_point(|held| *held < base_offset);
        if unstable.get(index) != Some(&base_offset) {
            unstable.insert(index, base_offset);
        }
    }

    fn count_in(&mut self, run: &Run) {
        if run.is_unsettled() {
            let rest = self.rest_mut();
            rest.inline_runs += u32::from(run.inline().is_some());
            rest.journal_runs += u32::from(run.journal().is_some());
        }
    }

    fn count_out(&mut self, run: &Run) {
        let Some(rest) = self.rest.as_mut().filter(|_| run.is_unsettled()) else {
            return;
        };
        rest.inline_runs -= u32::from(run.inline().is_some()).min(rest.inline_runs);
        rest.journal_runs -= u32::from(run.journal().is_some()).min(rest.journal_runs);
        if let Ok(index) = rest.unstable.binary_search(&run.base_offset) {
            rest.unstable.remove(index);
        }
    }

    /// The runs that cover exactly these offsets, by index.
    pub(crate) fn stretch(&self, base_offset: Offset, end_offset: Offset) -> Option<Range<usize>> {
        let first = self
            .runs
            .binary_search_by_key(&base_offset, |run| run.base_offset)
            .ok()?;
        let last = self
            .runs
            .binary_search_by_key(&end_offset, |run| run.end_offset)
            .ok()?;
        (first <= last).then_some(first..last + 1)
    }

    /// Some of its runs.
    pub(crate) fn range(&self, stretch: Range<usize>) -> impl Iterator<Item = &Run> {
        let end = stretch.end.min(self.runs.len());
        self.runs.range(stretch.start.min(end)..end)
    }

    /// Puts runs that tile the same offsets in the place of `stretch`. Neighbours that continue one
    /// another become one, at the edges too: then the neighbour is among those removed. Gaps take the
    /// time of what lies before them.
    pub(crate) fn replace(
        &mut self,
        stretch: Range<usize>,
        with: impl IntoIterator<Item = Run>,
    ) -> Replaced {
        let Range { mut start, mut end } = stretch;
        let left = start.checked_sub(1).and_then(|index| self.runs.get(index));
        let left = left.cloned();
        let mut time = left.as_ref().map_or(Millis::MIN, |run| run.max_timestamp);
        let mut added: Vec<Run> = Vec::new();
        for mut run in with {
            if run.is_gap() {
                run.max_timestamp = time;
            }
            match added.last_mut().filter(|last| last.is_followed_by(&run)) {
                Some(last) => last.extend(&run),
                None => added.push(run),
            }
            time = added.last().map_or(time, |run| run.max_timestamp);
        }
        if let Some(mut left) = left
            && let Some(first) = added.first_mut().filter(|first| left.is_followed_by(first))
        {
            left.extend(first);
            *first = left;
            start -= 1;
        }
        if let Some(right) = self.runs.get(end)
            && let Some(last) = added.last_mut().filter(|last| last.is_followed_by(right))
        {
            last.extend(right);
            end += 1;
        }
        self.swap(start..end, added)
    }

    fn swap(&mut self, stretch: Range<usize>, added: Vec<Run>) -> Replaced {
        let Range { start, end } = stretch;
        let before = start.saturating_sub(1);
        self.descents -= self.descents_in(before, end);
        let mut removed: Vec<Run> = Vec::with_capacity(end - start);
        let common = added.len().min(end - start);
        for (index, run) in (start..).zip(added.iter().take(common)) {
            if let Some(place) = self.runs.get_mut(index) {
                removed.push(std::mem::replace(place, run.clone()));
            }
        }
        removed.extend(self.runs.drain(start + common..end));
        for (index, run) in (start..).zip(&added).skip(common) {
            self.runs.insert(index, run.clone());
        }
        self.descents += self.descents_in(before, start + added.len());
        for run in &removed {
            self.bytes = self.bytes.saturating_sub(run.length);
            self.count_out(run);
        }
        for run in &added {
            self.bytes = self.bytes.saturating_add(run.length);
            self.count_in(run);
        }
        self.shrink();
        Replaced { removed, added }
    }

    /// Gives back memory that runs which are gone have left.
    fn shrink(&mut self) {
        if self.runs.len() < self.runs.capacity() / 4 {
            self.runs.shrink_to_fit();
        }
        self.tidy();
    }

    /// Raises the log start and lets go of the runs that lie wholly below it.
    pub(crate) fn advance(&mut self, log_start: Offset, mut dropped: impl FnMut(Run)) {
        self.log_start = log_start;
        self.forget_aborted(log_start);
        while self
            .runs
            .front()
            .is_some_and(|run| run.end_offset <= log_start)
        {
            self.descents -= self.descents_in(0, 1);
            if let Some(run) = self.runs.pop_front() {
                self.bytes = self.bytes.saturating_sub(run.length);
                self.count_out(&run);
                dropped(run);
            }
        }
        self.shrink();
    }

    /// Takes the last runs out, so many at most, of a partition that is no more.
    pub(crate) fn take_runs(&mut self, most: usize) -> Vec<Run> {
        let first = self.runs.len().saturating_sub(most);
        self.descents -= self.descents_in(first.saturating_sub(1), usize::MAX);
        let taken: Vec<Run> = self.runs.split_off(first).into();
        if let Some(run) = taken.first() {
            self.next_offset = run.base_offset;
        }
        for run in &taken {
            self.bytes = self.bytes.saturating_sub(run.length);
            self.count_out(run);
        }
        self.shrink();
        taken
    }

    /// Takes producers out, so many at most, of a partition that is no more. Says when each was to be
    /// looked at.
    pub(crate) fn take_producers(&mut self, most: usize) -> Forgotten {
        let producers = self.rest.as_mut().and_then(|rest| rest.producers.as_mut());
        producers.map_or_else(Vec::new, |producers| producers.take(most))
    }

    /// The run at this offset is lost, and what its producers appended with it. Says which of them
    /// are forgotten altogether, and when each was to be looked at.
    pub(crate) fn void(&mut self, base_offset: Offset) -> Option<(Replaced, Forgotten)> {
        let found = self
            .runs
            .binary_search_by_key(&base_offset, |run| run.base_offset);
        let index = found.ok()?;
        let run = self.runs.get(index)?;
        let offsets = run.base_offset..run.end_offset;
        let gap = Run {
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            max_timestamp: run.max_timestamp,
            length: 0,
            location: RunLocation::Gap,
        };
        let producers = self.rest.as_mut().and_then(|rest| rest.producers.as_mut());
        let forgotten = producers.map_or_else(Vec::new, |producers| producers.void(&offsets));
        Some((self.replace(index..index + 1, [gap]), forgotten))
    }

    fn count_unsettled(&self) -> (u32, u32) {
        let count = |is: fn(&Run) -> bool| {
            let count = self.runs.iter().filter(|run| is(run)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let inline = count(|run| run.inline().is_some());
        (inline, count(|run| run.journal().is_some()))
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
}

mod aborted;
mod check;
#[cfg(test)]
mod tests;
mod transactions;
