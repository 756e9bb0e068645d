//! What is known of one partition.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_types::Offset;

use crate::anomaly::{Found, Kind};
use crate::ends::Ends;
use crate::event::{Micros, Place, Read, RecordId};
use crate::pages::{Pages, Slot};

/// Holes seen by readers that are kept to be looked into in the end.
const HOLES: usize = 10_000;

/// What is known of one partition.
#[derive(Debug)]
pub(crate) struct Partition {
    place: Place,
    /// Where records are, as acknowledgements and readers say.
    claimed: Pages,
    /// Where they are in the end.
    there: Pages,
    /// What the last reading covered, end exclusive.
    read_to: Option<(Offset, Offset)>,
    /// The log's end as it was known over time.
    ends: Ends,
    /// High watermark by connection.
    watermarks: BTreeMap<u64, Offset>,
    highest_watermark: Offset,
    /// What the last reading was told.
    last_watermark: Offset,
    log_start: Offset,
    /// Ranges in which a reader was given nothing.
    holes: BTreeSet<(Offset, Offset)>,
    /// By writer, one above the highest number sent here.
    sent: BTreeMap<u32, u64>,
    /// Refused for good.
    refused: BTreeSet<RecordId>,
    /// Acknowledged by one agent alone.
    kept: BTreeMap<RecordId, Kept>,
}

/// Who acknowledged a record alone.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The machine.
    pub(crate) keeper: String,
    /// When it was sent there.
    pub(crate) sent: Micros,
}

/// An answer to a fetch.
pub(crate) struct Answer<'a> {
    pub(crate) at: Micros,
    pub(crate) session: u64,
    pub(crate) from: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) records: &'a [Read],
    pub(crate) last: bool,
}

