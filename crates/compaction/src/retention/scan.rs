//! Goes through all partitions in slices, so that nobody waits for the metadata.

use std::time::Duration;

use alluvium_metadata::{AdvanceLogStart, State, Topic};
use alluvium_types::{AgentId, Millis, PartitionIndex, TopicId, TopicPartition};

use super::due::due;
use crate::ownership::{GROUP_PARTITIONS, owns_partitions};
use crate::{Context, TopicPolicy};

/// Partitions looked at under one lock of the metadata; a topic counts as one more.
const SLICE: usize = 2048;

/// What was past its retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overdue {
    /// How much longer than wanted the oldest record stayed.
    pub(crate) lag: Duration,
    /// Bytes that were to go.
    pub(crate) bytes: u64,
}

/// Where in the cluster's partitions it stands.
#[derive(Debug)]
pub(super) struct Scan {
    /// The partition that comes next; partitions of deleted topics are passed over.
    next: TopicPartition,
    pub(super) overdue: Overdue,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            next: TopicPartition::new(TopicId([0; 16]), 0),
            overdue: Overdue::default(),
        }
    }
}

impl Scan {
    /// Looks at some partitions and adds their log starts; false when there are no more.
    pub(super) fn slice(
        &mut self,
        context: &Context,
        now: Millis,
        starts: &mut Vec<AdvanceLogStart>,
    ) -> bool {
        let Some(origin) = context.owner.origin() else {
            return false;
        };
        let policies = &*context.policies;
        context.metadata.read(|state| {
            let mut left = SLICE;
            for topic in state.topics_from(self.next.topic) {
                if topic.id != self.next.topic {
                    self.next = TopicPartition::new(topic.id, 0);
                }
                left = left.saturating_sub(1);
                let policy = policies.policy(state, topic);
                if policy.delete {
                    self.topic(state, origin.agent, topic, &policy, now, &mut left, starts);
                }
                if left == 0 {
                    // What is left of this topic comes next; when nothing is, that is found then.
                    return true;
                }
                self.next.partition = PartitionIndex::MAX;
            }
            false
        })
    }

    /// A topic's partitions from the next one on, group by group.
    #[allow(clippy::too_many_arguments, reason = "the parts of one look")]
    fn topic(
        &mut self,
        state: &State,
        agent: AgentId,
        topic: &Topic,
        policy: &TopicPolicy,
        now: Millis,
        left: &mut usize,
        starts: &mut Vec<AdvanceLogStart>,
    ) {
        loop {
            let first = self.next.partition;
            let index = usize::try_from(first).unwrap_or(usize::MAX);
            let Some(rest) = topic
                .partitions
                .get(index..)
                .filter(|rest| !rest.is_empty())
            else {
                return;
            };
            if *left == 0 {
                return;
            }
            let behind = first.div_euclid(GROUP_PARTITIONS).saturating_add(1);
            self.next.partition = behind.saturating_mul(GROUP_PARTITIONS);
            if !owns_partitions(state, agent, topic.id, first) {
                *left = left.saturating_sub(1);
                continue;
            }
            for (at, partition) in (first..self.next.partition).zip(rest) {
                *left = left.saturating_sub(1);
                let found = due(partition, policy, now);
                let Some(offset) = found.log_start else {
                    continue;
                };
                self.overdue.lag = self.overdue.lag.max(found.lag);
                self.overdue.bytes = self.overdue.bytes.saturating_add(found.bytes);
                let partition = TopicPartition::new(topic.id, at);
                starts.push(AdvanceLogStart { partition, offset });
            }
        }
    }
}
