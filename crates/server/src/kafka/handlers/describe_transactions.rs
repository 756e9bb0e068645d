//! DescribeTransactions: transactional ids with their transactions (KIP-664).

use std::collections::BTreeMap;

use alluvium_metadata::{State, Transaction, TransactionStatus};
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use alluvium_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, StrBytes,
};
use alluvium_types::ErrorCode;

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let is_fresh = context.agent.current().await.is_ok();
    let describe = |id: StrBytes| {
        if !is_fresh {
            return failed(id, ErrorCode::CoordinatorNotAvailable);
        }
        context
            .agent
            .metadata
            .read(|state| match state.transaction(&id) {
                Some(known) => described(state, id, known),
                None => failed(id, ErrorCode::TransactionalIdNotFound),
            })
    };
    message!(DescribeTransactionsResponse {
        transaction_states: request
            .transactional_ids
            .into_iter()
            .map(describe)
            .collect()
    })
}

/// Kafka's name for how a transactional id stands.
pub(super) const fn name(status: TransactionStatus) -> &'static str {
    match status {
        TransactionStatus::Empty => "Empty",
        TransactionStatus::Ongoing => "Ongoing",
        TransactionStatus::Committed => "CompleteCommit",
        TransactionStatus::Aborted => "CompleteAbort",
    }
}

fn failed(id: StrBytes, code: ErrorCode) -> TransactionState {
    message!(TransactionState {
        error_code: code.code(),
        transactional_id: id
    })
}

fn described(state: &State, id: StrBytes, known: &Transaction) -> TransactionState {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for place in &known.partitions {
        if let Some(topic) = state.topic(place.topic) {
            topics.entry(&topic.name).or_default().push(place.partition);
        }
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        message!(TopicData {
            topic: topic.into(),
            partitions
        })
    });
    let is_open = known.status == TransactionStatus::Ongoing;
    message!(TransactionState {
        transactional_id: id,
        transaction_state: name(known.status).into(),
        transaction_timeout_ms: known.timeout,
        transaction_start_time_ms: if is_open { known.at } else { -1 },
        producer_id: known.producer.id,
        producer_epoch: known.producer.epoch,
        topics: topics.collect(),
    })
}
