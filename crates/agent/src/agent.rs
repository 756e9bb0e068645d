//! An agent as a whole: its parts, and how they start and stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_compaction::{Compaction, CompactionConfig};
use alluvium_metadata::{AgentOrigin, Command, RegisterAgent, State};
use alluvium_storage::bucket::{Bucket, Cause, plain_url};
use alluvium_storage::cache::{Cache, CacheConfig, DiskTier};
use alluvium_storage::write_ahead::WriteAhead;
use alluvium_transport::Service;
use alluvium_types::{AgentId, Clock, TopicId, limits};

use crate::error::AgentError;
use crate::fetch::Fetch;
use crate::freshness::Freshness;
use crate::groups::Groups;
use crate::lease::{self, Announcement, Lease};
use crate::newcomers::Newcomers;
use crate::peers::{CachedBlocks, Copies, NoPeers, PeerAccess, PeerClient, PeerService, Peers};
use crate::produce::{Produce, WritePaths};
use crate::producer_ids::ProducerIds;
use crate::quotas::Quotas;
use crate::registration::Registration;
use crate::settle::Settler;
use crate::shares::Shares;
use crate::store_health::StoreHealth;
use crate::topics::Topics;
use crate::transactions::Transactions;
use crate::write_ahead::{AgentJournal, Keeper, KeptCopies};

/// How long the quorum is given to hear that the agent leaves.
const FAREWELL: Duration = Duration::from_secs(2);

/// Within this time other agents have heard that one leaves.
const HEARSAY: Duration = Duration::from_millis(300);

/// How an agent behaves. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Kept in the data directory, so that the agent gets its id back.
    pub identity: u128,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Availability zone.
    pub zone: Option<String>,
    /// Longest time that a produce waits in the buffer.
    pub flush_interval: Duration,
    /// A chunk is sealed at this size.
    pub chunk_bytes: usize,
    /// Bytes per second that may be acknowledged inside Raft entries.
    pub inline_bytes_per_second: u64,
    /// Chunks whose PUTs may be under way at once.
    pub concurrent_puts: usize,
    /// PUTs per second that may be made before the flush interval is over or a chunk is full, to
    /// answer producers sooner. Each costs money on a cloud's store and nothing on a disk.
    pub early_puts_per_second: u32,
    /// Its write-ahead buffer, if it is to have one. Without it, acks=1 is as acks=all.
    pub journal: Option<WriteAhead>,
    /// Copies in write-ahead buffers without which a chunk is not safe: it is read by nobody before it
    /// is settled.
    pub journal_min_copies: usize,
    /// What is inline or in write-ahead buffers is settled when there are so many bytes of it,
    pub settle_bytes: u64,
    /// or after this long.
    pub settle_interval: Duration,
    /// Recent chunks kept for readers at the tail.
    pub recent_bytes: usize,
    /// The read cache.
    pub cache_bytes: usize,
    /// The read cache's tier on the local disk, if it is to have one.
    pub cache_disk: Option<DiskTier>,
    /// How the bucket is kept small.
    pub compaction: CompactionConfig,
    /// How it and the other agents reach one another; without it, it works alone.
    pub peers: Option<PeerAccess>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            identity: 0,
            host: "127.0.0.1".to_owned(),
            port: 9092,
            zone: None,
            flush_interval: Duration::from_millis(250),
            chunk_bytes: limits::CHUNK_BYTES,
            inline_bytes_per_second: 1 << 20,
            concurrent_puts: 8,
            early_puts_per_second: 20,
            journal: None,
            journal_min_copies: 1,
            settle_bytes: 4 << 20,
            settle_interval: Duration::from_secs(10),
            recent_bytes: 64 << 20,
            cache_bytes: 128 << 20,
            cache_disk: None,
            compaction: CompactionConfig::default(),
            peers: None,
        }
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// The cluster's metadata.
    pub metadata: Metadata,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Topics and configuration.
    pub topics: Topics,
    /// The write path.
    pub produce: Produce,
    /// The read path.
    pub fetch: Fetch,
    /// Its write-ahead buffer, if it has one.
    pub journal: Option<AgentJournal>,
    /// Consumer groups that this agent coordinates.
    pub groups: Groups,
    /// Share groups.
    pub shares: Shares,
    /// Who may have how much.
    pub quotas: Quotas,
    /// Transactional producers.
    pub transactions: Transactions,
    /// Producer ids for InitProducerId.
    pub producer_ids: ProducerIds,
    store: String,
    peer_service: Arc<PeerService>,
    registration: Registration,
    freshness: Freshness,
    newcomers: Newcomers,
    settler: Settler,
    keeper: Option<Keeper>,
    compaction: Compaction,
    lease: Lease,
}

