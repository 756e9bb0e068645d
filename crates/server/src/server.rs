//! Start and stop, in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_cluster::{Metadata, Node, NodeConfig};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::{Disk, LocalDisk};
use alluvium_types::{SystemClock, TopicId};
use tokio::net::{TcpListener, lookup_host};

use crate::config::{self, Config};
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::http::HttpListener;
use crate::kafka::{KafkaListener, Services};

/// Longest that requests in flight are waited for at shutdown.
const DRAIN: Duration = Duration::from_secs(20);
/// Requests get this long to finish by themselves before the agent answers what still waits.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// A running process.
#[derive(Debug)]
pub struct Server {
    kafka: KafkaListener,
    http: Option<HttpListener>,
    agent: Arc<Agent>,
    quorum: Quorum,
    advertised: (String, u16),
    store_url: String,
    _data_dir: DataDir,
}

/// The metadata quorum as this process takes part in it.
#[derive(Debug)]
enum Quorum {
    /// A durable voter.
    Voter(Node),
    /// With objects in memory there is nothing that metadata could outlive.
    Memory(Metadata),
}

impl Server {
    /// Starts everything; when it returns, clients are served.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let (data_dir, identity) = open_data_dir(config).await?;
        // Ports first: a taken one is told at once, and the agent must register with the real one.
        let listener = listen("kafka.listen", &config.kafka.listen).await?;
        let address = listener.local_addr().map_err(no_address)?;
        let http = start_http(&config.http).await?;
        let advertised = advertised(&config.kafka, address);

        let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
        let store_url = config.store_url().map_err(StartError::Config)?;
        let bucket = Bucket::open(&store_url, Arc::clone(&disk))
            .await
            .map_err(|error| StartError::Store(error.to_string()))?;
        let quorum = Quorum::start(config, &data_dir, &store_url, disk).await?;
        let topics = Topics::new(config.broker.clone()).map_err(StartError::Agent)?;
        let agent = Agent::start(
            agent_config(config, identity, &advertised, &store_url),
            quorum.metadata(),
            bucket,
            Arc::new(SystemClock),
            topics,
            TopicId::from_random(rand::random()),
        )
        .await;
        let agent = match agent {
            Ok(agent) => agent,
            Err(error) => {
                quorum.shutdown().await;
                return Err(StartError::Agent(error.to_string()));
            }
        };
        let services = Services::new(Arc::clone(&agent), &config.memory);
        let kafka = KafkaListener::start(listener, address, Arc::new(services));
        if let Some(http) = &http {
            http.set_ready(true);
        }
        tracing::info!(kafka = %address, store = store_url, node = %agent.origin.agent, "serving");
        Ok(Self {
            kafka,
            http,
            agent,
            quorum,
            advertised,
            store_url,
            _data_dir: data_dir,
        })
    }

    /// Where the Kafka listener really listens.
    #[must_use]
    pub const fn kafka_address(&self) -> SocketAddr {
        self.kafka.address()
    }

    /// Where the HTTP listener really listens, if there is one.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpListener::address)
    }

    /// The host and port that Kafka clients are told, as a bootstrap address.
    #[must_use]
    pub fn advertised(&self) -> String {
        let (host, port) = &self.advertised;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// The bucket's URL.
    #[must_use]
    pub fn store_url(&self) -> &str {
        &self.store_url
    }

    /// Resolves, with the reason, when the process can no longer do its work and should be stopped.
    pub async fn failed(&self) -> String {
        match &self.quorum {
            Quorum::Voter(node) => format!("the metadata log failed: {}", node.stopped().await),
            Quorum::Memory(_) => std::future::pending().await,
        }
    }

    /// Stops taking connections and requests, answers what is in flight, and stops every part.
    pub async fn shutdown(self) {
        if let Some(http) = &self.http {
            http.set_ready(false);
        }
        self.kafka.stop_reading();
        let drained = tokio::time::timeout(UNDISTURBED, self.kafka.drained()).await;
        let stopped = tokio::time::timeout(DRAIN, async {
            self.agent.shutdown().await;
            if drained.is_err() {
                self.kafka.drained().await;
            }
        });
        if stopped.await.is_err() {
            tracing::warn!(
                seconds = DRAIN.as_secs(),
                requests = self.kafka.in_flight(),
                "requests did not finish in time; their clients will ask again"
            );
        }
        self.kafka.abort().await;
        if let Some(http) = self.http {
            http.shutdown().await;
        }
        self.quorum.shutdown().await;
        tracing::info!("stopped");
    }
}

