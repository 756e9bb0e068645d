//! What members ask of their coordinator, and what they are told.

use alluvium_metadata::GroupMember;
use alluvium_protocol::produce::TopicRef;
use alluvium_types::{ErrorCode, Offset, PartitionIndex, TopicId};
use bytes::Bytes;

/// A member joins, or joins again. Times are milliseconds.
#[derive(Clone, Debug, Default)]
pub struct JoinGroup {
    /// Which group.
    pub group: String,
    /// Given by the coordinator; empty for a newcomer.
    pub member_id: String,
    /// Static membership (KIP-345).
    pub instance_id: Option<String>,
    /// From the request header.
    pub client_id: String,
    /// Address of the connection.
    pub client_host: String,
    /// Without a sign of life for this long the member is out.
    pub session_timeout: i32,
    /// How long a rebalance waits for this member; below 0 stands for the session timeout.
    pub rebalance_timeout: i32,
    /// "consumer", "connect", or what the members agreed on.
    pub protocol_type: String,
    /// Assignors the member knows with its subscription for each, most wanted first.
    pub protocols: Vec<(String, Bytes)>,
    /// The client can be sent back with an id before it becomes a member (KIP-394).
    pub takes_member_id: bool,
    /// The client understands "you lead, but do not assign" (KIP-814).
    pub takes_skip_assignment: bool,
    /// Why, in the client's words (KIP-800).
    pub reason: Option<String>,
}

impl JoinGroup {
    /// Bytes that the member would hold in the coordinator's memory.
    pub(crate) fn bytes(&self) -> usize {
        let protocols: usize = self
            .protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum();
        let instance = self.instance_id.as_ref().map_or(0, String::len);
        protocols + instance + self.member_id.len() + self.client_id.len() + self.client_host.len()
    }
}

/// A member of the generation that has just been formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The assignor that the members agreed on.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: String,
    /// The leader must not assign: the members keep what they have.
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: String,
    /// For the leader: all members.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its static id.
    pub instance_id: Option<String>,
    /// Its subscription, for the chosen assignor.
    pub metadata: Bytes,
}

/// A join was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub code: ErrorCode,
    /// The id to come back with, for [`ErrorCode::MemberIdRequired`]; else what the client gave,
    /// or nothing when it is to forget it.
    pub member_id: String,
}

/// The answer to [`JoinGroup`].
pub type JoinAnswer = Result<Joined, JoinRefused>;

/// A member asks for its assignment; the leader brings all of them.
#[derive(Clone, Debug, Default)]
pub struct SyncGroup {
    /// Which group.
    pub group: String,
    /// The generation that it joined.
    pub generation: i32,
    /// Its id.
    pub member_id: String,
    /// Its static id.
    pub instance_id: Option<String>,
    /// What it believes the protocol type to be; newer clients say it (KIP-559).
    pub protocol_type: Option<String>,
    /// What it believes the assignor to be.
    pub protocol: Option<String>,
    /// From the leader: who gets what.
    pub assignments: Vec<(String, Bytes)>,
}

/// A member's share of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The assignor.
    pub protocol: Option<String>,
    /// What the leader gave to this member.
    pub assignment: Bytes,
}

/// The answer to [`SyncGroup`].
pub type SyncAnswer = Result<Synced, ErrorCode>;

/// A sign of life.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// Which group.
    pub group: String,
    /// The generation that it joined.
    pub generation: i32,
    /// Its id.
    pub member_id: String,
    /// Its static id.
    pub instance_id: Option<String>,
}

/// Who leaves a group. An administrator may name a static member by its instance id alone.
#[derive(Clone, Debug, Default)]
pub struct Leaver {
    /// Its id, or nothing.
    pub member_id: String,
    /// Its static id.
    pub instance_id: Option<String>,
    /// Why, in the client's words.
    pub reason: Option<String>,
}

/// Who commits.
#[derive(Clone, Debug, Default)]
pub struct Committer {
    /// Which group.
    pub group: String,
    /// The generation that it joined; -1 for a client that assigns partitions to itself.
    pub generation: i32,
    /// Its id, or nothing.
    pub member_id: String,
    /// Its static id.
    pub instance_id: Option<String>,
    /// The client knows GROUP_ID_NOT_FOUND as an answer to a commit.
    pub takes_group_not_found: bool,
    /// The client can say the epoch of a member of the newer protocol (KIP-848).
    pub takes_epochs: bool,
}

/// What is committed in one topic.
#[derive(Clone, Debug)]
pub struct CommitTopic {
    /// Which topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// What is committed in one partition.
#[derive(Clone, Debug)]
pub struct CommitPartition {
    /// Which.
    pub partition: PartitionIndex,
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// What the client wants kept beside it.
    pub metadata: String,
}

/// Which committed offsets are asked for.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    /// Which topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// Committed offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Its name; empty when it was asked for by an id that nobody has.
    pub name: String,
    /// Its id; zero when it was asked for by a name that nobody has.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// Which partition.
    pub partition: PartitionIndex,
    /// The next offset to read, -1 when nothing was committed.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// What the client wanted kept beside it.
    pub metadata: String,
    /// What is wrong with the partition asked for.
    pub code: ErrorCode,
}

/// The states of a group, as Kafka's tools name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// It waits for members to join.
    PreparingRebalance,
    /// It waits for the leader's assignment.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
    /// A consumer group whose partitions must be dealt out anew.
    Assigning,
    /// A consumer group whose members are on their way to what they are to have.
    Reconciling,
    /// It does not exist, or is being deleted.
    Dead,
}

impl GroupState {
    /// Kafka's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Dead => "Dead",
        }
    }
}

/// The protocols that groups have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupType {
    /// JoinGroup and SyncGroup.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
    /// ShareGroupHeartbeat (KIP-932).
    Share,
}

impl GroupType {
    /// Kafka's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
        }
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// Its protocol.
    pub group_type: GroupType,
    /// Its protocol type; empty for offsets without a group.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
}

/// A group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state.
    pub state: GroupState,
    /// Its protocol type; empty for offsets without a group.
    pub protocol_type: String,
    /// The assignor; empty unless it is stable.
    pub protocol: String,
    /// Its members. Subscriptions and assignments are told for a stable group only: of the
    /// protocols there is then exactly the chosen one.
    pub members: Vec<GroupMember>,
}
