//! Idempotent producers of one partition (KIP-98).
//!
//! The rules are those of Kafka's `ProducerStateManager` and `ProducerAppendInfo` (4.x) for batches
//! outside transactions:
//! - the exact range of one of the last five batches under the current epoch is a duplicate;
//! - an older epoch is `INVALID_PRODUCER_EPOCH`;
//! - a newer epoch must begin with sequence 0;
//! - within an epoch the next sequence must follow the last, 0 following `i32::MAX`;
//! - a producer of which nothing is known must begin with sequence 0, unless it may have appended
//!   here before: then it may begin with any sequence.
//!
//! It may have appended before if a producer with its id or a greater one ever expired in the
//! partition; and if the topic was made under the name of one that had been deleted, by a time when
//! its id had been given out. Ids only grow, so for producers that come later the rule holds.
//!
//! In the last rule the answer is more exact than Kafka's: `ProducerAppendInfo.checkSequence` lets
//! any sequence of an unknown producer pass since Kafka 2.5 (KIP-360), and asks for 0 only under
//! transactions of version 2. But a producer has several batches under way, any agent takes any of
//! them, and when the first is lost those behind it must not stand before it. (Release 0.1 took any
//! sequence, and its logs are judged as then.)
//!
//! Another answer is more exact too: a batch older than the five remembered ones
//! that is known to have been appended is `DUPLICATE_SEQUENCE_NUMBER`, which clients take for a
//! success. To know it, the number of records appended since the producer became known is kept; a
//! sequence from before that is `OUT_OF_ORDER_SEQUENCE_NUMBER`, since it may never have arrived.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use alluvium_types::{ErrorCode, Millis, Offset, ProducerId, limits::PRODUCER_BATCHES};

use crate::command::ProducerStamp;

/// Sequences are counted modulo this.
const SEQUENCES: u32 = 1 << 31;

/// Half the circle: what lies further back cannot be told from what lies ahead.
const REACH: u32 = SEQUENCES / 2;

/// When an idle producer is forgotten unless `producer.id.expiration.ms` says otherwise.
pub(crate) const EXPIRATION_MILLIS: Millis = 86_400_000;

/// What a partition knows of an idempotent producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerState {
    epoch: i16,
    /// How many of `batches` are in use.
    remembered: u8,
    /// Oldest first.
    batches: [ProducerBatch; PRODUCER_BATCHES],
    /// Records appended under this epoch, as far as `REACH`.
    appended: u32,
    last_at: Millis,
    /// When to look whether it has expired; it has not before.
    due: Millis,
}

/// A batch that a producer appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub first_sequence: i32,
    /// Sequence of its last record; below the first when the count wrapped.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: Offset,
}

impl ProducerBatch {
    const fn records(&self) -> u32 {
        distance(self.first_sequence, self.last_sequence) + 1
    }
}

/// Steps from one sequence forward to another.
const fn distance(from: i32, to: i32) -> u32 {
    to.wrapping_sub(from).cast_unsigned() % SEQUENCES
}

/// The sequence `steps` after `from`.
const fn forward(from: i32, steps: u32) -> i32 {
    (from.cast_unsigned().wrapping_add(steps) % SEQUENCES).cast_signed()
}

impl ProducerState {
    const fn new(epoch: i16, due: Millis) -> Self {
        let empty = ProducerBatch {
            first_sequence: 0,
            last_sequence: 0,
            base_offset: 0,
        };
        Self {
            epoch,
            remembered: 0,
            batches: [empty; PRODUCER_BATCHES],
            appended: 0,
            last_at: 0,
            due,
        }
    }

    /// Its epoch.
    #[must_use]
    pub const fn epoch(&self) -> i16 {
        self.epoch
    }

    /// The last batches it appended, oldest first; never empty.
    #[must_use]
    pub fn batches(&self) -> &[ProducerBatch] {
        self.batches
            .get(..usize::from(self.remembered))
            .unwrap_or(&self.batches)
    }

