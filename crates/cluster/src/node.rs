//! A metadata node: a voter in this process, with what it does for the others and by itself.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_storage::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use alluvium_storage::blocking;
use alluvium_storage::disk::Disk;
use alluvium_transport::{Service, Transport};
use alluvium_types::Clock;

use crate::archive::{ArchiveConfig, ArchiveTask, VoterSource};
use crate::client::Metadata;
use crate::feed::Feed;
use crate::forming::Forming;
use crate::growth::{LogGrowth, LogSize};
use crate::leader::LeaderClient;
use crate::liveness::watch_leases;
use crate::members::Members;
use crate::peers::Peers;
use crate::quorum::Quorum;
use crate::raft::{LogStore, Network, StateMachine, Voter};
use crate::service::NodeService;
use crate::snapshotter::Snapshotter;
use crate::view::View;
use crate::voter_id::{Peer, VoterId};

mod duties;
mod folder;
#[cfg(test)]
mod tests;

use folder::Folder;

/// Replaying more entries than this would be felt at the next start, however small they are.
const SNAPSHOT_LOG_ENTRIES: u64 = 50_000;
/// How long a shutdown waits until another leads.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence, in longest elections, after which a voter counts as dead when the membership changes.
const SILENT_ELECTIONS: u32 = 4;
/// How often a node that waits to be named looks.
const LOOK: Duration = Duration::from_millis(10);

/// How the voters notice that one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A leader lets its followers hear of it this often.
    pub heartbeat: Duration,
    /// A follower that has heard nothing for `election_max` waits between this and `election_max`
    /// more, then has itself elected; so another leads after at most twice `election_max` and a round
    /// trip.
    pub election_min: Duration,
    /// See [`Self::election_min`]. Must be longer than it. A leader that no majority answers for so
    /// long takes no commands.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(400),
        }
    }
}

/// Who a node is and where it keeps what it knows.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Folder for log and snapshots, owned by this process.
    pub dir: PathBuf,
    /// A snapshot is taken, and the log purged, after this many bytes of log (or 50,000 entries).
    pub snapshot_log_bytes: u64,
    /// This node's number; each metadata node has its own.
    pub node: u32,
    /// The cluster address at which the other nodes reach this one, `host:port`; empty when none can.
    pub address: String,
    /// Cluster addresses of the nodes that are to form the quorum; this node's may be left out. When
    /// none is given, a node without an address forms a quorum of one, and one with an address waits
    /// until an operator forms a quorum or adds it to one.
    pub nodes: Vec<String>,
    /// How soon a dead leader is replaced.
    pub timing: Timing,
    /// How long an agent may be silent before its registration is ended.
    pub lease: Duration,
    /// Where to keep a copy of log and snapshots while this node leads; nowhere, if `None`.
    pub archive: Option<ArchiveConfig>,
}

/// Why a voter could not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// A running metadata node. Dropped without [`Node::shutdown`] it stops as if the process had been
/// killed: nothing that was acknowledged is lost.
#[derive(Debug)]
pub struct Node {
    view: Arc<View>,
    pub(crate) quorum: Quorum,
    pub(crate) log: LogStore,
    snapshotter: Arc<Snapshotter>,
    service: Arc<NodeService>,
    metadata: Metadata,
    archive: Option<ArchiveTask>,
    gone: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    /// End when told to stop.
    tasks: JoinSet<()>,
    /// End with the node.
    background: JoinSet<()>,
    dir: PathBuf,
    ended: bool,
}

