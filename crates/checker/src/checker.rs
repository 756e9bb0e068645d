//! Takes a history entry by entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::anomaly::{Counts, Found, Verdict};
use crate::event::{Entry, Event, Micros, Place, RecordId};
use crate::groups::Group;
use crate::partition::{Answer, Kept, Partition};
use crate::transactions::{CommittedAnswer, Transactions};

/// A judge. Feed it entries in the order of their times.
#[derive(Debug, Default)]
pub struct Checker {
    partitions: BTreeMap<Place, Partition>,
    groups: BTreeMap<String, Group>,
    in_flight: HashMap<u64, Batch>,
    /// By machine, when its disk was last lost.
    disks_lost: BTreeMap<String, Micros>,
    /// Those that ask for acks=1.
    alone: BTreeSet<u32>,
    transactions: Transactions,
    counts: Counts,
    found: Found,
}

#[derive(Debug)]
struct Batch {
    place: Place,
    first: RecordId,
    count: u32,
    sent: Micros,
}

impl Checker {
    /// A judge that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether something is wrong already.
    #[must_use]
    pub fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    fn partition(&mut self, place: &Place) -> &mut Partition {
        if !self.partitions.contains_key(place) {
            let partition = Partition::new(place.clone());
            self.partitions.insert(place.clone(), partition);
        }
        // Put there above when it was missing.
        self.partitions
            .entry(place.clone())
            .or_insert_with(|| Partition::new(place.clone()))
    }

    /// Takes the next entry.
    pub fn observe(&mut self, entry: &Entry) {
        let mut found = std::mem::take(&mut self.found);
        match &entry.event {
            Event::ProduceInvoked {
                op,
                place,
                writer,
                first,
                count,
                ..
            } => {
                self.partition(place).sent(*writer, *first, *count);
                let batch = Batch {
                    place: place.clone(),
                    first: RecordId(*writer, *first),
                    count: *count,
                    sent: entry.at,
                };
                self.in_flight.insert(*op, batch);
            }
            Event::ProduceAcked { op, offset } => {
                if let Some(batch) = self.in_flight.remove(op) {
                    self.counts.acked += u64::from(batch.count);
                    let (first, count) = (batch.first, batch.count);
                    self.transactions.acked(first);
                    self.partition(&batch.place)
                        .acked(entry.at, first, count, *offset, &mut found);
                }
            }
            Event::WritesAlone { writer } => _ = self.alone.insert(*writer),
            Event::ProduceKept { op, keeper } => {
                if let Some(batch) = self.in_flight.remove(op) {
                    self.counts.acked += u64::from(batch.count);
                    let (first, count) = (batch.first, batch.count);
                    let kept = Kept {
                        keeper: keeper.clone(),
                        sent: batch.sent,
                    };
                    self.partition(&batch.place).kept(first, count, &kept);
                }
            }
            Event::DiskLost { keeper } => {
                self.disks_lost.insert(keeper.clone(), entry.at);
            }
            Event::ProduceFailed { op } => {
                if let Some(batch) = self.in_flight.remove(op) {
                    self.counts.failed += u64::from(batch.count);
                    let RecordId(writer, first) = batch.first;
                    self.partition(&batch.place)
                        .refused(writer, first, batch.count);
                }
            }
            Event::ProduceUnknown { op } => {
                let batch = self.in_flight.remove(op);
                self.counts.unknown += batch.map_or(0, |batch| u64::from(batch.count));
            }
            Event::Fetched {
                place,
                session,
                from,
                high_watermark,
                log_start,
                records,
                last,
            } => {
                self.counts.read += records.len() as u64;
                let answer = Answer {
                    at: entry.at,
                    session: *session,
                    from: *from,
                    high_watermark: *high_watermark,
                    log_start: *log_start,
                    records,
                    last: *last,
                };
                self.partition(place).fetched(&answer, &mut found);
            }
            Event::Joined { transaction, op } => {
                if let Some(batch) = self.in_flight.get(op) {
                    let (place, first, count) = (&batch.place, batch.first, batch.count);
                    self.transactions.joined(*transaction, place, first, count);
                }
            }
            Event::Ended {
                transaction,
                committed,
            } => self.transactions.ended(*transaction, *committed),
            Event::FetchedCommitted {
                place,
                session,
                from,
                next,
                last_stable_offset,
                records,
                last,
            } => {
                self.counts.read += records.len() as u64;
                let answer = CommittedAnswer {
                    session: *session,
                    from: *from,
                    next: *next,
                    last_stable_offset: *last_stable_offset,
                    records,
                    last: *last,
                };
                self.partition(place).given(records, &mut found);
                self.transactions.fetched(place, &answer, &mut found);
            }
            Event::Listed {
                place,
                asked,
                offset,
            } => {
                self.counts.listed += 1;
                self.partition(place)
                    .listed(*asked, entry.at, *offset, &mut found);
            }
            Event::Committed {
                group,
                place,
                offset,
            } => {
                self.counts.committed += 1;
                let group = self.groups.entry(group.clone()).or_default();
                group.committed(place, entry.at, *offset);
            }
            Event::CommitFetched {
                group,
                place,
                asked,
                offset,
            } => {
                let group = self.groups.entry(group.clone()).or_default();
                group.fetched(place, *asked, *offset, &mut found);
            }
            Event::Assigned {
                group,
                generation,
                member,
                places,
            } => {
                let group = self.groups.entry(group.clone()).or_default();
                group.assigned(*generation, member, places, &mut found);
            }
            Event::Note { .. } => {}
        }
        self.found = found;
    }

    /// The verdict. Losses and the like are found only where everything was read a last time.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        for batch in self.in_flight.values() {
            self.counts.unknown += u64::from(batch.count);
        }
        for partition in self.partitions.values() {
            self.counts.there += partition.there();
            partition.finish(&self.alone, &self.disks_lost, &mut self.found);
        }
        let there = |place: &Place| {
            let partition = self.partitions.get(place).into_iter();
            partition.flat_map(Partition::records).collect()
        };
        self.transactions.finish(there, &mut self.found);
        self.found.into_verdict(self.counts)
    }
}
