//! InitProducerId: a producer id for an idempotent producer.

use alluvium_protocol::message;
use alluvium_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use alluvium_types::ErrorCode;

use super::RequestContext;

/// Gives a new id, at epoch 0, also to a producer that says which it has had: Kafka remembers ids
/// for transactional producers only. Those are told that they may not: transactions are not served.
pub(crate) async fn handle(
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if let Some(transactional_id) = &request.transactional_id {
        tracing::warn!(
            transactional_id = transactional_id.as_str(),
            client_id = context.client_id,
            client_host = context.client_host,
            "InitProducerId refused: transactions are not supported"
        );
        let empty = transactional_id.is_empty();
        // Every client takes the latter for final; others it would try again for minutes.
        return refused(if empty {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TransactionalIdAuthorizationFailed
        });
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        tracing::debug!(
            producer_id = request.producer_id,
            producer_epoch = request.producer_epoch,
            client_host = context.client_host,
            "InitProducerId refused: a producer id without an epoch, or an epoch without an id"
        );
        return refused(ErrorCode::InvalidRequest);
    }
    match context.agent.producer_ids.next().await {
        Ok(producer_id) => message!(InitProducerIdResponse {
            producer_id,
            producer_epoch: 0
        }),
        Err(error) => {
            tracing::warn!(%error, "InitProducerId: no producer id to be had");
            refused(ErrorCode::CoordinatorNotAvailable)
        }
    }
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    message!(InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
    })
}
