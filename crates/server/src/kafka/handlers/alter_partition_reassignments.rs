//! AlterPartitionReassignments: where partitions are shown is computed from the agents there are, so
//! only what is shown already can be had (KIP-455).

use std::collections::BTreeSet;

use alluvium_metadata::{Refusal, State};
use alluvium_protocol::message;
use alluvium_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use alluvium_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use alluvium_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use alluvium_types::{AgentId, ErrorCode};

use super::hints::Hints;
use super::{RequestContext, refusal};

pub(crate) async fn handle(
    context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_resize = request.allow_replication_factor_change;
    let responses = context.agent.metadata.read(|state| {
        let hints = Hints::of(state, context);
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let index = asked.partition_index;
                match check(state, &hints, &topic.name, asked, may_resize) {
                    Ok(()) => message!(ReassignablePartitionResponse {
                        partition_index: index,
                        error_message: None,
                    }),
                    Err(refused) => {
                        refusal::log(
                            context,
                            "AlterPartitionReassignments",
                            &topic.name,
                            &refused,
                        );
                        message!(ReassignablePartitionResponse {
                            partition_index: index,
                            error_code: refused.code.code(),
                            error_message: Some(refused.message.into()),
                        })
                    }
                }
            });
            message!(ReassignableTopicResponse {
                name: topic.name.clone(),
                partitions: partitions.collect(),
            })
        });
        topics.collect()
    });
    message!(AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_resize,
        error_message: None,
        responses,
    })
}

/// Whether a partition is where it shall be.
fn check(
    state: &State,
    hints: &Hints<'_>,
    name: &str,
    asked: &ReassignablePartition,
    may_resize: bool,
) -> Result<(), Refusal> {
    let refuse = |code, message: String| Err(Refusal { code, message });
    let index = asked.partition_index;
    let topic = state.topic_by_name(name);
    let known = topic
        .filter(|topic| usize::try_from(index).is_ok_and(|index| index < topic.partitions.len()));
    let Some(topic) = known else {
        let message = "This server does not host this topic-partition.".to_owned();
        return refuse(ErrorCode::UnknownTopicOrPartition, message);
    };
    let Some(wanted) = &asked.replicas else {
        let message = "No partition reassignment is in progress.".to_owned();
        return refuse(ErrorCode::NoReassignmentInProgress, message);
    };
    let invalid = |message: String| refuse(ErrorCode::InvalidReplicaAssignment, message);
    if wanted.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut seen = BTreeSet::new();
    for broker in wanted {
        if !seen.insert(*broker) {
            return invalid(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
        if state.agent(AgentId(*broker)).is_none() {
            return invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is \
                 registered."
            ));
        }
    }
    let shown = hints.replicas(topic, index);
    if !may_resize && wanted.len() != shown.len() {
        return refuse(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "The replication factor is changed from {} to {}",
                shown.len(),
                wanted.len()
            ),
        );
    }
    if *wanted == shown {
        return Ok(());
    }
    invalid(format!(
        "Partitions cannot be placed by hand: every agent serves every partition, and which ones are \
         shown follows from the agents there are. Partition {name}-{index} is shown at {shown:?}."
    ))
}
