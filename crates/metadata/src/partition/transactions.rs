//! What a partition knows of transactions: which are open in it, and which were aborted.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use alluvium_types::{Offset, ProducerId};

/// A transaction that was aborted, as read_committed readers are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer: ProducerId,
    /// Its first offset in the partition.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// Where the first transaction began that was open once it had ended, or the next offset: those that were aborted later begin at or after it.
    pub(crate) stable: Offset,
}

/// The transactions of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// First offsets of the open ones.
    open: BTreeMap<ProducerId, Offset>,
    /// The same offsets, which are all different.
    first_offsets: BTreeSet<Offset>,
    /// By the offset of their markers.
    aborted: VecDeque<AbortedTransaction>,
}

impl Transactions {
    pub(crate) fn of(
        open: BTreeMap<ProducerId, Offset>,
        aborted: VecDeque<AbortedTransaction>,
    ) -> Option<Box<Self>> {
        let first_offsets = open.values().copied().collect();
        let transactions = Self {
            open,
            first_offsets,
            aborted,
        };
        (!transactions.is_empty()).then(|| Box::new(transactions))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.aborted.is_empty()
    }

    pub(crate) const fn open(&self) -> &BTreeMap<ProducerId, Offset> {
        &self.open
    }

    pub(crate) const fn aborted(&self) -> &VecDeque<AbortedTransaction> {
        &self.aborted
    }

    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.first_offsets.first().copied()
    }

    pub(crate) fn begin(&mut self, producer: ProducerId, first_offset: Offset) {
        if let Entry::Vacant(entry) = self.open.entry(producer) {
            entry.insert(first_offset);
            self.first_offsets.insert(first_offset);
        }
    }

    /// The transaction of a producer has its marker, behind which comes `next_offset`.
    pub(crate) fn end(
        &mut self,
        producer: ProducerId,
        marker: Offset,
        is_aborted: bool,
        next_offset: Offset,
    ) {
        let Some(first_offset) = self.open.remove(&producer) else {
            return;
        };
        self.first_offsets.remove(&first_offset);
        if is_aborted {
            let stable = self.first_open().unwrap_or(next_offset);
            self.aborted.push_back(AbortedTransaction {
                producer,
                first_offset,
                last_offset: marker,
                stable,
            });
        }
    }

    /// Those that were aborted and have offsets within these. Costs what it returns, and those that
    /// began later than they ended.
    pub(crate) fn aborted_within(
        &self,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = &AbortedTransaction> {
        let first = self.aborted.partition_point(|done| done.last_offset < from);
        let mut is_over = false;
        self.aborted
            .range(first..)
            .take_while(move |done| {
                let go_on = !is_over;
                is_over = done.stable >= to;
                go_on
            })
            .filter(move |done| done.first_offset < to)
    }

    /// What a reader of these offsets must be told of, by first offset, and up to where that is all. When
    /// more than `most` begin behind the first offset, it reaches less far, but never to `from` only.
    pub(crate) fn aborted_up_to(
        &self,
        from: Offset,
        to: Offset,
        most: usize,
    ) -> (Vec<AbortedTransaction>, Offset) {
        let first = self.aborted.partition_point(|done| done.last_offset < from);
        let mut end = to;
        let mut told = BTreeMap::new();
        for done in self.aborted.range(first..) {
            if done.first_offset < end {
                told.insert(done.first_offset, *done);
            }
            if told.len() > most
                && let Some(last) = told.last_entry().filter(|last| *last.key() > from)
            {
                end = *last.key();
                last.remove();
            }
            if done.stable >= end {
                break;
            }
        }
        (told.into_values().collect(), end)
    }

    /// No record of a transaction is left whose marker lies below this offset, or none can be read.
    pub(crate) fn forget_below(&mut self, offset: Offset) {
        while self
            .aborted
            .front()
            .is_some_and(|done| done.last_offset < offset)
        {
            self.aborted.pop_front();
        }
        if self.aborted.len() < self.aborted.capacity() / 4 {
            self.aborted.shrink_to_fit();
        }
    }

    /// Says what does not hold of a partition with this next offset.
    pub(crate) fn check(&self, next_offset: Offset) -> Result<(), String> {
        let within = |offset: Offset| (0..next_offset).contains(&offset);
        let firsts: BTreeSet<Offset> = self.open.values().copied().collect();
        let open_is_sound = firsts == self.first_offsets
            && firsts.len() == self.open.len()
            && firsts.iter().all(|offset| within(*offset))
            && self.open.keys().all(|producer| *producer >= 0);
        let mut marker = -1;
        let aborted_is_sound = self.aborted.iter().all(|done| {
            let follows = done.last_offset > marker;
            marker = done.last_offset;
            follows
                && within(done.last_offset)
                && (0..done.last_offset).contains(&done.first_offset)
                && (0..=next_offset).contains(&done.stable)
        });
        if self.is_empty() || !open_is_sound || !aborted_is_sound {
            return Err(format!("transactions {self:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn aborted(transactions: &Transactions, from: Offset, to: Offset) -> Vec<ProducerId> {
        let within = transactions.aborted_within(from, to);
        within.map(|done| done.producer).collect()
    }

    #[test]
    fn readers_are_told_of_aborted_transactions_within_what_they_read() {
        let mut transactions = Transactions::default();
        // 1 at 0, 2 at 5, 3 at 6; aborted 2 (marker 8), committed 3 (9), aborted 1 (10).
        for (producer, first) in [(1, 0), (2, 5), (3, 6)] {
            transactions.begin(producer, first);
        }
        transactions.begin(1, 7);
        assert_eq!(transactions.first_open(), Some(0));
        transactions.end(2, 8, true, 9);
        transactions.end(3, 9, false, 10);
        transactions.end(1, 10, true, 11);
        assert_eq!(transactions.first_open(), None);
        // One that nobody knows changes nothing.
        transactions.end(9, 11, true, 12);
        assert_eq!(aborted(&transactions, 0, 11), [2, 1]);
        assert_eq!(aborted(&transactions, 0, 5), [1]);
        assert_eq!(aborted(&transactions, 9, 11), [1]);
        assert!(aborted(&transactions, 11, 20).is_empty());
        transactions.begin(4, 20);
        transactions.end(4, 21, true, 22);
        assert_eq!(aborted(&transactions, 0, 11), [2, 1]);
        assert_eq!(aborted(&transactions, 12, 30), [4]);
        transactions.check(22).unwrap();
        transactions.forget_below(11);
        assert_eq!(aborted(&transactions, 0, 30), [4]);
    }

    proptest! {
        /// Producers begin and end as they like; a reader is told of all that concern what it is given,
        /// and of no more than it may be.
        #[test]
        fn readers_are_given_as_far_as_they_can_be_told(
            steps in proptest::collection::vec((0i64..6, 0u8..3), 0..120),
            from in 0i64..120,
            length in 1i64..120,
            most in 1usize..8,
        ) {
            let mut transactions = Transactions::default();
            let mut next = 0;
            for (producer, step) in steps {
                match step {
                    0 | 1 => transactions.begin(producer, next),
                    _ if transactions.open().contains_key(&producer) => {
                        transactions.end(producer, next, producer % 3 != 0, next + 1);
                    }
                    _ => continue,
                }
                next += 1;
            }
            // Who reads so is not told of what is open.
            let stable = transactions.first_open().unwrap_or(next);
            if stable == 0 {
                return Ok(());
            }
            let from = from % stable;
            let to = (from + length).min(stable);
            let (told, end) = transactions.aborted_up_to(from, to, most);
            prop_assert!(from < end && end <= to);
            let mut expected: Vec<_> = transactions
                .aborted()
                .iter()
                .filter(|done| done.first_offset < end && done.last_offset >= from)
                .copied()
                .collect();
            expected.sort_by_key(|done| done.first_offset);
            let behind = expected.iter().filter(|done| done.first_offset > from).count();
            prop_assert!(behind <= most);
            prop_assert!(end == to || told.len() >= most);
            prop_assert_eq!(told, expected);
        }
    }
}
