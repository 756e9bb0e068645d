//! What can be asked of the state machine, and what it answers. The same values are the client
//! call, the RPC body, the Raft log entry and the input of `apply`: there are no mirrors.

mod consumer;
mod group;
mod quotas;
mod shares;
mod stamp;
mod transactions;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_types::{
    AgentEpoch, AgentId, ChunkNumber, ErrorCode, Millis, ObjectId, Offset, PartitionIndex,
    ProducerId, TopicId, TopicPartition,
};

use crate::runs::JournalChunkId;

pub use consumer::{
    ChangeConsumerGroup, ClassicProtocol, ConsumerGroupRecord, ConsumerMember, Partitions,
};
pub use group::{CommitOffsets, GroupMember, GroupRecord, OffsetCommit, PutGroup};
pub use quotas::{AlterQuota, QuotaEntity, QuotaName, QuotaValue};
pub use shares::{
    AcknowledgeKind, Acknowledgements, Acquired, ShareAcknowledge, ShareAcquire, ShareBegin,
    ShareRelease, ShareReset, ShareTerms,
};
pub use stamp::{BatchStamp, InTransaction, ProducerStamp};
pub use transactions::{
    AddToTransaction, CommitTransactionOffsets, EndTransaction, EndedBy, IdleTransactionalId,
    InitTransactions, ProducerEpoch,
};

/// A change that somebody asks for. New kinds are added at the end: the number of a variant is part
/// of the log format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// An agent starts, or starts again. Answered by [`Outcome::AgentRegistered`].
    RegisterAgent(RegisterAgent),
    /// Answered by [`Outcome::Done`].
    CreateTopic(CreateTopic),
    /// Deletes a topic with its records and committed offsets. Its runs wait for [`Self::Purge`].
    DeleteTopic {
        /// Which.
        topic: TopicId,
    },
    /// Raises the number of partitions to `count`.
    CreatePartitions {
        /// Of which topic.
        topic: TopicId,
        /// How many there shall be; at least one more than there are.
        count: PartitionIndex,
    },
    /// Alters the configuration of a topic, of the whole cluster, of a group or of a client metrics
    /// subscription.
    AlterConfigs {
        /// Whose.
        target: ConfigTarget,
        /// Forget everything that was set before (Kafka's AlterConfigs) or keep it
        /// (IncrementalAlterConfigs).
        replace: bool,
        /// What, in order.
        changes: Vec<ConfigChange>,
    },
    /// Gives the batches of a durable chunk their offsets. Answered by [`Outcome::Sequenced`].
    Sequence(Sequence),
    /// Moves sequenced bytes to their final object. Answered by [`Outcome::Settled`].
    Settle(Settle),
    /// Reserves a block of producer ids. Answered by [`Outcome::ProducerIds`].
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Raises a partition's log start offset (Kafka's DeleteRecords). Answered by
    /// [`Outcome::LogStart`].
    AdvanceLogStart(AdvanceLogStart),
    /// Commits offsets of a group.
    CommitOffsets(CommitOffsets),
    /// Forgets committed offsets of a group, whoever coordinates it. Coordinators ask with
    /// [`Self::RemoveOffsets`].
    DeleteOffsets {
        /// Which group.
        group: String,
        /// Which partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Replaces the durable part of a group.
    PutGroup(PutGroup),
    /// Deletes a group with its offsets, whoever coordinates it. Coordinators ask with
    /// [`Self::RemoveGroup`].
    DeleteGroup {
        /// Which.
        group: String,
    },
    /// Names the cluster. Refused when it has another name already; with the same name nothing
    /// changes.
    FormCluster {
        /// Its id, drawn by whoever forms it.
        id: TopicId,
    },
    /// Ends registrations whose lease ran out, or that are given back. Those that were replaced by
    /// a newer epoch in the meantime, or ended before, stay as they are.
    EndAgents {
        /// Which.
        agents: Vec<AgentOrigin>,
        /// When.
        at: Millis,
    },
    /// An agent is about to leave: it is named to nobody any more, and may still write.
    DrainAgent {
        /// Which.
        origin: AgentOrigin,
    },
    /// An agent takes a group over. Refused `NOT_COORDINATOR` unless it is the one that
    /// [`State::coordinator_of`](crate::State::coordinator_of) names.
    ClaimGroup {
        /// The coordinator to be.
        origin: AgentOrigin,
        /// Which group; it need not exist.
        group: String,
    },
    /// Forgets agents that ended before a time, with their identities. Their ids are not given
    /// again. Those whose write-ahead buffers are named stay.
    ForgetAgents {
        /// Ended before this.
        ended_before: Millis,
    },
    /// A coordinator deletes a group with its offsets.
    RemoveGroup {
        /// The coordinator.
        origin: AgentOrigin,
        /// Which.
        group: String,
    },
    /// A coordinator forgets committed offsets of a group.
    RemoveOffsets {
        /// The coordinator.
        origin: AgentOrigin,
        /// Which group.
        group: String,
        /// Which partitions.
        partitions: Vec<TopicPartition>,
    },
    /// An agent says where other agents reach it, and which write-ahead buffer its disk holds. Holds
    /// until its registration is replaced or ends.
    AnnounceAgent(AnnounceAgent),
    /// Replaces runs by runs for the same offsets in other objects. Answered by
    /// [`Outcome::Compacted`]. Refused whole when older than a chunk may be, or its objects are dead.
    Compact(Compact),
    /// Raises the log starts of many partitions (retention). What is refused for one is left out for
    /// it alone. Answered by [`Outcome::LogStarts`].
    AdvanceLogStarts(Vec<AdvanceLogStart>),
    /// Lets go of the runs of deleted topics, so many at most. Answered by [`Outcome::Purged`].
    Purge {
        /// Most runs, producers and partitions together.
        most: u32,
    },
    /// Forgets dead objects: they are deleted from the bucket. Those that are not dead stay.
    ForgetObjects {
        /// Which.
        objects: Vec<ObjectId>,
    },
    /// A transactional producer begins. Answered by [`Outcome::Producer`].
    InitTransactions(InitTransactions),
    /// Adds partitions and groups to a transaction.
    AddToTransaction(AddToTransaction),
    /// Commits offsets of a group with a transaction.
    CommitTransactionOffsets(CommitTransactionOffsets),
    /// Commits or aborts a transaction. Answered by [`Outcome::Producer`].
    EndTransaction(EndTransaction),
    /// Forgets transactional ids that were not used for long.
    ForgetTransactionalIds(Vec<IdleTransactionalId>),
    /// A share group begins with partitions.
    ShareBegin(ShareBegin),
    /// A member of a share group acquires records. Answered by [`Outcome::ShareAcquired`].
    ShareAcquire(ShareAcquire),
    /// A member of a share group acknowledges records. Answered by [`Outcome::ShareAcknowledged`].
    ShareAcknowledge(ShareAcknowledge),
    /// Members of a share group have gone.
    ShareRelease(ShareRelease),
    /// A share group goes on from other offsets.
    ShareReset(ShareReset),
    /// Members of a consumer group of the newer protocol come, change or go.
    ChangeConsumerGroup(ChangeConsumerGroup),
    /// Alters client quotas.
    AlterQuotas(Vec<AlterQuota>),
}

