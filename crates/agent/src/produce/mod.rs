//! The write path: check, buffer, seal, make durable, sequence, answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use alluvium_cluster::Metadata;
use alluvium_metadata::AgentOrigin;
use alluvium_protocol::produce::ProduceResult;
use alluvium_storage::bucket::Bucket;
use alluvium_types::{Clock, TopicPartition};

use crate::AgentConfig;
use crate::fetch::Recent;
use crate::topics::Topics;

/// The write path of an agent.
#[derive(Debug)]
pub struct Produce {}

/// A record set for one partition.
#[derive(Clone, Debug)]
pub struct PartitionRecords {
    /// For which partition.
    pub partition: TopicPartition,
    /// One or more batches, as the client sent them.
    pub records: Bytes,
}

/// A connection that produces. Dropping it tells the buffer that nothing more comes.
#[derive(Debug)]
pub struct ProducerConnection {}

/// The answers to one submission, in its order, once they are known.
pub type Pending = oneshot::Receiver<Vec<ProduceResult>>;

impl Produce {
    /// Starts the write path.
    pub(crate) fn start(
        config: &AgentConfig,
        origin: AgentOrigin,
        metadata: Metadata,
        bucket: Bucket,
        clock: Arc<dyn Clock>,
        topics: Topics,
        recent: Recent,
    ) -> Self {
        let _ = (config, origin, metadata, bucket, clock, topics, recent);
        todo!()
    }

    /// A new connection's seat at the buffer.
    #[must_use]
    pub fn connect(&self) -> ProducerConnection {
        todo!()
    }

    /// Seals and commits what is buffered, answers everybody, stops. Later submissions are answered
    /// with a retriable error.
    pub async fn shutdown(&self) {
        todo!()
    }
}

impl ProducerConnection {
    /// Checks a request's record sets and puts what is good into the buffer, synchronously, so that
    /// requests of one connection keep their order. Partitions that fail are answered with their
    /// error and do not hold up the others.
    #[must_use]
    pub fn submit(&self, request: Vec<PartitionRecords>) -> Pending {
        let _ = request;
        todo!()
    }
}