impl Quorum {
    async fn start(
        config: &Config,
        data_dir: &DataDir,
        store_url: &str,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StartError> {
        if store_url.starts_with("memory:") {
            return Ok(Self::Memory(Metadata::in_memory()));
        }
        let config = NodeConfig {
            dir: data_dir.metadata(),
            snapshot_log_bytes: config.metadata.snapshot_log_bytes.0,
        };
        let node = Node::start(config, disk).await;
        node.map(Self::Voter)
            .map_err(|error| StartError::Metadata(error.to_string()))
    }

    fn metadata(&self) -> Metadata {
        match self {
            Self::Voter(node) => node.metadata(),
            Self::Memory(metadata) => metadata.clone(),
        }
    }

    async fn shutdown(self) {
        if let Self::Voter(node) = self {
            node.shutdown().await;
        }
    }
}

async fn open_data_dir(config: &Config) -> Result<(DataDir, u128), StartError> {
    let path = config.process.data_dir.clone();
    let configured = config.agent.identity;
    let opening = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            let data_dir = DataDir::open(&path)?;
            let identity = configured.map_or_else(|| data_dir.identity(), Ok)?;
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

async fn listen(key: &'static str, text: &str) -> Result<TcpListener, StartError> {
    let unknown = || StartError::Address {
        key,
        text: text.to_owned(),
    };
    let address = lookup_host(text)
        .await
        .map_err(|_| unknown())?
        .next()
        .ok_or_else(unknown)?;
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::PortTaken { key, address }
        } else {
            StartError::Listen {
                key,
                address,
                source,
            }
        }
    })
}

fn no_address(source: io::Error) -> StartError {
    StartError::Listen {
        key: "kafka.listen",
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        source,
    }
}

/// A taken port ends the start only when somebody asked for that port.
async fn start_http(http: &config::Http) -> Result<Option<HttpListener>, StartError> {
    const KEY: &str = "http.listen";
    let listener = match http.listen.as_deref() {
        Some("off") => return Ok(None),
        Some(text) => listen(KEY, text).await?,
        None => match listen(KEY, config::Http::DEFAULT_LISTEN).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "going on without HTTP");
                return Ok(None);
            }
        },
    };
    HttpListener::start(listener)
        .map(Some)
        .map_err(|error| StartError::Address {
            key: KEY,
            text: error.to_string(),
        })
}

/// What clients are told to connect to.
fn advertised(kafka: &config::Kafka, address: SocketAddr) -> (String, u16) {
    let host = kafka.advertised_host.clone().unwrap_or_else(|| {
        // Every address of the machine: a client on this machine finds it here.
        if address.ip().is_unspecified() {
            "localhost".to_owned()
        } else {
            address.ip().to_string()
        }
    });
    (host, kafka.advertised_port.unwrap_or(address.port()))
}

fn agent_config(
    config: &Config,
    identity: u128,
    advertised: &(String, u16),
    store_url: &str,
) -> AgentConfig {
    AgentConfig {
        identity,
        host: advertised.0.clone(),
        port: advertised.1,
        zone: config.agent.zone.clone(),
        flush_interval: config.flush.interval,
        chunk_bytes: config.flush.chunk_bytes.get(),
        inline_bytes_per_second: config.flush.inline_bytes_per_second.0,
        concurrent_puts: config.flush.concurrent_puts.get(),
        early_puts_per_second: config.flush.early_puts(store_url),
        settle_bytes: config.settle.bytes.0,
        settle_interval: config.settle.interval,
        recent_bytes: config.cache.recent_bytes.get(),
        cache_bytes: config.cache.bytes.get(),
    }
}
