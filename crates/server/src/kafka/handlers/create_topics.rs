//! CreateTopics (skeleton; its author fills it in).

use alluvium_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let _ = (context, request);
    CreateTopicsResponse::default()
}
