//! A running voter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::{BasicNode, Config, RaftMetrics, ReadPolicy, ServerState, SnapshotPolicy};
use tokio::time::{Instant, timeout, timeout_at};

use crate::applied::Applied;
use crate::node::{StartError, Timing};
use crate::raft::log_store::LogStore;
use crate::raft::network::Network;
use crate::raft::receiver::Receiver;
use crate::raft::standing::{Standing, StandingWatch};
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Proposal, Raft, TypeConfig};
use crate::snapshots::Incoming;
use crate::voter_id::{Peer, VoterId};

/// Entries kept before a snapshot's end, for voters that lag a little or were away for a moment.
const LOG_TAIL_ENTRIES: u64 = 1_024;
/// Further behind than this a voter gets a snapshot, when there is one that helps it.
const LAG_ENTRIES: u64 = 50_000;
/// Entries of one message; their bytes are bounded where they are read.
const APPEND_ENTRIES: u64 = 4_096;
/// How long a start may take to replay the log.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a proposal may wait for its answer.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait until the library has taken note of a snapshot and purged the log.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// A voter. Clones share it.
#[derive(Clone)]
pub(crate) struct Voter {
    me: Peer,
    pub(super) raft: Raft,
    receiver: Receiver,
    /// As long as a majority may be silent before a leader's word is worth nothing.
    lease: Duration,
}

impl std::fmt::Debug for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voter")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

/// This voter does not lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotLeader {
    /// Who does, if it knows.
    pub(crate) leader: Option<Peer>,
    /// Why it does not act as one.
    pub(crate) reason: String,
}

/// Why an offer to the leader came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OfferError {
    /// Nothing was done.
    NotLeader(NotLeader),
    /// Nothing was done: the voter has stopped, or the offer was none.
    Unavailable(String),
    /// It may have been done, or may yet be.
    Unknown(String),
}

impl Voter {
    /// Starts a voter. It may belong to no quorum yet.
    pub(crate) async fn start(
        me: Peer,
        timing: Timing,
        network: Network,
        log: LogStore,
        state_machine: StateMachine,
        incoming: Incoming,
    ) -> Result<Self, StartError> {
        let config = config(timing)
            .validate()
            .map_err(|error| failed("configure", &error))?;
        let raft = Raft::new(me.voter.0, Arc::new(config), network, log, state_machine)
            .await
            .map_err(|error| failed("start", &error))?;
        let voter = Self {
            receiver: Receiver::new(me.voter, raft.clone(), incoming),
            me,
            raft,
            lease: timing.election_max,
        };
        match voter.recover().await {
            Ok(()) => Ok(voter),
            Err(error) => {
                voter.shutdown().await;
                Err(error)
            }
        }
    }

    /// Waits until the standing shows what the log says.
    async fn recover(&self) -> Result<(), StartError> {
        let members = self
            .raft
            .with_raft_state(|state| state.membership_state.effective().membership().clone())
            .await
            .map_err(|error| failed("start", &error))?;
        self.wait("read its log", START_TIMEOUT, move |metrics| {
            *metrics.membership_config.membership() == members
        })
        .await
        .map_err(StartError)
    }

    /// Stands for election at once.
    pub(crate) async fn elect(&self) -> Result<(), StartError> {
        let elected = self.raft.trigger().elect(false).await;
        elected.map_err(|error| failed("elect", &error))
    }

    /// Waits until a voter that is alone leads and has applied its whole log.
    pub(crate) async fn lead_alone(&self) -> Result<(), StartError> {
        let me = self.me.voter.0;
        self.wait("lead and replay its log", START_TIMEOUT, |metrics| {
            let committed = metrics.cluster_committed.map(|id| id.index);
            metrics.current_leader == Some(me)
                && committed.is_some()
                && committed >= metrics.last_log_index
                && metrics.last_applied.map(|id| id.index) >= committed
        })
        .await
        .map_err(StartError)
    }

    /// Writes the first membership. The caller knows that none of them has one.
    pub(crate) async fn form(&self, peers: &[Peer]) -> Result<(), String> {
        let nodes: BTreeMap<u64, BasicNode> = peers
            .iter()
            .map(|peer| (peer.voter.0, BasicNode::new(&peer.address)))
            .collect();
        let formed = self.raft.initialize(nodes).await;
        formed.map_err(|error| error.to_string())
    }

    /// This voter.
    pub(crate) fn me(&self) -> &Peer {
        &self.me
    }

    /// What it answers the other voters.
    pub(crate) fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Where it stands now.
    pub(crate) fn standing(&self) -> Standing {
        Standing::of(&self.raft.metrics().borrow_watched())
    }

    /// As [`Standing::leads`], and cheap: it is asked with every proposal.
    pub(crate) fn leads(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.state == ServerState::Leader && metrics.running_state.is_ok()
    }

    /// Follows where it stands.
    pub(crate) fn watch(&self) -> StandingWatch {
        StandingWatch::new(self.raft.metrics())
    }

