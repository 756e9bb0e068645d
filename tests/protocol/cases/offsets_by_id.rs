//! What kafka-protocol lacks: ListOffsets 11, and OffsetCommit and OffsetFetch 10, which name topics
//! by id.

use alluvium_protocol::message;
use alluvium_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use alluvium_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use alluvium_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use alluvium_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse, Uuid,
};

use crate::codes::*;
use crate::table::{Case, newest};
use crate::world::{NOWHERE, READERS, RECORDS, TEAM, TOPIC, World};

fn own(id: uuid::Uuid) -> Uuid {
    Uuid::from_bytes(id.into_bytes())
}

fn commit_topic(id: uuid::Uuid, partitions: &[i32]) -> OffsetCommitRequestTopic {
    let partitions = partitions.iter().map(|partition| {
        message!(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: 8,
            committed_metadata: Some("by id".into()),
        })
    });
    message!(OffsetCommitRequestTopic {
        topic_id: own(id),
        partitions: partitions.collect()
    })
}

fn codes(answer: &OffsetCommitResponse) -> Vec<i16> {
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

/// A fetch of partitions 0 and 1 of every topic given.
fn fetch_group(name: &str, ids: Option<&[uuid::Uuid]>) -> OffsetFetchRequestGroup {
    let of = |id: &uuid::Uuid| {
        message!(OffsetFetchRequestTopics {
            topic_id: own(*id),
            partition_indexes: vec![0, 1]
        })
    };
    let topics = ids.map(|ids| ids.iter().map(of).collect());
    message!(OffsetFetchRequestGroup {
        group_id: name.into(),
        topics
    })
}

pub(super) fn cases() -> Vec<Case> {
    [list_cases(), commit_cases(), fetch_cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn list(name: &str, partition: i32, timestamp: i64) -> ListOffsetsTopic {
    let partition = message!(ListOffsetsPartition {
        partition_index: partition,
        timestamp
    });
    message!(ListOffsetsTopic {
        name: name.into(),
        partitions: vec![partition]
    })
}

fn list_cases() -> Vec<Case> {
    let request = |_: &mut World| {
        let topics = vec![
            list(TOPIC, 0, -1),
            list(TOPIC, 1, -2),
            list(TOPIC, 2, -6),
            list(TOPIC, 9, -1),
            list(NOWHERE, 0, -1),
        ];
        message!(ListOffsetsRequest {
            replica_id: -1,
            topics,
            timeout_ms: 1000
        })
    };
    vec![newest(
        "good and bad",
        11,
        request,
        |_, answer: ListOffsetsResponse| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let found: Vec<_> = partitions.map(|one| (one.error_code, one.offset)).collect();
            let expected = [
                (NONE, RECORDS),
                (NONE, 0),
                (NONE, -1),
                (UNKNOWN_TOPIC_OR_PARTITION, -1),
                (UNKNOWN_TOPIC_OR_PARTITION, -1),
            ];
            assert_eq!(found, expected);
        },
    )]
}

fn commit_cases() -> Vec<Case> {
    let refused =
        |name, generation: i32, member: Option<&'static str>, group: &'static str, code| {
            newest(
                name,
                10,
                move |world: &mut World| {
                    message!(OffsetCommitRequest {
                        group_id: group.into(),
                        generation_id_or_member_epoch: world.member.generation + generation,
                        member_id: member.unwrap_or(&world.member.id.clone()).into(),
                        topics: vec![commit_topic(world.topic_id, &[0])],
                    })
                },
                move |_, answer: OffsetCommitResponse| assert_eq!(codes(&answer), [code]),
            )
        };
    vec![
        newest(
            "known and unknown ids",
            10,
            |world| {
                message!(OffsetCommitRequest {
                    group_id: "by-id".into(),
                    topics: vec![
                        commit_topic(world.topic_id, &[0, 9]),
                        commit_topic(world.unknown_id, &[0]),
                        commit_topic(world.gone_id, &[0]),
                    ],
                })
            },
            |world, answer: OffsetCommitResponse| {
                let expected = [
                    NONE,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    UNKNOWN_TOPIC_ID,
                    UNKNOWN_TOPIC_ID,
                ];
                assert_eq!(codes(&answer), expected);
                assert_eq!(answer.topics[0].topic_id, own(world.topic_id));
            },
        ),
        refused("by a member", 0, None, TEAM, NONE),
        refused("in an old generation", -1, None, TEAM, ILLEGAL_GENERATION),
        refused(
            "by an unknown member",
            0,
            Some("stranger"),
            TEAM,
            UNKNOWN_MEMBER_ID,
        ),
        refused(
            "to a group that is not there",
            0,
            None,
            "no-group",
            GROUP_ID_NOT_FOUND,
        ),
    ]
}

fn fetch_cases() -> Vec<Case> {
    vec![
        newest(
            "known and unknown ids, all topics, an unknown group",
            10,
            |world| {
                let ids = [world.topic_id, world.unknown_id];
                let groups = vec![
                    fetch_group(READERS, Some(&ids)),
                    fetch_group(READERS, None),
                    fetch_group("no-group", Some(&ids[..1])),
                ];
                message!(OffsetFetchRequest { groups })
            },
            |world, answer: OffsetFetchResponse| {
                let found = |group: usize, topic: usize| {
                    let found = &answer.groups[group].topics[topic];
                    let partitions = found.partitions.iter();
                    partitions
                        .map(|one| (one.error_code, one.committed_offset))
                        .collect::<Vec<_>>()
                };
                assert!(answer.groups.iter().all(|group| group.error_code == NONE));
                assert_eq!(answer.groups[0].topics[0].topic_id, own(world.topic_id));
                assert_eq!(found(0, 0), [(NONE, 4), (NONE, -1)]);
                assert_eq!(
                    found(0, 1),
                    [(UNKNOWN_TOPIC_ID, -1), (UNKNOWN_TOPIC_ID, -1)]
                );
                assert_eq!(answer.groups[1].topics[0].topic_id, own(world.topic_id));
                assert_eq!(found(1, 0), [(NONE, 4)]);
                assert_eq!(found(2, 0), [(NONE, -1), (NONE, -1)]);
            },
        ),
        newest(
            "no groups",
            10,
            |_| OffsetFetchRequest::default(),
            |_, answer: OffsetFetchResponse| assert!(answer.groups.is_empty()),
        ),
    ]
}
