//! DescribeTopicPartitions (skeleton; its author fills it in).

use alluvium_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let _ = (context, request);
    DescribeTopicPartitionsResponse::default()
}
