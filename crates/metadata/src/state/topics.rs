//! Topics and their partitions.

use std::collections::BTreeMap;

use alluvium_types::{
    ErrorCode, Millis, Offset, PartitionIndex, ProducerId, TopicId, TopicPartition,
    limits::PARTITIONS_PER_TOPIC,
};
use serde::{Deserialize, Serialize};

use super::{GRAVEYARD, State, graveyard, groups, refusal};
use crate::command::{AdvanceLogStart, Change, CreateTopic, Outcome, Refusal};
use crate::partition::Partition;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Configuration that differs from the defaults.
    pub configs: BTreeMap<String, String>,
    /// Replication factor to show to tools.
    pub replication_factor: i16,
    /// Its partitions, by index.
    pub partitions: Vec<Partition>,
    /// When it was created.
    pub created_at: Millis,
    /// Producers with smaller ids may have appended to a topic of this name before, one that was
    /// deleted: the next producer id when this one was made. 0 when its name was new.
    pub producers_before: ProducerId,
    /// How many runs its partitions have; counted when a snapshot is read.
    #[serde(skip)]
    pub(crate) runs: u64,
}

impl Topic {
    /// Its partitions with their names.
    pub(crate) fn places(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        (0..)
            .map(|index| TopicPartition::new(self.id, index))
            .zip(&self.partitions)
    }
}

/// Finds topics by name, and names that Kafka takes for the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    by_name: BTreeMap<String, TopicId>,
    /// Names that hold '.' or '_', with '.' written as '_': metric names do not tell them apart.
    colliding: BTreeMap<String, TopicId>,
}

impl Names {
    pub(crate) fn get(&self, name: &str) -> Option<TopicId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = TopicId> {
        self.by_name.values().copied()
    }

    fn collision(&self, name: &str) -> Option<TopicId> {
        self.colliding.get(&collision_key(name)?).copied()
    }

    pub(crate) fn insert(&mut self, name: &str, id: TopicId) {
        self.by_name.insert(name.to_owned(), id);
        if let Some(key) = collision_key(name) {
            self.colliding.insert(key, id);
        }
    }

    fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
        if let Some(key) = collision_key(name) {
            self.colliding.remove(&key);
        }
    }

    pub(crate) fn check(&self, topics: &BTreeMap<TopicId, Topic>) -> Result<(), String> {
        let mut expected = Self::default();
        for (id, topic) in topics {
            if *id != topic.id || expected.get(&topic.name).is_some() {
                return Err(format!("topic {id} is {} named {:?}", topic.id, topic.name));
            }
            expected.insert(&topic.name, *id);
        }
        if expected == *self {
            Ok(())
        } else {
            Err("topic names do not match".to_owned())
        }
    }
}

/// What two colliding names have in common; nothing for a name that cannot collide.
fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

pub(crate) fn unknown_topic(id: TopicId) -> Refusal {
    refusal(
        ErrorCode::UnknownTopicId,
        format!("Topic id {id} is not known."),
    )
}

pub(super) fn create(
    state: &mut State,
    command: CreateTopic,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let CreateTopic {
        name,
        id,
        partitions,
        replication_factor,
        configs,
        at,
    } = command;
    if state.names.get(&name).is_some() {
        return Err(refusal(
            ErrorCode::TopicAlreadyExists,
            format!("Topic '{name}' already exists."),
        ));
    }
    if let Some(other) = state
        .names
        .collision(&name)
        .and_then(|id| state.topics.get(&id))
    {
        return Err(refusal(
            ErrorCode::InvalidTopic,
            format!(
                "Topic '{name}' collides with existing topic: {}",
                other.name
            ),
        ));
    }
    if id == TopicId::ZERO || state.topics.contains_key(&id) || state.graveyard.contains(id) {
        return Err(refusal(
            ErrorCode::InvalidRequest,
            format!("Topic id {id} is taken; create topic '{name}' with another."),
        ));
    }
    if partitions < 1 {
        return Err(refusal(
            ErrorCode::InvalidPartitions,
            "Number of partitions must be larger than 0.",
        ));
    }
    let mut topic = Topic {
        id,
        name,
        configs: configs.into_iter().collect(),
        replication_factor,
        partitions: Vec::new(),
        created_at: at,
        producers_before: 0,
        runs: 0,
    };
    grow(&mut topic, partitions)?;
    if state.deleted_names.take(&topic.name) {
        topic.producers_before = state.next_producer_id;
    }
    state.names.insert(&topic.name, id);
    state.topics.insert(id, topic);
    changes.push(Change::Topics);
    Ok(Outcome::Done)
}

