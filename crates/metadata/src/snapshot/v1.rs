//! The state as release 0.1 wrote it.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use alluvium_types::{AgentEpoch, AgentId, Millis, Offset, ProducerId, TopicId, TopicPartition};

use super::v2::{self, Objects};
use crate::command::GroupRecord;
use crate::partition::{self, StoredPartition};
use crate::producers::{ProducerState, Producers};
use crate::runs::Run;
use crate::state::{
    self, Agent, ChunkLog, CommittedOffset, DeletedNames, Graveyard, Journal, Registration,
    Standing, Transactions,
};

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
        let mut newest = Self {
            cluster_id: stored.cluster_id,
            restores: 0,
            rules: 0,
            cluster_configs: stored.cluster_configs,
            // No id was ever taken back.
            last_agent,
            agents: agents.map(|(id, agent)| (id, agent.into())).collect(),
            claims: 0,
            topics: topics
                .map(|(id, topic)| (id, topic.into_newest(stored.next_producer_id)))
                .collect(),
            groups: groups.map(|(id, group)| (id, group.into())).collect(),
            objects: state::Objects::default(),
            next_producer_id: stored.next_producer_id,
            deleted_names: DeletedNames::default(),
            clock: 0,
            journal: Journal::default(),
            graveyard: Graveyard::default(),
            transactions: Transactions::default(),
            group_configs: BTreeMap::new(),
            client_metrics: BTreeMap::new(),
            quotas: BTreeMap::new(),
        };
        newest.clock = v2::latest(&newest);
        newest.objects = stored.objects.into_newest(newest.clock);
        newest
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
                peer: None,
                journal: None,
            },
            chunks: stored.chunks,
            before: ChunkLog::default(),
        }
    }
}

impl Topic {
    fn into_newest(self, next_producer_id: ProducerId) -> state::Topic {
        let partitions = self.partitions.into_iter();
        state::Topic {
            id: self.id,
            name: self.name,
            configs: self.configs,
            replication_factor: self.replication_factor,
            partitions: partitions
                .map(|partition| partition.into_newest(next_producer_id))
                .collect(),
            created_at: self.created_at,
            // Names of deleted topics were not written down.
            producers_before: 0,
            runs: 0,
        }
    }
}

impl Partition {
    fn into_newest(self, next_producer_id: ProducerId) -> partition::Partition {
        // Which producers have expired was not written down. Any may have, wherever records are.
        let known = self.producers.unwrap_or_default();
        let may_have_had = self.next_offset > 0 && next_producer_id > 0;
        let producers =
            (may_have_had || !known.is_empty()).then(|| Producers::of_0_1(known, next_producer_id));
        partition::Partition::from(StoredPartition {
            log_start: self.log_start,
            next_offset: self.next_offset,
            runs: self.runs,
            producers,
            clean_to: 0,
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
            ..Self::default()
        }
    }
}
