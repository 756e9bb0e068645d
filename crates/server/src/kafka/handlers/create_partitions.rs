//! CreatePartitions: topics only ever get more.

use std::collections::HashSet;

use alluvium_metadata::Refusal;
use alluvium_protocol::message;
use alluvium_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use alluvium_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use alluvium_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use alluvium_types::ErrorCode;

use super::{RequestContext, refusal};

pub(crate) async fn handle(
    context: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for topic in &request.topics {
        if !seen.insert(&topic.name) {
            twice.insert(topic.name.clone());
        }
    }
    let mut answered = HashSet::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        if !answered.insert(&topic.name) {
            continue;
        }
        let outcome = if twice.contains(&topic.name) {
            let message = "Duplicate topic name.".to_owned();
            Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message,
            })
        } else {
            grow(context, topic, request.validate_only).await
        };
        let mut result = message!(CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_message: None,
        });
        if let Err(refused) = outcome {
            refusal::log(context, "CreatePartitions", &topic.name, &refused);
            result.error_code = refused.code.code();
            result.error_message = Some(refused.message.into());
        }
        results.push(result);
    }
    message!(CreatePartitionsResponse { results })
}

async fn grow(
    context: &RequestContext,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let agent = &context.agent;
    let assignments: Option<Vec<Vec<i32>>> = topic.assignments.as_ref().map(|assignments| {
        assignments
            .iter()
            .map(|assignment| assignment.broker_ids.clone())
            .collect()
    });
    agent
        .topics
        .grow(
            &agent.metadata,
            &topic.name,
            topic.count,
            assignments.as_deref(),
            validate_only,
        )
        .await
}
