//! CreatePartitions (skeleton; its author fills it in).

use alluvium_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let _ = (context, request);
    CreatePartitionsResponse::default()
}
