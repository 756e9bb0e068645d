//! The whole state: dispatch of commands, and the queries.

mod agents;
mod chunks;
mod deleted_names;
mod groups;
mod objects;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use alluvium_types::{AgentId, ErrorCode, Millis, ObjectId, ProducerId, TopicId, TopicPartition};

use crate::command::{AgentOrigin, Change, Command, JournalCopy, Outcome, Refusal};
use crate::invariants;
use crate::runs::{JournalChunkId, Partition};
use crate::sequence::{self, Expiries};
use crate::{configs, rendezvous, settle};

pub use agents::{Agent, Standing};
pub use groups::{CommittedOffset, Group};
pub use topics::Topic;

pub(crate) use agents::Registration;
pub(crate) use chunks::ChunkLog;
#[cfg(test)]
pub(crate) use chunks::Place;
pub(crate) use deleted_names::DeletedNames;
pub(crate) use groups::IDLE_GROUPS;
pub(crate) use objects::{Named, Objects};
pub(crate) use topics::unknown_topic;

/// The rules by which commands are judged. 0: those of release 0.1, whose logs must give the offsets
/// that they gave then. 1: groups are written by the coordinator that claimed them, and a new
/// producer begins with sequence 0. The first command that release 0.1 did not know brings the
/// newest.
pub(crate) const RULES: u16 = 1;

/// How many producer ids a restored cluster leaves out.
const RESTORED_PRODUCER_IDS: ProducerId = 1 << 32;

/// The whole metadata of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredState")]
pub struct State {
    pub(crate) cluster_id: Option<TopicId>,
    pub(crate) restores: u32,
    pub(crate) rules: u16,
    pub(crate) cluster_configs: BTreeMap<String, String>,
    pub(crate) last_agent: i32,
    pub(crate) agents: BTreeMap<AgentId, Registration>,
    /// How many claims on groups were accepted.
    pub(crate) claims: u64,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) objects: Objects,
    pub(crate) next_producer_id: ProducerId,
    pub(crate) deleted_names: DeletedNames,
    // What follows can be told from the above and is not stored.
    #[serde(skip_serializing)]
    pub(crate) names: topics::Names,
    #[serde(skip_serializing)]
    pub(crate) identities: BTreeMap<u128, AgentId>,
    /// Groups that are claimed and hold nothing yet, by the number of their claim.
    #[serde(skip_serializing)]
    pub(crate) idle_groups: BTreeMap<u64, String>,
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
    pub(crate) cluster_id: Option<TopicId>,
    pub(crate) restores: u32,
    pub(crate) rules: u16,
    pub(crate) cluster_configs: BTreeMap<String, String>,
    pub(crate) last_agent: i32,
    pub(crate) agents: BTreeMap<AgentId, Registration>,
    pub(crate) claims: u64,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) objects: Objects,
    pub(crate) next_producer_id: ProducerId,
    pub(crate) deleted_names: DeletedNames,
}

impl TryFrom<StoredState> for State {
    type Error = String;

