//! AddPartitionsToTxn: a transaction is about to write to partitions (KIP-98); whether it may, in the form
//! that asks for several transactions (KIP-890).

use alluvium_metadata::{ProducerEpoch, State};
use alluvium_protocol::message;
use alluvium_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use alluvium_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use alluvium_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use alluvium_types::{ErrorCode, TopicPartition};
use tracing::debug;

use super::RequestContext;
use super::fencing::shown;

/// The first version that asks for several transactions.
const BATCHED: i16 = 4;

pub(crate) async fn handle(
    context: &RequestContext,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if context.version < BATCHED {
        let single = message!(AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            topics: request.v3_and_below_topics,
        });
        let results = add(context, &single).await;
        return message!(AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: results
        });
    }
    let mut answer = Vec::new();
    for transaction in &request.transactions {
        let topic_results = add(context, transaction).await;
        answer.push(message!(AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results,
        }));
    }
    message!(AddPartitionsToTxnResponse {
        results_by_transaction: answer
    })
}

/// All partitions, or none of them.
async fn add(
    context: &RequestContext,
    asked: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let agent = &context.agent;
    let id = asked.transactional_id.as_str();
    let mut places = agent.metadata.read(|state| find(state, &asked.topics));
    if places.iter().any(Option::is_none) {
        let _ = agent.catch_up().await;
        places = agent.metadata.read(|state| find(state, &asked.topics));
    }
    if places.iter().any(Option::is_none) {
        let codes = places.iter().map(|place| match place {
            Some(_) => ErrorCode::OperationNotAttempted,
            None => ErrorCode::UnknownTopicOrPartition,
        });
        return results(&asked.topics, codes);
    }
    let places: Vec<TopicPartition> = places.into_iter().flatten().collect();
    let producer = ProducerEpoch {
        id: asked.producer_id,
        epoch: asked.producer_epoch,
    };
    let code = if id.is_empty() {
        Err(ErrorCode::InvalidRequest)
    } else if asked.verify_only {
        let _ = agent.current().await;
        agent
            .metadata
            .read(|state| verify(state, id, producer, &places))
    } else {
        agent
            .transactions
            .add(id, producer, places, Vec::new())
            .await
    };
    let code = code.err().unwrap_or(ErrorCode::None);
    if code != ErrorCode::None {
        debug!(transactional_id = id, %code, client = context.client_host, "AddPartitionsToTxn refused");
    }
    let code = shown(code, context.version >= 2);
    results(&asked.topics, std::iter::repeat(code))
}

fn find(state: &State, topics: &[AddPartitionsToTxnTopic]) -> Vec<Option<TopicPartition>> {
    let places = topics.iter().flat_map(|topic| {
        let id = state.topic_by_name(&topic.name).map(|topic| topic.id);
        topic.partitions.iter().map(move |index| {
            let place = TopicPartition::new(id?, *index);
            state.partition(place).map(|_| place)
        })
    });
    places.collect()
}

fn verify(
    state: &State,
    id: &str,
    producer: ProducerEpoch,
    places: &[TopicPartition],
) -> Result<(), ErrorCode> {
    let known = state.transaction(id);
    let known = known.filter(|known| known.producer.id == producer.id);
    let known = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
    if known.producer.epoch != producer.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    if places.iter().all(|place| known.partitions.contains(place)) {
        Ok(())
    } else {
        Err(ErrorCode::TransactionAbortable)
    }
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    codes: impl Iterator<Item = ErrorCode>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut codes = codes;
    let mut answer = Vec::with_capacity(topics.len());
    for topic in topics {
        let partitions = topic.partitions.iter().map(|index| {
            message!(AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: codes.next().unwrap_or(ErrorCode::UnknownServerError).code(),
            })
        });
        answer.push(message!(AddPartitionsToTxnTopicResult {
            results_by_partition: partitions.collect(),
            name: topic.name.clone(),
        }));
    }
    answer
}