/// See [`Command::AnnounceAgent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceAgent {
    /// Who says it.
    pub origin: AgentOrigin,
    /// The address at which other agents reach it, if they can.
    pub peer: Option<String>,
    /// The incarnation of its write-ahead buffer, drawn when the buffer was made: a disk that was
    /// lost comes back with another. None when it has no buffer.
    pub journal: Option<u128>,
}

/// See [`Command::Compact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// Who did it.
    pub origin: AgentOrigin,
    /// The new objects; [`CompactedPlace::object`] counts through them.
    pub objects: Vec<CompactedObject>,
    /// What is replaced, by partition and offset. Each stretch is replaced whole or stays whole.
    pub stretches: Vec<CompactStretch>,
    /// When.
    pub at: Millis,
}

/// An object that holds what was compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactedObject {
    /// Which.
    pub object: ObjectId,
    /// Its whole length in bytes.
    pub bytes: u64,
    /// How often its bytes were compacted: one more than the greatest level of its sources.
    pub level: u8,
}

/// Neighbouring runs of one partition and what takes their place.
///
/// None of the runs may wait to be settled. Without sources and runs, both offsets being the same, it
/// only says how far keys are there once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactStretch {
    /// Whose.
    pub partition: TopicPartition,
    /// First offset of the first run that is replaced.
    pub base_offset: Offset,
    /// One past the last offset of the last one.
    pub end_offset: Offset,
    /// The objects of the runs that are replaced, run by run, gaps left out. The stretch stays as it
    /// is when the manifest names others by now.
    pub sources: Vec<ObjectId>,
    /// What takes their place; tiles the same offsets.
    pub runs: Vec<CompactedRun>,
    /// Log compaction: below this offset (at most the high watermark) each key is there once, and no
    /// record of an aborted transaction: readers are told no more of those that ended there.
    pub clean_to: Option<Offset>,
}

