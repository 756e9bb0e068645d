//! JoinGroup (skeleton; its author fills it in).

use alluvium_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let _ = (context, request);
    JoinGroupResponse::default()
}
