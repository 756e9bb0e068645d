//! ListGroups (skeleton; its author fills it in).

use alluvium_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    let _ = (context, request);
    ListGroupsResponse::default()
}