impl Partition {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            claimed: Pages::default(),
            there: Pages::default(),
            read_to: None,
            ends: Ends::default(),
            watermarks: BTreeMap::new(),
            highest_watermark: 0,
            last_watermark: 0,
            log_start: 0,
            holes: BTreeSet::new(),
            sent: BTreeMap::new(),
            refused: BTreeSet::new(),
            kept: BTreeMap::new(),
        }
    }

    pub(crate) fn sent(&mut self, writer: u32, first: u64, count: u32) {
        let next = self.sent.entry(writer).or_default();
        *next = (*next).max(first.saturating_add(u64::from(count)));
    }

    pub(crate) fn refused(&mut self, writer: u32, first: u64, count: u32) {
        let numbers = first..first.saturating_add(u64::from(count));
        self.refused
            .extend(numbers.map(|number| RecordId(writer, number)));
    }

    pub(crate) fn kept(&mut self, first: RecordId, count: u32, kept: &Kept) {
        for step in 0..count {
            let record = RecordId(first.0, first.1.saturating_add(u64::from(step)));
            self.kept.insert(record, kept.clone());
        }
    }

    pub(crate) fn acked(
        &mut self,
        at: Micros,
        first: RecordId,
        count: u32,
        offset: Offset,
        found: &mut Found,
    ) {
        for step in 0..count {
            let record = RecordId(first.0, first.1.saturating_add(u64::from(step)));
            let offset = offset.saturating_add(Offset::from(step));
            self.claim(offset, record, true, found);
        }
        self.ends
            .known(at, offset.saturating_add(Offset::from(count)));
    }

    fn claim(&mut self, offset: Offset, record: RecordId, acked: bool, found: &mut Found) {
        let before = self.claimed.get(offset);
        match before {
            Some(slot) if slot.record != record => {
                let said = |acked| if acked { "acknowledged" } else { "read" };
                let detail = format!(
                    "offset {offset}: {} ({}) and {record} ({})",
                    slot.record,
                    said(slot.acked),
                    said(acked)
                );
                let (kind, at) = (Kind::OffsetGivenTwice, Some(offset));
                found.add(kind, &self.place, at, Some(record), detail);
            }
            Some(slot) if slot.acked || !acked => {}
            _ => self.claimed.set(offset, Slot { record, acked }),
        }
    }

    pub(crate) fn fetched(&mut self, answer: &Answer<'_>, found: &mut Found) {
        let hw = answer.high_watermark;
        let seen = self.watermarks.entry(answer.session).or_insert(hw);
        if hw < *seen {
            let detail = format!("{seen}, then {hw} on connection {}", answer.session);
            found.add(Kind::HighWatermarkBack, &self.place, None, None, detail);
        }
        *seen = hw.max(*seen);
        self.highest_watermark = self.highest_watermark.max(hw);
        self.log_start = self.log_start.max(answer.log_start);
        self.ends.known(answer.at, hw);
        let mut next = answer.from;
        for read in answer
            .records
            .iter()
            .filter(|read| read.offset >= answer.from)
        {
            if read.offset >= hw {
                let detail = format!("offset {} under a high watermark of {hw}", read.offset);
                let (kind, at) = (Kind::ReadPastHighWatermark, Some(read.offset));
                found.add(kind, &self.place, at, read.record, detail);
            }
            if read.offset > next && self.holes.len() < HOLES {
                self.holes.insert((next, read.offset));
            }
            next = next.max(read.offset.saturating_add(1));
            self.read(*read, answer.last, found);
        }
        if answer.last {
            self.last_watermark = self.last_watermark.max(hw);
            let (start, end) = self.read_to.unwrap_or((answer.from, answer.from));
            let gapless = answer.from <= end;
            let end = if gapless { end.max(next) } else { end };
            self.read_to = Some((start.min(answer.from), end));
        }
    }

    fn read(&mut self, read: Read, last: bool, found: &mut Found) {
        let offset = read.offset;
        let sent = read.record.filter(|record| {
            let next = self.sent.get(&record.0).copied().unwrap_or(0);
            record.1 < next && !self.refused.contains(record)
        });
        let Some(record) = sent else {
            let what = read
                .record
                .map_or_else(|| "something".to_owned(), |record| record.to_string());
            let detail = format!("{what} at offset {offset}");
            let (kind, at) = (Kind::Phantom, Some(offset));
            return found.add(kind, &self.place, at, read.record, detail);
        };
        self.claim(offset, record, false, found);
        if last {
            let acked = false;
            self.there.set(offset, Slot { record, acked });
        }
    }

    pub(crate) fn listed(&mut self, asked: Micros, at: Micros, end: Offset, found: &mut Found) {
        if let Some((when, known)) = self.ends.before(asked)
            && end < known
        {
            let detail = format!("asked at {asked} µs: {end}, but {known} was known at {when} µs");
            let (kind, offset) = (Kind::StaleListOffsets, Some(end));
            found.add(kind, &self.place, offset, None, detail);
        }
        self.ends.known(at, end);
    }

    /// What a reader was given who leaves out some: no hole says anything.
    pub(crate) fn given(&mut self, records: &[Read], found: &mut Found) {
        for read in records {
            self.read(*read, false, found);
        }
    }

    /// What is there in the end, by offset.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Offset, RecordId)> {
        self.there
            .iter()
            .map(|(offset, slot)| (offset, slot.record))
    }

    /// How many records are there in the end.
    pub(crate) fn there(&self) -> u64 {
        self.there.iter().count() as u64
    }

    /// Judges what the last reading found. Nothing, if there was none.
    pub(crate) fn finish(
        &self,
        alone: &BTreeSet<u32>,
        disks_lost: &BTreeMap<String, Micros>,
        found: &mut Found,
    ) {
        let Some((start, end)) = self.read_to else {
            return;
        };
        self.judge_order(alone, found);
        self.judge_claims(start, end, found);
        self.judge_kept(disks_lost, found);
        if self.last_watermark < self.highest_watermark {
            let (seen, last) = (self.highest_watermark, self.last_watermark);
            let detail = format!("{seen} was seen, {last} in the end");
            found.add(Kind::HighWatermarkBack, &self.place, None, None, detail);
        }
        for (from, to) in &self.holes {
            let (from, to) = (*from.max(&start), *to.min(&end));
            if let Some((offset, slot)) = self.there.first_in(from, to) {
                let record = slot.record;
                let detail = format!("{record} at offset {offset}, past {from}..{to}");
                let (kind, at) = (Kind::Skipped, Some(offset));
                found.add(kind, &self.place, at, Some(record), detail);
            }
        }
    }

    /// What one agent acknowledged alone must be there, unless its disk was lost since.
    fn judge_kept(&self, disks_lost: &BTreeMap<String, Micros>, found: &mut Found) {
        if self.kept.is_empty() || self.log_start > 0 {
            return;
        }
        let there: BTreeSet<_> = self.there.iter().map(|(_, slot)| slot.record).collect();
        for (record, kept) in &self.kept {
            let lost = disks_lost.get(&kept.keeper);
            if !there.contains(record) && lost.is_none_or(|lost| *lost < kept.sent) {
                let keeper = &kept.keeper;
                let detail = format!(
                    "{record} acknowledged by {keeper} alone, whose disk was not lost since"
                );
                found.add(Kind::Lost, &self.place, None, Some(*record), detail);
            }
        }
    }

    /// Each writer's numbers must rise, unless it asks one agent alone.
    fn judge_order(&self, alone: &BTreeSet<u32>, found: &mut Found) {
        let mut last: BTreeMap<u32, (u64, Offset)> = BTreeMap::new();
        for (offset, slot) in self.there.iter() {
            let record = slot.record;
            if alone.contains(&record.0) {
                continue;
            }
            let Some((number, at)) = last.get(&record.0).copied() else {
                last.insert(record.0, (record.1, offset));
                continue;
            };
            if record.1 > number {
                last.insert(record.0, (record.1, offset));
                continue;
            }
            let earlier = self
                .there
                .iter()
                .take_while(|(earlier, _)| *earlier < offset)
                .find(|(_, slot)| slot.record == record);
            let (kind, detail) = match earlier {
                Some((first, _)) => (
                    Kind::Duplicated,
                    format!("{record} at offsets {first} and {offset}"),
                ),
                None => (
                    Kind::Reordered,
                    format!("{record} at offset {offset} comes after number {number} at {at}"),
                ),
            };
            found.add(kind, &self.place, Some(offset), Some(record), detail);
        }
    }

    /// What was acknowledged or read must be where it was said to be.
    fn judge_claims(&self, start: Offset, end: Offset, found: &mut Found) {
        for (offset, slot) in self.claimed.iter() {
            let record = slot.record;
            if offset < start.max(self.log_start)
                || self.there.get(offset).map(|there| there.record) == Some(record)
            {
                continue;
            }
            if found.is_full() {
                found.omit();
                continue;
            }
            let elsewhere = self.there.iter().find(|(_, slot)| slot.record == record);
            let said = if slot.acked { "acknowledged" } else { "read" };
            let (kind, detail) = match elsewhere {
                Some((other, _)) => (
                    Kind::SecondOffset,
                    format!("{record} {said} at offset {offset}, in the end at {other}"),
                ),
                None => (
                    if slot.acked {
                        Kind::Lost
                    } else {
                        Kind::Vanished
                    },
                    format!("{record} {said} at offset {offset}; the last reading went to {end}"),
                ),
            };
            found.add(kind, &self.place, Some(offset), Some(record), detail);
        }
    }
}
