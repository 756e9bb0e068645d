//! A running voter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::{BasicNode, Config, RaftMetrics, ReadPolicy, SnapshotPolicy};
use tokio::time::{Instant, sleep, timeout_at};

use alluvium_metadata::Command;

use crate::client::{Applied, ProposeError};
use crate::node::StartError;
use crate::raft::log_store::LogStore;
use crate::raft::network::NoPeers;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Proposal, Raft, TypeConfig};

/// The one voter's id.
const NODE_ID: u64 = 1;
/// Heartbeats and elections: loose, since a busy machine must not cost a leader its office.
const HEARTBEAT_MS: u64 = 300;
const ELECTION_MIN_MS: u64 = 1_500;
const ELECTION_MAX_MS: u64 = 3_000;
/// Entries kept before a snapshot's end, for a voter that lags a little.
const LOG_TAIL_ENTRIES: u64 = 64;
/// How long a start may take to replay the log.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a proposal may wait for its answer.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a proposal that nobody takes is offered again.
const OFFER_TIMEOUT: Duration = Duration::from_secs(5);
const OFFER_PAUSE: Duration = Duration::from_millis(20);
/// How long to wait until the library has taken note of a snapshot and purged the log.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// A voter. Clones share it.
#[derive(Clone)]
pub(crate) struct Voter {
    raft: Raft,
}

impl std::fmt::Debug for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voter")
            .field("id", self.raft.node_id())
            .finish_non_exhaustive()
    }
}

/// What became of an offer to the log.
enum Offer {
    Applied(Vec<Applied>),
    /// It was not appended, so it can be offered again.
    NotTaken(String),
}

impl Voter {
    /// Starts a voter and waits until it leads and has applied its whole log.
    pub(crate) async fn start(
        log: LogStore,
        state_machine: StateMachine,
    ) -> Result<Self, StartError> {
        let config = config()
            .validate()
            .map_err(|error| failed("configure", &error))?;
        let raft = Raft::new(NODE_ID, Arc::new(config), NoPeers, log, state_machine)
            .await
            .map_err(|error| failed("start", &error))?;
        let voter = Self { raft };
        match voter.lead().await {
            Ok(()) => Ok(voter),
            Err(error) => {
                voter.shutdown().await;
                Err(error)
            }
        }
    }

    async fn lead(&self) -> Result<(), StartError> {
        let formed = self
            .raft
            .is_initialized()
            .await
            .map_err(|error| failed("start", &error))?;
        if formed {
            let elected = self.raft.trigger().elect(false).await;
            elected.map_err(|error| failed("elect", &error))?;
        } else {
            let nodes = BTreeMap::from([(NODE_ID, BasicNode::default())]);
            let formed = self.raft.initialize(nodes).await;
            formed.map_err(|error| failed("form", &error))?;
        }
        self.wait("lead and replay its log", START_TIMEOUT, |metrics| {
            let committed = metrics.cluster_committed.map(|id| id.index);
            metrics.current_leader == Some(NODE_ID)
                && committed.is_some()
                && committed >= metrics.last_log_index
                && metrics.last_applied.map(|id| id.index) >= committed
        })
        .await
        .map_err(StartError)
    }

    /// Proposes commands as one batch and waits until all are applied; answers in their order.
    pub(crate) async fn propose(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Applied>, ProposeError> {
        metrics::counter!("alluvium_metadata_proposals_total")
            .increment(u64::try_from(commands.len()).unwrap_or(u64::MAX));
        let mut proposals = commands
            .into_iter()
            .map(Proposal::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ProposeError::Unavailable(format!("cannot encode: {error}")))?;
        let encoded: Vec<_> = proposals
            .iter()
            .map(|proposal| proposal.encoded().clone())
            .collect();
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let last_offer = Instant::now() + OFFER_TIMEOUT;
        loop {
            let offer = timeout_at(deadline, self.offer(proposals)).await;
            let reason = match offer.map_err(|_| ProposeError::TimedOut)?? {
                Offer::Applied(applied) => return Ok(applied),
                Offer::NotTaken(reason) => reason,
            };
            if Instant::now() >= last_offer {
                return Err(ProposeError::Unavailable(reason));
            }
            sleep(OFFER_PAUSE).await;
            proposals = encoded
                .iter()
                .map(|bytes| Proposal::decode(bytes.clone()))
                .collect::<Result<_, _>>()
                .map_err(|error| ProposeError::Unavailable(format!("cannot decode: {error}")))?;
        }
    }

    /// Offers a batch once. The library takes all of it or nothing.
    async fn offer(&self, proposals: Vec<Proposal>) -> Result<Offer, ProposeError> {
        let count = proposals.len();
        let mut answers = self
            .raft
            .client_write_many(proposals)
            .await
            .map_err(|error| stopped(&error))?;
        let mut applied = Vec::with_capacity(count);
        while let Some(answer) = answers.try_next().await.map_err(|error| stopped(&error))? {
            match answer {
                Ok(written) => applied.push(Applied {
                    index: written.log_id.index,
                    outcome: written.response,
                }),
                Err(ClientWriteError::ForwardToLeader(forward)) if applied.is_empty() => {
                    return Ok(Offer::NotTaken(format!("no leader ({:?})", forward.reason)));
                }
                // It was appended, and another leader may yet commit it.
                Err(ClientWriteError::LogEntryDiscarded(_)) => return Err(ProposeError::TimedOut),
                Err(error) => return Err(ProposeError::Unavailable(error.to_string())),
            }
        }
        if applied.len() == count {
            return Ok(Offer::Applied(applied));
        }
        Err(ProposeError::Unavailable("the voter stopped".to_owned()))
    }

    /// Waits until the view holds everything that was committed when the call was made.
    pub(crate) async fn barrier(&self) -> Result<(), ProposeError> {
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let last_offer = Instant::now() + OFFER_TIMEOUT;
        loop {
            let read = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let reason = match timeout_at(deadline, read).await {
                Err(_) => return Err(ProposeError::TimedOut),
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(RaftError::Fatal(error))) => return Err(stopped(&error)),
                Ok(Err(RaftError::APIError(error))) => match error {
                    LinearizableReadError::ForwardToLeader(forward) => {
                        format!("no leader ({:?})", forward.reason)
                    }
                    LinearizableReadError::QuorumNotEnough(error) => error.to_string(),
                },
            };
            if Instant::now() >= last_offer {
                return Err(ProposeError::Unavailable(reason));
            }
            sleep(OFFER_PAUSE).await;
        }
    }

    /// Tells the library of the snapshot that lies in the folder, and waits until it has purged the
    /// log up to it. `next_index` is the first entry the snapshot does not hold.
    pub(crate) async fn publish_snapshot(&self, next_index: u64) -> Result<(), String> {
        self.raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| error.to_string())?;
        let purged = next_index.saturating_sub(LOG_TAIL_ENTRIES);
        self.wait("purge its log", SNAPSHOT_TIMEOUT, |metrics| {
            let next = |id: Option<crate::raft::types::LogId>| id.map_or(0, |id| id.index + 1);
            next(metrics.snapshot) >= next_index && next(metrics.purged) >= purged
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

fn config() -> Config {
    Config {
        cluster_name: "alluvium".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        enable_pre_vote: Some(true),
        // A leader that lost what it had not synced must not go on in the same term: another entry
        // could then bear the same position.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: LOG_TAIL_ENTRIES,
        ..Config::default()
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> StartError {
    StartError(format!("cannot {what} the metadata voter: {error}"))
}

fn stopped(error: &Fatal<TypeConfig>) -> ProposeError {
    ProposeError::Unavailable(error.to_string())
}