/// One run of [`CompactStretch::runs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactedRun {
    /// First offset.
    pub base_offset: Offset,
    /// One past the last offset.
    pub end_offset: Offset,
    /// Greatest record timestamp in it.
    pub max_timestamp: Millis,
    /// Where its batches are; none when no record is left.
    pub place: Option<CompactedPlace>,
}

/// Where the batches of a [`CompactedRun`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactedPlace {
    /// Which of [`Compact::objects`].
    pub object: u32,
    /// First byte within it.
    pub position: u64,
    /// Length in bytes.
    pub length: u64,
    /// The batches bear their own offsets, and some offsets have no record
    /// ([`RunLocation::Sparse`](crate::RunLocation::Sparse)). Must be so when the run covers any
    /// offset of a gap or of a run that is sparse.
    pub sparse: bool,
}

/// See [`Command::RegisterAgent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterAgent {
    /// The identity that the agent keeps in its data directory; the same identity gets the same
    /// agent id back, under a new epoch.
    pub identity: u128,
    /// Host name that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Availability zone, Kafka's `broker.rack`.
    pub zone: Option<String>,
    /// When.
    pub at: Millis,
    /// Used as the cluster's id by the first registration of all, unless [`Command::FormCluster`]
    /// gave it one.
    pub cluster_id: TopicId,
}

/// See [`Command::CreateTopic`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// Its name, already checked against Kafka's rules.
    pub name: String,
    /// Its id, drawn by the proposer.
    pub id: TopicId,
    /// Number of partitions, at least 1.
    pub partitions: PartitionIndex,
    /// Replication factor to show to tools; the object store does the replicating.
    pub replication_factor: i16,
    /// Configuration that differs from the defaults.
    pub configs: Vec<(String, String)>,
    /// When.
    pub at: Millis,
}

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigTarget {
    /// A topic's.
    Topic(TopicId),
    /// The cluster's (Kafka's dynamic broker default).
    Cluster,
    /// That of groups of this id; there need be none.
    Group(String),
    /// That of the client metrics subscription of this name (KIP-714). It is there while any is set.
    ClientMetrics(String),
}

/// One step of [`Command::AlterConfigs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The setting's name.
    pub name: String,
    /// What to do with it.
    pub op: ConfigOp,
}

/// What to do with a setting (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOp {
    /// Set it.
    Set(String),
    /// Back to the default.
    Delete,
    /// Add elements to a comma-separated list. The first field is the list when it is not set.
    Append {
        /// The value when none is set.
        default: String,
        /// What to add.
        value: String,
    },
    /// Take elements from a comma-separated list.
    Subtract {
        /// The value when none is set.
        default: String,
        /// What to take.
        value: String,
    },
}

/// The agent on whose behalf a command is made. A stale epoch is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOrigin {
    /// Which agent.
    pub agent: AgentId,
    /// Under which registration.
    pub epoch: AgentEpoch,
}

/// See [`Command::Sequence`]. Idempotent by (agent, epoch, chunk number): asked again, the same
/// answer comes back, for the current registration and the one before it, ended or not.
///
/// `STALE_BROKER_EPOCH` says that the chunk was not sequenced and never will be. What is too old to
/// know is refused with `INVALID_REQUEST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Whose chunk.
    pub origin: AgentOrigin,
    /// Its number; one more than that agent's last.
    pub chunk: ChunkNumber,
    /// Where its bytes are durable.
    pub location: Location,
    /// The chunk's runs, sorted by partition, each partition once.
    pub runs: Vec<ChunkRun>,
    /// When it was sealed.
    pub sealed_at: Millis,
    /// When this command was made.
    pub at: Millis,
}

