//! DescribeGroups (skeleton; its author fills it in).

use alluvium_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let _ = (context, request);
    DescribeGroupsResponse::default()
}
