//! What waits to be made durable, and what is to be done once it is.

use std::sync::Arc;

use alluvium_metadata::OffsetCommit;
use alluvium_types::{ErrorCode, TopicPartition};

use super::consumer::{ConsumerAnswer, ConsumerMembership, GroupChange};
use super::member::Waiter;
use super::request::{JoinAnswer, JoinRefused, Joined};
use crate::budget::Lease;

/// Something to make durable.
#[derive(Debug)]
pub(crate) enum Work {
    Commit {
        group: String,
        offsets: Vec<OffsetCommit>,
        waiter: Waiter<ErrorCode>,
        lease: Option<Lease>,
    },
    /// The group's record as it will be when its turn comes.
    Record(Arc<str>),
    /// A change of a group of the newer protocol, and who is told what once it is durable.
    Consumer {
        group: Arc<str>,
        change: GroupChange,
        told: Option<Told>,
    },
    Delete {
        group: Arc<str>,
        waiter: Waiter<ErrorCode>,
    },
    /// Committed offsets that go.
    Forget {
        group: String,
        partitions: Vec<TopicPartition>,
        waiter: Waiter<ErrorCode>,
    },
}

impl Work {
    pub(crate) fn group(&self) -> &str {
        match self {
            Self::Commit { group, .. } | Self::Forget { group, .. } => group,
            Self::Record(group) | Self::Consumer { group, .. } | Self::Delete { group, .. } => {
                group
            }
        }
    }

    /// Tells whoever waits for it that it is not done.
    pub(crate) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Commit { waiter, .. }
            | Self::Delete { waiter, .. }
            | Self::Forget { waiter, .. } => waiter.answer(code),
            Self::Consumer { told, .. } => told.into_iter().for_each(|told| told.refuse(code)),
            Self::Record(_) => {}
        }
    }
}

/// What is to be done when a command was applied, or not.
#[derive(Debug)]
pub(crate) enum Done {
    Commit {
        group: String,
        waiter: Waiter<ErrorCode>,
        _lease: Option<Lease>,
    },
    Record {
        group: Arc<str>,
        token: u64,
    },
    Consumer {
        group: Arc<str>,
        told: Option<Told>,
    },
    Delete {
        group: Arc<str>,
        waiter: Waiter<ErrorCode>,
    },
}

impl Done {
    pub(crate) fn group(&self) -> &str {
        match self {
            Self::Commit { group, .. } => group,
            Self::Record { group, .. }
            | Self::Consumer { group, .. }
            | Self::Delete { group, .. } => group,
        }
    }

    /// Tells whoever waits, where the group itself is not held any more as it was.
    pub(crate) fn answer(self, result: Result<(), ErrorCode>) {
        match self {
            Self::Commit { waiter, .. } | Self::Delete { waiter, .. } => {
                waiter.answer(result.err().unwrap_or_default());
            }
            Self::Consumer { told, .. } => {
                told.into_iter().for_each(|told| told.answer(result));
            }
            Self::Record { .. } => {}
        }
    }
}

/// Who is told what, once a change of a group of the newer protocol is durable.
#[derive(Debug)]
pub(crate) enum Told {
    Member(Waiter<ConsumerAnswer>, ConsumerMembership),
    /// A member that speaks the classic protocol.
    Classic(Waiter<JoinAnswer>, Joined),
}

impl Told {
    pub(crate) fn answer(self, result: Result<(), ErrorCode>) {
        match (self, result) {
            (Self::Member(waiter, membership), Ok(())) => waiter.answer(Ok(membership)),
            (Self::Classic(waiter, joined), Ok(())) => waiter.answer(Ok(joined)),
            (told, Err(code)) => told.refuse(code),
        }
    }

    pub(crate) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Member(waiter, _) => waiter.answer(Err(code.into())),
            Self::Classic(waiter, joined) => {
                let member_id = joined.member_id;
                waiter.answer(Err(JoinRefused { code, member_id }));
            }
        }
    }
}
