//! What comes back to whoever proposes or renews.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;

use alluvium_metadata::Outcome;
use alluvium_transport::Incoming;

/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log; the view has reached it when the call returns.
    pub index: u64,
    /// What it did.
    pub outcome: Outcome,
}

/// What became of an agent's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It runs for this long from the moment at which it was asked for.
    Renewed {
        /// The lease's length.
        lease: Duration,
    },
    /// The registration was ended or is not the current one: register again.
    Ended,
}

/// An agent's open line to the leader, by whose end the leader learns that the process has died.
/// Closed when dropped.
pub struct Line {
    pub(crate) leader: String,
    pub(crate) stream: Incoming,
}

impl Line {
    /// Resolves when the line has broken: the lease must be renewed now.
    pub async fn broken(&mut self) {
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line to {}", self.leader)
    }
}

/// Why it is not known that a command was applied. All are worth trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader, or it lost its lease, or it is shutting down.
    #[error("metadata quorum is not available: {0}")]
    Unavailable(String),
    /// The command may yet be applied.
    #[error("metadata quorum did not answer in time")]
    TimedOut,
}
