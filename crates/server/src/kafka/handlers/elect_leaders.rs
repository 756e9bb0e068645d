//! ElectLeaders: any agent serves any partition, so there is never anything to elect (KIP-460).

use alluvium_protocol::message;
use alluvium_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use alluvium_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use alluvium_types::{ErrorCode, TopicPartition};

use super::RequestContext;

/// The preferred leader, and any that is there.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

pub(crate) async fn handle(
    context: &RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    if !ELECTION_TYPES.contains(&request.election_type) {
        return message!(ElectLeadersResponse {
            error_code: ErrorCode::InvalidRequest.code()
        });
    }
    // Who asks for all partitions is told of those that had an election, or should have.
    let asked = request.topic_partitions.unwrap_or_default();
    let results = context.agent.metadata.read(|state| {
        let results = asked.into_iter().map(|asked| {
            let id = state.topic_by_name(&asked.topic).map(|topic| topic.id);
            let partitions = asked.partitions.iter().map(|index| {
                let place = id.map(|id| TopicPartition::new(id, *index));
                let (code, message) = if place.is_some_and(|place| state.partition(place).is_some())
                {
                    let message = "Every agent leads every partition.";
                    (ErrorCode::ElectionNotNeeded, message)
                } else {
                    let message = "This server does not host this topic-partition.";
                    (ErrorCode::UnknownTopicOrPartition, message)
                };
                message!(PartitionResult {
                    partition_id: *index,
                    error_code: code.code(),
                    error_message: Some(message.into()),
                })
            });
            message!(ReplicaElectionResult {
                partition_result: partitions.collect(),
                topic: asked.topic,
            })
        });
        results.collect()
    });
    message!(ElectLeadersResponse {
        replica_election_results: results
    })
}
