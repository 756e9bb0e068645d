//! DeleteRecords (skeleton; its author fills it in).

use alluvium_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let _ = (context, request);
    DeleteRecordsResponse::default()
}
