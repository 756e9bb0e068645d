//! Heartbeat (skeleton; its author fills it in).

use alluvium_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    let _ = (context, request);
    HeartbeatResponse::default()
}
