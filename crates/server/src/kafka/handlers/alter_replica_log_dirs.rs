//! AlterReplicaLogDirs: there is one directory, the store, and everything is in it (KIP-113).

use alluvium_protocol::message;
use alluvium_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use alluvium_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use alluvium_types::{ErrorCode, TopicPartition};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let agent = &context.agent;
    let results = agent.metadata.read(|state| {
        let moves = request.dirs.iter().flat_map(|dir| {
            let is_store = dir.path.as_str() == agent.store();
            dir.topics.iter().map(move |topic| (is_store, topic))
        });
        let results = moves.map(|(is_store, topic)| {
            let id = state.topic_by_name(&topic.name).map(|topic| topic.id);
            let partitions = topic.partitions.iter().map(|index| {
                let place = id.map(|id| TopicPartition::new(id, *index));
                let code = if !is_store {
                    ErrorCode::LogDirNotFound
                } else if place.is_some_and(|place| state.partition(place).is_some()) {
                    ErrorCode::None
                } else {
                    ErrorCode::UnknownTopicOrPartition
                };
                message!(AlterReplicaLogDirPartitionResult {
                    partition_index: *index,
                    error_code: code.code(),
                })
            });
            message!(AlterReplicaLogDirTopicResult {
                topic_name: topic.name.clone(),
                partitions: partitions.collect(),
            })
        });
        results.collect()
    });
    message!(AlterReplicaLogDirsResponse { results })
}
