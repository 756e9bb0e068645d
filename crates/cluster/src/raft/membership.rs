//! Changes of who votes, one step at a time. What to change is decided in [`crate::members`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{BasicNode, ChangeMembers};
use tokio::time::timeout;

use crate::members::ChangeError;
use crate::raft::Voter;
use crate::raft::types::{LogId, TypeConfig};
use crate::raft::voter::{NotLeader, not_leader};
use crate::voter_id::{Peer, VoterId};

/// How long a majority may take to agree to one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);

/// A membership that a change is derived from: the change is made only if it is still the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MembershipMark(Option<LogId>);

/// Why a step was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepError {
    NotLeader(NotLeader),
    Failed(ChangeError),
}

impl Voter {
    /// The membership that is in force.
    pub(crate) fn membership_mark(&self) -> MembershipMark {
        let metrics = self.raft.metrics();
        let mark = *metrics.borrow_watched().membership_config.log_id();
        MembershipMark(mark)
    }

    /// Has a node get the log.
    pub(crate) async fn add_learner(
        &self,
        peer: &Peer,
        mark: MembershipMark,
    ) -> Result<(), StepError> {
        let node = BasicNode::new(&peer.address);
        let nodes = BTreeMap::from([(peer.voter.0, node)]);
        self.change_members(ChangeMembers::AddNodes(nodes), mark)
            .await
    }

    /// Has nodes that have neither vote nor promise go.
    pub(crate) async fn drop_learner(
        &self,
        voter: VoterId,
        mark: MembershipMark,
    ) -> Result<(), StepError> {
        let gone = BTreeSet::from([voter.0]);
        self.change_members(ChangeMembers::RemoveNodes(gone), mark)
            .await
    }

    /// Has these vote and no others. New ones get the log already; old ones are let go entirely.
    pub(crate) async fn set_voters(
        &self,
        voters: &BTreeSet<VoterId>,
        mark: MembershipMark,
    ) -> Result<(), StepError> {
        let voters = voters.iter().map(|voter| voter.0).collect();
        self.change_members(ChangeMembers::ReplaceAllVoters(voters), mark)
            .await
    }

    /// Finishes a change that a leader before this one began.
    pub(crate) async fn finish_change(&self, mark: MembershipMark) -> Result<(), StepError> {
        let nobody = BTreeSet::new();
        self.change_members(ChangeMembers::AddVoterIds(nobody), mark)
            .await
    }

    /// Has a member be called at another address.
    pub(crate) async fn set_address(
        &self,
        peer: &Peer,
        mark: MembershipMark,
    ) -> Result<(), StepError> {
        let nodes = BTreeMap::from([(peer.voter.0, BasicNode::new(&peer.address))]);
        self.change_members(ChangeMembers::SetNodes(nodes), mark)
            .await
    }

    /// Has another voter lead. Returns at once.
    pub(crate) async fn hand_over_to(&self, voter: VoterId) -> Result<(), StepError> {
        let handed = self.raft.trigger().transfer_leader(voter.0).await;
        handed.map_err(|error| StepError::Failed(ChangeError::Unknown(error.to_string())))
    }

    async fn change_members(
        &self,
        change: ChangeMembers<u64, BasicNode>,
        mark: MembershipMark,
    ) -> Result<(), StepError> {
        let guard = Precondition::<TypeConfig>::LastMembershipLogId {
            last_membership_log_id: mark.0,
        };
        let changing = self.raft.change_membership_if(change, false, [guard]);
        let Ok(changed) = timeout(STEP_TIMEOUT, changing).await else {
            return Err(StepError::Failed(ChangeError::Unknown(
                "no majority of the metadata nodes has agreed to the change in time; look with \
                 `alluvium cluster status`"
                    .to_owned(),
            )));
        };
        match changed {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(StepError::NotLeader(not_leader(forward)))
            }
            Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            )) => Err(StepError::Failed(ChangeError::Refused(format!(
                "another change of the metadata quorum is under way; try again in a moment ({error})"
            )))),
            Err(error) => Err(StepError::Failed(ChangeError::Unknown(format!(
                "it is not known whether the metadata quorum changed: {error}; look with `alluvium \
                 cluster status`"
            )))),
        }
    }
}
