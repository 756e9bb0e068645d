//! This process's part in the metadata quorum.

use std::sync::Arc;
use std::time::Duration;

use alluvium_cluster::{Metadata, Node, NodeConfig, Observer, ObserverConfig, Timing};
use alluvium_storage::bucket::{Bucket, Cause, plain_url};
use alluvium_storage::disk::Disk;
use alluvium_transport::{Service, Transport, TransportListener};
use alluvium_types::Clock;

use super::ports::Port;
use super::switchboard::Switchboard;
use super::waiting::wait_for;
use crate::config::{Config, Role};
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::readiness::Readiness;

/// Longest that a voter takes to hand leadership over, write what is worth writing, and stop.
const STOP: Duration = Duration::from_secs(20);

/// How this process takes part.
#[derive(Debug)]
pub(crate) enum Quorum {
    /// A durable voter, and where the others reach this process, if they can.
    Voter(Box<Node>, Option<TransportListener>),
    /// A view of what voters elsewhere decide, and where other agents reach this one, if they can.
    Observer(Observer, Option<TransportListener>),
    /// With objects in memory there is nothing that metadata could outlive.
    Memory(Metadata),
}

/// What a quorum is started with besides the configuration.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bucket: Bucket,
    pub(crate) readiness: Readiness,
    /// The way to the other processes,
    pub(crate) transport: Arc<dyn Transport>,
    /// and who answers them.
    pub(crate) switchboard: Arc<Switchboard>,
}

impl Quorum {
    /// Starts it. Another process that is needed and not there is waited for, however long.
    pub(crate) async fn start(
        config: &Config,
        data_dir: &DataDir,
        port: Option<Port>,
        around: &Surroundings,
    ) -> Result<Self, StartError> {
        if plain_url(around.bucket.url()).starts_with("memory:") {
            return Ok(Self::Memory(Metadata::in_memory()));
        }
        let transport = Arc::clone(&around.transport);
        if !config.has(Role::Metadata) {
            let listener = listen(config, port, around)?;
            return Self::observe(config, transport, listener, around).await;
        }
        let node_config = node_config(config, data_dir, port.as_ref(), around);
        let (disk, clock) = (Arc::clone(&around.disk), Arc::clone(&around.clock));
        let node = Node::start(node_config, disk, transport, clock)
            .await
            .map_err(|error| StartError::Metadata(error.to_string()))?;
        around.switchboard.mount_metadata(node.service());
        let listener = match listen(config, port, around) {
            Ok(listener) => listener,
            Err(error) => {
                node.shutdown().await;
                return Err(error);
            }
        };
        let quorum = Self::Voter(Box::new(node), listener);
        match quorum.formed(config, &around.readiness).await {
            Ok(()) => Ok(quorum),
            Err(error) => {
                quorum.shutdown().await;
                Err(error)
            }
        }
    }

    async fn observe(
        config: &Config,
        transport: Arc<dyn Transport>,
        listener: Option<TransportListener>,
        around: &Surroundings,
    ) -> Result<Self, StartError> {
        let nodes = config.cluster.nodes.clone();
        let what = format!("a metadata node at {}", nodes.join(", "));
        let starting = Observer::start(ObserverConfig { nodes }, transport);
        let observer = wait_for(&around.readiness, &what, starting).await;
        observer
            .map(|observer| Self::Observer(observer, listener))
            .map_err(|error| StartError::Metadata(error.to_string()))
    }

    /// Waits until this node belongs to a quorum.
    async fn formed(&self, config: &Config, readiness: &Readiness) -> Result<(), StartError> {
        let Self::Voter(node, _) = self else {
            return Ok(());
        };
        let peers: Vec<&str> = config.cluster.peers().collect();
        let what = match peers.as_slice() {
            [] => "the metadata quorum".to_owned(),
            peers => format!("the metadata quorum of this node and {}", peers.join(", ")),
        };
        let formed = async {
            tokio::select! {
                biased;
                reason = node.stopped() => Err(StartError::Metadata(format!(
                    "the metadata node stopped: {reason}"
                ))),
                () = node.formed() => Ok(()),
            }
        };
        wait_for(readiness, &what, formed).await
    }

    pub(crate) fn metadata(&self) -> Metadata {
        match self {
            Self::Voter(node, _) => node.metadata(),
            Self::Observer(observer, _) => observer.metadata(),
            Self::Memory(metadata) => metadata.clone(),
        }
    }

    /// Resolves, with the reason, when this process's part has ended by itself.
    pub(crate) async fn stopped(&self) -> String {
        match self {
            Self::Voter(node, _) => format!("the metadata node stopped: {}", node.stopped().await),
            Self::Observer(observer, _) => {
                format!(
                    "the view of the metadata ended: {}",
                    observer.stopped().await
                )
            }
            Self::Memory(_) => std::future::pending().await,
        }
    }

    /// Hands leadership over, if this node leads and another can, and stops. The others are served
    /// to the end: they are needed for it.
    pub(crate) async fn shutdown(self) {
        let stopping = async {
            match self {
                Self::Voter(node, listener) => {
                    node.shutdown().await;
                    if let Some(listener) = listener {
                        listener.shutdown().await;
                    }
                }
                Self::Observer(observer, listener) => {
                    if let Some(listener) = listener {
                        listener.shutdown().await;
                    }
                    observer.shutdown().await;
                }
                Self::Memory(_) => {}
            }
        };
        if tokio::time::timeout(STOP, stopping).await.is_err() {
            tracing::warn!(
                seconds = STOP.as_secs(),
                "the metadata node did not stop in time; what it acknowledged is on disk"
            );
        }
    }
}

/// Lets the other processes in.
fn listen(
    config: &Config,
    port: Option<Port>,
    around: &Surroundings,
) -> Result<Option<TransportListener>, StartError> {
    let Some(port) = port else { return Ok(None) };
    let service = Arc::clone(&around.switchboard) as Arc<dyn Service>;
    TransportListener::start(port.listener, service, config.cluster.tls())
        .map(Some)
        .map_err(|error| StartError::Tls(error.to_string()))
}

fn node_config(
    config: &Config,
    data_dir: &DataDir,
    port: Option<&Port>,
    around: &Surroundings,
) -> NodeConfig {
    let metadata = &config.metadata;
    NodeConfig {
        dir: data_dir.metadata(),
        snapshot_log_bytes: metadata.snapshot_log_bytes.0,
        node: metadata.node(),
        address: port.map(Port::advertised).unwrap_or_default(),
        nodes: config.cluster.nodes.clone(),
        timing: Timing {
            heartbeat: metadata.heartbeat,
            election_min: metadata.election_timeout_min,
            election_max: metadata.election_timeout_max,
        },
        lease: config.agent.lease,
        archive: Some(alluvium_cluster::ArchiveConfig {
            bucket: around.bucket.for_cause(Cause::Archive),
            interval: metadata.archive_interval,
            retention: metadata.archive_retention,
        }),
    }
}
