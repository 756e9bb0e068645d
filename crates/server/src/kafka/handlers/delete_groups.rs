//! DeleteGroups (skeleton; its author fills it in).

use alluvium_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let _ = (context, request);
    DeleteGroupsResponse::default()
}
