//! A member's way to what it is to have: partitions that others are to have are given up first, those that
//! others still hold are waited for (KIP-848, "reconciliation").

use std::collections::BTreeSet;

use alluvium_metadata::{ConsumerMember, Partitions};
use alluvium_types::{PartitionIndex, TopicId};

use super::super::settings::ENTRY_BYTES;
use super::request::JOINS;

/// Bytes that a partition takes in memory, about.
const PARTITION_BYTES: usize = 32;

/// A member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    /// What outlives the coordinator.
    pub(crate) record: ConsumerMember,
    /// What it is to have in the end.
    pub(crate) target: Partitions,
}

impl Member {
    /// A member as the quorum remembers it.
    pub(crate) fn restore(record: &ConsumerMember) -> Self {
        let mut target = record.assigned.clone();
        for (topic, partitions) in &record.revoking {
            target.entry(*topic).or_default().extend(partitions);
        }
        Self {
            record: record.clone(),
            target,
        }
    }

    /// It begins anew: whatever it had, it does not use any more.
    pub(crate) fn begin_anew(&mut self) {
        self.record.epoch = JOINS;
        self.record.previous_epoch = JOINS;
        self.record.revoking.clear();
    }

    /// Whether it has reached its target, made for `epoch`.
    pub(crate) fn is_settled(&self, epoch: i32) -> bool {
        self.record.epoch == epoch && self.record.revoking.is_empty() && !self.record.waits
    }

    /// Bytes it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        let record = &self.record;
        let topics: usize = record
            .topics
            .iter()
            .map(|it| it.len() + ENTRY_BYTES / 16)
            .sum();
        let optional = [&record.instance_id, &record.rack, &record.pattern];
        let texts = optional
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
        let texts = texts + record.client_id.len() + record.client_host.len();
        let classic = record.classic.iter().flat_map(|classic| &classic.protocols);
        let classic: usize = classic.map(|(name, data)| name.len() + data.len()).sum();
        let partitions = size(&record.assigned) + size(&record.revoking) + size(&self.target);
        topics + texts + classic + partitions * PARTITION_BYTES + record.member_id.len() * 4
    }

    /// Takes a step towards the target that was made for `epoch`. `owned` is what the member says it has,
    /// if it says so; `is_free` tells what nobody else has.
    pub(crate) fn step(
        &mut self,
        epoch: i32,
        owned: Option<&Partitions>,
        is_free: impl Fn(TopicId, PartitionIndex) -> bool,
    ) {
        if self.is_settled(epoch) {
            return;
        }
        let record = &mut self.record;
        if owned.is_none_or(|owned| overlap(owned, &record.revoking)) && !record.revoking.is_empty()
        {
            return;
        }
        let mut kept = Partitions::new();
        let mut to_revoke = Partitions::new();
        for (topic, partition) in each(&record.assigned) {
            let stays = has(&self.target, topic, partition);
            let part = if stays { &mut kept } else { &mut to_revoke };
            part.entry(topic).or_default().insert(partition);
        }
        if !to_revoke.is_empty() && owned.is_none_or(|owned| overlap(owned, &to_revoke)) {
            record.assigned = kept;
            record.revoking = to_revoke;
            record.waits = false;
            return;
        }
        record.waits = false;
        for (topic, partition) in each(&self.target) {
            if has(&record.assigned, topic, partition) {
                continue;
            }
            if is_free(topic, partition) {
                kept.entry(topic).or_default().insert(partition);
            } else {
                record.waits = true;
            }
        }
        record.assigned = kept;
        record.revoking.clear();
        if record.epoch != epoch {
            record.previous_epoch = record.epoch;
            record.epoch = epoch;
        }
    }
}

pub(crate) fn each(
    partitions: &Partitions,
) -> impl Iterator<Item = (TopicId, PartitionIndex)> + '_ {
    let topics = partitions.iter();
    topics.flat_map(|(topic, of)| of.iter().map(|partition| (*topic, *partition)))
}

pub(crate) fn has(partitions: &Partitions, topic: TopicId, partition: PartitionIndex) -> bool {
    let of = partitions.get(&topic);
    of.is_some_and(|of| of.contains(&partition))
}

pub(crate) fn size(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

/// Whether two sets have a partition in common.
fn overlap(some: &Partitions, others: &Partitions) -> bool {
    each(others).any(|(topic, partition)| has(some, topic, partition))
}

/// Whether all of some partitions are among others.
pub(crate) fn is_within(some: &Partitions, others: &Partitions) -> bool {
    each(some).all(|(topic, partition)| has(others, topic, partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId([1; 16]);

    fn partitions(of: &[PartitionIndex]) -> Partitions {
        if of.is_empty() {
            return Partitions::new();
        }
        [(TOPIC, of.iter().copied().collect())].into()
    }

    fn member(epoch: i32, assigned: &[PartitionIndex], target: &[PartitionIndex]) -> Member {
        Member {
            record: ConsumerMember {
                epoch,
                assigned: partitions(assigned),
                ..ConsumerMember::default()
            },
            target: partitions(target),
        }
    }

    #[test]
    fn a_member_gives_up_before_it_gets() {
        let mut it = member(1, &[0, 1], &[1, 2]);
        it.step(2, None, |_, _| true);
        assert_eq!(
            (it.record.epoch, &it.record.assigned),
            (1, &partitions(&[1]))
        );
        assert_eq!(it.record.revoking, partitions(&[0]));
        it.step(2, Some(&partitions(&[0, 1])), |_, _| true);
        assert_eq!(it.record.epoch, 1, "it has not given it up");
        it.step(2, Some(&partitions(&[1])), |_, _| true);
        assert_eq!((it.record.epoch, it.record.previous_epoch), (2, 1));
        assert_eq!(it.record.assigned, partitions(&[1, 2]));
        assert!(it.is_settled(2));
    }

    #[test]
    fn what_others_have_is_waited_for() {
        let mut it = member(0, &[], &[1, 2]);
        it.step(2, Some(&partitions(&[])), |_, partition| partition == 1);
        assert_eq!((it.record.epoch, it.record.waits), (2, true));
        assert_eq!(it.record.assigned, partitions(&[1]));
        it.step(2, None, |_, _| true);
        assert_eq!(it.record.assigned, partitions(&[1, 2]));
        assert!(it.is_settled(2));
    }
}
