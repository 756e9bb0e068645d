//! AlterConfigs (skeleton; its author fills it in).

use alluvium_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let _ = (context, request);
    AlterConfigsResponse::default()
}