impl Agent {
    /// Registers and starts. `topics` carries the static configuration.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn start(
        config: AgentConfig,
        metadata: Metadata,
        bucket: Bucket,
        clock: Arc<dyn Clock>,
        topics: Topics,
        cluster_id: TopicId,
    ) -> Result<Arc<Self>, AgentError> {
        let register = RegisterAgent {
            identity: config.identity,
            host: config.host.clone(),
            port: config.port,
            zone: config.zone.clone(),
            at: clock.now(),
            cluster_id,
        };
        let registration = lease::register(&metadata, register.clone()).await?;
        let journal = config.journal.clone().map(AgentJournal::new);
        let copies = config
            .journal
            .clone()
            .map(|own| Arc::new(KeptCopies(own)) as Arc<dyn Copies>);
        let announcement = Announcement {
            peer: config
                .peers
                .as_ref()
                .and_then(|peers| peers.address.clone()),
            journal: copies.as_ref().map(|copies| copies.journal()),
        };
        let lease = Lease::start(
            registration.clone(),
            register,
            announcement,
            metadata.clone(),
            Arc::clone(&clock),
        );
        let freshness = Freshness::of(&metadata);
        let caching = CacheConfig {
            memory_bytes: config.cache_bytes,
            disk: config.cache_disk.clone(),
        };
        let store = plain_url(bucket.url());
        let store = store.split_once('?').map_or(store, |(name, _)| name);
        let store = store.to_owned();
        let cache = Cache::open(bucket.clone(), &caching).await;
        // Whom to ask for copies and blocks.
        let peers = peers(&config, &metadata, &registration);
        let peer_service = PeerService::new(
            metadata.clone(),
            freshness.clone(),
            registration.clone(),
            copies.clone(),
            Arc::new(CachedBlocks(cache.clone())),
        );
        let fetch = Fetch::start(&config, metadata.clone(), freshness.clone(), cache);
        fetch.join(
            registration.clone(),
            config.zone.clone(),
            Arc::clone(&peers),
            copies,
        );
        let paths = WritePaths {
            journal: journal.clone(),
            peers,
            health: StoreHealth::default(),
            recent: fetch.recent(),
        };
        let produce = Produce::start(
            &config,
            registration.clone(),
            metadata.clone(),
            bucket.for_cause(Cause::Flush),
            Arc::clone(&clock),
            topics.clone(),
            paths.clone(),
        );
        let keeper = journal.clone().map(|journal| {
            let producer = produce.connect();
            Keeper::start(journal, registration.id(), metadata.clone(), producer)
        });
        let settler = Settler::start(
            &config,
            registration.clone(),
            metadata.clone(),
            bucket.for_cause(Cause::Settle),
            Arc::clone(&clock),
            paths,
        );
        let compaction = Compaction::start(
            config.compaction.clone(),
            alluvium_compaction::Context {
                owner: Arc::new(registration.clone()),
                metadata: metadata.clone(),
                bucket,
                clock: Arc::clone(&clock),
                policies: Arc::new(topics.clone()),
            },
        );
        let groups = Groups::start(
            registration.clone(),
            freshness.clone(),
            metadata.clone(),
            Arc::clone(&clock),
            topics.clone(),
        );
        let shares = Shares::start(
            registration.clone(),
            freshness.clone(),
            metadata.clone(),
            Arc::clone(&clock),
            topics.clone(),
        );
        let transactions = Transactions::start(
            registration.clone(),
            metadata.clone(),
            Arc::clone(&clock),
            topics.clone(),
        );
        let quotas = Quotas::new(metadata.clone(), topics.clone());
        let producer_ids = ProducerIds::new(metadata.clone());
        let newcomers = Newcomers::new(metadata.clone());
        Ok(Arc::new(Self {
            metadata,
            clock,
            topics,
            produce,
            fetch,
            groups,
            shares,
            quotas,
            transactions,
            producer_ids,
            store,
            peer_service: Arc::new(peer_service),
            registration,
            freshness,
            newcomers,
            journal,
            settler,
            keeper,
            compaction,
            lease,
        }))
    }

    /// The object store's name: its URL without options.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// The agent's id, which stays as long as its identity is remembered.
    #[must_use]
    pub fn id(&self) -> AgentId {
        self.registration.id()
    }

    /// The agent's registration as it is now; its epoch changes when the lease had ended.
    #[must_use]
    pub fn origin(&self) -> AgentOrigin {
        self.registration.origin()
    }

    /// What answers the other agents, at the address that [`PeerAccess`] names.
    #[must_use]
    pub fn peer_service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.peer_service) as Arc<dyn Service>
    }

    /// Whether the agent has heard of the quorum lately. While it has not, others may stand in its
    /// place: it coordinates no groups, and clients do better to go elsewhere.
    #[must_use]
    pub fn lease_valid(&self) -> bool {
        self.registration.lease_valid()
    }

    /// Brings the view up to date for a request that asks for what the view does not know: it may
    /// have learned of it from another agent. Shared by all who wait, and at most some dozens a
    /// second; waits for two seconds at most.
    ///
    /// # Errors
    /// The quorum is not available, and the view may lag.
    pub async fn catch_up(&self) -> Result<(), ProposeError> {
        self.freshness.catch_up().await
    }

    /// Waits until the view holds everything that was committed when the call was made: for answers
    /// that must be linearizable each time. Shared by all who wait.
    ///
    /// # Errors
    /// The quorum is not available.
    pub async fn current(&self) -> Result<(), ProposeError> {
        self.freshness.current().await
    }

    /// Agents that have come a moment ago: producers that send here what is theirs by the hints are
    /// to be told so once, or they would not find out for minutes. Mostly nobody.
    #[must_use]
    pub fn newcomers(&self) -> Vec<AgentId> {
        let mut newcomers = self.newcomers.lately();
        newcomers.retain(|agent| *agent != self.id());
        newcomers
    }

    /// Resolves, with the reason, when the agent cannot go on and must be started again.
    pub async fn failed(&self) -> String {
        self.lease.over().await
    }

    /// Makes ready to leave, while clients are still served: the agent is named to nobody any more,
    /// and its groups are handed over. Next, the listener reads no more, answers what it has read
    /// and closes its connections, and [`Self::shutdown`] follows. Producers are not refused on the
    /// way: one that is not idempotent would send what was refused behind what it has sent since.
    pub async fn drain(&self) {
        self.registration.leave();
        let origin = self.origin();
        let drain = self.metadata.propose(Command::DrainAgent { origin });
        match timeout(FAREWELL, drain).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leaving without saying so before"),
            Err(_) => {
                tracing::warn!("leaving without saying so before: the quorum does not answer")
            }
        }
        self.groups.hand_over();
        let others = |state: &State| state.live_agents().any(|agent| agent.id != origin.agent);
        if !self.metadata.read(others) {
            return;
        }
        // The other agents hear of it before any client asks them.
        sleep(HEARSAY).await;
    }

    /// Flushes what producers wait for, settles, stops every task, and gives the registration back.
    /// Call after the listeners stopped taking requests.
    pub async fn shutdown(&self) {
        self.registration.leave();
        self.produce.shutdown().await;
        self.groups.shutdown().await;
        self.shares.shutdown().await;
        self.transactions.shutdown().await;
        self.compaction.shutdown().await;
        self.settler.shutdown().await;
        if let Some(keeper) = &self.keeper {
            keeper.shutdown().await;
        }
        self.fetch.shutdown().await;
        self.lease.shutdown().await;
        let agents = vec![self.origin()];
        let at = self.clock.now();
        let end = self.metadata.propose(Command::EndAgents { agents, at });
        match timeout(FAREWELL, end).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease is left to run out"),
            Err(_) => tracing::debug!("the lease is left to run out: the quorum does not answer"),
        }
    }
}

/// The way to the other agents.
fn peers(config: &AgentConfig, metadata: &Metadata, registration: &Registration) -> Arc<dyn Peers> {
    match &config.peers {
        Some(PeerAccess { transport, .. }) => Arc::new(PeerClient::new(
            metadata.clone(),
            registration.clone(),
            Arc::clone(transport),
        )),
        None => Arc::new(NoPeers),
    }
}

#[cfg(test)]
mod tests;
