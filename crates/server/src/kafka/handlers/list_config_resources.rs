//! ListConfigResources: what has settings (KIP-1142). Version 0 asks for client metrics subscriptions
//! only (KIP-714).

use alluvium_metadata::State;
use alluvium_protocol::message;
use alluvium_protocol::messages::list_config_resources_response::ConfigResource;
use alluvium_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use alluvium_types::ErrorCode;

use super::RequestContext;
use super::config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};

/// The kinds of resources there are, in the order of the answer.
const KINDS: [i8; 5] = [CLIENT_METRICS, GROUP, TOPIC, BROKER, BROKER_LOGGER];

pub(crate) async fn handle(
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !KINDS.contains(kind)) {
        return message!(ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code()
        });
    }
    let is_wanted = |kind: &i8| match context.version {
        0 => *kind == CLIENT_METRICS,
        _ => asked.is_empty() || asked.contains(kind),
    };
    let config_resources = context.agent.metadata.read(|state| {
        let wanted = KINDS.into_iter().filter(is_wanted);
        let resource = |kind, name: String| {
            message!(ConfigResource {
                resource_name: name.into(),
                resource_type: kind,
            })
        };
        wanted
            .flat_map(|kind| {
                names(state, kind)
                    .into_iter()
                    .map(move |name| resource(kind, name))
            })
            .collect()
    });
    message!(ListConfigResourcesResponse { config_resources })
}

/// The names of the resources of a kind. Of groups it is those that have settings of their own; there are
/// no loggers.
fn names(state: &State, kind: i8) -> Vec<String> {
    match kind {
        CLIENT_METRICS => state
            .client_metrics()
            .map(|(name, _)| name.to_owned())
            .collect(),
        GROUP => state.configured_groups().map(str::to_owned).collect(),
        TOPIC => state.topics().map(|topic| topic.name.clone()).collect(),
        BROKER => state
            .live_agents()
            .map(|agent| agent.id.to_string())
            .collect(),
        _ => Vec::new(),
    }
}
