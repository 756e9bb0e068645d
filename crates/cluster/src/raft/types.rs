//! The types openraft is made of here, and their translation to our own.

#![allow(deprecated)] // The macro names the runtime by the path it had before.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_adv;
use openraft::type_config::alias::{
    CommittedLeaderIdOf, EntryOf, LogIdOf, StoredMembershipOf, VoteOf,
};
use openraft::{BasicNode, Membership, Snapshot, SnapshotMeta};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use alluvium_metadata::{Command, Outcome};

use crate::checkpoint::{Checkpoint, LogPosition, Members};
use crate::raft::runtime::Runtime;
use crate::raft::state_machine::StateMachine;
use crate::snapshots::SnapshotFile;

openraft::declare_raft_types!(
    /// A log of commands, among nodes with an address.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = BasicNode,
        AsyncRuntime = Runtime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
pub(crate) type Entry = EntryOf<TypeConfig>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type LeaderId = leader_id_adv::LeaderId<u64, u64>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type RaftMembership = Membership<u64, BasicNode>;
pub(crate) type Meta = SnapshotMeta<CommittedLeaderIdOf<TypeConfig>, u64, BasicNode>;
pub(crate) type RaftSnapshot =
    Snapshot<CommittedLeaderIdOf<TypeConfig>, u64, BasicNode, SnapshotFile>;

/// A command with its encoding, which is made where the command is proposed: the one task through
/// which all entries pass then only copies it.
#[derive(Clone)]
pub(crate) struct Proposal {
    command: Command,
    encoded: Bytes,
}

impl Proposal {
    #[cfg(test)]
    pub(crate) fn new(command: Command) -> Result<Self, postcard::Error> {
        let encoded = postcard::to_stdvec(&command)?.into();
        Ok(Self { command, encoded })
    }

    pub(crate) fn decode(encoded: Bytes) -> Result<Self, postcard::Error> {
        let (command, rest) = postcard::take_from_bytes(&encoded)?;
        if !rest.is_empty() {
            return Err(postcard::Error::DeserializeBadEncoding);
        }
        Ok(Self { command, encoded })
    }

    pub(crate) fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    pub(crate) fn into_command(self) -> Command {
        self.command
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.encoded.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encoded.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::decode(Bytes::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition {
        term: id.leader_id.term,
        leader: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id(position: LogPosition) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: position.term,
            node_id: position.leader,
        },
        index: position.index,
    }
}

pub(crate) fn members(membership: &RaftMembership) -> Members {
    Members {
        configs: membership.get_joint_config().clone(),
        nodes: membership
            .nodes()
            .map(|(id, node)| (*id, node.addr.clone()))
            .collect(),
    }
}

/// `None` when a voter has no address, which no membership that was written has.
pub(crate) fn membership(members: &Members) -> Option<RaftMembership> {
    if members.configs.is_empty() && members.nodes.is_empty() {
        return Some(RaftMembership::default());
    }
    let nodes: std::collections::BTreeMap<u64, BasicNode> = members
        .nodes
        .iter()
        .map(|(id, addr)| (*id, BasicNode { addr: addr.clone() }))
        .collect();
    Membership::new(members.configs.clone(), nodes).ok()
}

pub(crate) fn stored_membership(checkpoint: &Checkpoint) -> StoredMembership {
    StoredMembership::new(
        checkpoint.members_at.map(log_id),
        membership(&checkpoint.members).unwrap_or_default(),
    )
}

pub(crate) fn meta(checkpoint: &Checkpoint) -> Meta {
    Meta {
        last_log_id: checkpoint.last.map(log_id),
        last_membership: stored_membership(checkpoint),
    }
}

pub(crate) fn checkpoint(meta: &Meta) -> Checkpoint {
    Checkpoint {
        last: meta.last_log_id.as_ref().map(position),
        members_at: meta.last_membership.log_id().as_ref().map(position),
        members: members(meta.last_membership.membership()),
    }
}
