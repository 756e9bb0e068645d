//! An agent as a whole: its parts, and how they start and stop.

use std::sync::Arc;
use std::time::Duration;

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_metadata::{AgentOrigin, Command, Outcome, RegisterAgent};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::cache::Cache;
use alluvium_types::{Clock, TopicId, limits};

use crate::fetch::Fetch;
use crate::groups::Groups;
use crate::produce::Produce;
use crate::producer_ids::ProducerIds;
use crate::settle::Settler;
use crate::topics::Topics;

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
    /// Inline bytes are settled when there are this many,
    pub settle_bytes: u64,
    /// or after this long.
    pub settle_interval: Duration,
    /// Recent chunks kept for readers at the tail.
    pub recent_bytes: usize,
    /// The read cache.
    pub cache_bytes: usize,
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
            settle_bytes: 4 << 20,
            settle_interval: Duration::from_secs(10),
            recent_bytes: 64 << 20,
            cache_bytes: 128 << 20,
        }
    }
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The quorum did not take its registration.
    #[error("the agent could not register: {0}")]
    Register(#[from] ProposeError),
    /// The quorum refused its registration.
    #[error("the agent's registration was refused: {0:?}")]
    Refused(Outcome),
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// The cluster's metadata.
    pub metadata: Metadata,
    /// Who this agent is; carried by its commands.
    pub origin: AgentOrigin,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Topics and configuration.
    pub topics: Topics,
    /// The write path.
    pub produce: Produce,
    /// The read path.
    pub fetch: Fetch,
    /// Consumer groups that this agent coordinates.
    pub groups: Groups,
    /// Producer ids for InitProducerId.
    pub producer_ids: ProducerIds,
    settler: Settler,
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
        let applied = metadata.propose(Command::RegisterAgent(register)).await?;
        let Outcome::AgentRegistered(origin) = applied.outcome else {
            return Err(AgentError::Refused(applied.outcome));
        };
        let cache = Cache::new(bucket.clone(), config.cache_bytes);
        let fetch = Fetch::start(&config, metadata.clone(), cache);
        let produce = Produce::start(
            &config,
            origin,
            metadata.clone(),
            bucket.clone(),
            Arc::clone(&clock),
            topics.clone(),
            fetch.recent(),
        );
        let settler = Settler::start(
            &config,
            origin,
            metadata.clone(),
            bucket,
            Arc::clone(&clock),
        );
        let groups = Groups::start(origin, metadata.clone(), Arc::clone(&clock), topics.clone());
        let producer_ids = ProducerIds::new(metadata.clone());
        Ok(Arc::new(Self {
            metadata,
            origin,
            clock,
            topics,
            produce,
            fetch,
            groups,
            producer_ids,
            settler,
        }))
    }

    /// Flushes what producers wait for, settles, stops every task. Call after the listeners stopped
    /// taking requests.
    pub async fn shutdown(&self) {
        self.produce.shutdown().await;
        self.groups.shutdown().await;
        self.settler.shutdown().await;
        self.fetch.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alluvium_storage::disk::LocalDisk;
    use alluvium_types::{ErrorCode, SystemClock, TopicPartition};

    use super::*;
    use crate::fetch::ReadPartition;
    use crate::testing::{NO_WAIT, decode, idempotent, send, values};

    #[tokio::test]
    async fn an_agent_that_starts_again_goes_on_where_it_stopped() {
        let metadata = Metadata::in_memory();
        let bucket = Bucket::open("memory://", LocalDisk::shared())
            .await
            .unwrap();
        let topics = Topics::new(BTreeMap::new()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let start = || async {
            let (metadata, bucket) = (metadata.clone(), bucket.clone());
            let (clock, topics) = (Arc::clone(&clock), topics.clone());
            let config = AgentConfig {
                identity: 4,
                ..AgentConfig::default()
            };
            Agent::start(config, metadata, bucket, clock, topics, TopicId([1; 16]))
                .await
                .unwrap()
        };
        let first = start().await;
        let now = clock.now();
        let topic = first
            .topics
            .auto_create(&metadata, now, "clicks")
            .await
            .unwrap();
        let at = TopicPartition::new(topic, 0);
        let id = first.producer_ids.next().await.unwrap();
        let produced = send(&first.produce.connect(), at, idempotent(&["a"], id, 0)).await;
        assert_eq!((produced.error, produced.base_offset), (ErrorCode::None, 0));
        assert!(metadata.read(alluvium_metadata::State::inline_bytes) > 0);
        first.shutdown().await;
        assert_eq!(metadata.read(alluvium_metadata::State::inline_bytes), 0);

        let second = start().await;
        assert_eq!(second.origin.agent, first.origin.agent);
        assert!(second.origin.epoch > first.origin.epoch);
        let connection = second.produce.connect();
        // A retry of what the first one answered, then the next.
        assert_eq!(
            send(&connection, at, idempotent(&["a"], id, 0))
                .await
                .base_offset,
            0
        );
        assert_eq!(
            send(&connection, at, idempotent(&["b"], id, 1))
                .await
                .base_offset,
            1
        );
        let asked = [ReadPartition {
            partition: at,
            offset: 0,
            max_bytes: 1 << 20,
        }];
        let result = second.fetch.read(&asked, NO_WAIT).await;
        assert_eq!(values(&decode(&result[0])), ["a", "b"]);
        second.shutdown().await;
    }
}