    fn try_from(stored: StoredState) -> Result<Self, String> {
        let mut state = Self {
            cluster_id: stored.cluster_id,
            restores: stored.restores,
            rules: stored.rules,
            cluster_configs: stored.cluster_configs,
            last_agent: stored.last_agent,
            agents: stored.agents,
            claims: stored.claims,
            topics: stored.topics,
            groups: stored.groups,
            objects: stored.objects,
            next_producer_id: stored.next_producer_id,
            deleted_names: stored.deleted_names,
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
        for (id, group) in &state.groups {
            if group.is_empty() {
                state.idle_groups.insert(group.claim, id.clone());
            }
        }
        invariants::check(&state)?;
        Ok(state)
    }
}

/// A chunk in write-ahead buffers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalChunk {
    /// Who has it.
    pub copies: Vec<JournalCopy>,
    /// Its length in bytes.
    pub bytes: u64,
    /// See [`Location::Journal`](crate::Location::Journal).
    pub stable: bool,
    /// When it was sequenced.
    pub at: Millis,
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
        let newer_than_0_1 = matches!(
            command,
            Command::FormCluster { .. }
                | Command::EndAgents { .. }
                | Command::DrainAgent { .. }
                | Command::ClaimGroup { .. }
                | Command::ForgetAgents { .. }
                | Command::RemoveGroup { .. }
                | Command::RemoveOffsets { .. }
                | Command::AnnounceAgent(_)
                | Command::Compact(_)
                | Command::AdvanceLogStarts(_)
                | Command::Purge { .. }
                | Command::ForgetObjects { .. }
        );
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
            Command::FormCluster { id } => self.form(id),
            Command::EndAgents { agents, at } => Ok(agents::end(self, &agents, at, changes)),
            Command::DrainAgent { origin } => agents::drain(self, origin, changes),
            Command::ClaimGroup { origin, group } => groups::claim(self, origin, group, changes),
            Command::ForgetAgents { ended_before } => {
                Ok(agents::forget(self, ended_before, changes))
            }
            Command::RemoveGroup { origin, group } => groups::remove(self, origin, &group, changes),
            Command::RemoveOffsets {
                origin,
                group,
                partitions,
            } => groups::remove_offsets(self, origin, &group, &partitions, changes),
            Command::AnnounceAgent(_)
            | Command::Compact(_)
            | Command::AdvanceLogStarts(_)
            | Command::Purge { .. }
            | Command::ForgetObjects { .. } => {
                Err(refusal(ErrorCode::UnsupportedVersion, "not yet"))
            }
        };
        if newer_than_0_1 && done.is_ok() {
            self.rules = RULES;
        }
        done.unwrap_or_else(Outcome::Refused)
    }

    fn form(&mut self, id: TopicId) -> Result<Outcome, Refusal> {
        match self.cluster_id {
            Some(known) if known != id => Err(refusal(
                ErrorCode::InconsistentClusterId,
                format!("The cluster is formed already; its id is {known}, not {id}."),
            )),
            _ => {
                self.cluster_id = Some(id);
                Ok(Outcome::Done)
            }
        }
    }

    /// Nothing yet, judged by the rules of this release from the first command on. A log that may
    /// have been written by release 0.1 is replayed onto [`Self::default`] instead.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rules: RULES,
            ..Self::default()
        }
    }

    /// How often the cluster was rebuilt from its bucket. Part of who it is: what knows another
    /// count knows another history.
    #[must_use]
    pub const fn restores(&self) -> u32 {
        self.restores
    }

    /// Marks a state that was rebuilt from the bucket, of which the last commands may be missing.
    /// All agents are ended, and whatever is counted out to somebody goes on well beyond what the
    /// missing commands can have given: epochs, agent ids, producer ids.
    ///
    /// `restores` is its count from now on, more than any history of the cluster has had.
    pub fn mark_restored(&mut self, restores: u32, at: Millis) {
        self.restores = restores.max(self.restores.saturating_add(1));
        self.rules = RULES;
        agents::skip_ahead(self, at);
        self.next_producer_id = self.next_producer_id.saturating_add(RESTORED_PRODUCER_IDS);
    }

    /// Forgets what is known of an idempotent producer in a partition, as if it had expired there: its
    /// next batch may begin with any sequence. For a restore that lacks some of its batches.
    pub fn forget_producer(&mut self, place: TopicPartition, producer: ProducerId) {
        let Some(partition) = self.partition_mut(place) else {
            return;
        };
        let due = partition.producers_mut().forget(producer);
        if let Some(due) = due {
            self.expiries.remove(&(due, place, producer));
        }
    }

    /// The cluster's id, once it was formed (or, in release 0.1, an agent had registered).
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

    /// From which id on producers that a topic's partitions do not know must begin with sequence 0;
    /// none must otherwise.
    pub(crate) fn zero_from(&self, topic: TopicId) -> Option<ProducerId> {
        let topic = (self.rules > 0).then(|| self.topics.get(&topic))?;
        topic.map(|topic| topic.producers_before)
    }

    /// All registered agents, by id, those that ended lately included.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().map(|registration| &registration.agent)
    }

    /// The agents that clients are to be sent to, by id.
    pub fn live_agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents()
            .filter(|agent| agent.standing == Standing::Live)
    }

    /// An agent, however it stands.
    #[must_use]
    pub fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id).map(|registration| &registration.agent)
    }

    /// The agent that is to coordinate a group: the first of the live ones by rendezvous hashing, so
    /// that an agent that comes or goes moves only its own share. None when no agent is live.
    #[must_use]
    pub fn coordinator_of(&self, group: &str) -> Option<AgentId> {
        let live = self.live_agents().map(|agent| agent.id);
        rendezvous::first(rendezvous::group_key(group), live)
    }

    /// Who claimed a group and may write it, also while the group holds nothing yet.
    #[must_use]
    pub fn claimed_by(&self, group: &str) -> Option<AgentOrigin> {
        self.groups.get(group)?.coordinator
    }

    /// A group that holds something: a record, or offsets.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id).filter(|group| !group.is_empty())
    }

    /// All groups that hold something, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups
            .iter()
            .filter(|(_, group)| !group.is_empty())
            .map(|(id, group)| (id.as_str(), group))
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

    /// The greatest time that a command ever bore. Never goes back; what it says of an age is at
    /// most what the clocks of the proposers say.
    #[must_use]
    pub const fn clock(&self) -> Millis {
        0
    }

    /// How often an object's bytes were compacted: 0 for one that was flushed or settled.
    #[must_use]
    pub fn object_level(&self, object: ObjectId) -> Option<u8> {
        self.objects.bytes(object).map(|_| 0)
    }

    /// A chunk that lies in write-ahead buffers and that some run names.
    #[must_use]
    pub fn journal_chunk(&self, chunk: JournalChunkId) -> Option<&JournalChunk> {
        let _ = chunk;
        None
    }

    /// All of them, by agent, epoch and number.
    pub fn journal_chunks(&self) -> impl Iterator<Item = (JournalChunkId, &JournalChunk)> {
        std::iter::empty()
    }

    /// Bytes of batches that lie in write-ahead buffers and wait to be settled.
    #[must_use]
    pub const fn journal_bytes(&self) -> u64 {
        0
    }

    /// Partitions that hold runs in write-ahead buffers, in order.
    pub fn journal_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        std::iter::empty()
    }

    /// Runs of deleted topics that [`Command::Purge`] has not let go of yet.
    #[must_use]
    pub const fn purgeable_runs(&self) -> u64 {
        0
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
