//! EndTxn: a transaction is committed or aborted, in one step (KIP-98; from version 5 on the producer gets
//! another epoch, KIP-890).

use alluvium_metadata::{EndedBy, ProducerEpoch};
use alluvium_protocol::message;
use alluvium_protocol::messages::{EndTxnRequest, EndTxnResponse};
use alluvium_types::ErrorCode;
use tracing::debug;

use super::RequestContext;
use super::fencing::shown;

/// The first version whose clients take a new epoch.
const BUMPS: i16 = 5;

pub(crate) async fn handle(context: &RequestContext, request: EndTxnRequest) -> EndTxnResponse {
    let id = request.transactional_id.as_str();
    let producer = ProducerEpoch {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let by = if context.version >= BUMPS {
        EndedBy::BumpingProducer
    } else {
        EndedBy::Producer
    };
    let ended = if id.is_empty() {
        Err(ErrorCode::InvalidRequest)
    } else {
        let transactions = &context.agent.transactions;
        transactions.end(id, producer, request.committed, by).await
    };
    match ended {
        Ok(producer) if context.version >= BUMPS => message!(EndTxnResponse {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
        }),
        Ok(_) => EndTxnResponse::default(),
        Err(code) => {
            debug!(transactional_id = id, %code, client = context.client_host, "EndTxn refused");
            message!(EndTxnResponse {
                error_code: shown(code, context.version >= 2).code()
            })
        }
    }
}
