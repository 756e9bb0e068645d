//! IncrementalAlterConfigs: what is not named stays as it is.

use std::collections::HashSet;

use alluvium_agent::topics::{Alteration, AlterationOp};
use alluvium_metadata::Refusal;
use alluvium_protocol::message;
use alluvium_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use alluvium_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use alluvium_protocol::messages::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use alluvium_types::ErrorCode;

use super::config_resource::{self, Resource};
use super::{RequestContext, refusal};

pub(crate) async fn handle(
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for resource in &request.resources {
        let key = (resource.resource_type, resource.resource_name.clone());
        if !seen.insert(key.clone()) {
            twice.insert(key);
        }
    }
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let key = (resource.resource_type, resource.resource_name.clone());
        let outcome = if twice.contains(&key) {
            Err(refuse("Each resource must appear at most once."))
        } else {
            alter_one(context, &resource, request.validate_only).await
        };
        let mut response = message!(AlterConfigsResourceResponse {
            error_message: None,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        });
        if let Err(refused) = outcome {
            refusal::log(
                context,
                "IncrementalAlterConfigs",
                &response.resource_name,
                &refused,
            );
            response.error_code = refused.code.code();
            response.error_message = Some(refused.message.into());
        }
        responses.push(response);
    }
    message!(IncrementalAlterConfigsResponse { responses })
}

fn refuse(message: &str) -> Refusal {
    Refusal {
        code: ErrorCode::InvalidRequest,
        message: message.to_owned(),
    }
}

async fn alter_one(
    context: &RequestContext,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let alterations = resource
        .configs
        .iter()
        .map(|config| {
            let op = AlterationOp::from_number(config.config_operation).ok_or_else(|| {
                refuse(&format!(
                    "Unknown operation type {}",
                    config.config_operation
                ))
            })?;
            let value = config.value.as_deref().map(str::to_owned);
            Ok(Alteration {
                name: config.name.to_string(),
                op,
                value,
            })
        })
        .collect::<Result<Vec<_>, Refusal>>()?;
    let name = resource.resource_name.as_str();
    alter(
        context,
        resource.resource_type,
        name,
        &alterations,
        false,
        validate_only,
    )
    .await
}

fn is_deletion(alteration: &Alteration) -> bool {
    alteration.op == AlterationOp::Delete
}

/// Alters one resource, as both APIs do.
pub(super) async fn alter(
    context: &RequestContext,
    resource_type: i8,
    name: &str,
    alterations: &[Alteration],
    replace: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    let agent = &context.agent;
    let (topics, metadata) = (&agent.topics, &agent.metadata);
    match config_resource::parse(context, resource_type, name)? {
        Resource::Topic => {
            topics
                .alter_topic(metadata, name, alterations, replace, validate_only)
                .await
        }
        Resource::Cluster => {
            topics
                .alter_cluster(metadata, alterations, replace, validate_only)
                .await
        }
        Resource::Group => {
            topics
                .alter_group(metadata, name, alterations, replace, validate_only)
                .await
        }
        Resource::ClientMetrics => {
            topics
                .alter_client_metrics(metadata, name, alterations, replace, validate_only)
                .await
        }
        // A single broker has no settings of its own that could be left to take away. Tools do so to
        // be sure, after what they throttled for.
        Resource::Broker if !replace && alterations.iter().all(is_deletion) => Ok(()),
        // Every setting that can be changed while running is the cluster's: to take a change for
        // one broker and give it to all would be worse than to refuse it.
        Resource::Broker => Err(refuse(
            "Settings of a single broker cannot be changed while it runs. Change the default of \
             all brokers (an empty broker id; --entity-default), or this broker's configuration.",
        )),
    }
}
