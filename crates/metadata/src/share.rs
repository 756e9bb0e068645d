//! What a share group knows of a partition (KIP-932): a window of offsets, each of them free, acquired by a
//! member for a while, or done with.
//!
//! The window begins at the first offset that is not done with and ends behind the last that was ever
//! acquired; what lies behind it is free. It is kept as stretches of offsets in the same state.
//!
//! An acquisition ends when it is acknowledged, when its member goes, or when its lock has run out by the
//! time that a later command bears. The last is for liveness only: a clock that is wrong has records
//! delivered again, which a share group must expect.

use serde::{Deserialize, Serialize};

use alluvium_types::{ErrorCode, Millis, Offset};

use crate::command::{AcknowledgeKind, Acknowledgements, Acquired, ShareTerms};

/// A share group's place in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharePartition {
    start: Offset,
    /// In order, from `start` on without holes, no two neighbours the same.
    stretches: Vec<Stretch>,
    /// Records that were given up because they had been delivered too often, or were rejected.
    archived: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    /// One past its last offset.
    end: Offset,
    state: Delivery,
    /// How often it was delivered.
    deliveries: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Delivery {
    Free,
    Acquired { member: String, until: Millis },
    Done,
}

impl SharePartition {
    pub(crate) const fn new(start: Offset) -> Self {
        Self {
            start,
            stretches: Vec::new(),
            archived: 0,
        }
    }

    /// The first offset that is not done with (Kafka's share-partition start offset).
    #[must_use]
    pub const fn start(&self) -> Offset {
        self.start
    }

