//! The metadata state machine: which bytes of which object hold which offsets.
//!
//! Plain, deterministic, synchronous Rust. [`State::apply`] takes a [`Command`] and returns its
//! [`Outcome`] and the [`Change`]s that readers wait for; time and entropy are fields of the
//! command. There is no I/O here, no clock and no randomness, so a state can be replayed from a log,
//! restored from a snapshot, model-tested and simulated.
//!
//! The crate owns topics and their configs, the manifest of every partition (its [`Run`]s), producer
//! states, transactions, consumer and share group records and committed offsets, and the agents' registrations. It does not
//! check what Kafka calls configuration or names: commands were validated where they were made.
//!
//! `state` dispatches and answers queries; beside it lies one room per subject: `sequence` gives
//! chunks their offsets, with `producers` judging batches and `partition` keeping the manifest of
//! `runs`; `settle` moves bytes that are inline or in write-ahead buffers to objects, and `compact` from
//! objects to others; `configs` holds Kafka's rules for altering settings; `snapshot` writes the state
//! down, and its page describes the format; `invariants` says what must always hold.

mod command;
mod compact;
mod configs;
mod control;
mod invariants;
mod partition;
mod producers;
pub mod rendezvous;
mod runs;
mod sequence;
mod settle;
mod share;
mod snapshot;
mod state;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use command::{
    AcknowledgeKind, Acknowledgements, Acquired, AddToTransaction, AdvanceLogStart, AgentOrigin,
    AlterQuota, AnnounceAgent, BatchOutcome, BatchStamp, Change, ChangeConsumerGroup, ChunkRun,
    ClassicProtocol, Command, CommitOffsets, CommitTransactionOffsets, Compact, CompactStretch,
    CompactedObject, CompactedPlace, CompactedRun, ConfigChange, ConfigOp, ConfigTarget,
    ConsumerGroupRecord, ConsumerMember, CreateTopic, EndTransaction, EndedBy, GroupMember,
    GroupRecord, IdleTransactionalId, InTransaction, InitTransactions, JournalCopy, Location,
    OffsetCommit, Outcome, PartitionSequenced, Partitions, ProducerEpoch, ProducerStamp, PutGroup,
    QuotaEntity, QuotaName, QuotaValue, Refusal, RegisterAgent, Sequence, Settle, SettleRun,
    ShareAcknowledge, ShareAcquire, ShareBegin, ShareRelease, ShareReset, ShareTerms,
};
pub use partition::{AbortedTransaction, Partition};
pub use producers::{ProducerBatch, ProducerState};
pub use runs::{JournalChunkId, Run, RunLocation};
pub use share::SharePartition;
pub use snapshot::SnapshotError;
pub use state::{
    Agent, CommittedOffset, Group, JournalChunk, Standing, State, Topic, Transaction,
    TransactionStatus,
};
