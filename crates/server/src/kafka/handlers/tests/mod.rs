//! The admin APIs as clients see them. Every answer must be encodable in its version.

mod agents;
mod configs;
mod groups;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_cluster::Metadata;
use alluvium_protocol::messages::KafkaResponse;
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{ErrorCode, ManualClock, TopicId};

use super::RequestContext;

const NOW: i64 = 1_700_000_000_000;

/// An agent whose metadata and store are in memory, with this static configuration.
async fn agent(statics: &[(&str, &str)]) -> Arc<Agent> {
    let pairs = statics
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let topics = Topics::new(pairs.collect::<BTreeMap<_, _>>()).unwrap();
    let config = AgentConfig {
        identity: 1,
        host: "broker.test".to_owned(),
        zone: Some("a".to_owned()),
        cache_bytes: 1 << 20,
        ..AgentConfig::default()
    };
    let bucket = Bucket::open("memory://", Arc::new(LocalDisk))
        .await
        .unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let cluster = TopicId::from_random(9);
    Agent::start(
        config,
        Metadata::in_memory(),
        bucket,
        clock,
        topics,
        cluster,
    )
    .await
    .unwrap()
}

fn context(agent: &Arc<Agent>, version: i16) -> RequestContext {
    RequestContext {
        agent: Arc::clone(agent),
        client_id: "test".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        version,
    }
}

/// Checks that an answer can be sent in a version.
fn sendable<M: KafkaResponse>(version: i16, response: M) -> M {
    alluvium_protocol::response::encode(1, version, &response).unwrap();
    response
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap()
}
