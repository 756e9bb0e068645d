//! IncrementalAlterConfigs (skeleton; its author fills it in).

use alluvium_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let _ = (context, request);
    IncrementalAlterConfigsResponse::default()
}
