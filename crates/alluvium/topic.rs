//! `alluvium topic`: create, list, describe, alter, delete.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use serde_json::json;

use alluvium_client::{Client, ClientError, Target, TopicInfo};
use alluvium_protocol::message;
use alluvium_protocol::messages::StrBytes;
use alluvium_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
    create_partitions_request::CreatePartitionsTopic,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    delete_topics_request::DeleteTopicState,
    describe_configs_request::DescribeConfigsResource,
    incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
};

use crate::bootstrap::Bootstrap;
use crate::failure::Failure;
use crate::output::{Output, say};

/// Kafka's number for "a topic's configuration".
const TOPIC_RESOURCE: i8 = 2;

/// DescribeConfigs' number for "set on this topic".
const SET_ON_TOPIC: i8 = 1;

/// Longest that the server may take, in milliseconds.
const TIMEOUT_MS: i32 = 30_000;

/// Arguments of `alluvium topic`.
#[derive(Debug, Args)]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a topic.
    Create {
        /// Its name.
        topic: String,
        /// Number of partitions; the cluster's default when not given.
        #[arg(long, short, default_value_t = -1, allow_negative_numbers = true)]
        partitions: i32,
        /// A setting, NAME=VALUE; may be given more than once.
        #[arg(long = "config", value_name = "NAME=VALUE")]
        configs: Vec<String>,
    },
    /// List topics.
    List {
        /// JSON, a line each.
        #[arg(long)]
        json: bool,
        /// Also the cluster's own.
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions and settings.
    Describe {
        /// Its name.
        topic: String,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Change a topic's settings or raise its number of partitions.
    Alter {
        /// Its name.
        topic: String,
        /// New number of partitions; never fewer than there are.
        #[arg(long, short)]
        partitions: Option<i32>,
        /// A setting, NAME=VALUE; NAME= alone puts the default back. May be given more than once.
        #[arg(long = "config", value_name = "NAME=VALUE")]
        configs: Vec<String>,
    },
    /// Delete a topic and its records.
    Delete {
        /// Its name.
        topic: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// Runs `alluvium topic`.
pub(crate) async fn run(args: TopicArgs) -> Result<(), Failure> {
    let client = args.bootstrap.connect().await?;
    match args.action {
        Action::Create {
            topic,
            partitions,
            configs,
        } => create(&client, &topic, partitions, &configs).await,
        Action::List { json, internal } => list(&client, json, internal).await,
        Action::Describe { topic, json } => describe(&client, &topic, json).await,
        Action::Alter {
            topic,
            partitions,
            configs,
        } => alter(&client, &topic, partitions, &configs).await,
        Action::Delete { topic, yes } => delete(&client, &topic, yes).await,
    }
}

fn setting(text: &str) -> Result<(StrBytes, StrBytes), Failure> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::Usage(format!("--config {text}: write NAME=VALUE")))?;
    Ok((name.into(), value.into()))
}

async fn create(
    client: &Client,
    topic: &str,
    partitions: i32,
    configs: &[String],
) -> Result<(), Failure> {
    let mut settings = Vec::with_capacity(configs.len());
    for config in configs {
        let (name, value) = setting(config)?;
        settings.push(message!(CreatableTopicConfig {
            name,
            value: Some(value)
        }));
    }
    let wanted = message!(CreatableTopic {
        name: topic.into(),
        num_partitions: partitions,
        replication_factor: -1,
        configs: settings,
    });
    let ask = message!(CreateTopicsRequest {
        topics: vec![wanted],
        timeout_ms: TIMEOUT_MS
    });
    let answer = client.call(&Target::Any, &ask).await?;
    for result in &answer.topics {
        let subject = format!("topic {topic}");
        ClientError::check(&subject, result.error_code, result.error_message.as_deref())?;
        say(&format!(
            "created topic {topic} with {} partitions",
            result.num_partitions
        ));
    }
    Ok(())
}

async fn list(client: &Client, json: bool, internal: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    for topic in client
        .topics(None)
        .await?
        .iter()
        .filter(|topic| internal || !topic.internal)
    {
        if json {
            let line = json!({
                "topic": topic.name,
                "id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "internal": topic.internal,
            });
            out.line(line.to_string().as_bytes())?;
        } else {
            out.line(format!("{}\t{} partitions", topic.name, topic.partitions.len()).as_bytes())?;
        }
    }
    out.flush()
}

async fn describe(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let topics = client.topics(Some(&[name])).await?;
    let Some(topic) = topics.first() else {
        return Err(Failure::Failed(format!(
            "topic {name}: the server does not mention it"
        )));
    };
    let configs = configs_of(client, name).await?;
    let mut ends = Vec::new();
    for start in [
        alluvium_client::Start::Beginning,
        alluvium_client::Start::End,
    ] {
        let reader = alluvium_client::Consumer::new(client, name, None, start).await?;
        ends.push(reader.positions().clone());
    }
    let bounds = |partition: i32| {
        let at = |which: usize| {
            ends.get(which)
                .and_then(|found| found.get(&partition))
                .copied()
        };
        (at(0).unwrap_or(-1), at(1).unwrap_or(-1))
    };
    let mut out = Output::new();
    if json {
        out.line(described(topic, &configs, bounds).to_string().as_bytes())?;
        return out.flush();
    }
    out.line(format!("topic {}  id {}", topic.name, topic.id).as_bytes())?;
    for partition in &topic.partitions {
        let (first, next) = bounds(partition.partition);
        let line = format!(
            "  partition {}  offsets {first} to {next}  served by node {}",
            partition.partition, partition.leader
        );
        out.line(line.as_bytes())?;
    }
    for (name, (value, set)) in &configs {
        if *set {
            out.line(format!("  {name} = {value}").as_bytes())?;
        }
    }
    out.flush()
}

fn described(
    topic: &TopicInfo,
    configs: &BTreeMap<String, (String, bool)>,
    bounds: impl Fn(i32) -> (i64, i64),
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

async fn alter(
    client: &Client,
    topic: &str,
    partitions: Option<i32>,
    configs: &[String],
) -> Result<(), Failure> {
    if partitions.is_none() && configs.is_empty() {
        let text = "nothing to alter: give --partitions or --config NAME=VALUE";
        return Err(Failure::Usage(text.to_owned()));
    }
    let subject = format!("topic {topic}");
    if !configs.is_empty() {
        let mut changes = Vec::with_capacity(configs.len());
        for config in configs {
            let (name, value) = setting(config)?;
            let delete = value.is_empty();
            changes.push(message!(AlterableConfig {
                name,
                config_operation: i8::from(delete),
                value: (!delete).then_some(value),
            }));
        }
        let resource = message!(AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.into(),
            configs: changes,
        });
        let ask = message!(IncrementalAlterConfigsRequest {
            resources: vec![resource]
        });
        let answer = client.call(&Target::Any, &ask).await?;
        for result in &answer.responses {
            ClientError::check(&subject, result.error_code, result.error_message.as_deref())?;
        }
        say(&format!("altered the settings of topic {topic}"));
    }
    if let Some(count) = partitions {
        let wanted = message!(CreatePartitionsTopic {
            name: topic.into(),
            count,
            assignments: None,
        });
        let ask = message!(CreatePartitionsRequest {
            topics: vec![wanted],
            timeout_ms: TIMEOUT_MS
        });
        let answer = client.call(&Target::Any, &ask).await?;
        for result in &answer.results {
            ClientError::check(&subject, result.error_code, result.error_message.as_deref())?;
        }
        say(&format!("topic {topic} has {count} partitions now"));
    }
    Ok(())
}

async fn delete(client: &Client, topic: &str, yes: bool) -> Result<(), Failure> {
    if !yes && !confirmed(topic)? {
        say("nothing was deleted");
        return Ok(());
    }
    let wanted = message!(DeleteTopicState {
        name: Some(topic.into())
    });
    let ask = message!(DeleteTopicsRequest {
        topics: vec![wanted],
        timeout_ms: TIMEOUT_MS
    });
    let answer = client.call(&Target::Any, &ask).await?;
    for result in &answer.responses {
        let reason = result.error_message.as_deref().or(match result.error_code {
            3 => Some("there is no such topic"),
            _ => None,
        });
        ClientError::check(&format!("topic {topic}"), result.error_code, reason)?;
    }
    say(&format!("deleted topic {topic}"));
    Ok(())
}

fn confirmed(topic: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let text = format!("deleting topic {topic} loses its records: say --yes to do it unasked");
        return Err(Failure::Usage(text));
    }
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "delete topic {topic} and its records? [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::Failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
