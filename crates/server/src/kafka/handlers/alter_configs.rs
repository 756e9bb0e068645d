//! AlterConfigs: what is not named goes back to its default.

use std::collections::HashSet;

use alluvium_agent::topics::{Alteration, AlterationOp};
use alluvium_metadata::Refusal;
use alluvium_protocol::message;
use alluvium_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use alluvium_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use alluvium_types::ErrorCode;

use super::incremental_alter_configs::alter;
use super::{RequestContext, refusal};

pub(crate) async fn handle(
    context: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for resource in &request.resources {
        let key = (resource.resource_type, resource.resource_name.clone());
        if !seen.insert(key.clone()) {
            twice.insert(key);
        }
    }
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let alterations: Vec<Alteration> = resource
            .configs
            .iter()
            .map(|config| Alteration {
                name: config.name.to_string(),
                op: AlterationOp::Set,
                value: config.value.as_deref().map(str::to_owned),
            })
            .collect();
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let outcome = if twice.contains(&(kind, name.clone())) {
            let message = "Each resource must appear at most once.".to_owned();
            Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message,
            })
        } else {
            alter(
                context,
                kind,
                &name,
                &alterations,
                true,
                request.validate_only,
            )
            .await
        };
        let mut response = message!(AlterConfigsResourceResponse {
            error_message: None,
            resource_type: kind,
            resource_name: name,
        });
        if let Err(refused) = outcome {
            refusal::log(context, "AlterConfigs", &response.resource_name, &refused);
            response.error_code = refused.code.code();
            response.error_message = Some(refused.message.into());
        }
        responses.push(response);
    }
    message!(AlterConfigsResponse { responses })
}
