//! The state as release 0.2 wrote it.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use alluvium_types::{AgentEpoch, AgentId, Millis, ObjectId, Offset, ProducerId, TopicId};

use crate::partition::{self, StoredPartition};
use crate::producers::Producers;
use crate::runs::Run;
use crate::state::{
    self, Agent, ChunkLog, Dead, DeletedNames, Graveyard, Journal, Live, Registration, Standing,
    Transactions,
};

use super::v3::Group;

#[derive(Deserialize)]
pub(super) struct StoredState {
    cluster_id: Option<TopicId>,
    restores: u32,
    rules: u16,
    cluster_configs: BTreeMap<String, String>,
    last_agent: i32,
    agents: BTreeMap<AgentId, StoredRegistration>,
    claims: u64,
    topics: BTreeMap<TopicId, Topic>,
    groups: BTreeMap<String, Group>,
    objects: Objects,
    next_producer_id: ProducerId,
    deleted_names: DeletedNames,
}

#[derive(Deserialize)]
struct StoredRegistration {
    agent: StoredAgent,
    chunks: ChunkLog,
    before: ChunkLog,
}

#[derive(Deserialize)]
struct StoredAgent {
    id: AgentId,
    epoch: AgentEpoch,
    identity: u128,
    host: String,
    port: u16,
    zone: Option<String>,
    registered_at: Millis,
    standing: Standing,
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
}

/// Objects with their lengths.
#[derive(Deserialize)]
pub(super) struct Objects {
    live: BTreeMap<ObjectId, u64>,
    dead: BTreeMap<ObjectId, u64>,
}

impl From<StoredState> for state::StoredState {
    fn from(stored: StoredState) -> Self {
        let agents = stored.agents.into_iter();
        let topics = stored.topics.into_iter();
        let groups = stored.groups.into_iter();
        let mut newest = Self {
            cluster_id: stored.cluster_id,
            restores: stored.restores,
            rules: stored.rules,
            cluster_configs: stored.cluster_configs,
            last_agent: stored.last_agent,
            agents: agents.map(|(id, agent)| (id, agent.into())).collect(),
            claims: stored.claims,
            topics: topics.map(|(id, topic)| (id, topic.into())).collect(),
            groups: groups.map(|(id, group)| (id, group.into())).collect(),
            objects: state::Objects::default(),
            next_producer_id: stored.next_producer_id,
            deleted_names: stored.deleted_names,
            clock: 0,
            journal: Journal::default(),
            graveyard: Graveyard::default(),
            transactions: Transactions::default(),
            group_configs: BTreeMap::new(),
            client_metrics: BTreeMap::new(),
            quotas: BTreeMap::new(),
        };
        newest.clock = latest(&newest);
        newest.objects = stored.objects.into_newest(newest.clock);
        newest
    }
}

/// The greatest time that can be found: what the clock was, or less.
pub(super) fn latest(stored: &state::StoredState) -> Millis {
    let agents = stored.agents.values().map(|registration| {
        let agent = &registration.agent;
        agent.ended_at().unwrap_or(agent.registered_at)
    });
    let topics = stored.topics.values().map(|topic| topic.created_at);
    let partitions = stored.topics.values().flat_map(|topic| &topic.partitions);
    let producers = partitions
        .flat_map(partition::Partition::producer_states)
        .map(|(_, producer)| producer.last_at());
    let offsets = stored.groups.values().flat_map(|group| &group.offsets);
    let commits = offsets.map(|(_, offset)| offset.committed_at);
    agents
        .chain(topics)
        .chain(producers)
        .chain(commits)
        .fold(0, Millis::max)
}

impl Objects {
    /// When the dead ones died was not written down: as late as can be.
    pub(super) fn into_newest(self, died_at: Millis) -> state::Objects {
        let live = self.live.into_iter().map(|(object, bytes)| {
            let (level, runs) = (0, 0);
            (object, Live { bytes, level, runs })
        });
        let dead = self.dead.into_iter();
        state::Objects {
            live: live.collect(),
            dead: dead
                .map(|(object, bytes)| (object, Dead { bytes, died_at }))
                .collect(),
        }
    }
}

impl From<StoredRegistration> for Registration {
    fn from(stored: StoredRegistration) -> Self {
        let agent = stored.agent;
        Self {
            agent: Agent {
                id: agent.id,
                epoch: agent.epoch,
                identity: agent.identity,
                host: agent.host,
                port: agent.port,
                zone: agent.zone,
                registered_at: agent.registered_at,
                standing: agent.standing,
                peer: None,
                journal: None,
            },
            chunks: stored.chunks,
            before: stored.before,
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
            partitions: partitions
                .map(|partition| {
                    partition::Partition::from(StoredPartition {
                        log_start: partition.log_start,
                        next_offset: partition.next_offset,
                        runs: partition.runs,
                        producers: partition.producers,
                        clean_to: 0,
                        open: BTreeMap::new(),
                        aborted: VecDeque::new(),
                    })
                })
                .collect(),
            created_at: topic.created_at,
            producers_before: topic.producers_before,
            runs: 0,
        }
    }
}
