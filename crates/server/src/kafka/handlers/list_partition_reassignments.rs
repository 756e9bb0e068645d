//! ListPartitionReassignments: there are none, since nothing is ever moved (KIP-455).

use alluvium_protocol::message;
use alluvium_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::RequestContext;

pub(crate) async fn handle(
    _: &RequestContext,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    message!(ListPartitionReassignmentsResponse {
        error_message: None
    })
}
