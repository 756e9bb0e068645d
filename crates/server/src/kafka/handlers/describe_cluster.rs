//! DescribeCluster (skeleton; its author fills it in).

use alluvium_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let _ = (context, request);
    DescribeClusterResponse::default()
}
