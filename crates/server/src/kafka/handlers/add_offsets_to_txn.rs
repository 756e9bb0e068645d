//! AddOffsetsToTxn: a transaction is about to commit offsets of a group (KIP-98).

use alluvium_metadata::ProducerEpoch;
use alluvium_protocol::message;
use alluvium_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use alluvium_types::ErrorCode;
use tracing::debug;

use super::RequestContext;
use super::fencing::shown;

pub(crate) async fn handle(
    context: &RequestContext,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let id = request.transactional_id.as_str();
    let producer = ProducerEpoch {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let added = if id.is_empty() {
        Err(ErrorCode::InvalidRequest)
    } else if request.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        let groups = vec![request.group_id.to_string()];
        let transactions = &context.agent.transactions;
        transactions.add(id, producer, Vec::new(), groups).await
    };
    let code = added.err().unwrap_or(ErrorCode::None);
    if code != ErrorCode::None {
        debug!(transactional_id = id, %code, client = context.client_host, "AddOffsetsToTxn refused");
    }
    message!(AddOffsetsToTxnResponse {
        error_code: shown(code, context.version >= 2).code()
    })
}