    /// Sequence of the last record it appended.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        self.batches()
            .last()
            .map_or(-1, |batch| batch.last_sequence)
    }

    /// When it last appended.
    #[must_use]
    pub const fn last_at(&self) -> Millis {
        self.last_at
    }

    /// When to look whether it has expired.
    pub(crate) const fn due(&self) -> Millis {
        self.due
    }

    const fn expires_at(&self, expiration: Millis) -> Millis {
        self.last_at.saturating_add(expiration)
    }

    fn judge(&self, stamp: &ProducerStamp, records: u32) -> Verdict {
        if stamp.epoch < self.epoch {
            return Verdict::Refuse(ErrorCode::InvalidProducerEpoch);
        }
        if stamp.epoch > self.epoch {
            return match stamp.base_sequence {
                0 => Verdict::Append,
                _ => Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber),
            };
        }
        let first = stamp.base_sequence;
        let last = forward(first, records - 1);
        let same =
            |batch: &&ProducerBatch| batch.first_sequence == first && batch.last_sequence == last;
        if let Some(batch) = self.batches().iter().find(same) {
            return Verdict::Duplicate(batch.base_offset);
        }
        let current = self.last_sequence();
        if first == forward(current, 1) {
            return Verdict::Append;
        }
        let (first_back, last_back) = (distance(first, current), distance(last, current));
        let oldest_back = self
            .batches()
            .first()
            .map_or(0, |batch| distance(batch.first_sequence, current));
        if oldest_back < last_back && last_back <= first_back && first_back < self.appended {
            return Verdict::Refuse(ErrorCode::DuplicateSequenceNumber);
        }
        Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber)
    }

    fn record(&mut self, batch: ProducerBatch, at: Millis) {
        match self.batches.get_mut(usize::from(self.remembered)) {
            Some(free) => {
                *free = batch;
                self.remembered += 1;
            }
            None => {
                self.batches.rotate_left(1);
                if let Some(last) = self.batches.last_mut() {
                    *last = batch;
                }
            }
        }
        self.appended = self.appended.saturating_add(batch.records()).min(REACH);
        self.last_at = at;
    }

    /// Forgets its last batches where they lie within these offsets. False when nothing else is left
    /// that could be gone on from.
    fn void(&mut self, offsets: &Range<Offset>) -> bool {
        while let Some(last) = self.batches().last().copied()
            && offsets.contains(&last.base_offset)
        {
            self.remembered -= 1;
            self.appended = self.appended.saturating_sub(last.records());
            if let Some(unused) = self.batches.get_mut(usize::from(self.remembered)) {
                *unused = ProducerBatch::default();
            }
        }
        let is_lost = |batch: &ProducerBatch| offsets.contains(&batch.base_offset);
        self.remembered > 0 && !self.batches().iter().any(is_lost)
    }

    fn check(&self, next_offset: Offset) -> Result<(), String> {
        let used = usize::from(self.remembered);
        if used == 0 || used > PRODUCER_BATCHES || self.epoch < 0 {
            return Err(format!("epoch {}, {used} batches", self.epoch));
        }
        let mut records = 0u32;
        let mut end = 0;
        let mut sequence = None;
        for batch in self.batches() {
            let follows = sequence.is_none_or(|sequence| sequence == batch.first_sequence);
            if batch.first_sequence < 0 || batch.last_sequence < 0 || !follows {
                return Err(format!("{batch:?} does not follow sequence {sequence:?}"));
            }
            if batch.base_offset < end {
                return Err(format!("{batch:?} lies before {end}"));
            }
            end = batch
                .base_offset
                .saturating_add(Offset::from(batch.records()));
            records = records.saturating_add(batch.records());
            sequence = Some(forward(batch.last_sequence, 1));
        }
        if end > next_offset || self.appended > REACH || self.appended < records.min(REACH) {
            return Err(format!(
                "batches end at {end} of {next_offset}, {} records",
                self.appended
            ));
        }
        Ok(())
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    Duplicate(Offset),
    Refuse(ErrorCode),
}

/// The producers that a partition remembers. Boxed, so that one producer costs a partition some
/// 300 bytes and not a whole tree node of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Box<ProducerState>>,
    /// The greatest id that was ever forgotten.
    expired_up_to: Option<ProducerId>,
}

/// What a producer's batches are judged by, beside what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// When.
    pub(crate) at: Millis,
    /// How long a producer may be idle.
    pub(crate) expiration: Millis,
    /// From which id on one of which nothing is known must begin with sequence 0; none must
    /// otherwise.
    pub(crate) zero_from: Option<ProducerId>,
}

impl Terms {
    /// What becomes of a batch whose producer is not known.
    pub(crate) fn judge_unknown(self, stamp: &ProducerStamp) -> Verdict {
        let must_be_zero = self.zero_from.is_some_and(|from| stamp.id >= from);
        if must_be_zero && stamp.base_sequence != 0 {
            Verdict::Refuse(ErrorCode::OutOfOrderSequenceNumber)
        } else {
            Verdict::Append
        }
    }
}

