//! Commands of transactional producers (KIP-98, KIP-890).

use serde::{Deserialize, Serialize};

use alluvium_types::{Millis, ProducerId, TopicPartition};

use super::{AgentOrigin, OffsetCommit};

/// A producer id and the epoch of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerEpoch {
    /// The id.
    pub id: ProducerId,
    /// Its epoch, from 0.
    pub epoch: i16,
}

/// A transactional producer begins, or begins again: whoever used the transactional id before is fenced,
/// and a transaction that is open is aborted. Answered by [`Outcome::Producer`](super::Outcome::Producer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitTransactions {
    /// Its transactional id.
    pub transactional_id: String,
    /// After how many milliseconds an open transaction is aborted.
    pub timeout: i32,
    /// What the producer has, when it goes on after an error (KIP-360). Refused `PRODUCER_FENCED`
    /// when another has taken over since.
    pub expected: Option<ProducerEpoch>,
    /// When.
    pub at: Millis,
}

/// A transaction is about to write to partitions, and to the offsets of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddToTransaction {
    /// Whose.
    pub transactional_id: String,
    /// Which producer says so.
    pub producer: ProducerEpoch,
    /// Partitions; those that are not there are left out.
    pub partitions: Vec<TopicPartition>,
    /// Groups.
    pub groups: Vec<String>,
    /// When.
    pub at: Millis,
}

/// Offsets of a group that are committed with the transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitTransactionOffsets {
    /// The group's coordinator.
    pub origin: AgentOrigin,
    /// Whose transaction.
    pub transactional_id: String,
    /// Which producer.
    pub producer: ProducerEpoch,
    /// Which group.
    pub group: String,
    /// Whether the group joins the transaction by this (KIP-890), or was added to it before.
    pub joins: bool,
    /// What.
    pub offsets: Vec<OffsetCommit>,
    /// When.
    pub at: Millis,
}

/// Ends a transaction: its markers get their offsets in all its partitions, and the offsets of its
/// groups are committed, at once. Answered by [`Outcome::Producer`](super::Outcome::Producer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndTransaction {
    /// Whose.
    pub transactional_id: String,
    /// Which producer.
    pub producer: ProducerEpoch,
    /// Commit it or abort it.
    pub commit: bool,
    /// Who ends it.
    pub by: EndedBy,
    /// When; the markers bear this time.
    pub at: Millis,
}

/// Who ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndedBy {
    /// A producer that keeps its epoch.
    Producer,
    /// A producer that gets another epoch with every end (KIP-890), so that nothing it sent before
    /// can become part of its next transaction.
    BumpingProducer,
    /// Its time is over, or an operator ends it: the producer is fenced.
    Server,
}

/// Forgets a transactional id that has not been used for long. One that was used since, or has an open
/// transaction, stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTransactionalId {
    /// Which.
    pub transactional_id: String,
    /// Its producer as it was seen.
    pub producer: ProducerEpoch,
    /// When it had been used last.
    pub used_at: Millis,
}
