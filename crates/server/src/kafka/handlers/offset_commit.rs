//! OffsetCommit (skeleton; its author fills it in).

use alluvium_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let _ = (context, request);
    OffsetCommitResponse::default()
}