impl Producers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.known.iter().map(|(id, state)| (*id, state.as_ref()))
    }

    /// As release 0.1 wrote them, which did not write down whether any had expired: each may have
    /// whose id had been given out.
    pub(crate) fn of_0_1(
        known: BTreeMap<ProducerId, Box<ProducerState>>,
        next_id: ProducerId,
    ) -> Self {
        let given = (next_id > 0).then(|| next_id - 1);
        let expired_up_to = given.max(known.keys().next_back().copied());
        Self {
            known,
            expired_up_to,
        }
    }

    /// A producer was forgotten.
    fn expired(&mut self, id: ProducerId) {
        self.expired_up_to = self.expired_up_to.max(Some(id));
    }

    #[cfg(test)]
    pub(crate) const fn forget_who_expired(&mut self) -> Option<ProducerId> {
        self.expired_up_to.take()
    }

    /// Forgets a producer if it has expired; if not, says when to look again.
    pub(crate) fn expire(
        &mut self,
        id: ProducerId,
        at: Millis,
        expiration: Millis,
    ) -> Option<Millis> {
        let state = self.known.get_mut(&id)?;
        let due = state.expires_at(expiration);
        if due <= at {
            self.known.remove(&id);
            self.expired(id);
            return None;
        }
        state.due = due;
        Some(due)
    }

    /// Forgets a producer as if it had expired. Says when it was to be looked at.
    pub(crate) fn forget(&mut self, id: ProducerId) -> Option<Millis> {
        self.expired(id);
        self.known.remove(&id).map(|state| state.due)
    }

    /// The records at these offsets are lost. Their producers may send them again: they go on from
    /// what they appended before, or, where that is not known, from anywhere. Says who is forgotten,
    /// and when each was to be looked at.
    pub(crate) fn void(&mut self, offsets: &Range<Offset>) -> Vec<(Millis, ProducerId)> {
        let lost = |state: &ProducerState| {
            let mut batches = state.batches().iter();
            batches.any(|batch| offsets.contains(&batch.base_offset))
        };
        let ids: Vec<ProducerId> = self
            .known
            .iter()
            .filter(|(_, state)| lost(state))
            .map(|(id, _)| *id)
            .collect();
        let mut forgotten = Vec::new();
        for id in ids {
            let goes_on = self.known.get_mut(&id).map(|state| state.void(offsets));
            if goes_on == Some(false) {
                forgotten.extend(self.forget(id).map(|due| (due, id)));
            }
        }
        forgotten
    }

    /// Takes producers out, so many at most, of a partition that is no more.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(Millis, ProducerId)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((id, state)) = self.known.pop_last()
        {
            taken.push((state.due, id));
        }
        taken
    }

    /// Judges a batch of `records` (1 to 2^31) whose stamp has no negative field.
    pub(crate) fn judge(&self, stamp: &ProducerStamp, records: u32, terms: Terms) -> Verdict {
        match self.known.get(&stamp.id) {
            Some(state) if state.expires_at(terms.expiration) > terms.at => {
                state.judge(stamp, records)
            }
            // It has expired.
            Some(_) => Verdict::Append,
            None if self.expired_up_to >= Some(stamp.id) => Verdict::Append,
            None => terms.judge_unknown(stamp),
        }
    }

    /// Remembers a batch that was judged fit to append. For a producer that is new, says when to
    /// look whether it has expired.
    pub(crate) fn record(
        &mut self,
        stamp: &ProducerStamp,
        records: u32,
        base_offset: Offset,
        terms: Terms,
    ) -> Option<Millis> {
        let Terms { at, expiration, .. } = terms;
        let mut is_new = false;
        let state = self.known.entry(stamp.id).or_insert_with(|| {
            is_new = true;
            Box::new(ProducerState::new(
                stamp.epoch,
                at.saturating_add(expiration),
            ))
        });
        let has_expired = !is_new && state.expires_at(expiration) <= at;
        if has_expired || state.epoch != stamp.epoch {
            **state = ProducerState::new(stamp.epoch, state.due);
        }
        let due = state.due;
        let first_sequence = stamp.base_sequence;
        let last_sequence = forward(first_sequence, records - 1);
        state.record(
            ProducerBatch {
                first_sequence,
                last_sequence,
                base_offset,
            },
            at,
        );
        if has_expired {
            self.expired(stamp.id);
        }
        is_new.then_some(due)
    }

    pub(crate) fn check(&self, next_offset: Offset) -> Result<(), String> {
        if self.known.is_empty() && self.expired_up_to.is_none() {
            return Err("an empty producer table".to_owned());
        }
        if self.expired_up_to.is_some_and(|id| id < 0) {
            return Err(format!("producer {:?} expired", self.expired_up_to));
        }
        for (id, state) in self.iter() {
            if id < 0 {
                return Err(format!("producer {id}"));
            }
            state
                .check(next_offset)
                .map_err(|error| format!("producer {id}: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
