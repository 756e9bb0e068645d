//! What members of consumer groups say, and what they are told (KIP-848).

use std::collections::BTreeSet;

use alluvium_metadata::{ConsumerMember, Partitions};
use alluvium_types::ErrorCode;

use super::super::request::GroupState;
use super::assignor::Assignor;

/// The epoch of a member that joins.
pub(crate) const JOINS: i32 = 0;

/// The epoch of a member that leaves.
pub(crate) const LEAVES: i32 = -1;

/// The epoch of a static member that leaves for a while.
pub(crate) const LEAVES_FOR_A_WHILE: i32 = -2;

/// Longest member id in bytes; Kafka asks for that of a UUID's text.
const MEMBER_ID_BYTES: usize = 249;

/// A sign of life, a joining or a leaving. What has not changed since the last one is left out.
#[derive(Clone, Debug, Default)]
pub struct ConsumerHeartbeat {
    /// Which group.
    pub group: String,
    /// Who; the member draws its own id.
    pub member_id: String,
    /// 0 to join, -1 to leave, -2 for a static member to leave for a while, else what it was told last.
    pub epoch: i32,
    /// Static membership (KIP-345).
    pub instance_id: Option<String>,
    /// Where it stands.
    pub rack: Option<String>,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout: Option<i32>,
    /// Topics by name.
    pub topics: Option<BTreeSet<String>>,
    /// Topics by a regular expression; an empty one takes it back.
    pub pattern: Option<String>,
    /// The assignor that it asks for.
    pub assignor: Option<String>,
    /// What it has.
    pub owned: Option<Partitions>,
    /// From the request header.
    pub client_id: String,
    /// Address of the connection.
    pub client_host: String,
}

/// What a member is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMembership {
    /// Its id.
    pub member_id: String,
    /// Its epoch now.
    pub epoch: i32,
    /// Milliseconds until the next heartbeat.
    pub interval: i32,
    /// What it may read, where that is news to it.
    pub assignment: Option<Partitions>,
}

/// A heartbeat was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRefused {
    /// Why.
    pub code: ErrorCode,
    /// The same in words.
    pub message: String,
}

impl ConsumerRefused {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ErrorCode> for ConsumerRefused {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.name())
    }
}

/// The answer to [`ConsumerHeartbeat`].
pub type ConsumerAnswer = Result<ConsumerMembership, ConsumerRefused>;

/// A consumer group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch that its targets were made for.
    pub target_epoch: i32,
    /// The assignor that made them.
    pub assignor: &'static str,
    /// Its members, each with its target.
    pub members: Vec<(ConsumerMember, Partitions)>,
}

impl ConsumerHeartbeat {
    /// Whether it says everything about its sender, and so is to be told everything.
    pub(crate) const fn is_full(&self) -> bool {
        self.rebalance_timeout.is_some()
            && (self.topics.is_some() || self.pattern.is_some())
            && self.owned.is_some()
    }

    /// Checks what can be told without knowing the group.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub(crate) fn check(&self, assignors: &[Assignor]) -> Result<(), ConsumerRefused> {
        let invalid = |why: &str| Err(ConsumerRefused::new(ErrorCode::InvalidRequest, why));
        let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        if self.group.is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if self.member_id.is_empty() || self.member_id.len() > MEMBER_ID_BYTES {
            return invalid("MemberId must have 1 to 249 bytes.");
        }
        if is_empty(&self.instance_id) {
            return invalid("InstanceId can't be empty.");
        }
        if is_empty(&self.rack) {
            return invalid("RackId can't be empty.");
        }
        match self.epoch {
            JOINS => {
                if self.rebalance_timeout.is_none() {
                    return invalid("RebalanceTimeoutMs must be provided in the first request.");
                }
                if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
                    return invalid("TopicPartitions must be empty when joining.");
                }
                if self.topics.is_none() && self.pattern.is_none() {
                    return invalid(
                        "SubscribedTopicNames or SubscribedTopicRegex must be set in the first request.",
                    );
                }
            }
            LEAVES_FOR_A_WHILE if self.instance_id.is_none() => {
                return invalid(
                    "InstanceId can't be null when a static member leaves for a while.",
                );
            }
            epoch if epoch < LEAVES_FOR_A_WHILE => return invalid("MemberEpoch is invalid."),
            _ => {}
        }
        if let Some(name) = &self.assignor {
            let known = Assignor::by_name(name).filter(|assignor| assignors.contains(assignor));
            if known.is_none() {
                let offered: Vec<_> = assignors.iter().map(|it| it.name()).collect();
                return Err(ConsumerRefused::new(
                    ErrorCode::UnsupportedAssignor,
                    format!(
                        "ServerAssignor {name} is not supported. Supported assignors: {}.",
                        offered.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}
