//! Where a voter stands, in values of our own.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::time::Instant;

use crate::raft::types::{LogId, RaftMembership, TypeConfig};
use crate::voter_id::{Peer, VoterId};

/// What a voter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    Candidate,
    Follower,
    /// It gets the log and does not vote; so does a node that belongs to no quorum yet.
    Learner,
}

/// Where a voter stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) term: u64,
    /// Who leads, if it knows.
    pub(crate) leader: Option<Peer>,
    /// Who votes now; while the membership changes, whoever votes before or after.
    pub(crate) voters: Vec<Peer>,
    /// Who gets the log and does not vote.
    pub(crate) learners: Vec<Peer>,
    /// The membership is changing: two sets of voters have to agree.
    pub(crate) changing: bool,
    /// The sets of voters; two while the membership changes.
    pub(crate) configs: Vec<Vec<VoterId>>,
    /// Indexes of the last entry here, that is known to be committed, and that is applied.
    pub(crate) last: Option<u64>,
    pub(crate) committed: Option<u64>,
    pub(crate) applied: Option<u64>,
    /// Of the leader only: how far the others are.
    pub(crate) progress: BTreeMap<VoterId, Progress>,
    /// Of the leader only: since when a majority has been heard of.
    pub(crate) quorum_heard: Option<Instant>,
    /// Why the voter has stopped, if it has.
    pub(crate) stopped: Option<String>,
}

/// How far another voter is, as the leader knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Index of the last entry that it is known to hold durably.
    pub(crate) matched: Option<u64>,
    /// When it last answered.
    pub(crate) heard: Option<Instant>,
}

impl Standing {
    pub(crate) fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
        let membership = metrics.membership_config.membership();
        let mut progress: BTreeMap<VoterId, Progress> = BTreeMap::new();
        for (id, matched) in metrics.replication.iter().flatten() {
            progress.entry(VoterId(*id)).or_default().matched = matched.map(|id| id.index);
        }
        for (id, heard) in metrics.heartbeat.iter().flatten() {
            progress.entry(VoterId(*id)).or_default().heard =
                heard.as_ref().map(|at| ago(at.elapsed()));
        }
        let index = |id: &Option<LogId>| id.as_ref().map(|id| id.index);
        let peers = |ids: &mut dyn Iterator<Item = u64>| {
            ids.filter_map(|id| peer(membership, id)).collect()
        };
        Self {
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                ServerState::Candidate => Role::Candidate,
                ServerState::Follower => Role::Follower,
                ServerState::Learner | ServerState::Shutdown => Role::Learner,
            },
            term: metrics.current_term,
            leader: metrics.current_leader.and_then(|id| peer(membership, id)),
            voters: peers(&mut membership.voter_ids()),
            learners: peers(&mut membership.learner_ids()),
            changing: membership.get_joint_config().len() > 1,
            configs: membership
                .get_joint_config()
                .iter()
                .map(|set| set.iter().copied().map(VoterId).collect())
                .collect(),
            last: metrics.last_log_index,
            committed: index(&metrics.cluster_committed),
            applied: index(&metrics.last_applied),
            progress,
            quorum_heard: metrics
                .last_quorum_acked
                .as_ref()
                .map(|at| ago(at.elapsed())),
            stopped: metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string),
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.role == Role::Leader && self.stopped.is_none()
    }

    /// Whether the node belongs to a quorum.
    pub(crate) fn is_formed(&self) -> bool {
        !self.voters.is_empty()
    }

    pub(crate) fn votes(&self, voter: VoterId) -> bool {
        self.voters.iter().any(|peer| peer.voter == voter)
    }

    /// Everybody who votes or listens.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Peer> {
        self.voters.iter().chain(&self.learners)
    }
}

fn ago(elapsed: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(elapsed).unwrap_or(now)
}

fn peer(membership: &RaftMembership, id: u64) -> Option<Peer> {
    membership.get_node(&id).map(|node| Peer {
        voter: VoterId(id),
        address: node.addr.clone(),
    })
}

/// Follows a voter's standing.
#[derive(Clone)]
pub(crate) struct StandingWatch {
    metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
}

impl std::fmt::Debug for StandingWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandingWatch").finish_non_exhaustive()
    }
}

impl StandingWatch {
    pub(crate) fn new(metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>) -> Self {
        Self { metrics }
    }

    pub(crate) fn now(&self) -> Standing {
        Standing::of(&self.metrics.borrow_watched())
    }

    /// Resolves when something has changed since the last call; `false` when the voter is gone and
    /// nothing will change any more.
    pub(crate) async fn changed(&mut self) -> bool {
        self.metrics.changed().await.is_ok()
    }

    /// Waits until the standing is as wanted; `None` when the voter stops before.
    pub(crate) async fn until(
        &mut self,
        wanted: impl Fn(&Standing) -> bool + Send,
    ) -> Option<Standing> {
        loop {
            let now = self.now();
            if wanted(&now) {
                return Some(now);
            }
            if now.stopped.is_some() || !self.changed().await {
                return None;
            }
        }
    }
}
