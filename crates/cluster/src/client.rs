//! The interface to the metadata.

use std::sync::Arc;

use tokio::sync::broadcast;

use alluvium_metadata::{Change, Command, Outcome, State};

/// A handle to the metadata. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metadata {}

/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log; the view has reached it when the call returns.
    pub index: u64,
    /// What it did.
    pub outcome: Outcome,
}

/// Why it is not known that a command was applied. All are worth trying again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// No leader, or it lost its lease, or it is shutting down.
    #[error("metadata quorum is not available: {0}")]
    Unavailable(String),
    /// The command may yet be applied.
    #[error("metadata quorum did not answer in time")]
    TimedOut,
}

impl Metadata {
    /// A state machine in this process with no log behind it.
    #[must_use]
    pub fn in_memory() -> Self {
        todo!()
    }

    /// Proposes a command and waits until it is durable on a quorum and applied here. Commands that
    /// one caller proposes one after another (without waiting) through [`Self::propose`] are not
    /// ordered; await the first to order them.
    ///
    /// # Errors
    /// See [`ProposeError`]. A refused command is no error: see [`Outcome::Refused`].
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        let _ = command;
        todo!()
    }

    /// Reads this node's view, which never goes back. `read` must be short: it holds a shared lock.
    pub fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        let _ = read;
        todo!()
    }

    /// Waits until the view holds everything that was committed anywhere when the call was made.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn barrier(&self) -> Result<(), ProposeError> {
        todo!()
    }

    /// Changes from now on, each batch after it was applied. A receiver that lags behind gets
    /// `Lagged` and must take everything as changed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<[Change]>> {
        todo!()
    }
}
