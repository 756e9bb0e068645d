//! What this node is to the other voters: who it is, and what it answers them.
//!
//! Everything here may be called with bytes from the network.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::forming::{FormError, Forming, Hello, HelloAnswer};
use crate::members::{ChangeError, Join, JoinAnswer, Members, MembershipChange};
use crate::raft::{NotLeader, StepError, Voter};
use crate::voter_id::Peer;

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;

/// A change may have to send a whole state to a new voter.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a node that asks to be taken in waits for news.
const JOIN_WAIT: Duration = Duration::from_millis(500);
/// Until another leads.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A node's seat in the quorum. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Quorum {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    members: Members,
    forming: Forming,
    /// One change at a time.
    changing: Arc<AsyncMutex<()>>,
    /// Changes go on when whoever asked for them has gone, and end with the node.
    tasks: Mutex<JoinSet<()>>,
}

/// Why a message from another voter was not acted on: it is not one, or the voter has stopped.
pub(crate) type Unanswered = String;

impl Quorum {
    pub(crate) fn new(members: Members, forming: Forming) -> Self {
        Self {
            shared: Arc::new(Shared {
                members,
                forming,
                changing: Arc::default(),
                tasks: Mutex::default(),
            }),
        }
    }

    /// This node.
    pub(crate) fn me(&self) -> &Peer {
        self.voter().me()
    }

    /// The voter in this process: proposals, reads, who leads.
    pub(crate) fn voter(&self) -> &Voter {
        &self.shared.members.voter
    }

    pub(crate) fn members(&self) -> &Members {
        &self.shared.members
    }

    /// Whether a change of the membership is being made here.
    pub(crate) fn is_changing(&self) -> bool {
        self.shared.changing.try_lock().is_err()
    }

    pub(crate) fn hello(&self, hello: &Hello) -> HelloAnswer {
        self.shared.forming.hello(hello)
    }

    /// An operator's wish to form a quorum of the nodes at these addresses.
    pub(crate) async fn form(&self, nodes: Vec<String>) -> Result<(), FormError> {
        self.shared.forming.form(nodes).await
    }

    /// A node's wish to be taken in. It is, when it stands where a voter stood that is there no
    /// more, or when it is in this node's list.
    pub(crate) async fn join(&self, join: Join) -> Result<JoinAnswer, NotLeader> {
        let standing = self.voter().standing();
        if !standing.leads() {
            return Err(self.not_leader());
        }
        if standing.votes(join.peer.voter) {
            return Ok(JoinAnswer::Voter);
        }
        let address = join.peer.address;
        let replaces = standing.voters.iter().any(|peer| peer.address == address);
        let listed = self.shared.forming.nodes().contains(&address);
        if !replaces && !listed {
            return Ok(JoinAnswer::Wait(format!(
                "waiting for `alluvium cluster add-voter --nodes {} {address}`: the address is not in \
                 the leader's cluster.nodes",
                self.me().address
            )));
        }
        if self.is_changing() {
            return Ok(JoinAnswer::Underway);
        }
        let change = self.change(MembershipChange::Add {
            address,
            voter: Some(join.peer.voter),
        });
        match timeout(JOIN_WAIT, change).await {
            Err(_) => Ok(JoinAnswer::Underway),
            Ok(Ok(Ok(()))) => Ok(JoinAnswer::Voter),
            Ok(Ok(Err(error))) => Ok(JoinAnswer::Wait(error.to_string())),
            Ok(Err(not_leader)) => Err(not_leader),
        }
    }

    /// Makes a change, which goes on when the caller does not wait for it.
    pub(crate) async fn change(
        &self,
        change: MembershipChange,
    ) -> Result<Result<(), ChangeError>, NotLeader> {
        if !self.voter().leads() {
            return Err(self.not_leader());
        }
        let (done, result) = tokio::sync::oneshot::channel();
        let members = self.shared.members.clone();
        let changing = match &change {
            MembershipChange::HandOver { .. } => None,
            _ => match Arc::clone(&self.shared.changing).try_lock_owned() {
                Ok(changing) => Some(changing),
                Err(_) => {
                    return Ok(Err(ChangeError::Refused(
                        "another change of the metadata quorum is under way; try again in a moment"
                            .to_owned(),
                    )));
                }
            },
        };
        self.spawn(async move {
            let _changing = changing;
            let made = timeout(CHANGE_TIMEOUT, make(&members, change)).await;
            // Nobody waits any more if this fails.
            let _ = done.send(made.unwrap_or_else(|_| {
                Err(StepError::Failed(ChangeError::Unknown(
                    "the change took too long; look with `alluvium cluster status`".to_owned(),
                )))
            }));
        });
        match result.await {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(StepError::NotLeader(not_leader))) => Err(not_leader),
            Ok(Err(StepError::Failed(error))) => Ok(Err(error)),
            Err(_) => Ok(Err(ChangeError::Unknown(
                "the node is shutting down; look with `alluvium cluster status`".to_owned(),
            ))),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self
            .shared
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// Ends what is going on.
    pub(crate) fn stop(&self) {
        self.shared
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }

    fn not_leader(&self) -> NotLeader {
        let standing = self.voter().standing();
        NotLeader {
            leader: standing.leader,
            reason: "this node does not lead".to_owned(),
        }
    }

    pub(crate) async fn handle_vote(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        self.voter().receiver().vote(request).await
    }

    pub(crate) async fn handle_pre_vote(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        self.voter().receiver().pre_vote(request).await
    }

    pub(crate) async fn handle_append(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        self.voter().receiver().append(request).await
    }

    pub(crate) async fn handle_snapshot(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        self.voter().receiver().snapshot(request).await
    }

    pub(crate) async fn handle_transfer_leader(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        self.voter().receiver().hand_over(request).await
    }
}

async fn make(members: &Members, change: MembershipChange) -> Result<(), StepError> {
    match change {
        MembershipChange::Add { address, voter } => members.add(&address, voter).await,
        MembershipChange::Remove { voter } => members.remove(voter).await,
        MembershipChange::HandOver { to } => members.hand_over(to, HAND_OVER_TIMEOUT).await,
    }
}
