//! OffsetFetch (skeleton; its author fills it in).

use alluvium_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let _ = (context, request);
    OffsetFetchResponse::default()
}
