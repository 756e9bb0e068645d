//! What waits to be made durable, and what is to be done once it is.

use std::sync::Arc;

use alluvium_metadata::OffsetCommit;
use alluvium_types::{ErrorCode, TopicPartition};

use super::member::Waiter;
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
            Self::Record(group) | Self::Delete { group, .. } => group,
        }
    }

    /// Tells whoever waits for it that it is not done.
    pub(crate) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Commit { waiter, .. }
            | Self::Delete { waiter, .. }
            | Self::Forget { waiter, .. } => waiter.answer(code),
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
    Delete {
        group: Arc<str>,
        waiter: Waiter<ErrorCode>,
    },
}

impl Done {
    pub(crate) fn group(&self) -> &str {
        match self {
            Self::Commit { group, .. } => group,
            Self::Record { group, .. } | Self::Delete { group, .. } => group,
        }
    }

    /// Tells whoever waits, where the group itself is not held any more as it was.
    pub(crate) fn answer(self, result: Result<(), ErrorCode>) {
        match self {
            Self::Commit { waiter, .. } | Self::Delete { waiter, .. } => {
                waiter.answer(result.err().unwrap_or_default());
            }
            Self::Record { .. } => {}
        }
    }
}
