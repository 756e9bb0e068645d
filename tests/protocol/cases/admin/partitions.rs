//! ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
    ElectLeadersRequest, ElectLeadersResponse, ListPartitionReassignmentsRequest,
};

use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::topic;
use crate::world::{NOWHERE, TOPIC};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = elect_cases();
    cases.extend(reassign_cases());
    cases.extend(list_cases());
    cases
}

fn elect(asked: Option<&[(&str, &[i32])]>) -> ElectLeadersRequest {
    let topics = asked.map(|asked| {
        let topics = asked.iter().map(|(name, partitions)| {
            TopicPartitions::default()
                .with_topic(topic(name))
                .with_partitions(partitions.to_vec())
        });
        topics.collect()
    });
    ElectLeadersRequest::default().with_topic_partitions(topics)
}

fn elected(answer: &ElectLeadersResponse) -> Vec<(i32, i16)> {
    let topics = answer.replica_election_results.iter();
    let partitions = topics.flat_map(|topic| &topic.partition_result);
    partitions
        .map(|result| (result.partition_id, result.error_code))
        .collect()
}

fn elect_cases() -> Vec<Case> {
    vec![
        case(
            "partitions that are there and that are not",
            |_, _| elect(Some(&[(TOPIC, &[0, 9]), (NOWHERE, &[0])])),
            |_, _, _, answer| {
                assert_eq!(answer.error_code, NONE);
                let expected = [
                    (0, ELECTION_NOT_NEEDED),
                    (9, UNKNOWN_TOPIC_OR_PARTITION),
                    (0, UNKNOWN_TOPIC_OR_PARTITION),
                ];
                assert_eq!(elected(&answer), expected);
            },
        ),
        case(
            "all partitions",
            |_, _| elect(None),
            |_, _, _, answer| assert_eq!((answer.error_code, elected(&answer)), (NONE, vec![])),
        ),
        case(
            "any leader that is there",
            |_, _| elect(Some(&[(TOPIC, &[1])])).with_election_type(1),
            |_, _, _, answer| assert_eq!(elected(&answer), [(1, ELECTION_NOT_NEEDED)]),
        )
        .since(1),
        case(
            "an election of a kind that there is not",
            |_, _| elect(Some(&[(TOPIC, &[1])])).with_election_type(7),
            |_, _, _, answer| {
                assert_eq!(
                    (answer.error_code, elected(&answer)),
                    (INVALID_REQUEST, vec![])
                );
            },
        )
        .since(1),
    ]
}

fn reassign(name: &str, asked: &[(i32, Option<&[i32]>)]) -> ReassignableTopic {
    let partitions = asked.iter().map(|(index, replicas)| {
        let replicas = replicas.map(|replicas| replicas.iter().copied().map(BrokerId).collect());
        ReassignablePartition::default()
            .with_partition_index(*index)
            .with_replicas(replicas)
    });
    ReassignableTopic::default()
        .with_name(topic(name))
        .with_partitions(partitions.collect())
}

fn reassigned(answer: &AlterPartitionReassignmentsResponse) -> Vec<i16> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

fn reassign_cases() -> Vec<Case> {
    vec![
        case(
            "to where it is, to impossible places, and a cancellation",
            |world, _| {
                let (here, there) = (world.broker, world.broker + 1);
                let asked: &[(i32, Option<&[i32]>)] = &[
                    (0, Some(&[here])),
                    (1, Some(&[there])),
                    (1, Some(&[here, here])),
                    (1, Some(&[])),
                    (2, None),
                    (9, Some(&[here])),
                ];
                let topics = vec![
                    reassign(TOPIC, asked),
                    reassign(NOWHERE, &[(0, Some(&[here]))]),
                ];
                AlterPartitionReassignmentsRequest::default().with_topics(topics)
            },
            |_, _, _, answer| {
                assert_eq!(answer.error_code, NONE);
                let expected = [
                    NONE,
                    INVALID_REPLICA_ASSIGNMENT,
                    INVALID_REPLICA_ASSIGNMENT,
                    INVALID_REPLICA_ASSIGNMENT,
                    NO_REASSIGNMENT_IN_PROGRESS,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    UNKNOWN_TOPIC_OR_PARTITION,
                ];
                assert_eq!(reassigned(&answer), expected);
            },
        ),
        case(
            "nothing at all",
            |_, _| AlterPartitionReassignmentsRequest::default(),
            |_, _, _, answer| assert_eq!(reassigned(&answer), [0i16; 0]),
        ),
    ]
}

fn list_cases() -> Vec<Case> {
    let named = |name: &str| {
        ListPartitionReassignmentsTopics::default()
            .with_name(topic(name))
            .with_partition_indexes(vec![0, 9])
    };
    let list = |topics| ListPartitionReassignmentsRequest::default().with_topics(topics);
    vec![
        case(
            "all of them",
            move |_, _| list(None),
            |_, _, _, answer| assert!(answer.error_code == NONE && answer.topics.is_empty()),
        ),
        case(
            "those of topics",
            move |_, _| list(Some(vec![named(TOPIC), named(NOWHERE)])),
            |_, _, _, answer| assert!(answer.error_code == NONE && answer.topics.is_empty()),
        ),
    ]
}
