//! CreateTopics: every topic of a request succeeds or fails alone.

use std::collections::HashMap;

use alluvium_agent::topics::{CreatedTopic, DescribedConfig, NewTopic, Placement};
use alluvium_metadata::Refusal;
use alluvium_protocol::message;
use alluvium_protocol::messages::create_topics_request::CreatableTopic;
use alluvium_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use alluvium_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, StrBytes, uuid};
use alluvium_types::ErrorCode;
use alluvium_types::limits::PARTITIONS_PER_REQUEST;
use futures::StreamExt;

use super::{RequestContext, refusal};

/// Topics of one request that are created at once.
const CONCURRENT: usize = 64;

pub(crate) async fn handle(
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times: HashMap<StrBytes, u32> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut room = PARTITIONS_PER_REQUEST;
    let mut checked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let new = new_topic(&topic);
        let outcome = match times.get_mut(&topic.name) {
            // The first stands for all of its name in the answer.
            Some(0) => continue,
            Some(count) if *count > 1 => {
                *count = 0;
                Err(duplicate())
            }
            _ => take_room(context, &new, &mut room),
        };
        checked.push((topic.name, outcome.map(|()| new)));
    }
    let validate_only = request.validate_only;
    let topics = futures::stream::iter(checked)
        .map(|(name, new)| async move {
            let created = match new {
                Ok(new) => create(context, &new, validate_only).await,
                Err(refusal) => Err(refusal),
            };
            result(context, name, created)
        })
        .buffered(CONCURRENT)
        .collect()
        .await;
    message!(CreateTopicsResponse { topics })
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, assignment.broker_ids.clone()))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| {
                (
                    config.name.to_string(),
                    config.value.as_deref().map(str::to_owned),
                )
            })
            .collect(),
    }
}

fn duplicate() -> Refusal {
    Refusal {
        code: ErrorCode::InvalidRequest,
        message: "Duplicate topic name.".to_owned(),
    }
}

/// Bounds what one request may create.
fn take_room(context: &RequestContext, new: &NewTopic, room: &mut i64) -> Result<(), Refusal> {
    let agent = &context.agent;
    let wanted = agent
        .metadata
        .read(|state| agent.topics.partitions_wanted(state, new));
    if wanted > *room && *room < PARTITIONS_PER_REQUEST {
        return Err(Refusal {
            code: ErrorCode::PolicyViolation,
            message: format!(
                "One request may create {PARTITIONS_PER_REQUEST} partitions; send the rest in \
                 another."
            ),
        });
    }
    *room = room.saturating_sub(wanted);
    Ok(())
}

async fn create(
    context: &RequestContext,
    new: &NewTopic,
    validate_only: bool,
) -> Result<CreatedTopic, Refusal> {
    let agent = &context.agent;
    agent
        .topics
        .create(&agent.metadata, agent.clock.now(), new, validate_only)
        .await
}

fn result(
    context: &RequestContext,
    name: StrBytes,
    created: Result<CreatedTopic, Refusal>,
) -> CreatableTopicResult {
    let mut result = message!(CreatableTopicResult {
        name,
        error_message: None
    });
    match created {
        Ok(created) => {
            let shown = context.agent.metadata.read(|state| {
                Placement::of(state)
                    .replicas(created.id, 0, created.replication_factor, None)
                    .len()
            });
            result.topic_id = uuid(created.id);
            result.num_partitions = created.partitions;
            result.replication_factor = i16::try_from(shown).unwrap_or(i16::MAX);
            result.configs = Some(created.configs.iter().map(config).collect());
        }
        Err(refused) => {
            refusal::log(context, "CreateTopics", &result.name, &refused);
            result.error_code = refused.code.code();
            result.error_message = Some(refused.message.into());
            result.num_partitions = -1;
            result.replication_factor = -1;
            result.configs = Some(Vec::new());
        }
    }
    result
}

fn config(described: &DescribedConfig) -> CreatableTopicConfigs {
    message!(CreatableTopicConfigs {
        name: described.definition.name.into(),
        value: described.value.as_deref().map(StrBytes::from),
        read_only: described.read_only,
        config_source: described.source.number(),
        is_sensitive: described.definition.is_sensitive(),
    })
}
