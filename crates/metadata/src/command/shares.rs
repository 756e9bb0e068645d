//! Commands of share groups (KIP-932).

use serde::{Deserialize, Serialize};

use alluvium_types::{Millis, Offset, TopicPartition};

/// A share group begins with a partition. Nothing happens where it has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareBegin {
    /// Which group; made if there is none.
    pub group: String,
    /// Partitions, and the first offset of each that the group gets.
    pub starts: Vec<(TopicPartition, Offset)>,
}

/// A member wants records of a partition for itself. Answered by
/// [`Outcome::ShareAcquired`](super::Outcome::ShareAcquired).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareAcquire {
    /// Which group.
    pub group: String,
    /// Of which partition.
    pub partition: TopicPartition,
    /// For whom.
    pub member: String,
    /// Most records.
    pub most: u32,
    /// One past the last offset that it may have; no more than can be read.
    pub end: Offset,
    /// By what it is bound.
    pub terms: ShareTerms,
    /// When.
    pub at: Millis,
}

/// What binds the deliveries of a share group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareTerms {
    /// For how many milliseconds a record belongs to who acquired it.
    pub lock: i32,
    /// How often a record is delivered at most; then it is archived.
    pub deliveries: u16,
    /// Records of a partition between the first that is not done and the last that was acquired, most.
    pub in_flight: u32,
}

/// A member says what became of records that it acquired. Answered by
/// [`Outcome::ShareAcknowledged`](super::Outcome::ShareAcknowledged).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareAcknowledge {
    /// Which group.
    pub group: String,
    /// Of which partition.
    pub partition: TopicPartition,
    /// Who says it.
    pub member: String,
    /// Stretches of offsets, in order.
    pub batches: Vec<Acknowledgements>,
    /// By what deliveries are bound.
    pub terms: ShareTerms,
    /// When.
    pub at: Millis,
}

/// What became of a stretch of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgements {
    /// First offset.
    pub first: Offset,
    /// Last offset.
    pub last: Offset,
    /// What became of each, or of all when there is one.
    pub kinds: Vec<AcknowledgeKind>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcknowledgeKind {
    /// There is no record at this offset.
    Gap,
    /// It was dealt with.
    Accept,
    /// It is to be delivered again.
    Release,
    /// It cannot be dealt with and is not to be delivered again.
    Reject,
    /// It is still being dealt with: its lock begins anew (KIP-1222).
    Renew,
}

/// A member has gone: what it acquired is free again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRelease {
    /// Which group.
    pub group: String,
    /// Which members.
    pub members: Vec<String>,
    /// The partitions in question; all when there are none.
    pub partitions: Vec<TopicPartition>,
    /// By what deliveries are bound.
    pub terms: ShareTerms,
}

/// An administrator has a group go on from other offsets, or forget partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareReset {
    /// Which group.
    pub group: String,
    /// Partitions, and the offset to go on from; none to forget the partition.
    pub starts: Vec<(TopicPartition, Option<Offset>)>,
}

/// Records that a member has acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquired {
    /// First offset.
    pub first: Offset,
    /// Last offset.
    pub last: Offset,
    /// The how manieth delivery it is, from 1.
    pub deliveries: u16,
}
