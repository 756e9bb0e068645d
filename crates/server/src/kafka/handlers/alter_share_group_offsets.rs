//! AlterShareGroupOffsets: a share group without members goes on from other offsets (KIP-932).

use alluvium_protocol::message;
use alluvium_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use alluvium_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, uuid,
};
use alluvium_types::{ErrorCode, TopicId, TopicPartition};
use tracing::{info, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let _ = context.agent.current().await;
    let mut starts = Vec::new();
    let mut responses = Vec::new();
    context.agent.metadata.read(|state| {
        for topic in request.topics {
            let found = state.topic_by_name(&topic.topic_name).map(|topic| topic.id);
            let partitions = topic.partitions.iter().map(|partition| {
                let place = found.map(|id| TopicPartition::new(id, partition.partition_index));
                let place = place.filter(|place| state.partition(*place).is_some());
                let code = match place {
                    Some(place) => {
                        starts.push((place, Some(partition.start_offset)));
                        ErrorCode::None
                    }
                    None => ErrorCode::UnknownTopicOrPartition,
                };
                message!(AlterShareGroupOffsetsResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                })
            });
            responses.push(message!(AlterShareGroupOffsetsResponseTopic {
                partitions: partitions.collect(),
                topic_id: uuid(found.unwrap_or(TopicId([0; 16]))),
                topic_name: topic.topic_name,
            }));
        }
    });
    let (group, client) = (&request.group_id, &context.client_host);
    match context.agent.shares.reset(group, starts).await {
        Ok(()) => {
            info!(%group, client, "a share group goes on from other offsets");
            message!(AlterShareGroupOffsetsResponse { responses })
        }
        Err(code) => {
            warn!(%group, %code, client, "AlterShareGroupOffsets refused");
            message!(AlterShareGroupOffsetsResponse {
                error_code: code.code(),
                error_message: Some(code.name().into()),
            })
        }
    }
}
