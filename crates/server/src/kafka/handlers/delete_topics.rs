//! DeleteTopics (skeleton; its author fills it in).

use alluvium_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let _ = (context, request);
    DeleteTopicsResponse::default()
}
