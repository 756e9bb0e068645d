//! DescribeCluster: the agents of the cluster. Fenced (KIP-1073) are those that are not named to
//! clients: they drain, or their lease has ended.

use alluvium_metadata::Standing;
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use alluvium_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse, StrBytes};
use alluvium_types::ErrorCode;

use super::RequestContext;
use super::authorized_operations::{CLUSTER, NOT_ASKED};
use super::hints::controller;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let agent = &context.agent;
    let mut response = message!(DescribeClusterResponse {
        error_message: None,
        endpoint_type: BROKERS,
        cluster_authorized_operations: NOT_ASKED,
    });
    let fault = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type \
             CONTROLLER"
                .to_owned(),
        )),
        other => Some((
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        )),
    };
    if let Some((code, message)) = fault {
        response.error_code = code.code();
        response.error_message = Some(message.into());
        return response;
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER;
    }
    agent.metadata.read(|state| {
        let id = state
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default();
        response.cluster_id = id.into();
        response.controller_id = controller(state, context);
        response.brokers = state
            .agents()
            .filter(|agent| request.include_fenced_brokers || agent.standing == Standing::Live)
            .map(|agent| {
                message!(DescribeClusterBroker {
                    broker_id: agent.id.0,
                    host: agent.host.as_str().into(),
                    port: i32::from(agent.port),
                    rack: agent.zone.as_deref().map(StrBytes::from),
                    is_fenced: agent.standing != Standing::Live,
                })
            })
            .collect();
    });
    response
}
