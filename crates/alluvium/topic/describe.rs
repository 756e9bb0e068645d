//! `alluvium topic describe`: partitions, who serves them, settings.

use std::collections::BTreeMap;

use serde_json::json;

use alluvium_client::{
    Client, ClientError, PartitionInfo, Target, TopicInfo, TopicPartition, list_offsets,
};
use alluvium_protocol::message;
use alluvium_protocol::messages::{
    DescribeConfigsRequest, describe_configs_request::DescribeConfigsResource,
};
use alluvium_types::Offset;

use super::TOPIC_RESOURCE;
use crate::failure::Failure;
use crate::output::Output;

/// DescribeConfigs' number for "set on this topic".
const SET_ON_TOPIC: i8 = 1;

/// What ListOffsets calls the end and the start of a partition.
const END: i64 = -1;
const START: i64 = -2;

/// What to show, when not everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Only {
    /// Partitions that nobody serves.
    pub(super) unavailable: bool,
    /// Partitions with fewer copies in step than there are.
    pub(super) under_replicated: bool,
    /// Topics with settings of their own, without partitions.
    pub(super) overrides: bool,
}

impl Only {
    /// Whether a partition is to be shown. With several wishes, one is enough.
    fn lets_pass(self, partition: &PartitionInfo) -> bool {
        let all = !self.unavailable && !self.under_replicated;
        all || (self.unavailable && unavailable(partition))
            || (self.under_replicated && partition.in_sync.len() < partition.replicas.len())
    }
}

fn unavailable(partition: &PartitionInfo) -> bool {
    partition.leader < 0
}

/// Runs `alluvium topic describe`.
pub(super) async fn run(
    client: &Client,
    names: &[String],
    json: bool,
    only: Only,
) -> Result<(), Failure> {
    let topics = if names.is_empty() {
        let mut topics = client.topics(None).await?;
        topics.retain(|topic| !topic.internal);
        topics
    } else {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        client.topics(Some(&names)).await?
    };
    let mut out = Output::new();
    for topic in &topics {
        let configs = configs_of(client, &topic.name).await?;
        if only.overrides && !configs.values().any(|(_, set)| *set) {
            continue;
        }
        let mut shown = topic.clone();
        shown
            .partitions
            .retain(|partition| !only.overrides && only.lets_pass(partition));
        if shown.partitions.is_empty() && (only.unavailable || only.under_replicated) {
            continue;
        }
        show(client, &shown, &configs, json, &mut out).await?;
    }
    out.flush()
}

async fn show(
    client: &Client,
    topic: &TopicInfo,
    configs: &BTreeMap<String, (String, bool)>,
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let served = topic.partitions.iter().filter(|one| !unavailable(one));
    let served: Vec<TopicPartition> = served
        .map(|partition| (topic.name.clone(), partition.partition))
        .collect();
    let starts = list_offsets(client, &served, START).await?;
    let ends = list_offsets(client, &served, END).await?;
    let bounds = |partition: i32| {
        let of = (topic.name.clone(), partition);
        let at = |offsets: &BTreeMap<_, Offset>| offsets.get(&of).copied().unwrap_or(-1);
        (at(&starts), at(&ends))
    };
    if json {
        return out.line(described(topic, configs, bounds).to_string().as_bytes());
    }
    out.line(format!("topic {}  id {}", topic.name, topic.id).as_bytes())?;
    for partition in &topic.partitions {
        let (first, next) = bounds(partition.partition);
        let served = match unavailable(partition) {
            true => "served by nobody".to_owned(),
            false => format!("served by node {}", partition.leader),
        };
        let line = format!(
            "  partition {}  offsets {first} to {next}  {served}  replicas {:?}  isr {:?}",
            partition.partition, partition.replicas, partition.in_sync
        );
        out.line(line.as_bytes())?;
    }
    for (name, (value, set)) in configs {
        if *set {
            out.line(format!("  {name} = {value}").as_bytes())?;
        }
    }
    Ok(())
}

fn described(
    topic: &TopicInfo,
    configs: &BTreeMap<String, (String, bool)>,
    bounds: impl Fn(i32) -> (Offset, Offset),
) -> serde_json::Value {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            let (first, next) = bounds(partition.partition);
            json!({
                "partition": partition.partition,
                "leader": partition.leader,
                "replicas": partition.replicas,
                "isr": partition.in_sync,
                "log_start_offset": first,
                "end_offset": next,
            })
        })
        .collect();
    let values: BTreeMap<&str, &str> = configs
        .iter()
        .map(|(name, (value, _))| (name.as_str(), value.as_str()))
        .collect();
    json!({
        "topic": topic.name,
        "id": topic.id.to_string(),
        "partitions": partitions,
        "configs": values,
    })
}

/// A topic's settings: value, and whether it was set on the topic itself.
async fn configs_of(
    client: &Client,
    topic: &str,
) -> Result<BTreeMap<String, (String, bool)>, Failure> {
    let resource = message!(DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: topic.into(),
        configuration_keys: None,
    });
    let ask = message!(DescribeConfigsRequest {
        resources: vec![resource]
    });
    let answer = client.call(&Target::Any, &ask).await?;
    let mut configs = BTreeMap::new();
    for result in &answer.results {
        let subject = format!("topic {topic}");
        ClientError::check(&subject, result.error_code, result.error_message.as_deref())?;
        for config in &result.configs {
            let value = config
                .value
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            configs.insert(
                config.name.to_string(),
                (value, config.config_source == SET_ON_TOPIC),
            );
        }
    }
    Ok(configs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_picked_by_what_is_wrong_with_them() {
        let partition = |leader, in_sync: &[i32]| PartitionInfo {
            partition: 0,
            leader,
            replicas: vec![1, 2],
            in_sync: in_sync.to_vec(),
        };
        let (well, behind) = (partition(1, &[1, 2]), partition(1, &[1]));
        let lost = partition(-1, &[1, 2]);
        let picked = |only: Only| [&well, &behind, &lost].map(|one| only.lets_pass(one));
        assert_eq!(picked(Only::default()), [true, true, true]);
        let unavailable = Only {
            unavailable: true,
            ..Only::default()
        };
        assert_eq!(picked(unavailable), [false, false, true]);
        let under_replicated = Only {
            under_replicated: true,
            ..Only::default()
        };
        assert_eq!(picked(under_replicated), [false, true, false]);
    }
}
