//! Heartbeat: a member's sign of life.

use alluvium_agent::groups::Heartbeat;
use alluvium_protocol::message;
use alluvium_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use alluvium_types::ErrorCode;
use tracing::{debug, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
    };
    let code = context
        .agent
        .groups
        .heartbeat(&heartbeat)
        .await
        .err()
        .unwrap_or_default();
    let Heartbeat {
        group,
        member_id: member,
        ..
    } = &heartbeat;
    match code {
        ErrorCode::None => {}
        ErrorCode::RebalanceInProgress => debug!(group, member, %code, "member is to join again"),
        ErrorCode::NotCoordinator => debug!(group, member, %code, "member is sent elsewhere"),
        _ => warn!(group, member, %code, client = context.client_host, "Heartbeat refused"),
    }
    message!(HeartbeatResponse {
        error_code: code.code()
    })
}
