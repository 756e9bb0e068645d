//! The state as it was written before there were transactions.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use alluvium_types::{AgentId, Millis, Offset, ProducerId, TopicId, TopicPartition};

use crate::command::{AgentOrigin, GroupRecord};
use crate::partition::{self, StoredPartition};
use crate::producers::Producers;
use crate::runs::Run;
use crate::state::{
    self, CommittedOffset, DeletedNames, Journal, Objects, Registration, Transactions,
};

#[derive(Deserialize)]
pub(super) struct StoredState {
    cluster_id: Option<TopicId>,
    restores: u32,
    rules: u16,
    cluster_configs: BTreeMap<String, String>,
    last_agent: i32,
    agents: BTreeMap<AgentId, Registration>,
    claims: u64,
    topics: BTreeMap<TopicId, Topic>,
    groups: BTreeMap<String, Group>,
    objects: Objects,
    next_producer_id: ProducerId,
    deleted_names: DeletedNames,
    clock: Millis,
    journal: Journal,
    graveyard: BTreeMap<TopicId, Topic>,
}

#[derive(Deserialize)]
struct Topic {
    id: TopicId,
    name: String,
    configs: BTreeMap<String, String>,
    replication_factor: i16,
    partitions: Vec<Partition>,
    created_at: Millis,
    producers_before: ProducerId,
}

#[derive(Deserialize)]
struct Partition {
    log_start: Offset,
    next_offset: Offset,
    runs: VecDeque<Run>,
    producers: Option<Producers>,
    clean_to: Offset,
}

#[derive(Deserialize)]
pub(super) struct Group {
    record: Option<GroupRecord>,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
    coordinator: Option<AgentOrigin>,
    claim: u64,
}

impl From<StoredState> for state::StoredState {
    fn from(stored: StoredState) -> Self {
        let topics = stored.topics.into_iter();
        let groups = stored.groups.into_iter();
        let deleted = stored.graveyard.into_values();
        Self {
            cluster_id: stored.cluster_id,
            restores: stored.restores,
            rules: stored.rules,
            cluster_configs: stored.cluster_configs,
            last_agent: stored.last_agent,
            agents: stored.agents,
            claims: stored.claims,
            topics: topics.map(|(id, topic)| (id, topic.into())).collect(),
            groups: groups.map(|(id, group)| (id, group.into())).collect(),
            objects: stored.objects,
            next_producer_id: stored.next_producer_id,
            deleted_names: stored.deleted_names,
            clock: stored.clock,
            journal: stored.journal,
            graveyard: state::Graveyard::of(deleted.map(state::Topic::from)),
            transactions: Transactions::default(),
            group_configs: BTreeMap::new(),
            client_metrics: BTreeMap::new(),
            quotas: BTreeMap::new(),
        }
    }
}

impl From<Topic> for state::Topic {
    fn from(topic: Topic) -> Self {
        let partitions = topic.partitions.into_iter();
        Self {
            id: topic.id,
            name: topic.name,
            configs: topic.configs,
            replication_factor: topic.replication_factor,
            partitions: partitions.map(partition::Partition::from).collect(),
            created_at: topic.created_at,
            producers_before: topic.producers_before,
            runs: 0,
        }
    }
}

impl From<Partition> for partition::Partition {
    fn from(stored: Partition) -> Self {
        Self::from(StoredPartition {
            log_start: stored.log_start,
            next_offset: stored.next_offset,
            runs: stored.runs,
            producers: stored.producers,
            clean_to: stored.clean_to,
            open: BTreeMap::new(),
            aborted: VecDeque::new(),
        })
    }
}

impl From<Group> for state::Group {
    fn from(stored: Group) -> Self {
        Self {
            record: stored.record,
            offsets: stored.offsets,
            coordinator: stored.coordinator,
            claim: stored.claim,
            pending: BTreeMap::new(),
            shares: BTreeMap::new(),
            consumer: None,
        }
    }
}
