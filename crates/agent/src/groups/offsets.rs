//! Committed offsets: what a commit may name, and what is told to whoever asks.

use std::collections::BTreeMap;

use alluvium_metadata::{CommittedOffset, Group, OffsetCommit, State, Topic};
use alluvium_protocol::produce::TopicRef;
use alluvium_types::{ErrorCode, PartitionIndex, TopicId, TopicPartition};

use super::request::{CommitTopic, FetchTopic, FetchedOffset, FetchedTopic};

/// The topic meant, or the error that says there is none.
fn find<'a>(state: &'a State, topic: &TopicRef) -> Result<&'a Topic, ErrorCode> {
    match topic {
        TopicRef::Name(name) => state
            .topic_by_name(name.as_str())
            .ok_or(ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => state.topic(*id).ok_or(ErrorCode::UnknownTopicId),
    }
}

fn has_partition(topic: &Topic, partition: PartitionIndex) -> bool {
    usize::try_from(partition).is_ok_and(|index| index < topic.partitions.len())
}

/// Whether all that a commit names is there.
pub(crate) fn are_known(state: &State, topics: &[CommitTopic]) -> bool {
    topics.iter().all(|asked| {
        find(state, &asked.topic).is_ok_and(|topic| {
            let mut partitions = asked.partitions.iter();
            partitions.all(|asked| has_partition(topic, asked.partition))
        })
    })
}

/// Sorts out what can be committed. Returns a code for every partition of every topic, and the offsets
/// of those that have no error so far.
pub(crate) fn sort_commit(
    state: &State,
    topics: Vec<CommitTopic>,
    metadata_bytes: usize,
) -> (Vec<Vec<ErrorCode>>, Vec<OffsetCommit>) {
    let mut accepted = Vec::new();
    let mut codes = Vec::with_capacity(topics.len());
    for asked in topics {
        let topic = find(state, &asked.topic);
        let of_topic = asked.partitions.into_iter().map(|asked| match topic {
            Err(code) => code,
            Ok(topic) if !has_partition(topic, asked.partition) => {
                ErrorCode::UnknownTopicOrPartition
            }
            Ok(_) if asked.metadata.len() > metadata_bytes => ErrorCode::OffsetMetadataTooLarge,
            Ok(topic) => {
                accepted.push(OffsetCommit {
                    partition: TopicPartition::new(topic.id, asked.partition),
                    offset: asked.offset,
                    leader_epoch: asked.leader_epoch,
                    metadata: asked.metadata,
                });
                ErrorCode::None
            }
        });
        codes.push(of_topic.collect());
    }
    (codes, accepted)
}

/// Bytes that a commit holds while it waits.
pub(crate) fn commit_bytes(offsets: &[OffsetCommit]) -> usize {
    offsets
        .iter()
        .map(|offset| offset.metadata.len() + size_of::<OffsetCommit>())
        .sum()
}

fn fetched(
    partition: PartitionIndex,
    committed: Option<&CommittedOffset>,
    code: ErrorCode,
) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: committed.map_or(-1, |committed| committed.offset),
        leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: committed
            .map(|committed| committed.metadata.clone())
            .unwrap_or_default(),
        code,
    }
}

/// The committed offsets asked for. A name nobody has is no error (nothing was committed there); an id
/// nobody has is.
pub(crate) fn fetch(state: &State, group: &str, topics: &[FetchTopic]) -> Vec<FetchedTopic> {
    let group = state.group(group);
    topics
        .iter()
        .map(|asked| fetch_topic(state, group, asked))
        .collect()
}

fn fetch_topic(state: &State, group: Option<&Group>, asked: &FetchTopic) -> FetchedTopic {
    let topic = find(state, &asked.topic);
    let code = match topic {
        Err(ErrorCode::UnknownTopicId) => ErrorCode::UnknownTopicId,
        _ => ErrorCode::None,
    };
    let committed = |partition| {
        let topic = topic.ok()?;
        group?
            .offsets
            .get(&TopicPartition::new(topic.id, partition))
    };
    let name = match &asked.topic {
        TopicRef::Name(name) => name.as_str().to_owned(),
        TopicRef::Id(_) => topic.map(|topic| topic.name.clone()).unwrap_or_default(),
    };
    let id = match &asked.topic {
        TopicRef::Name(_) => topic.map_or(TopicId::ZERO, |topic| topic.id),
        TopicRef::Id(id) => *id,
    };
    let partitions = asked
        .partitions
        .iter()
        .map(|&partition| fetched(partition, committed(partition), code))
        .collect();
    FetchedTopic {
        name,
        id,
        partitions,
    }
}

/// Everything that a group has committed, by topic. Offsets of topics that are gone are left out.
pub(crate) fn fetch_all(state: &State, group: &str) -> Vec<FetchedTopic> {
    let mut by_topic: BTreeMap<TopicId, FetchedTopic> = BTreeMap::new();
    for (at, committed) in state
        .group(group)
        .into_iter()
        .flat_map(|group| &group.offsets)
    {
        let Some(topic) = state.topic(at.topic) else {
            continue;
        };
        by_topic
            .entry(topic.id)
            .or_insert_with(|| FetchedTopic {
                name: topic.name.clone(),
                id: topic.id,
                partitions: Vec::new(),
            })
            .partitions
            .push(fetched(at.partition, Some(committed), ErrorCode::None));
    }
    by_topic.into_values().collect()
}
