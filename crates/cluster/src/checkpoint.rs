//! Where in the log a state stands, in values of our own: they are written to disk and must not
//! change when the Raft library does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogPosition {
    /// Term of the leader that wrote it.
    pub(crate) term: u64,
    /// That leader.
    pub(crate) leader: u64,
    /// Counts the entries from 0.
    pub(crate) index: u64,
}

/// Who votes and who listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    /// Sets of voters; two while the membership changes.
    pub(crate) configs: Vec<BTreeSet<u64>>,
    /// Addresses of voters and learners.
    pub(crate) nodes: BTreeMap<u64, String>,
}

/// What a state holds: every entry up to `last`, and the membership as of then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The last entry that was applied.
    pub(crate) last: Option<LogPosition>,
    /// The entry that set the membership.
    pub(crate) members_at: Option<LogPosition>,
    /// The membership.
    pub(crate) members: Members,
}

impl Checkpoint {
    /// Index of the first entry that is not in it.
    pub(crate) fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index.saturating_add(1))
    }
}
