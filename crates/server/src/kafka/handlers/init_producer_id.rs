//! InitProducerId: a producer id for an idempotent producer, and the next epoch for a transactional one.

use alluvium_metadata::ProducerEpoch;
use alluvium_protocol::message;
use alluvium_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use alluvium_types::ErrorCode;

use super::RequestContext;
use super::fencing::shown;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED: i16 = 4;

/// Gives a new id, at epoch 0, to a producer without a transactional id, also to one that says which it
/// has had: Kafka remembers ids for transactional producers only.
pub(crate) async fn handle(
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        tracing::debug!(
            producer_id = request.producer_id,
            producer_epoch = request.producer_epoch,
            client_host = context.client_host,
            "InitProducerId refused: a producer id without an epoch, or an epoch without an id"
        );
        return refused(ErrorCode::InvalidRequest);
    }
    if let Some(id) = &request.transactional_id {
        return transactional(context, id, &request).await;
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

async fn transactional(
    context: &RequestContext,
    id: &str,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    if id.is_empty() {
        return refused(ErrorCode::InvalidRequest);
    }
    let expected = (request.producer_id >= 0).then_some(ProducerEpoch {
        id: request.producer_id,
        epoch: request.producer_epoch,
    });
    let transactions = &context.agent.transactions;
    let begun = transactions.init(id, request.transaction_timeout_ms, expected);
    match begun.await {
        Ok(producer) => message!(InitProducerIdResponse {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
        }),
        Err(code) => {
            tracing::debug!(transactional_id = id, %code, client = context.client_host, "InitProducerId refused");
            refused(shown(code, context.version >= FENCED))
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
