//! DeleteShareGroupOffsets: a share group without members forgets topics (KIP-932).

use alluvium_protocol::message;
use alluvium_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use alluvium_protocol::messages::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, uuid,
};
use alluvium_types::{ErrorCode, TopicPartition};
use tracing::{info, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let _ = context.agent.current().await;
    let mut starts = Vec::new();
    let mut responses = Vec::new();
    context.agent.metadata.read(|state| {
        let known = state.group(&request.group_id).map(|group| &group.shares);
        for topic in &request.topics {
            let found = state.topic_by_name(&topic.topic_name);
            let Some(found) = found else {
                responses.push(message!(DeleteShareGroupOffsetsResponseTopic {
                    topic_name: topic.topic_name.clone(),
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                }));
                continue;
            };
            let everything =
                TopicPartition::new(found.id, 0)..=TopicPartition::new(found.id, i32::MAX);
            let places = known
                .into_iter()
                .flat_map(|known| known.range(everything.clone()));
            starts.extend(places.map(|(place, _)| (*place, None)));
            responses.push(message!(DeleteShareGroupOffsetsResponseTopic {
                topic_name: topic.topic_name.clone(),
                topic_id: uuid(found.id),
            }));
        }
    });
    let (group, client) = (&request.group_id, &context.client_host);
    match context.agent.shares.reset(group, starts).await {
        Ok(()) => {
            info!(%group, client, "a share group has forgotten topics");
            message!(DeleteShareGroupOffsetsResponse { responses })
        }
        Err(code) => {
            warn!(%group, %code, client, "DeleteShareGroupOffsets refused");
            message!(DeleteShareGroupOffsetsResponse {
                error_code: code.code(),
                error_message: Some(code.name().into()),
            })
        }
    }
}
