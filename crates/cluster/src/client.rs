//! The interface to the metadata.

use std::sync::Arc;

use tokio::sync::broadcast;

use alluvium_metadata::{Change, Command, Outcome, State};

use crate::checkpoint::LogPosition;
use crate::raft::Voter;
use crate::view::{Current, View};

/// A handle to the metadata. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metadata {
    view: Arc<View>,
    log: Log,
}

/// What stands behind the view.
#[derive(Clone, Debug)]
enum Log {
    /// Nothing: a command is applied where it is proposed.
    None,
    Raft(Voter),
}

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
        Self {
            view: Arc::new(View::new(Current::default())),
            log: Log::None,
        }
    }

    pub(crate) fn with_voter(view: Arc<View>, voter: Voter) -> Self {
        Self {
            view,
            log: Log::Raft(voter),
        }
    }

    /// Proposes a command and waits until it is durable on a quorum and applied here. Commands that
    /// one caller proposes one after another (without waiting) through [`Self::propose`] are not
    /// ordered; await the first to order them, or give them to [`Self::propose_many`].
    ///
    /// A command that nobody took is offered again for five seconds. One that was taken is never
    /// offered twice: after an error the caller may, if the command is one that can be repeated.
    ///
    /// # Errors
    /// See [`ProposeError`]. A refused command is no error: see [`Outcome::Refused`].
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        let mut applied = self.propose_many(vec![command]).await?;
        applied
            .pop()
            .ok_or_else(|| ProposeError::Unavailable("no answer".to_owned()))
    }

    /// Proposes commands that are to be applied in this order, with one wait for all. Others may be
    /// applied between them. Answers come in the order of the commands.
    ///
    /// # Errors
    /// See [`ProposeError`]; then a first part of the commands, or all, may have been applied or may
    /// yet be.
    pub async fn propose_many(&self, commands: Vec<Command>) -> Result<Vec<Applied>, ProposeError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        match &self.log {
            Log::Raft(voter) => voter.propose(commands).await,
            Log::None => Ok(self.apply_here(commands)),
        }
    }

    fn apply_here(&self, commands: Vec<Command>) -> Vec<Applied> {
        self.view.update(|current, changes| {
            commands
                .into_iter()
                .map(|command| {
                    let index = current.checkpoint.next_index();
                    let outcome = current.state.apply(command, changes);
                    current.checkpoint.last = Some(LogPosition {
                        term: 0,
                        leader: 0,
                        index,
                    });
                    Applied { index, outcome }
                })
                .collect()
        })
    }

    /// Reads this node's view, which never goes back. `read` must be short: it holds a shared lock.
    pub fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        self.view.read(|current| read(&current.state))
    }

    /// Waits until the view holds everything that was committed anywhere when the call was made.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn barrier(&self) -> Result<(), ProposeError> {
        match &self.log {
            Log::Raft(voter) => voter.barrier().await,
            Log::None => Ok(()),
        }
    }

    /// Changes from now on, each batch after it was applied. A receiver that lags behind gets
    /// `Lagged` and must take everything as changed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<[Change]>> {
        self.view.subscribe()
    }
}
