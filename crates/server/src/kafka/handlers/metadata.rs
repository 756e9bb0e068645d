//! Metadata (skeleton; its author fills it in).

use alluvium_protocol::messages::{MetadataRequest, MetadataResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let _ = (context, request);
    MetadataResponse::default()
}
