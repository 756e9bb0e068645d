//! DescribeConfigs (skeleton; its author fills it in).

use alluvium_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let _ = (context, request);
    DescribeConfigsResponse::default()
}
