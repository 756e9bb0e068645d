//! The agent of a process and its Kafka listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alluvium_agent::peers::PeerAccess;
use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig, AgentError};
use alluvium_cluster::Metadata;
use alluvium_storage::cache::DiskTier;
use alluvium_storage::disk::LocalDisk;
use alluvium_storage::write_ahead::{WriteAhead, WriteAheadOptions};
use alluvium_types::TopicId;
use tokio::time::{Instant, timeout};

use super::ports::Port;
use super::quorum::Surroundings;
use super::waiting::wait_for;
use crate::config::Config;
use crate::costs::Traffic;
use crate::error::StartError;
use crate::kafka::{KafkaListener, Services};

/// Shortest time that requests in flight are waited for once none are read any more, however long
/// the draining took.
const SETTLE: Duration = Duration::from_secs(3);
/// Requests get this long to finish by themselves before the agent answers what still waits.
const UNDISTURBED: Duration = Duration::from_secs(2);
/// Between two tries at a registration.
const AGAIN: Duration = Duration::from_millis(250);

/// A registered agent that serves clients.
#[derive(Debug)]
pub(crate) struct AgentPart {
    agent: Arc<Agent>,
    kafka: KafkaListener,
    traffic: Arc<Traffic>,
    advertised: String,
    drain_timeout: Duration,
}

impl AgentPart {
    /// Registers, for as long as it takes, and serves.
    pub(crate) async fn start(
        config: &Config,
        identity: u128,
        metadata: Metadata,
        port: Port,
        cluster_address: Option<&str>,
        around: &Surroundings,
    ) -> Result<Self, StartError> {
        let topics = Topics::new(config.broker.clone()).map_err(StartError::Agent)?;
        let agent_config = AgentConfig {
            peers: config.has_peers().then(|| PeerAccess {
                transport: Arc::clone(&around.transport),
                address: cluster_address.map(ToOwned::to_owned),
            }),
            journal: journal(config).await?,
            ..agent_config(config, identity, &port, around.bucket.url())
        };
        let registering = async {
            loop {
                let started = Agent::start(
                    agent_config.clone(),
                    metadata.clone(),
                    around.bucket.clone(),
                    Arc::clone(&around.clock),
                    topics.clone(),
                    TopicId::from_random(rand::random()),
                );
                match started.await {
                    Err(AgentError::Register(error)) => {
                        tracing::debug!(%error, "not registered yet");
                        tokio::time::sleep(AGAIN).await;
                    }
                    ended => return ended,
                }
            }
        };
        let what = "the metadata quorum to take this agent's registration";
        let agent = wait_for(&around.readiness, what, registering)
            .await
            .map_err(|error| StartError::Agent(error.to_string()))?;
        around.switchboard.mount_agent(agent.peer_service());
        let services = Services::new(Arc::clone(&agent), &config.budgets());
        let traffic = Arc::clone(&services.traffic);
        let advertised = port.advertised();
        let kafka = KafkaListener::start(port.listener, port.address, Arc::new(services));
        Ok(Self {
            agent,
            kafka,
            traffic,
            advertised,
            drain_timeout: config.agent.drain_timeout,
        })
    }

    /// What its clients send and get.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    pub(crate) const fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Where the Kafka listener really listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.kafka.address()
    }

    /// What clients are told to connect to.
    pub(crate) fn advertised(&self) -> &str {
        &self.advertised
    }

    /// Leaves the cluster as clients like it: is named no more while it still serves, then answers
    /// what is in flight, and ends.
    pub(crate) async fn shutdown(self, has_quorum: bool) {
        let begun = Instant::now();
        let limit = self.drain_timeout;
        if has_quorum && timeout(limit, self.agent.drain()).await.is_err() {
            tracing::warn!(
                seconds = limit.as_secs(),
                "the agent was not drained in time (agent.drain_timeout); its clients will find \
                 the others by themselves"
            );
        }
        self.kafka.stop_reading();
        if timeout(UNDISTURBED, self.kafka.drained()).await.is_ok() {
            // Connections end before the rest does: their clients need not wait to go elsewhere.
            self.kafka.abort().await;
            let left = limit.saturating_sub(begun.elapsed()).max(SETTLE);
            if timeout(left, self.agent.shutdown()).await.is_err() {
                tracing::warn!("the agent did not stop in time (agent.drain_timeout)");
            }
            return;
        }
        let left = limit.saturating_sub(begun.elapsed()).max(SETTLE);
        let stopped = timeout(left, async {
            self.agent.shutdown().await;
            self.kafka.drained().await;
        });
        if stopped.await.is_err() {
            tracing::warn!(
                requests = self.kafka.in_flight(),
                "requests did not finish in time (agent.drain_timeout); their clients will ask again"
            );
        }
        self.kafka.abort().await;
    }
}

/// The cache's tier on the local disk, if there is to be one.
fn cache_disk(config: &Config) -> Option<DiskTier> {
    let bytes = config.cache.disk_bytes.0;
    let dir = config.cache.disk_dir.clone();
    (bytes > 0).then(|| DiskTier {
        dir: dir.unwrap_or_else(|| config.process.data_dir.join("cache")),
        bytes,
    })
}

/// The write-ahead buffer, if there is to be one.
async fn journal(config: &Config) -> Result<Option<WriteAhead>, StartError> {
    if config.journal.bytes.0 == 0 {
        return Ok(None);
    }
    let dir = config.journal_dir();
    let options = WriteAheadOptions {
        bytes: config.journal.bytes.0,
        tail_bytes: usize::try_from(config.budgets().journal).unwrap_or(usize::MAX),
    };
    let opened = WriteAhead::open(LocalDisk::shared(), &dir, options).await;
    opened.map(Some).map_err(|error| StartError::DataDir {
        dir,
        reason: format!(
            "{error}; free the disk or repair it, name another folder with journal.dir, or do \
             without a write-ahead buffer (journal.bytes = 0)"
        ),
    })
}

fn agent_config(config: &Config, identity: u128, port: &Port, store_url: &str) -> AgentConfig {
    let budgets = config.budgets();
    let length = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    AgentConfig {
        identity,
        host: port.advertised.0.clone(),
        port: port.advertised.1,
        zone: config.agent.zone.clone(),
        flush_interval: config.flush.interval,
        chunk_bytes: config.flush.chunk_bytes.get(),
        inline_bytes_per_second: config.flush.inline_bytes_per_second.0,
        concurrent_puts: config.flush.concurrent_puts.get(),
        early_puts_per_second: config.flush.early_puts(store_url),
        journal: None,
        journal_min_copies: config.journal_min_copies(),
        settle_bytes: config.settle.bytes.0,
        settle_interval: config.settle.interval,
        recent_bytes: length(budgets.recent),
        cache_bytes: length(budgets.cache),
        cache_disk: cache_disk(config),
        peers: None,
        compaction: alluvium_compaction::CompactionConfig {
            grace: config.store.grace,
            ..config.compaction.config(&budgets)
        },
    }
}
