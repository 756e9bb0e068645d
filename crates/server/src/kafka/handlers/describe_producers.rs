//! DescribeProducers: the idempotent and transactional producers of partitions (KIP-664).

use alluvium_metadata::Partition;
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use alluvium_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use alluvium_types::{ErrorCode, TopicPartition};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let _ = context.agent.current().await;
    let topics = context.agent.metadata.read(|state| {
        let topics = request.topics.into_iter().map(|topic| {
            let id = state.topic_by_name(&topic.name).map(|topic| topic.id);
            let partitions = topic.partition_indexes.iter().map(|index| {
                let place = id.map(|id| TopicPartition::new(id, *index));
                partition(*index, place.and_then(|place| state.partition(place)))
            });
            message!(TopicResponse {
                partitions: partitions.collect(),
                name: topic.name,
            })
        });
        topics.collect()
    });
    message!(DescribeProducersResponse { topics })
}

fn partition(index: i32, known: Option<&Partition>) -> PartitionResponse {
    let Some(known) = known else {
        return message!(PartitionResponse {
            partition_index: index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
        });
    };
    let producers = known.producer_states().map(|(id, producer)| {
        let begun = known.open_transaction(id);
        message!(ProducerState {
            producer_id: id,
            producer_epoch: i32::from(producer.epoch()),
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_at(),
            coordinator_epoch: if begun.is_some() { 0 } else { -1 },
            current_txn_start_offset: begun.unwrap_or(-1),
        })
    });
    message!(PartitionResponse {
        partition_index: index,
        active_producers: producers.collect()
    })
}