    /// One past the last offset that was ever acquired.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.stretches.last().map_or(self.start, |last| last.end)
    }

    /// Records that were given up.
    #[must_use]
    pub const fn archived(&self) -> u64 {
        self.archived
    }

    /// Offsets behind the start that are done with: what lies below `log_end` and is not, is the
    /// group's lag.
    #[must_use]
    pub fn done(&self) -> u64 {
        let done = self
            .ranges()
            .filter(|(_, stretch)| stretch.state == Delivery::Done);
        done.map(|(from, stretch)| stretch.end.saturating_sub(from).unsigned_abs())
            .sum()
    }

    /// Whether a member would get anything now: something free below `end`, or an acquisition that has
    /// run out.
    #[must_use]
    pub fn has_free(&self, end: Offset, in_flight: u32, at: Millis) -> bool {
        let is_free = |stretch: &Stretch| match &stretch.state {
            Delivery::Free => true,
            Delivery::Acquired { until, .. } => *until <= at,
            Delivery::Done => false,
        };
        let free_in_window = self
            .ranges()
            .any(|(from, stretch)| from < end && is_free(stretch));
        free_in_window || self.end() < end.min(self.limit(in_flight))
    }

    /// When the first acquisition runs out.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        let acquired = self
            .stretches
            .iter()
            .filter_map(|stretch| match &stretch.state {
                Delivery::Acquired { until, .. } => Some(*until),
                _ => None,
            });
        acquired.min()
    }

    /// Whether a member has acquired anything.
    #[must_use]
    pub fn holds(&self, member: &str) -> bool {
        self.stretches.iter().any(|stretch| stretch.is_of(member))
    }

    fn limit(&self, in_flight: u32) -> Offset {
        self.start.saturating_add(Offset::from(in_flight))
    }

    /// Each stretch with its first offset.
    fn ranges(&self) -> impl Iterator<Item = (Offset, &Stretch)> {
        let firsts = std::iter::once(self.start).chain(self.stretches.iter().map(|it| it.end));
        firsts.zip(&self.stretches)
    }

    /// Cuts so that a stretch begins at `offset`, which lies within the window. Returns its index.
    fn cut(&mut self, offset: Offset) -> usize {
        let index = self.stretches.partition_point(|it| it.end <= offset);
        let from = index
            .checked_sub(1)
            .and_then(|before| self.stretches.get(before))
            .map_or(self.start, |before| before.end);
        if from < offset
            && let Some(whole) = self.stretches.get(index)
        {
            let left = Stretch {
                end: offset,
                ..whole.clone()
            };
            self.stretches.insert(index, left);
            return index + 1;
        }
        index
    }

    /// Forgets what is done with at the beginning, and joins neighbours that are the same.
    fn tidy(&mut self) {
        let done = self
            .stretches
            .iter()
            .take_while(|stretch| stretch.state == Delivery::Done)
            .count();
        if let Some(last) = self.stretches.drain(..done).next_back() {
            self.start = last.end;
        }
        self.stretches.dedup_by(|next, before| {
            let same = before.state == next.state
                && (before.deliveries == next.deliveries || before.state == Delivery::Done);
            if same {
                before.end = next.end;
            }
            same
        });
    }

    /// An acquisition of the stretch has come to nothing.
    fn let_go(stretch: &mut Stretch, from: Offset, terms: ShareTerms, archived: &mut u64) {
        if stretch.deliveries >= terms.deliveries {
            stretch.state = Delivery::Done;
            *archived += stretch.end.saturating_sub(from).unsigned_abs();
        } else {
            stretch.state = Delivery::Free;
        }
    }

    /// Lets go of the acquisitions that `is_over` says so of.
    fn release_where(&mut self, terms: ShareTerms, is_over: impl Fn(&Stretch) -> bool) {
        let mut from = self.start;
        for stretch in &mut self.stretches {
            if is_over(stretch) {
                Self::let_go(stretch, from, terms, &mut self.archived);
            }
            from = stretch.end;
        }
        self.tidy();
    }

    /// Records below the log start are gone.
    pub(crate) fn forget_below(&mut self, log_start: Offset) {
        if log_start <= self.start {
            return;
        }
        if log_start >= self.end() {
            self.stretches.clear();
        } else {
            let first = self.cut(log_start);
            self.stretches.drain(..first);
        }
        self.start = log_start;
        self.tidy();
    }

    /// Gives a member up to `most` records below `end`: what is free in the window first.
    pub(crate) fn acquire(
        &mut self,
        member: &str,
        (most, end): (u32, Offset),
        terms: ShareTerms,
        at: Millis,
    ) -> Vec<Acquired> {
        self.release_where(terms, |stretch| stretch.is_over(at));
        let mut left = Offset::from(most);
        let mut acquired = Vec::new();
        let until = at.saturating_add(Millis::from(terms.lock.max(0)));
        let taken = || Delivery::Acquired {
            member: member.to_owned(),
            until,
        };
        let mut from = self.start;
        let mut index = 0;
        while left > 0
            && from < end
            && let Some(stretch) = self.stretches.get(index)
        {
            if stretch.state == Delivery::Free {
                let upto = stretch.end.min(end).min(from.saturating_add(left));
                if upto < stretch.end {
                    self.cut(upto);
                }
                if let Some(stretch) = self.stretches.get_mut(index) {
                    stretch.deliveries = stretch.deliveries.saturating_add(1);
                    stretch.state = taken();
                    acquired.push(Acquired {
                        first: from,
                        last: upto - 1,
                        deliveries: stretch.deliveries,
                    });
                    left -= upto - from;
                }
            }
            from = self.stretches.get(index).map_or(end, |stretch| stretch.end);
            index += 1;
        }
        let first = self.end();
        let upto = end
            .min(self.limit(terms.in_flight))
            .min(first.saturating_add(left));
        if first < upto {
            self.stretches.push(Stretch {
                end: upto,
                state: taken(),
                deliveries: 1,
            });
            acquired.push(Acquired {
                first,
                last: upto - 1,
                deliveries: 1,
            });
        }
        self.tidy();
        acquired
    }

    /// What became of records that a member acquired: all of it, or nothing when it does not have all
    /// of them.
    ///
    /// # Errors
    /// `INVALID_RECORD_STATE` for records that it does not have (any more), `INVALID_REQUEST` for
    /// stretches that make no sense.
    pub(crate) fn acknowledge(
        &mut self,
        member: &str,
        batches: &[Acknowledgements],
        terms: ShareTerms,
        at: Millis,
    ) -> Result<(), ErrorCode> {
        let mut before = -1;
        for batch in batches {
            let offsets = batch
                .last
                .checked_sub(batch.first)
                .and_then(|last| last.checked_add(1));
            let fits = offsets.is_some_and(|offsets| {
                offsets > 0
                    && (batch.kinds.len() == 1 || i64::try_from(batch.kinds.len()) == Ok(offsets))
            });
            if !fits || batch.first <= before {
                return Err(ErrorCode::InvalidRequest);
            }
            before = batch.last;
            if !self.has_acquired(member, batch.first, batch.last, at) {
                return Err(ErrorCode::InvalidRecordState);
            }
        }
        let until = at.saturating_add(Millis::from(terms.lock.max(0)));
        for batch in batches {
            let end = batch.last.saturating_add(1);
            // One kind for all, or runs of the same kind.
            let mut from = batch.first;
            for same in batch.kinds.chunk_by(|kind, next| kind == next) {
                let upto = if batch.kinds.len() == 1 {
                    end
                } else {
                    from.saturating_add(Offset::try_from(same.len()).unwrap_or(Offset::MAX))
                };
                if let Some(kind) = same.first() {
                    self.settle(from, upto.min(end), *kind, terms, until);
                }
                from = upto;
            }
        }
        self.tidy();
        Ok(())
    }

    fn has_acquired(&self, member: &str, first: Offset, last: Offset, at: Millis) -> bool {
        let mut within = self
            .ranges()
            .filter(|(from, stretch)| *from <= last && stretch.end > first);
        let is_held = |stretch: &Stretch| stretch.is_of(member) && !stretch.is_over(at);
        // The window has no holes.
        first >= self.start && last < self.end() && within.all(|(_, stretch)| is_held(stretch))
    }

    fn settle(
        &mut self,
        from: Offset,
        to: Offset,
        kind: AcknowledgeKind,
        terms: ShareTerms,
        until: Millis,
    ) {
        let first = self.cut(from);
        let last = if to < self.end() {
            self.cut(to)
        } else {
            self.stretches.len()
        };
        let mut from = from;
        for stretch in self.stretches.get_mut(first..last).unwrap_or_default() {
            match kind {
                AcknowledgeKind::Accept | AcknowledgeKind::Gap => stretch.state = Delivery::Done,
                AcknowledgeKind::Reject => {
                    stretch.state = Delivery::Done;
                    self.archived += stretch.end.saturating_sub(from).unsigned_abs();
                }
                AcknowledgeKind::Release => {
                    Self::let_go(stretch, from, terms, &mut self.archived);
                }
                AcknowledgeKind::Renew => {
                    if let Delivery::Acquired { until: lock, .. } = &mut stretch.state {
                        *lock = until;
                    }
                }
            }
            from = stretch.end;
        }
    }

    /// Members have gone.
    pub(crate) fn release(&mut self, members: &[String], terms: ShareTerms) {
        self.release_where(terms, |stretch| {
            members.iter().any(|member| stretch.is_of(member))
        });
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let mut end = self.start;
        for stretch in &self.stretches {
            if stretch.end <= end {
                return Err(format!("{stretch:?} ends at or before {end}"));
            }
            end = stretch.end;
        }
        let begins_done = self
            .stretches
            .first()
            .is_some_and(|first| first.state == Delivery::Done);
        if self.start < 0 || begins_done {
            return Err(format!("it begins at {} with what is done", self.start));
        }
        Ok(())
    }
}

impl Stretch {
    fn is_of(&self, who: &str) -> bool {
        matches!(&self.state, Delivery::Acquired { member, .. } if member == who)
    }

    fn is_over(&self, at: Millis) -> bool {
        matches!(&self.state, Delivery::Acquired { until, .. } if *until <= at)
    }
}

#[cfg(test)]
mod tests;
