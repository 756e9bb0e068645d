//! DeleteRecords: forgets the records of a partition below an offset.

use alluvium_protocol::message;
use alluvium_protocol::messages::delete_records_request::DeleteRecordsPartition;
use alluvium_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use alluvium_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use futures::StreamExt;

use super::{RequestContext, refusal};

/// Partitions of one topic that are worked on at once.
const CONCURRENT: usize = 64;
const NO_LOW_WATERMARK: i64 = -1;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.as_str();
        let partitions = futures::stream::iter(topic.partitions)
            .map(|partition| delete(context, name, partition))
            .buffered(CONCURRENT)
            .collect()
            .await;
        topics.push(message!(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        }));
    }
    message!(DeleteRecordsResponse { topics })
}

async fn delete(
    context: &RequestContext,
    name: &str,
    partition: DeleteRecordsPartition,
) -> DeleteRecordsPartitionResult {
    let (agent, index) = (&context.agent, partition.partition_index);
    let deleted = agent
        .topics
        .delete_records(&agent.metadata, name, index, partition.offset)
        .await;
    let mut result = message!(DeleteRecordsPartitionResult {
        partition_index: index,
        low_watermark: NO_LOW_WATERMARK,
    });
    match deleted {
        Ok(log_start) => result.low_watermark = log_start,
        Err(refused) => {
            refusal::log(
                context,
                "DeleteRecords",
                &format!("{name}-{index}"),
                &refused,
            );
            result.error_code = refused.code.code();
        }
    }
    result
}
