//! What can be asked of a state.

use std::collections::BTreeMap;

use alluvium_types::{AgentId, Millis, ObjectId, Offset, ProducerId, TopicId, TopicPartition};

use super::{Agent, Group, JournalChunk, Standing, State, Topic, Transaction};
use crate::command::AgentOrigin;
use crate::partition::Partition;
use crate::runs::JournalChunkId;
use crate::{invariants, rendezvous};

impl State {
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

    /// Settings of groups of this id that were changed.
    #[must_use]
    pub fn group_configs(&self, group: &str) -> Option<&BTreeMap<String, String>> {
        self.group_configs.get(group)
    }

    /// The ids of groups that have settings of their own, in order.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        self.group_configs.keys().map(String::as_str)
    }

    /// The client metrics subscriptions (KIP-714) with their settings, by name.
    pub fn client_metrics(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        let all = self.client_metrics.iter();
        all.map(|(name, configs)| (name.as_str(), configs))
    }

    /// The settings of a client metrics subscription.
    #[must_use]
    pub fn client_metrics_configs(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.client_metrics.get(name)
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

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// All topics from an id on, by id: for those who go through them piece by piece.
    pub fn topics_from(&self, id: TopicId) -> impl Iterator<Item = &Topic> {
        self.topics.range(id..).map(|(_, topic)| topic)
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        let index = usize::try_from(partition.partition).ok()?;
        self.topics.get(&partition.topic)?.partitions.get(index)
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
        self.waiting.inline_bytes
    }

    /// Partitions that hold inline runs, in order.
    pub fn inline_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.waiting.inline_partitions()
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

    /// Objects that were named once and are no more, in order, with their lengths in bytes and
    /// [`Self::clock`] as it was when the last run let go of them. No command can name them again,
    /// until [`Command::ForgetObjects`](crate::Command::ForgetObjects) says that they are deleted.
    pub fn dead_objects(&self) -> impl Iterator<Item = (ObjectId, u64, Millis)> {
        self.objects.dead()
    }

    /// The greatest time that a command ever bore. Never goes back; what it says of an age is at
    /// most what the clocks of the proposers say. A [`Compact`](crate::Compact) of nothing moves it.
    #[must_use]
    pub const fn clock(&self) -> Millis {
        self.clock
    }

    /// How often the bytes of an object that some run names were compacted: 0 for one that was
    /// flushed or settled.
    #[must_use]
    pub fn object_level(&self, object: ObjectId) -> Option<u8> {
        self.objects.level(object)
    }

    /// Whether a chunk was void with the registration that had it sequenced: its records have no
    /// offsets any more. False again once the agent, or very many later ones of it, are forgotten.
    #[must_use]
    pub fn was_voided(&self, chunk: JournalChunkId) -> bool {
        self.journal.was_voided(chunk)
    }

    /// A chunk that lies in write-ahead buffers and that some run names.
    #[must_use]
    pub fn journal_chunk(&self, chunk: JournalChunkId) -> Option<&JournalChunk> {
        self.journal.get(chunk)
    }

    /// All of them, by agent, epoch and number. Those of deleted topics are among them until they are
    /// purged.
    pub fn journal_chunks(&self) -> impl Iterator<Item = (JournalChunkId, &JournalChunk)> {
        self.journal.iter()
    }

    /// The runs that lie in a chunk, by partition and first offset.
    pub fn journal_places(
        &self,
        chunk: JournalChunkId,
    ) -> impl Iterator<Item = (TopicPartition, Offset)> {
        self.journal.places(chunk)
    }

    /// Bytes of batches that lie in write-ahead buffers and wait to be settled.
    #[must_use]
    pub const fn journal_bytes(&self) -> u64 {
        self.waiting.journal_bytes
    }

    /// Partitions that hold runs in write-ahead buffers, in order.
    pub fn journal_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.waiting.journal_partitions()
    }

    /// Runs of deleted topics, and partitions, each counting as one, that
    /// [`Command::Purge`](crate::Command::Purge) has not let go of yet.
    #[must_use]
    pub const fn purgeable_runs(&self) -> u64 {
        self.graveyard.left()
    }

    /// Topics that were deleted and have not been purged, by id. Their runs still name objects.
    pub fn deleted_topics(&self) -> impl Iterator<Item = &Topic> {
        self.graveyard.topics()
    }

    /// A transactional id with its transaction.
    #[must_use]
    pub fn transaction(&self, id: &str) -> Option<&Transaction> {
        self.transactions.get(id)
    }

    /// All transactional ids, in order.
    pub fn transactions(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.transactions.iter()
    }

    /// Those that have an open transaction, in order.
    pub fn open_transactions(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.transactions.open()
    }

    /// The transactional id that a producer id belongs to.
    #[must_use]
    pub fn transaction_of(&self, producer: ProducerId) -> Option<(&str, &Transaction)> {
        self.transactions.of_producer(producer)
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