/// Raises the number of partitions to `count`.
fn grow(topic: &mut Topic, count: PartitionIndex) -> Result<(), Refusal> {
    let wanted = usize::try_from(count)
        .ok()
        .filter(|_| count <= PARTITIONS_PER_TOPIC);
    let Some(wanted) = wanted else {
        return Err(refusal(
            ErrorCode::InvalidPartitions,
            format!(
                "A topic may have {PARTITIONS_PER_TOPIC} partitions at most, {count} were requested."
            ),
        ));
    };
    topic
        .partitions
        .reserve_exact(wanted.saturating_sub(topic.partitions.len()));
    topic.partitions.resize_with(wanted, Partition::default);
    Ok(())
}

pub(super) fn create_partitions(
    state: &mut State,
    id: TopicId,
    count: PartitionIndex,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let topic = state.topics.get_mut(&id).ok_or_else(|| unknown_topic(id))?;
    let current = Partition::count(&topic.partitions);
    if count == current {
        return Err(refusal(
            ErrorCode::InvalidPartitions,
            format!("Topic already has {current} partitions."),
        ));
    }
    if count < current {
        return Err(refusal(
            ErrorCode::InvalidPartitions,
            format!(
                "Topic currently has {current} partitions, which is higher than the requested {count}."
            ),
        ));
    }
    grow(topic, count)?;
    changes.push(Change::Topics);
    Ok(Outcome::Done)
}

pub(super) fn delete(
    state: &mut State,
    id: TopicId,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let topic = state.topics.remove(&id).ok_or_else(|| unknown_topic(id))?;
    state.names.remove(&topic.name);
    state.deleted_names.insert(topic.name.clone());
    state.waiting.remove_topic(id);
    state.graveyard.insert(topic);
    if state.rules < GRAVEYARD {
        graveyard::purge(state, usize::MAX);
    }
    groups::forget_topic(state, id, changes);
    changes.push(Change::Topics);
    Ok(Outcome::Done)
}

/// Raises log starts, each for itself.
pub(super) fn advance_log_starts(
    state: &mut State,
    starts: Vec<AdvanceLogStart>,
    changes: &mut Vec<Change>,
) -> Outcome {
    let mut now = Vec::with_capacity(starts.len());
    for start in starts {
        let place = start.partition;
        let log_start = match advance_log_start(state, start, changes) {
            Ok(Outcome::LogStart(offset)) => offset,
            _ => state.partition(place).map_or(-1, Partition::log_start),
        };
        now.push(log_start);
    }
    Outcome::LogStarts(now)
}

pub(super) fn advance_log_start(
    state: &mut State,
    command: AdvanceLogStart,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let AdvanceLogStart {
        partition: place,
        offset,
    } = command;
    let Some(partition) = state.partition_mut(place) else {
        return Err(refusal(
            ErrorCode::UnknownTopicOrPartition,
            format!(
                "Partition {} of topic id {} is not known.",
                place.partition, place.topic
            ),
        ));
    };
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    let wanted: Offset = if offset == -1 { high_watermark } else { offset };
    if !(0..=high_watermark).contains(&wanted) {
        return Err(refusal(
            ErrorCode::OffsetOutOfRange,
            format!(
                "Offset {offset} is not between 0 and the high watermark {high_watermark} of partition {}.",
                place.partition
            ),
        ));
    }
    if wanted <= log_start {
        return Ok(Outcome::LogStart(log_start));
    }
    let mut dropped = Vec::new();
    partition.advance(wanted, |run| dropped.push(run));
    for run in dropped {
        state.count_out(place, &run);
    }
    changes.push(Change::Partition(place));
    Ok(Outcome::LogStart(wanted))
}

#[cfg(test)]
mod tests;
