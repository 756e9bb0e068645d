//! The whole state: dispatch of commands, and the queries.

mod agents;
mod groups;
mod objects;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use alluvium_types::{AgentId, ErrorCode, ObjectId, ProducerId, TopicId, TopicPartition};

use crate::command::{Change, Command, Outcome, Refusal};
use crate::invariants;
use crate::runs::Partition;
use crate::sequence::{self, Expiries};
use crate::{configs, settle};

pub use agents::Agent;
pub use groups::{CommittedOffset, Group};
pub use topics::Topic;

pub(crate) use agents::{Place, Registration};
pub(crate) use objects::{Named, Objects};
pub(crate) use topics::unknown_topic;

/// The whole metadata of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredState")]
pub struct State {
    pub(crate) cluster_id: Option<TopicId>,
    pub(crate) cluster_configs: BTreeMap<String, String>,
    pub(crate) agents: BTreeMap<AgentId, Registration>,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) objects: Objects,

    pub(crate) next_producer_id: ProducerId,
    // What follows can be told from the above and is not stored.
    #[serde(skip_serializing)]
    pub(crate) names: topics::Names,
    #[serde(skip_serializing)]
    pub(crate) identities: BTreeMap<u128, AgentId>,
    #[serde(skip_serializing)]
    pub(crate) expiries: Expiries,
    #[serde(skip_serializing)]
    pub(crate) inline_partitions: BTreeSet<TopicPartition>,
    #[serde(skip_serializing)]
    pub(crate) inline_bytes: u64,
}

/// What a snapshot holds; the fields are those of [`State`], in the same order.
#[derive(Deserialize)]
pub(crate) struct StoredState {
    cluster_id: Option<TopicId>,
    cluster_configs: BTreeMap<String, String>,
    agents: BTreeMap<AgentId, Registration>,
    topics: BTreeMap<TopicId, Topic>,
    groups: BTreeMap<String, Group>,
    objects: Objects,
    next_producer_id: ProducerId,
}

impl TryFrom<StoredState> for State {
    type Error = String;

    fn try_from(stored: StoredState) -> Result<Self, String> {
        let mut state = Self {
            cluster_id: stored.cluster_id,
            cluster_configs: stored.cluster_configs,
            agents: stored.agents,
            topics: stored.topics,
            groups: stored.groups,
            objects: stored.objects,

            next_producer_id: stored.next_producer_id,
            ..Self::default()
        };
        for topic in state.topics.values() {
            state.names.insert(&topic.name, topic.id);
            for (place, partition) in topic.places() {
                for run in partition.runs() {
                    if let Some(bytes) = run.inline() {
                        state.inline_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    }
                    state.objects.count(run);
                }
                if partition.has_inline() {
                    state.inline_partitions.insert(place);
                }
                let producers = partition.producer_states();
                state
                    .expiries
                    .extend(producers.map(|(id, known)| (known.due(), place, id)));
            }
        }
        for (id, registration) in &state.agents {
            state.identities.insert(registration.agent.identity, *id);
        }
        invariants::check(&state)?;
        Ok(state)
    }
}

/// An answer that says why nothing was changed.
pub(crate) fn refuse(code: ErrorCode, message: impl Into<String>) -> Outcome {
    Outcome::Refused(refusal(code, message))
}

pub(crate) fn refusal(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

impl State {
    /// Applies a command. Pushes what readers wait for to `changes`.
    ///
    /// Never fails and never panics, whatever the command holds: what cannot be done is answered
    /// with [`Outcome::Refused`].
    pub fn apply(&mut self, command: Command, changes: &mut Vec<Change>) -> Outcome {
        let done = match command {
            Command::RegisterAgent(command) => agents::register(self, command, changes),
            Command::CreateTopic(command) => topics::create(self, command, changes),
            Command::DeleteTopic { topic } => topics::delete(self, topic, changes),
            Command::CreatePartitions { topic, count } => {
                topics::create_partitions(self, topic, count, changes)
            }
            Command::AlterConfigs {
                target,
                replace,
                changes: steps,
            } => configs::alter(self, &target, replace, steps, changes),
            Command::Sequence(command) => return sequence::apply(self, command, changes),
            Command::Settle(command) => settle::apply(self, &command),
            Command::AllocateProducerIds { count } => agents::allocate_producer_ids(self, count),
            Command::AdvanceLogStart(command) => topics::advance_log_start(self, command, changes),
            Command::CommitOffsets(command) => groups::commit(self, command, changes),
            Command::DeleteOffsets { group, partitions } => {
                groups::delete_offsets(self, &group, &partitions, changes)
            }
            Command::PutGroup(command) => groups::put(self, command, changes),
            Command::DeleteGroup { group } => groups::delete(self, &group, changes),
        };
        done.unwrap_or_else(Outcome::Refused)
    }

    /// The cluster's id, once an agent has registered.
    #[must_use]
    pub const fn cluster_id(&self) -> Option<TopicId> {
        self.cluster_id
    }

    /// Settings of the whole cluster that were changed while running.
    #[must_use]
    pub const fn cluster_configs(&self) -> &BTreeMap<String, String> {
        &self.cluster_configs
    }

    /// A topic by id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// A topic by name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.topics.get(&self.names.get(name)?)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.iter().filter_map(|id| self.topics.get(&id))
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        let index = usize::try_from(partition.partition).ok()?;
        self.topics.get(&partition.topic)?.partitions.get(index)
    }

    pub(crate) fn partition_mut(&mut self, partition: TopicPartition) -> Option<&mut Partition> {
        let index = usize::try_from(partition.partition).ok()?;
        self.topics
            .get_mut(&partition.topic)?
            .partitions
            .get_mut(index)
    }

    /// All registered agents, by id.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().map(|registration| &registration.agent)
    }

    /// A group.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(id, group)| (id.as_str(), group))
    }

    /// Bytes of batches that are inline and wait to be settled.
    #[must_use]
    pub const fn inline_bytes(&self) -> u64 {
        self.inline_bytes
    }

    /// Partitions that hold inline runs, in order.
    pub fn inline_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.inline_partitions.iter().copied()
    }

    /// Whole length in bytes of an object that some run names, or that one named.
    #[must_use]
    pub fn object_bytes(&self, object: ObjectId) -> Option<u64> {
        self.objects.bytes(object)
    }

    /// Objects that some run names, in order, with their lengths in bytes.
    pub fn live_objects(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.objects.live()
    }

    /// Objects that were named once and are no more, in order, with their lengths in bytes. No
    /// command can name them again.
    pub fn dead_objects(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.objects.dead()
    }

    /// How many idempotent producers are remembered, over all partitions.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.topics
            .values()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.producer_states().count())
            .sum()
    }

    /// Checks what must hold in every state.
    ///
    /// # Errors
    /// Says what does not hold, and of which thing. A state that came from [`Self::apply`] or
    /// [`Self::from_snapshot`] never fails.
    pub fn check(&self) -> Result<(), String> {
        invariants::check(self)
    }
}
