//! Deleted topics, whose runs are let go of piece by piece.

use std::collections::BTreeMap;

use alluvium_types::{TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::{State, Topic};
use crate::command::Outcome;
use crate::partition::Partition;

/// Topics that nobody finds any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Graveyard {
    /// By id.
    topics: BTreeMap<TopicId, Topic>,
    /// Runs and partitions that are left in them.
    #[serde(skip)]
    left: u64,
}

/// What a topic costs to be let go of.
fn weight(topic: &Topic) -> u64 {
    let partitions = u64::try_from(topic.partitions.len()).unwrap_or(u64::MAX);
    topic.runs.saturating_add(partitions)
}

impl Graveyard {
    /// As a snapshot holds it: nothing is counted yet.
    pub(crate) fn of(topics: impl Iterator<Item = Topic>) -> Self {
        Self {
            topics: topics.map(|topic| (topic.id, topic)).collect(),
            left: 0,
        }
    }

    pub(crate) fn insert(&mut self, topic: Topic) {
        self.left = self.left.saturating_add(weight(&topic));
        self.topics.insert(topic.id, topic);
    }

    /// What was read, to be counted and inserted again.
    pub(super) fn into_topics(self) -> BTreeMap<TopicId, Topic> {
        self.topics
    }

    pub(crate) fn contains(&self, topic: TopicId) -> bool {
        self.topics.contains_key(&topic)
    }

    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    pub(crate) fn partition_mut(&mut self, place: TopicPartition) -> Option<&mut Partition> {
        let index = usize::try_from(place.partition).ok()?;
        self.topics.get_mut(&place.topic)?.partitions.get_mut(index)
    }

    /// Runs of a topic have come or gone.
    pub(super) fn count(&mut self, topic: TopicId, count: impl FnOnce(u64) -> u64) {
        if let Some(topic) = self.topics.get_mut(&topic) {
            let before = topic.runs;
            topic.runs = count(before);
            self.left = self.left.saturating_sub(before).saturating_add(topic.runs);
        }
    }

    /// The partition that goes next. Topics that have none are gone.
    fn next(&mut self) -> Option<(TopicPartition, &mut Partition)> {
        while let Some(first) = self.topics.first_entry() {
            if first.get().partitions.is_empty() {
                first.remove();
            } else {
                break;
            }
        }
        let topic = self.topics.values_mut().next()?;
        let last = Partition::count(&topic.partitions).saturating_sub(1);
        let place = TopicPartition::new(topic.id, last);
        topic
            .partitions
            .last_mut()
            .map(|partition| (place, partition))
    }

    fn pop(&mut self, topic: TopicId) {
        if let Some(topic) = self.topics.get_mut(&topic)
            && topic.partitions.pop().is_some()
        {
            self.left = self.left.saturating_sub(1);
        }
    }

    pub(crate) fn check(&self, names: &BTreeMap<TopicId, Topic>) -> Result<(), String> {
        for (id, topic) in &self.topics {
            if *id != topic.id || names.contains_key(id) {
                return Err(format!("topic {id} is deleted and there, or not itself"));
            }
        }
        if self.topics.values().map(weight).sum::<u64>() != self.left {
            return Err(format!("{} runs of deleted topics", self.left));
        }
        Ok(())
    }
}

/// Lets go of so many runs, producers and partitions of deleted topics.
pub(super) fn purge(state: &mut State, most: usize) -> Outcome {
    let mut room = most;
    while room > 0
        && let Some((place, partition)) = state.graveyard.next()
    {
        let runs = partition.take_runs(room);
        room -= runs.len();
        let producers = partition.take_producers(room);
        room -= producers.len();
        for (due, producer) in producers {
            state.expiries.remove(&(due, place, producer));
        }
        for run in runs {
            state.count_out(place, &run);
        }
        if room > 0 {
            // Nothing is left in it.
            state.graveyard.pop(place.topic);
            room -= 1;
        }
    }
    // Not to leave an empty topic behind.
    state.graveyard.next();
    Outcome::Purged(state.graveyard.left())
}

#[cfg(test)]
mod tests;
