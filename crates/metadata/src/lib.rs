//! The metadata state machine: which bytes of which object hold which offsets.
//!
//! Plain, deterministic, synchronous Rust. [`State::apply`] takes a [`Command`] and returns its
//! [`Outcome`] and the [`Change`]s that readers wait for; time and entropy are fields of the
//! command. There is no I/O here, no clock and no randomness, so a state can be replayed from a log,
//! restored from a snapshot, model-tested and simulated.
//!
//! The crate owns topics and their configs, the manifest of every partition (its [`Run`]s), producer
//! states, consumer group records and committed offsets, and the agents' registrations. It does not
//! check what Kafka calls configuration or names: commands were validated where they were made.

mod command;
mod state;

pub use command::{
    AdvanceLogStart, AgentOrigin, BatchOutcome, BatchStamp, Change, ChunkRun, Command, CommitOffsets, ConfigChange,
    ConfigOp, ConfigTarget, CreateTopic, GroupMember, GroupRecord, Location, OffsetCommit, Outcome,
    PartitionSequenced, ProducerStamp, PutGroup, RegisterAgent, Refusal, Sequence, Settle, SettleRun,
};
pub use state::{
    Agent, CommittedOffset, Group, Partition, Run, RunLocation, SnapshotError, State, Topic,
};
