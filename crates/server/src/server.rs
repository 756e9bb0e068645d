//! A process as a whole: its parts, started in order and stopped in the opposite one.

use std::net::SocketAddr;
use std::sync::Arc;

use alluvium_cluster::Metadata;
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::{Disk, LocalDisk};
use alluvium_transport::{Http2Transport, Transport};
use alluvium_types::SystemClock;
use futures::FutureExt as _;

use crate::config::{Config, Role};
use crate::costs::Costs;
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::http::HttpListener;
use crate::process::{AgentPart, Ports, Quorum, Surroundings};
use crate::readiness::{Probe, Readiness};

/// A running process.
#[derive(Debug)]
pub struct Server {
    agent: Option<AgentPart>,
    quorum: Quorum,
    http: Option<HttpListener>,
    readiness: Readiness,
    cluster_address: Option<String>,
    store_url: String,
    _data_dir: DataDir,
}

impl Server {
    /// Starts everything; when it returns, clients and peers are served. What other processes have
    /// to be there for is waited for, however long, and told in the log and by `/ready`.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let store_url = config.store_url().map_err(StartError::Config)?;
        let (data_dir, identity) = open_data_dir(config, &store_url).await?;
        let ports = Ports::take(config).await?;
        let readiness = Readiness::new();
        let http = match ports.http {
            Some(listener) => Some(start_http(listener, &readiness, config)?),
            None => None,
        };
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
        let bucket = Bucket::open(&store_url, Arc::clone(&disk))
            .await
            .map_err(|error| StartError::Store(error.to_string()))?;
        let transport: Arc<dyn Transport> = Http2Transport::new(config.cluster.tls())
            .map_err(|error| StartError::Tls(error.to_string()))?;
        let around = Surroundings {
            transport,
            switchboard: Arc::default(),
            disk,
            clock: Arc::new(SystemClock),
            bucket,
            readiness: readiness.clone(),
        };
        let cluster_address = ports.cluster.as_ref().map(|port| port.advertised());
        let quorum = Quorum::start(config, &data_dir, ports.cluster, &around).await?;
        let agent = match ports.kafka {
            Some(port) => {
                let metadata = quorum.metadata();
                let reached_at = cluster_address.as_deref();
                let starting =
                    AgentPart::start(config, identity, metadata, port, reached_at, &around);
                let started = tokio::select! {
                    biased;
                    reason = quorum.stopped() => Err(StartError::Metadata(reason)),
                    started = starting => started,
                };
                match started {
                    Ok(agent) => Some(agent),
                    Err(error) => {
                        quorum.shutdown().await;
                        return Err(error);
                    }
                }
            }
            None => None,
        };
        readiness.serving(probe(agent.as_ref(), &quorum));
        if let Some(http) = &http {
            let traffic = agent.as_ref().map(AgentPart::traffic);
            http.tell_costs(Costs::new(around.bucket, traffic));
        }
        let server = Self {
            agent,
            quorum,
            http,
            readiness,
            cluster_address,
            store_url,
            _data_dir: data_dir,
        };
        server.tell();
        Ok(server)
    }

    fn tell(&self) {
        let agent = self.agent.as_ref();
        tracing::info!(
            kafka = agent.map(|part| part.address().to_string()),
            agent = agent.map(|part| part.agent().id().to_string()),
            cluster = self.cluster_address,
            store = self.store_url,
            "serving"
        );
    }

    /// Where the Kafka listener really listens, if this process is an agent.
    #[must_use]
    pub fn kafka_address(&self) -> Option<SocketAddr> {
        self.agent.as_ref().map(AgentPart::address)
    }

    /// The host and port that Kafka clients are told, as a bootstrap address, if this process is an
    /// agent.
    #[must_use]
    pub fn advertised(&self) -> Option<&str> {
        self.agent.as_ref().map(AgentPart::advertised)
    }

    /// What the other processes of the cluster are told to connect to, if they can reach this one.
    #[must_use]
    pub fn cluster_address(&self) -> Option<&str> {
        self.cluster_address.as_deref()
    }

    /// Where the HTTP listener really listens, if there is one.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpListener::address)
    }

    /// The bucket's URL.
    #[must_use]
    pub fn store_url(&self) -> &str {
        &self.store_url
    }

    /// Resolves, with the reason, when the process can no longer do its work and should be stopped.
    pub async fn failed(&self) -> String {
        let agent = async {
            match &self.agent {
                Some(part) => format!("the agent stopped: {}", part.agent().failed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = self.quorum.stopped() => reason,
            reason = agent => reason,
        }
    }

    /// Leaves the cluster and stops: the agent drains and answers what is in flight, the metadata
    /// node hands leadership over.
    pub async fn shutdown(self) {
        self.readiness.stopping("the process is stopping");
        if let Some(agent) = self.agent {
            // An agent cannot say goodbye to a quorum that is gone.
            let has_quorum = self.quorum.stopped().now_or_never().is_none();
            agent.shutdown(has_quorum).await;
        }
        self.quorum.shutdown().await;
        if let Some(http) = self.http {
            http.shutdown().await;
        }
        tracing::info!("stopped");
    }
}

fn start_http(
    listener: tokio::net::TcpListener,
    readiness: &Readiness,
    config: &Config,
) -> Result<HttpListener, StartError> {
    let roles = config.process.roles.iter().map(|role| role.name());
    HttpListener::start(listener, readiness.clone(), roles.collect()).map_err(|error| {
        StartError::Address {
            key: "http.listen",
            text: error.to_string(),
        }
    })
}

/// An agent can serve while its lease runs, a voter while it hears of a leader and keeps up.
fn probe(agent: Option<&AgentPart>, quorum: &Quorum) -> Probe {
    let agent = agent.map(|part| Arc::clone(part.agent()));
    let metadata = matches!(quorum, Quorum::Voter(..)).then(|| quorum.metadata());
    Arc::new(move || {
        let (agent, metadata) = (agent.clone(), metadata.clone());
        Box::pin(async move {
            if let Some(metadata) = metadata {
                in_step(&metadata).await?;
            }
            match agent {
                Some(agent) if !agent.lease_valid() => Err(
                    "the agent's lease has run out: it cannot reach the metadata quorum".to_owned(),
                ),
                _ => Ok(()),
            }
        })
    })
}

async fn in_step(metadata: &Metadata) -> Result<(), String> {
    let caught_up = metadata.barrier().await;
    caught_up.map_err(|error| format!("the metadata node is not in step: {error}"))
}

async fn open_data_dir(config: &Config, store_url: &str) -> Result<(DataDir, u128), StartError> {
    let path = config.process.data_dir.clone();
    let configured = config.agent.identity;
    let is_agent = config.has(Role::Agent);
    let opening = tokio::task::spawn_blocking({
        let path = path.clone();
        let store = config.store.url.is_some().then(|| store_url.to_owned());
        let store_url = store_url.to_owned();
        move || {
            let data_dir = DataDir::open(&path)?;
            data_dir.belongs_to(store.as_deref(), &store_url)?;
            let identity = match configured {
                Some(identity) => identity,
                None if is_agent => data_dir.identity()?,
                None => 0,
            };
            Ok((data_dir, identity))
        }
    });
    opening.await.unwrap_or_else(|error| {
        Err(StartError::DataDir {
            dir: path,
            reason: format!("cannot be opened: {error}"),
        })
    })
}
