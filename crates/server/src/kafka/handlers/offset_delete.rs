//! OffsetDelete: a group forgets what it has committed for partitions (KIP-496).

use alluvium_protocol::message;
use alluvium_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use alluvium_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use tracing::{info, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|asked| asked.partition_index).collect();
        (topic.name.to_string(), partitions)
    });
    let groups = &context.agent.groups;
    let deleted = groups.delete_offsets(&request.group_id, topics.collect());
    let (group, client) = (&request.group_id, &context.client_host);
    let codes = match deleted.await {
        Ok(codes) => codes,
        Err(code) => {
            warn!(%group, %code, client, "OffsetDelete refused");
            return message!(OffsetDeleteResponse {
                error_code: code.code()
            });
        }
    };
    info!(%group, client, topics = codes.len(), "committed offsets are deleted");
    let topics = request.topics.into_iter().zip(codes).map(|(topic, code)| {
        let partitions = topic.partitions.into_iter().map(|asked| {
            message!(OffsetDeleteResponsePartition {
                partition_index: asked.partition_index,
                error_code: code.code(),
            })
        });
        message!(OffsetDeleteResponseTopic {
            name: topic.name,
            partitions: partitions.collect(),
        })
    });
    message!(OffsetDeleteResponse {
        topics: topics.collect()
    })
}