/// Where the bytes of a chunk are durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// In an object of the bucket.
    Object {
        /// Which.
        object: ObjectId,
        /// Its whole length in bytes.
        bytes: u64,
    },
    /// In this very command: the batches of all runs, one after another. Positions in
    /// [`ChunkRun`] count from the start of these bytes.
    Inline(Bytes),
    /// In the write-ahead buffers of agents. Positions in [`ChunkRun`] count from the chunk's first
    /// byte.
    Journal {
        /// Its name in those buffers: the registration under which it was written there, of the agent
        /// that sequences it, and a number counted under that registration. Written before its place
        /// in the agent's order is known, so it is not [`Sequence::chunk`], and the registration may be
        /// one before that of the command.
        chunk: JournalChunkId,
        /// Who has synced it, the agent itself included where it has.
        copies: Vec<JournalCopy>,
        /// Length of the chunk in bytes.
        bytes: u64,
        /// There are as many copies as the cluster asks for. If not, the high watermark stays below
        /// the chunk until it is settled, and when the registration ends before, its offsets become a
        /// gap.
        stable: bool,
    },
}

/// A durable copy of a chunk in a write-ahead buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JournalCopy {
    /// Whose buffer.
    pub agent: AgentId,
    /// Which incarnation of it ([`AnnounceAgent::journal`]).
    pub journal: u128,
}

/// The batches of one partition within a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRun {
    /// Whose.
    pub partition: TopicPartition,
    /// First byte within the location.
    pub position: u64,
    /// The batches, in order, lying one after another.
    pub batches: Vec<BatchStamp>,
}

/// See [`Command::Settle`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// Who did it.
    pub origin: AgentOrigin,
    /// The object that holds the bytes now.
    pub object: ObjectId,
    /// Its whole length in bytes.
    pub bytes: u64,
    /// What it holds.
    pub runs: Vec<SettleRun>,
}

/// One partition's stretch of a settled object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleRun {
    /// Whose.
    pub partition: TopicPartition,
    /// First offset.
    pub base_offset: Offset,
    /// One past the last offset.
    pub end_offset: Offset,
    /// First byte within the object.
    pub position: u64,
    /// Length in bytes.
    pub length: u64,
}

/// See [`Command::AdvanceLogStart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvanceLogStart {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The first offset to keep; -1 stands for the high watermark.
    pub offset: Offset,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done and there is nothing to tell.
    Done,
    /// It was refused and changed nothing.
    Refused(Refusal),
    /// See [`Command::RegisterAgent`].
    AgentRegistered(AgentOrigin),
    /// See [`Command::Sequence`]: one entry per run, in the order of the runs.
    Sequenced(Vec<PartitionSequenced>),
    /// See [`Command::Settle`]: which runs moved, in the order of the runs.
    Settled(Vec<bool>),
    /// See [`Command::AllocateProducerIds`]: the first id of the block.
    ProducerIds(ProducerId),
    /// See [`Command::AdvanceLogStart`]: the log start offset as it is now.
    LogStart(Offset),
    /// See [`Command::Compact`]: which stretches were replaced, in their order.
    Compacted(Vec<bool>),
    /// See [`Command::AdvanceLogStarts`]: the log start offsets as they are now, -1 for a partition
    /// that is not there.
    LogStarts(Vec<Offset>),
    /// See [`Command::Purge`]: how many runs and partitions of deleted topics are left.
    Purged(u64),
    /// See [`Command::InitTransactions`] and [`Command::EndTransaction`]: what the producer has now.
    Producer(ProducerEpoch),
    /// See [`Command::ShareAcquire`]: what the member has now, in order.
    ShareAcquired(Vec<Acquired>),
    /// See [`Command::ShareAcknowledge`]: why nothing was done, if nothing was.
    ShareAcknowledged(Option<ErrorCode>),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// What a Kafka client is told.
    pub code: ErrorCode,
    /// What happened, to which thing.
    pub message: String,
}

/// What became of one run of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSequenced {
    /// One entry per batch, in order.
    pub batches: Vec<BatchOutcome>,
    /// The partition's log start offset.
    pub log_start: Offset,
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchOutcome {
    /// It has its offsets.
    Appended {
        /// Offset of its first record.
        base_offset: Offset,
    },
    /// It was appended before, as this; its bytes in this chunk are nobody's.
    Duplicate {
        /// Offset of its first record then.
        base_offset: Offset,
    },
    /// It was refused; its bytes in this chunk are nobody's.
    Refused(ErrorCode),
}

/// Something readers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The high watermark, the last stable offset or the log start of a partition moved.
    Partition(TopicPartition),
    /// Topics came, went, grew or were configured.
    Topics,
    /// The registered agents changed, or how they stand.
    Agents,
    /// A group's record, offsets or coordinator changed.
    Groups,
    /// What a share group has of a partition's records changed.
    Share(TopicPartition),
}
