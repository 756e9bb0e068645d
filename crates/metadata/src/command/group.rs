//! Commands of consumer groups.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_types::{Millis, Offset, TopicPartition};

use super::AgentOrigin;

/// See [`Command::CommitOffsets`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// The coordinator.
    pub origin: AgentOrigin,
    /// Which group; made if there is none.
    pub group: String,
    /// What.
    pub offsets: Vec<OffsetCommit>,
    /// When.
    pub at: Millis,
}

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetCommit {
    /// In which partition.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// What the client wants kept beside it.
    pub metadata: String,
}

/// See [`Command::PutGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutGroup {
    /// The coordinator.
    pub origin: AgentOrigin,
    /// Which group.
    pub group: String,
    /// What to keep.
    pub record: GroupRecord,
}

/// What outlives a coordinator of a classic group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// "consumer", "connect", or what the members said.
    pub protocol_type: String,
    /// The assignor chosen, once there is one.
    pub protocol: Option<String>,
    /// Counts the rebalances; never goes back.
    pub generation: i32,
    /// The member that assigns.
    pub leader: Option<String>,
    /// The members of this generation.
    pub members: Vec<GroupMember>,
    /// When this was written.
    pub at: Millis,
}

/// A member of a classic group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Given by the coordinator.
    pub member_id: String,
    /// Static membership (KIP-345).
    pub instance_id: Option<String>,
    /// From the request header.
    pub client_id: String,
    /// Address of the connection.
    pub client_host: String,
    /// In milliseconds.
    pub session_timeout: i32,
    /// In milliseconds.
    pub rebalance_timeout: i32,
    /// Assignors the member knows with its subscription for each, most wanted first.
    pub protocols: Vec<(String, Bytes)>,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}
