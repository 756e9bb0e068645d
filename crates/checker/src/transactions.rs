//! What readers of committed records may be shown.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_types::Offset;

use crate::anomaly::{Found, Kind};
use crate::event::{Place, Read, RecordId};

/// Ranges in which a reader was given nothing that are kept to be looked into in the end.
const HOLES: usize = 10_000;

/// Transactions, and what readers of committed records were given.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// By number, how it ended.
    ended: BTreeMap<u64, bool>,
    /// By first record.
    batches: BTreeMap<RecordId, Batch>,
    partitions: BTreeMap<Place, Committed>,
}

/// A batch of a transaction.
#[derive(Debug)]
struct Batch {
    transaction: u64,
    place: Place,
    count: u32,
    acked: bool,
}

/// What readers of committed records were given of a partition.
#[derive(Debug, Default)]
struct Committed {
    /// Last stable offset by connection.
    stable: BTreeMap<u64, Offset>,
    /// Records that were given, and where.
    given: BTreeMap<RecordId, Offset>,
    /// Those of the last reading, by offset.
    there: BTreeMap<Offset, RecordId>,
    was_read: bool,
    holes: BTreeSet<(Offset, Offset)>,
}

/// An answer to a fetch of committed records.
pub(crate) struct CommittedAnswer<'a> {
    pub(crate) session: u64,
    pub(crate) from: Offset,
    pub(crate) next: Offset,
    pub(crate) last_stable_offset: Offset,
    pub(crate) records: &'a [Read],
    pub(crate) last: bool,
}

impl Transactions {
    pub(crate) fn joined(&mut self, transaction: u64, place: &Place, first: RecordId, count: u32) {
        let batch = Batch {
            transaction,
            place: place.clone(),
            count,
            acked: false,
        };
        self.batches.insert(first, batch);
    }

    pub(crate) fn acked(&mut self, first: RecordId) {
        if let Some(batch) = self.batches.get_mut(&first) {
            batch.acked = true;
        }
    }

    pub(crate) fn ended(&mut self, transaction: u64, committed: bool) {
        self.ended.insert(transaction, committed);
    }

    /// The transaction of a record.
    fn of(&self, record: RecordId) -> Option<u64> {
        let from = RecordId(record.0, 0);
        let (first, batch) = self.batches.range(from..=record).next_back()?;
        let is_in = record.1 - first.1 < u64::from(batch.count);
        is_in.then_some(batch.transaction)
    }

    pub(crate) fn fetched(
        &mut self,
        place: &Place,
        answer: &CommittedAnswer<'_>,
        found: &mut Found,
    ) {
        let partition = self.partitions.entry(place.clone()).or_default();
        let stable = answer.last_stable_offset;
        let seen = partition.stable.entry(answer.session).or_insert(stable);
        if stable < *seen {
            let detail = format!("{seen}, then {stable} on connection {}", answer.session);
            found.add(Kind::StableOffsetBack, place, None, None, detail);
        }
        *seen = stable.max(*seen);
        partition.was_read |= answer.last;
        let mut next = answer.from;
        for read in answer.records {
            if read.offset >= stable {
                let detail = format!("offset {} under {stable}", read.offset);
                let (kind, at) = (Kind::ReadPastStableOffset, Some(read.offset));
                found.add(kind, place, at, read.record, detail);
            }
            partition.hole(next, read.offset);
            next = next.max(read.offset.saturating_add(1));
            if let Some(record) = read.record {
                partition.given.insert(record, read.offset);
                if answer.last {
                    partition.there.insert(read.offset, record);
                }
            }
        }
        partition.hole(next, answer.next);
    }

    /// Judges what the last readings found; `there` says which records a partition holds in the end,
    /// committed or not.
    pub(crate) fn finish(
        &self,
        there: impl Fn(&Place) -> Vec<(Offset, RecordId)>,
        found: &mut Found,
    ) {
        self.judge_aborted(found);
        self.judge_ends(found);
        for (place, partition) in &self.partitions {
            if !partition.was_read {
                continue;
            }
            // What is part of no transaction is shown to everybody.
            for (offset, record) in there(place) {
                if self.of(record).is_none() && partition.there.get(&offset) != Some(&record) {
                    let detail = format!("{record} at offset {offset} is part of no transaction");
                    let (kind, at) = (Kind::Skipped, Some(offset));
                    found.add(kind, place, at, Some(record), detail);
                }
            }
            for (from, to) in &partition.holes {
                if let Some((offset, record)) = partition.there.range(from..to).next() {
                    let detail = format!("{record} at offset {offset}, past {from}..{to}");
                    let (kind, at) = (Kind::Skipped, Some(*offset));
                    found.add(kind, place, at, Some(*record), detail);
                }
            }
        }
    }

    /// No reader is given records of a transaction that was aborted, now or later.
    fn judge_aborted(&self, found: &mut Found) {
        for (place, partition) in &self.partitions {
            for (record, offset) in &partition.given {
                let transaction = self.of(*record);
                let ended = transaction.and_then(|transaction| self.ended.get(&transaction));
                if ended == Some(&false) {
                    let detail = format!("{record} at offset {offset}");
                    let (kind, at) = (Kind::Uncommitted, Some(*offset));
                    found.add(kind, place, at, Some(*record), detail);
                }
            }
        }
    }

    /// A transaction is shown whole or not at all: what a reader was given once is given in the end, and
    /// what was committed is.
    fn judge_ends(&self, found: &mut Found) {
        let mut shown: BTreeSet<u64> = BTreeSet::new();
        for record in self.partitions.values().flat_map(|it| it.given.keys()) {
            shown.extend(self.of(*record));
        }
        let shown_last: BTreeMap<&Place, BTreeSet<RecordId>> = self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.was_read)
            .map(|(place, partition)| (place, partition.there.values().copied().collect()))
            .collect();
        for (first, batch) in self.batches.iter().filter(|(_, batch)| batch.acked) {
            let ended = self.ended.get(&batch.transaction).copied();
            let was_shown = shown.contains(&batch.transaction);
            if ended == Some(false) || ended.is_none() && !was_shown {
                continue;
            }
            let Some(there) = shown_last.get(&batch.place) else {
                continue;
            };
            let numbers = first.1..first.1.saturating_add(u64::from(batch.count));
            let records = numbers.map(|number| RecordId(first.0, number));
            for record in records.filter(|record| !there.contains(record)) {
                let (kind, said) = if ended == Some(true) {
                    (Kind::Lost, "was committed")
                } else {
                    (Kind::Torn, "has other records that were shown")
                };
                let detail = format!(
                    "{record} was acknowledged, its transaction {} {said}",
                    batch.transaction
                );
                found.add(kind, &batch.place, None, Some(record), detail);
            }
        }
    }
}

impl Committed {
    fn hole(&mut self, from: Offset, to: Offset) {
        if from < to && self.holes.len() < HOLES {
            self.holes.insert((from, to));
        }
    }
}
