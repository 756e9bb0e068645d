//! `alluvium topic`: create, list, describe, alter, delete.

mod describe;

use clap::{Args, Subcommand};
use serde_json::json;

use alluvium_client::{Client, ClientError, Target};
use alluvium_protocol::message;
use alluvium_protocol::messages::StrBytes;
use alluvium_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
    create_partitions_request::CreatePartitionsTopic,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    delete_topics_request::DeleteTopicState,
    incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
};

use alluvium_types::ErrorCode;

use self::describe::Only;
use crate::bootstrap::Bootstrap;
use crate::failure::Failure;
use crate::output::{Output, confirmed, say};

/// Kafka's number for "a topic's configuration".
const TOPIC_RESOURCE: i8 = 2;

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
        /// Copies of each partition; the cluster's default when not given.
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        replication_factor: i16,
        /// A setting, NAME=VALUE; may be given more than once.
        #[arg(long = "config", value_name = "NAME=VALUE")]
        configs: Vec<String>,
        /// A topic that is there already is left as it is.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics.
    List {
        /// JSON, a line each.
        #[arg(long)]
        json: bool,
        /// Also the cluster's own.
        #[arg(long, conflicts_with = "exclude_internal")]
        internal: bool,
        /// Without the cluster's own, which is what is done anyway.
        #[arg(long)]
        exclude_internal: bool,
    },
    /// Show topics' partitions and settings.
    Describe {
        /// Their names; all topics but the cluster's own when none is given.
        topics: Vec<String>,
        /// JSON, a line for each topic.
        #[arg(long)]
        json: bool,
        /// Only partitions that nobody serves.
        #[arg(long, conflicts_with = "json")]
        unavailable_partitions: bool,
        /// Only partitions of which a copy is behind.
        #[arg(long, conflicts_with = "json")]
        under_replicated_partitions: bool,
        /// Only topics with settings of their own, without their partitions.
        #[arg(long, conflicts_with = "json")]
        topics_with_overrides: bool,
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
    /// Delete topics and their records.
    Delete {
        /// Their names.
        #[arg(required = true)]
        topics: Vec<String>,
        /// A topic that is not there is no failure.
        #[arg(long)]
        if_exists: bool,
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
            replication_factor,
            configs,
            if_not_exists,
        } => {
            let shape = (partitions, replication_factor);
            create(&client, &topic, shape, &configs, if_not_exists).await
        }
        Action::List { json, internal, .. } => list(&client, json, internal).await,
        Action::Describe {
            topics,
            json,
            unavailable_partitions,
            under_replicated_partitions,
            topics_with_overrides,
        } => {
            let only = Only {
                unavailable: unavailable_partitions,
                under_replicated: under_replicated_partitions,
                overrides: topics_with_overrides,
            };
            describe::run(&client, &topics, json, only).await
        }
        Action::Alter {
            topic,
            partitions,
            configs,
        } => alter(&client, &topic, partitions, &configs).await,
        Action::Delete {
            topics,
            if_exists,
            yes,
        } => delete(&client, &topics, if_exists, yes).await,
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
    (partitions, replication_factor): (i32, i16),
    configs: &[String],
    if_not_exists: bool,
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
        replication_factor,
        configs: settings,
    });
    let ask = message!(CreateTopicsRequest {
        topics: vec![wanted],
        timeout_ms: TIMEOUT_MS
    });
    let answer = client.call(&Target::Any, &ask).await?;
    for result in &answer.topics {
        let subject = format!("topic {topic}");
        if if_not_exists && result.error_code == ErrorCode::TopicAlreadyExists.code() {
            say(&format!("topic {topic} is there already"));
            continue;
        }
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

async fn delete(
    client: &Client,
    topics: &[String],
    if_exists: bool,
    yes: bool,
) -> Result<(), Failure> {
    let names = topics.join(", ");
    if !yes && !confirmed(&format!("delete topic {names} and its records?"))? {
        say("nothing was deleted");
        return Ok(());
    }
    let mut failures = Vec::new();
    for topic in topics {
        match delete_one(client, topic).await {
            Ok(()) => say(&format!("deleted topic {topic}")),
            Err(ClientError::Refused {
                code: ErrorCode::UnknownTopicOrPartition,
                ..
            }) if if_exists => say(&format!("there is no topic {topic}")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Failure::unless_none(&failures)
}

async fn delete_one(client: &Client, topic: &str) -> Result<(), ClientError> {
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
    Ok(())
}
