//! FindCoordinator (skeleton; its author fills it in).

use alluvium_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::RequestContext;

pub(crate) async fn handle(context: &RequestContext, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let _ = (context, request);
    FindCoordinatorResponse::default()
}
