//! LeaveGroup (skeleton; its author fills it in).

use alluvium_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let _ = (context, request);
    LeaveGroupResponse::default()
}