    /// Offers encoded commands once, as one batch, and waits until all are applied; answers in their
    /// order. When a majority falls silent meanwhile the wait ends early.
    pub(crate) async fn offer(&self, commands: &[Bytes]) -> Result<Vec<Applied>, OfferError> {
        metrics::counter!("alluvium_metadata_proposals_total")
            .increment(u64::try_from(commands.len()).unwrap_or(u64::MAX));
        let proposals = commands
            .iter()
            .map(|bytes| Proposal::decode(bytes.clone()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| OfferError::Unavailable(format!("not a command: {error}")))?;
        let mut written = std::pin::pin!(self.write(proposals));
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        loop {
            if let Ok(answer) = timeout(self.lease, &mut written).await {
                return answer;
            }
            if Instant::now() >= deadline {
                return Err(OfferError::Unknown("not committed in time".to_owned()));
            }
            if let Err(reason) = self.is_heard() {
                return Err(OfferError::Unknown(reason));
            }
        }
    }

    /// Whether a majority has answered lately; else why nothing can be promised.
    pub(crate) fn is_heard(&self) -> Result<(), String> {
        let standing = self.standing();
        let alone = standing.voters.len() == 1 && standing.votes(self.me.voter);
        if alone {
            return Ok(());
        }
        if !standing.leads() {
            return Err("leadership was lost".to_owned());
        }
        match standing.quorum_heard {
            Some(at) if at.elapsed() < self.lease * 2 => Ok(()),
            _ => Err("a majority of the metadata nodes does not answer".to_owned()),
        }
    }

    /// The library takes all of a batch or nothing.
    async fn write(&self, proposals: Vec<Proposal>) -> Result<Vec<Applied>, OfferError> {
        let count = proposals.len();
        let mut answers = self
            .raft
            .client_write_many(proposals)
            .await
            .map_err(|error| OfferError::Unavailable(error.to_string()))?;
        let mut applied = Vec::with_capacity(count);
        let unknown = |error: Fatal<TypeConfig>| OfferError::Unknown(error.to_string());
        while let Some(answer) = answers.try_next().await.map_err(unknown)? {
            match answer {
                Ok(written) => applied.push(Applied {
                    index: written.log_id.index,
                    outcome: written.response,
                }),
                Err(ClientWriteError::ForwardToLeader(forward)) if applied.is_empty() => {
                    return Err(OfferError::NotLeader(not_leader(forward)));
                }
                // It was appended, and another leader may yet commit it.
                Err(error) => return Err(OfferError::Unknown(error.to_string())),
            }
        }
        if applied.len() == count {
            return Ok(applied);
        }
        Err(OfferError::Unknown("the voter stopped".to_owned()))
    }

    /// Asks a majority whether this voter leads still. Everything that was committed when the call
    /// was made lies below the index that is returned.
    pub(crate) async fn read_index(&self) -> Result<u64, OfferError> {
        let asked = timeout(
            self.lease * 2,
            self.raft.get_read_log_id(ReadPolicy::ReadIndex),
        );
        let error = match asked.await {
            Ok(Ok((id, _))) => return Ok(id.index().saturating_add(1)),
            Ok(Err(RaftError::Fatal(error))) => {
                return Err(OfferError::Unavailable(error.to_string()));
            }
            Ok(Err(RaftError::APIError(error))) => error,
            Err(_) => {
                return Err(OfferError::NotLeader(NotLeader {
                    leader: None,
                    reason: "a majority of the metadata nodes does not answer".to_owned(),
                }));
            }
        };
        Err(OfferError::NotLeader(match error {
            LinearizableReadError::ForwardToLeader(forward) => not_leader(forward),
            LinearizableReadError::QuorumNotEnough(error) => NotLeader {
                leader: None,
                reason: error.to_string(),
            },
        }))
    }

    /// Tells the library of the snapshot that lies in the folder, and waits until it has purged the
    /// log up to it. `next_index` is the first entry the snapshot does not hold.
    pub(crate) async fn publish_snapshot(&self, next_index: u64) -> Result<(), String> {
        self.raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| error.to_string())?;
        self.wait("take note of its snapshot", SNAPSHOT_TIMEOUT, |metrics| {
            metrics.snapshot.map_or(0, |id| id.index + 1) >= next_index
        })
        .await
    }

    /// Resolves when the voter has stopped, with the reason.
    pub(crate) async fn stopped(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(error) = &metrics.borrow_watched().running_state {
                return error.to_string();
            }
            if metrics.changed().await.is_err() {
                return "the voter stopped".to_owned();
            }
        }
    }

    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "metadata voter did not stop cleanly");
        }
    }

    async fn wait(
        &self,
        what: &str,
        limit: Duration,
        reached: impl Fn(&RaftMetrics<TypeConfig>) -> bool + Send,
    ) -> Result<(), String> {
        let mut metrics = self.raft.metrics();
        let deadline = Instant::now() + limit;
        loop {
            {
                let now = metrics.borrow_watched();
                if let Err(error) = &now.running_state {
                    return Err(format!(
                        "metadata voter stopped before it could {what}: {error}"
                    ));
                }
                if reached(&now) {
                    return Ok(());
                }
            }
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    return Err(format!("metadata voter stopped before it could {what}"));
                }
                Err(_) => {
                    return Err(format!("metadata voter did not {what} within {limit:?}"));
                }
            }
        }
    }
}

fn config(timing: Timing) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "alluvium".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        enable_pre_vote: Some(true),
        // A leader that lost what it had not synced must not go on in the same term: another entry
        // could then bear the same position.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: LOG_TAIL_ENTRIES,
        replication_lag_threshold: LAG_ENTRIES,
        max_payload_entries: APPEND_ENTRIES,
        backoff: "20ms 40ms 80ms ..500ms".to_owned(),
        ..Config::default()
    }
}

pub(super) fn not_leader(forward: ForwardToLeader<TypeConfig>) -> NotLeader {
    NotLeader {
        reason: format!("no leader ({:?})", forward.reason),
        leader: forward
            .leader_id
            .zip(forward.leader_node)
            .map(|(id, node)| Peer {
                voter: VoterId(id),
                address: node.addr,
            }),
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> StartError {
    StartError(format!("cannot {what} the metadata voter: {error}"))
}