impl Node {
    /// Starts a node and returns when what its disk holds is recovered. One that is alone leads by
    /// then. Others find one another (see [`NodeConfig::nodes`]); [`Self::formed`] waits for that.
    ///
    /// # Errors
    /// The log or snapshot cannot be read, or is another node's.
    pub async fn start(
        config: NodeConfig,
        disk: Arc<dyn Disk>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let growth = Arc::new(LogGrowth::new(LogSize {
            entries: SNAPSHOT_LOG_ENTRIES,
            bytes: config.snapshot_log_bytes,
        }));
        let opening = {
            let (growth, dir, node) = (Arc::clone(&growth), config.dir.clone(), config.node);
            blocking(move || Folder::open(&disk, &dir, node, growth))
        };
        let folder = opening
            .await
            .map_err(|error| StartError(format!("cannot open the metadata log: {error}")))??;
        let view = Arc::new(View::new(folder.current));
        let snapshots = Arc::new(folder.snapshots);
        let feed = Arc::new(Feed::default());
        let peers = Peers::new(Arc::clone(&transport), Arc::clone(&view));
        let me = Peer {
            voter: folder.voter,
            address: config.address.clone(),
        };
        let voter = Voter::start(
            me,
            config.timing,
            Network::new(folder.voter, peers.clone()),
            folder.log.clone(),
            StateMachine::new(Arc::clone(&view), Arc::clone(&snapshots), Arc::clone(&feed)),
            snapshots.incoming(),
        )
        .await?;
        let bucket = config
            .archive
            .as_ref()
            .map(|archive| archive.bucket.clone());
        let forming = Forming::new(voter.clone(), peers.clone(), &config.nodes, bucket);
        if let Err(error) = lead_if_alone(&voter, &forming, &config).await {
            voter.shutdown().await;
            return Err(error);
        }

        let members = Members {
            voter: voter.clone(),
            peers: peers.clone(),
            silence: config.timing.election_max * SILENT_ELECTIONS,
        };
        let quorum = Quorum::new(members, forming.clone());
        let archive = config.archive.map(|archive| {
            let source = Arc::new(VoterSource::new(folder.log.clone(), voter.clone()));
            ArchiveTask::start(archive, Arc::clone(&view), source, Arc::clone(&clock))
        });
        let service = Arc::new(NodeService::new(
            quorum.clone(),
            Arc::clone(&view),
            feed,
            folder.log.clone(),
            config.lease,
            archive.as_ref().map(ArchiveTask::progress),
            Arc::clone(&clock),
        ));
        let leader = LeaderClient::new(
            transport,
            Arc::clone(&view),
            config.nodes,
            Some(Arc::clone(&service)),
        );
        let metadata = Metadata::with_leader(Arc::clone(&view), Arc::new(leader));
        let snapshotter = Arc::new(Snapshotter::new(
            Arc::clone(&view),
            snapshots,
            growth,
            voter,
        ));

        let (stop, stopped) = watch::channel(false);
        let (tell, gone) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&snapshotter).run(stopped.clone()));
        tasks.spawn(watch_leases(Arc::clone(&service), clock, stopped));
        let mut background = JoinSet::new();
        background.spawn(forming.run());
        background.spawn(duties::run(quorum.clone(), peers, tell));
        Ok(Self {
            view,
            quorum,
            log: folder.log,
            snapshotter,
            service,
            metadata,
            archive,
            gone,
            stop,
            tasks,
            background,
            dir: config.dir,
            ended: false,
        })
    }

    /// The interface to the metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    /// What answers the other nodes, at [`NodeConfig::address`].
    #[must_use]
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.service) as Arc<dyn Service>
    }

    /// Who this node is in the quorum.
    #[must_use]
    pub fn voter_id(&self) -> VoterId {
        self.quorum.me().voter
    }

    /// Who leads the quorum, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<Peer> {
        self.quorum.voter().standing().leader
    }

    /// Waits until the node belongs to a quorum that has its name; proposals before that are refused.
    pub async fn formed(&self) {
        let mut watch = self.quorum.voter().watch();
        if watch.until(|standing| standing.is_formed()).await.is_none() {
            return std::future::pending().await;
        }
        while self.view.read(|view| view.state.cluster_id().is_none()) {
            sleep(LOOK).await;
        }
    }

    /// Resolves when the node is of no use any more, with the reason and what to do: its disk failed
    /// or is full, it was removed from the quorum, or the cluster was restored elsewhere. The process
    /// should end then; the other nodes go on.
    pub async fn stopped(&self) -> String {
        let mut gone = self.gone.clone();
        let fenced = async {
            match &self.archive {
                Some(archive) => archive.fenced().await,
                None => std::future::pending().await,
            }
        };
        let removed = async {
            let reason = gone
                .wait_for(Option::is_some)
                .await
                .map(|reason| reason.clone());
            match reason {
                Ok(reason) => reason.unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = self.quorum.voter().stopped() => format!(
                "metadata voter {} has stopped and votes no more: {reason}. See to the disk of {} \
                 (space, health), then start the node again; if the disk is lost, empty the folder \
                 and start it, and the quorum takes it in as a new voter",
                self.voter_id(),
                self.dir.display(),
            ),
            reason = fenced => reason,
            reason = removed => reason,
        }
    }

    /// Takes a snapshot now and purges the log up to it.
    ///
    /// # Errors
    /// The disk's. The voter goes on.
    pub async fn snapshot(&self) -> io::Result<()> {
        self.snapshotter.take().await
    }

    /// Stops the node; what was applied is durable. If it leads, another voter does first. A log that
    /// has grown noticeably is replaced by a snapshot, so that the next start is quick.
    pub async fn shutdown(mut self) {
        self.ended = true;
        self.background.shutdown().await;
        if let Some(archive) = self.archive.take() {
            archive.shutdown().await;
        }
        self.hand_over().await;
        self.quorum.stop();
        // An error says that the tasks have ended.
        let _ = self.stop.send(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::warn!(%error, "a task of the metadata node failed");
            }
        }
        if self.snapshotter.is_worthwhile()
            && let Err(error) = self.snapshotter.take().await
        {
            tracing::warn!(%error, "no metadata snapshot at shutdown; the log is replayed instead");
        }
        self.quorum.voter().shutdown().await;
        let log = self.log.clone();
        if let Err(error) = blocking(move || log.close()).await {
            tracing::warn!(%error, "metadata log did not close cleanly");
        }
    }

    async fn hand_over(&self) {
        let standing = self.quorum.voter().standing();
        if !standing.leads() || standing.voters.len() < 2 {
            return;
        }
        let members = self.quorum.members();
        if let Err(error) = members.hand_over(None, HAND_OVER_TIMEOUT).await {
            tracing::warn!(
                ?error,
                "leadership was not handed over; the others elect a leader"
            );
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.quorum.stop();
        // The library's task outlives its handles and has to be told.
        let voter = self.quorum.voter().clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { voter.shutdown().await });
        }
    }
}

/// Whether a quorum of one is all that is asked for.
fn wants_no_others(config: &NodeConfig) -> bool {
    if config.nodes.is_empty() {
        return config.address.is_empty();
    }
    config.nodes.iter().all(|node| *node == config.address)
}

/// Has a node that is its whole quorum lead.
async fn lead_if_alone(
    voter: &Voter,
    forming: &Forming,
    config: &NodeConfig,
) -> Result<(), StartError> {
    let standing = voter.standing();
    if !standing.is_formed() {
        if !wants_no_others(config) {
            return Ok(());
        }
        let me = std::slice::from_ref(voter.me());
        // Forming elects; to ask for it again would only begin another term.
        forming.found(me).await.map_err(StartError)?;
    } else if standing.voters.len() > 1 || !standing.votes(voter.me().voter) {
        return Ok(());
    } else {
        voter.elect().await?;
    }
    voter.lead_alone().await
}
