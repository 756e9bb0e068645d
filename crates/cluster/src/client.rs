//! The interface to the metadata.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use alluvium_metadata::{AgentOrigin, Change, Command, State};

use crate::applied::{Applied, Line, ProposeError, Renewal};
use crate::barrier::Barriers;
use crate::checkpoint::LogPosition;
use crate::leader::LeaderClient;
use crate::members::{ChangeError, MembershipChange};
use crate::status::ClusterStatus;
use crate::view::{Current, View};
use crate::{ask, propose};

/// How long to wait for the view to hold what is known to be committed.
const WAIT_TIMEOUT: Duration = Duration::from_secs(15);
/// What a state machine without a log behind it grants.
const LEASE_IN_MEMORY: Duration = Duration::from_secs(3_600);

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
    /// A quorum, of which a voter may be in this process.
    Quorum(Arc<Link>),
}

/// The way to the quorum that all handles of a process share.
#[derive(Debug)]
struct Link {
    leader: Arc<LeaderClient>,
    barriers: Barriers,
}

impl Metadata {
    /// A state machine in this process with no log behind it.
    #[must_use]
    pub fn in_memory() -> Self {
        let current = Current {
            state: State::new(),
            ..Current::default()
        };
        Self {
            view: Arc::new(View::new(current)),
            log: Log::None,
        }
    }

    /// A view that is kept fresh by somebody else, with the way to the leader.
    pub(crate) fn with_leader(view: Arc<View>, leader: Arc<LeaderClient>) -> Self {
        Self {
            view,
            log: Log::Quorum(Arc::new(Link {
                leader,
                barriers: Barriers::default(),
            })),
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
    /// applied between them. Answers come in the order of the commands. At most 100,000 commands of
    /// together 32 MiB are taken.
    ///
    /// # Errors
    /// See [`ProposeError`]; then a first part of the commands, or all, may have been applied or may
    /// yet be.
    pub async fn propose_many(&self, commands: Vec<Command>) -> Result<Vec<Applied>, ProposeError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        match &self.log {
            Log::None => Ok(self.apply_here(commands)),
            Log::Quorum(link) => {
                let applied = propose::propose(&link.leader, commands).await?;
                if let Some(last) = applied.iter().map(|applied| applied.index).max() {
                    self.wait_applied(last).await?;
                }
                Ok(applied)
            }
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

    /// Index of the last entry that the view holds; 0 when it holds none.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.view.next_index().saturating_sub(1)
    }

    /// Waits until the view holds the entry at this index, at most 15 seconds.
    ///
    /// # Errors
    /// [`ProposeError::TimedOut`]: the view is that far behind, or there is no such entry yet.
    pub async fn wait_applied(&self, index: u64) -> Result<(), ProposeError> {
        let next_index = index.saturating_add(1);
        self.view.announce(next_index);
        self.reach(next_index).await
    }

    async fn reach(&self, next_index: u64) -> Result<(), ProposeError> {
        if self.view.next_index() >= next_index {
            return Ok(());
        }
        let deadline = Instant::now() + WAIT_TIMEOUT;
        timeout_at(deadline, self.view.reach(next_index))
            .await
            .map_err(|_| ProposeError::TimedOut)
    }

    /// Waits until the view holds everything that was committed anywhere when the call was made.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn barrier(&self) -> Result<(), ProposeError> {
        let Log::Quorum(link) = &self.log else {
            return Ok(());
        };
        let next_index = link.barriers.join(|| ask::read_index(&link.leader)).await?;
        self.view.announce(next_index);
        self.reach(next_index).await
    }

    /// Renews an agent's lease with the leader.
    ///
    /// # Errors
    /// See [`ProposeError`]: the lease may have been renewed or not.
    pub async fn renew(&self, origin: AgentOrigin) -> Result<Renewal, ProposeError> {
        let Log::Quorum(link) = &self.log else {
            return Ok(Renewal::Renewed {
                lease: LEASE_IN_MEMORY,
            });
        };
        let (renewal, next_index) =
            ask::renew(&link.leader, origin, self.view.next_index()).await?;
        self.view.announce(next_index);
        Ok(renewal)
    }

    /// The agent's line to the leader: `line` if it is one, or a new one. `None` where none can be had
    /// now, or none is needed, because the leader is this process. Waits a second at most.
    pub async fn attend(&self, origin: AgentOrigin, line: Option<Line>) -> Option<Line> {
        match &self.log {
            Log::None => None,
            Log::Quorum(link) => ask::attend(&link.leader, origin, line).await,
        }
    }

    /// How the cluster does, as its leader sees it.
    ///
    /// # Errors
    /// See [`ProposeError`]; in particular there may be no leader.
    pub async fn status(&self) -> Result<ClusterStatus, ProposeError> {
        match &self.log {
            Log::None => Ok(ClusterStatus::in_memory(&self.view)),
            Log::Quorum(link) => ask::status(&link.leader).await,
        }
    }

    /// Changes who is in the quorum or who leads it; returns when that is done.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change(&self, change: MembershipChange) -> Result<(), ChangeError> {
        match &self.log {
            Log::None => Err(ChangeError::Refused(
                "there is no quorum behind this process".to_owned(),
            )),
            Log::Quorum(link) => ask::change(&link.leader, change).await,
        }
    }

    /// Changes from now on, each batch after it was applied. A receiver that lags behind gets
    /// `Lagged` and must take everything as changed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<[Change]>> {
        self.view.subscribe()
    }
}
