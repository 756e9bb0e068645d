//! SyncGroup (skeleton; its author fills it in).

use alluvium_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    let _ = (context, request);
    SyncGroupResponse::default()
}
