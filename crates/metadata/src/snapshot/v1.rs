//! The state as release 0.1 wrote it.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use alluvium_types::{AgentEpoch, AgentId, Millis, Offset, ProducerId, TopicId, TopicPartition};

use crate::command::GroupRecord;
use crate::producers::{ProducerState, Producers};
use crate::runs::{self, Run};
use crate::state::{self, Agent, ChunkLog, CommittedOffset, Objects, Registration, Standing};

#[derive(Deserialize)]
pub(super) struct StoredState {
    cluster_id: Option<TopicId>,
    cluster_configs: BTreeMap<String, String>,
    agents: BTreeMap<AgentId, StoredAgent>,
    topics: BTreeMap<TopicId, Topic>,
    groups: BTreeMap<String, Group>,
    objects: Objects,
    next_producer_id: ProducerId,
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
    chunks: ChunkLog,
}

#[derive(Deserialize)]
struct Topic {
    id: TopicId,
    name: String,
    configs: BTreeMap<String, String>,
    replication_factor: i16,
    partitions: Vec<Partition>,
    created_at: Millis,
}

#[derive(Deserialize)]
struct Partition {
    log_start: Offset,
    next_offset: Offset,
    runs: VecDeque<Run>,
    producers: Option<BTreeMap<ProducerId, Box<ProducerState>>>,
}

#[derive(Deserialize)]
struct Group {
    record: Option<GroupRecord>,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

impl From<StoredState> for state::StoredState {
    fn from(stored: StoredState) -> Self {
        let last_agent = stored.agents.keys().next_back().map_or(0, |id| id.0);
        let agents = stored.agents.into_iter();
        let topics = stored.topics.into_iter();
        let groups = stored.groups.into_iter();
        Self {
            cluster_id: stored.cluster_id,
            restores: 0,
            rules: 0,
            cluster_configs: stored.cluster_configs,
            // No id was ever taken back.
            last_agent,
            agents: agents.map(|(id, agent)| (id, agent.into())).collect(),
            claims: 0,
            topics: topics.map(|(id, topic)| (id, topic.into())).collect(),
            groups: groups.map(|(id, group)| (id, group.into())).collect(),
            objects: stored.objects,
            next_producer_id: stored.next_producer_id,
        }
    }
}

impl From<StoredAgent> for Registration {
    fn from(stored: StoredAgent) -> Self {
        Self {
            agent: Agent {
                id: stored.id,
                epoch: stored.epoch,
                identity: stored.identity,
                host: stored.host,
                port: stored.port,
                zone: stored.zone,
                registered_at: stored.registered_at,
                standing: Standing::Live,
            },
            chunks: stored.chunks,
            before: ChunkLog::default(),
        }
    }
}

impl From<Topic> for state::Topic {
    fn from(stored: Topic) -> Self {
        let partitions = stored.partitions.into_iter();
        Self {
            id: stored.id,
            name: stored.name,
            configs: stored.configs,
            replication_factor: stored.replication_factor,
            partitions: partitions.map(Into::into).collect(),
            created_at: stored.created_at,
        }
    }
}

impl From<Partition> for runs::Partition {
    fn from(stored: Partition) -> Self {
        // Whether any producer has expired was not written down. It may have, wherever records are.
        let producers = match stored.producers {
            None if stored.next_offset == 0 => None,
            known => Some(Box::new(Producers::of_0_1(known.unwrap_or_default()))),
        };
        Self::from(runs::StoredPartition {
            log_start: stored.log_start,
            next_offset: stored.next_offset,
            runs: stored.runs,
            producers,
        })
    }
}

impl From<Group> for state::Group {
    fn from(stored: Group) -> Self {
        Self {
            record: stored.record,
            offsets: stored.offsets,
            ..Self::default()
        }
    }
}
