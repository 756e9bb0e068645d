//! DescribeQuorum, AddRaftVoter, RemoveRaftVoter.

use alluvium_cluster::VoterId;
use alluvium_protocol::message;
use alluvium_protocol::messages as own;
use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::{
    AddRaftVoterRequest, DescribeQuorumRequest, DescribeQuorumResponse, RemoveRaftVoterRequest,
};
use uuid::Uuid;

use crate::codes::*;
use crate::table::{Case, case, newest};
use crate::wire::{text, topic};
use crate::world::World;

pub(super) const KEYS: &[i16] = &[55, 80, 81];

pub(super) fn cases() -> Vec<Case> {
    [describe_cases(), add_cases(), remove_cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn describe(name: &str, partition: i32) -> DescribeQuorumRequest {
    let partition = PartitionData::default().with_partition_index(partition);
    let asked = TopicData::default()
        .with_topic_name(topic(name))
        .with_partitions(vec![partition]);
    DescribeQuorumRequest::default().with_topics(vec![asked])
}

const LOG: &str = "__cluster_metadata";

fn describe_cases() -> Vec<Case> {
    vec![
        case(
            "the quorum of one",
            |_, _| describe(LOG, 0),
            |world, version, _, answer: DescribeQuorumResponse| {
                assert_eq!(answer.error_code, NONE);
                let partition = &answer.topics[0].partitions[0];
                assert_eq!((partition.error_code, partition.leader_id.0), (NONE, 1));
                assert!(partition.leader_epoch > 0 && partition.high_watermark > 0);
                let voter = &partition.current_voters[0];
                assert_eq!((partition.current_voters.len(), voter.replica_id.0), (1, 1));
                assert!(voter.log_end_offset >= partition.high_watermark);
                assert_eq!(version >= 1, voter.last_fetch_timestamp > 0);
                assert_eq!(version >= 2, !voter.replica_directory_id.is_nil());
                let observers = &partition.observers;
                assert_eq!(
                    (observers.len(), observers[0].replica_id.0),
                    (1, world.broker)
                );
            },
        ),
        case(
            "of another log",
            |_, _| describe("clicks", 0),
            |_, _, _, answer| {
                let partition = &answer.topics[0].partitions[0];
                assert_eq!(partition.error_code, UNKNOWN_TOPIC_OR_PARTITION);
            },
        ),
        case(
            "of another partition",
            |_, _| describe(LOG, 7),
            |_, _, _, answer| {
                let partition = &answer.topics[0].partitions[0];
                assert_eq!(partition.partition_index, 7);
                assert_eq!(partition.error_code, UNKNOWN_TOPIC_OR_PARTITION);
            },
        ),
        case(
            "of nothing",
            |_, _| DescribeQuorumRequest::default(),
            |_, _, _, answer| assert!(answer.topics.is_empty()),
        ),
    ]
}

/// The directory id of the only voter.
fn directory(world: &mut World) -> Uuid {
    let answer = world.client.ask(2, &describe(LOG, 0));
    answer.topics[0].partitions[0].current_voters[0].replica_directory_id
}

/// A directory id that no voter has.
fn unknown(node: u32) -> Uuid {
    Uuid::from_bytes(VoterId::new(7, node).directory())
}

fn listener() -> Listener {
    Listener::default()
        .with_name(text("CONTROLLER"))
        .with_host(text("localhost"))
        .with_port(9)
}

fn add(node: i32, directory: Uuid) -> AddRaftVoterRequest {
    AddRaftVoterRequest::default()
        .with_cluster_id(None)
        .with_timeout_ms(1000)
        .with_voter_id(node)
        .with_voter_directory_id(directory)
        .with_listeners(vec![listener()])
}

fn add_cases() -> Vec<Case> {
    vec![
        case(
            "who votes already",
            |world, _| {
                let directory = directory(world);
                add(1, directory)
            },
            |_, _, _, answer| assert_eq!(answer.error_code, DUPLICATE_VOTER),
        ),
        case(
            "a disk that is none of ours",
            |_, _| add(2, Uuid::from_u128(99)),
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
        case(
            "nowhere",
            |_, _| add(2, unknown(2)).with_listeners(vec![]),
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
        case(
            "to another cluster",
            |_, _| add(2, unknown(2)).with_cluster_id(Some(text("another"))),
            |_, _, _, answer| assert_eq!(answer.error_code, INCONSISTENT_CLUSTER_ID),
        ),
        newest(
            "a disk that is none of ours, in the newest version",
            1,
            |_| {
                message!(own::AddRaftVoterRequest {
                    cluster_id: None,
                    voter_id: 2,
                    voter_directory_id: own::Uuid::from_bytes([9; 16]),
                    timeout_ms: 1000,
                    ack_when_committed: false,
                })
            },
            |_, answer: own::AddRaftVoterResponse| {
                assert_eq!(answer.error_code, INVALID_REQUEST);
            },
        ),
    ]
}

fn remove(node: i32, directory: Uuid) -> RemoveRaftVoterRequest {
    RemoveRaftVoterRequest::default()
        .with_cluster_id(None)
        .with_voter_id(node)
        .with_voter_directory_id(directory)
}

fn remove_cases() -> Vec<Case> {
    vec![
        case(
            "who does not vote",
            |_, _| remove(2, unknown(2)),
            |_, _, _, answer| assert_eq!(answer.error_code, VOTER_NOT_FOUND),
        ),
        case(
            "the disk of another node",
            |world, _| {
                let directory = directory(world);
                remove(2, directory)
            },
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
        case(
            "the last one",
            |world, _| {
                let directory = directory(world);
                remove(1, directory)
            },
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
        case(
            "from another cluster",
            |_, _| remove(2, unknown(2)).with_cluster_id(Some(text("another"))),
            |_, _, _, answer| assert_eq!(answer.error_code, INCONSISTENT_CLUSTER_ID),
        ),
    ]
}
