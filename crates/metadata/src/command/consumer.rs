//! Commands of consumer groups of the newer protocol (KIP-848).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_types::{Millis, PartitionIndex, TopicId};

use super::AgentOrigin;

/// Partitions, by topic.
pub type Partitions = BTreeMap<TopicId, BTreeSet<PartitionIndex>>;

/// See [`Command::ChangeConsumerGroup`](super::Command::ChangeConsumerGroup). Members that are not named
/// stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeConsumerGroup {
    /// The coordinator.
    pub origin: AgentOrigin,
    /// Which group; made if there is none. One of the classic protocol becomes one of this.
    pub group: String,
    /// Its epoch from now on; never goes back.
    pub epoch: i32,
    /// Members that are gone, by their ids.
    pub removed: Vec<String>,
    /// Members that are new or have changed, as they are now.
    pub changed: Vec<ConsumerMember>,
    /// When.
    pub at: Millis,
}

/// What outlives a coordinator of a consumer group. What a member is to have in the end (its target) is
/// not kept: where members are on their way to it, the next coordinator thinks of another under the next
/// epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroupRecord {
    /// Counts the changes of members, subscriptions and topics; never goes back.
    pub epoch: i32,
    /// The members, by id.
    pub members: BTreeMap<String, ConsumerMember>,
    /// When this was written.
    pub at: Millis,
}

/// A member of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerMember {
    /// Drawn by the member itself.
    pub member_id: String,
    /// Static membership (KIP-345).
    pub instance_id: Option<String>,
    /// Where it stands, if it says so.
    pub rack: Option<String>,
    /// From the request header.
    pub client_id: String,
    /// Address of the connection.
    pub client_host: String,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout: i32,
    /// Topics by name.
    pub topics: BTreeSet<String>,
    /// Topics by a regular expression.
    pub pattern: Option<String>,
    /// The server-side assignor that it asks for.
    pub assignor: Option<String>,
    /// The epoch that it has reached; -2 while a static member is away.
    pub epoch: i32,
    /// The one before.
    pub previous_epoch: i32,
    /// What it may read.
    pub assigned: Partitions,
    /// What it is to give up first.
    pub revoking: Partitions,
    /// Partitions that it is to have are still others'.
    pub waits: bool,
    /// If it speaks the classic protocol.
    pub classic: Option<ClassicProtocol>,
}

/// What a member of a consumer group says of itself in the classic protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicProtocol {
    /// In milliseconds.
    pub session_timeout: i32,
    /// Assignors the member knows with its subscription for each, most wanted first.
    pub protocols: Vec<(String, Bytes)>,
}
