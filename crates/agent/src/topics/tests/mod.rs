//! Tests of what a client notices, on a state machine in this process.

mod alter;
mod client_metrics;
mod create;
mod describe;
mod documentation;
mod groups;
mod policies;
mod statics;

use std::collections::BTreeMap;

use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, Refusal, RegisterAgent, State};
use alluvium_types::{ErrorCode, TopicId};

use super::{NewTopic, Topics};

const NOW: i64 = 1_700_000_000_000;

fn topics(statics: &[(&str, &str)]) -> Topics {
    try_topics(statics).unwrap()
}

fn try_topics(statics: &[(&str, &str)]) -> Result<Topics, String> {
    let pairs = statics
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Topics::new(pairs.collect::<BTreeMap<_, _>>())
}

async fn metadata() -> Metadata {
    let metadata = Metadata::in_memory();
    let register = RegisterAgent {
        identity: 1,
        host: "localhost".to_owned(),
        port: 9092,
        zone: None,
        at: NOW,
        cluster_id: TopicId::from_random(1),
    };
    metadata
        .propose(Command::RegisterAgent(register))
        .await
        .unwrap();
    metadata
}

/// A metadata with one topic, `t`, of one partition with these settings.
async fn with_topic(topics: &Topics, configs: &[(&str, &str)]) -> Metadata {
    let metadata = metadata().await;
    let new = new_topic("t", 1, 1, configs);
    topics.create(&metadata, NOW, &new, false).await.unwrap();
    metadata
}

fn new_topic(name: &str, partitions: i32, factor: i16, configs: &[(&str, &str)]) -> NewTopic {
    NewTopic {
        partitions,
        replication_factor: factor,
        configs: configs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect(),
        ..NewTopic::named(name)
    }
}

fn told<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> (ErrorCode, String) {
    let refusal = outcome.unwrap_err();
    (refusal.code, refusal.message)
}
