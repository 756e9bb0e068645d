//! Share groups: ShareGroupHeartbeat, ShareGroupDescribe, ShareFetch, ShareAcknowledge, and their offsets.

use alluvium_protocol::message;
use alluvium_protocol::messages as own;
use own::share_acknowledge_request::{AcknowledgePartition, AcknowledgeTopic};
use own::share_fetch_request::{AcknowledgementBatch, FetchPartition, FetchTopic};

use crate::codes::*;
use crate::table::{Case, newest};
use crate::world::{NOWHERE, READERS, TOPIC, World};

pub(super) const KEYS: &[i16] = &[76, 77, 78, 79, 90, 91, 92];

const QUEUE: &str = "queue";

pub(super) fn cases() -> Vec<Case> {
    [
        heartbeat_cases(),
        describe_cases(),
        fetch_cases(),
        acknowledge_cases(),
        offset_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn beat(
    group: &str,
    member: &str,
    epoch: i32,
    topics: Option<&[&str]>,
) -> own::ShareGroupHeartbeatRequest {
    message!(own::ShareGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: epoch,
        subscribed_topic_names: topics.map(|topics| topics.iter().map(|it| (*it).into()).collect()),
    })
}

/// Has the group begin with the topic, and leaves it without members.
fn begin(world: &mut World, group: &str, member: &str) {
    for (epoch, topics) in [(0, Some(&[TOPIC][..])), (-1, None)] {
        let joined: own::ShareGroupHeartbeatResponse =
            world.client.ask_own(1, &beat(group, member, epoch, topics));
        assert_eq!(joined.error_code, NONE);
    }
}

fn heartbeat_cases() -> Vec<Case> {
    vec![
        newest(
            "a member joins and leaves",
            1,
            |_| beat("joined", "m", 0, Some(&[TOPIC])),
            |world, answer: own::ShareGroupHeartbeatResponse| {
                assert_eq!((answer.error_code, answer.member_epoch), (NONE, 1));
                assert!(answer.heartbeat_interval_ms > 0);
                let assigned = answer.assignment.unwrap().topic_partitions;
                assert_eq!(assigned.len(), 1);
                assert_eq!(assigned[0].partitions, [0, 1, 2]);
                assert_eq!(assigned[0].topic_id.to_bytes(), *world.topic_id.as_bytes());
                let left: own::ShareGroupHeartbeatResponse =
                    world.client.ask_own(1, &beat("joined", "m", -1, None));
                assert_eq!((left.error_code, left.member_epoch), (NONE, -1));
            },
        ),
        newest(
            "who never joined is not known",
            1,
            |_| beat("never", "m", 5, None),
            |_, answer: own::ShareGroupHeartbeatResponse| {
                assert_eq!(answer.error_code, UNKNOWN_MEMBER_ID);
            },
        ),
        newest(
            "without a group id",
            1,
            |_| beat("", "m", 0, Some(&[TOPIC])),
            |_, answer: own::ShareGroupHeartbeatResponse| {
                assert_eq!(answer.error_code, INVALID_GROUP_ID)
            },
        ),
        newest(
            "without topics",
            1,
            |_| beat("joined", "n", 0, None),
            |_, answer: own::ShareGroupHeartbeatResponse| {
                assert_eq!(answer.error_code, INVALID_REQUEST)
            },
        ),
        newest(
            "a group that is no share group",
            1,
            |_| beat(READERS, "m", 0, Some(&[TOPIC])),
            |_, answer: own::ShareGroupHeartbeatResponse| {
                assert_eq!(answer.error_code, GROUP_ID_NOT_FOUND);
            },
        ),
    ]
}

fn describe_cases() -> Vec<Case> {
    vec![newest(
        "a share group, one of another kind, and none",
        1,
        |world| {
            begin(world, QUEUE, "d");
            message!(own::ShareGroupDescribeRequest {
                group_ids: vec![QUEUE.into(), READERS.into(), "none".into()],
            })
        },
        |_, answer: own::ShareGroupDescribeResponse| {
            let codes: Vec<_> = answer.groups.iter().map(|group| group.error_code).collect();
            assert_eq!(codes, [NONE, GROUP_ID_NOT_FOUND, GROUP_ID_NOT_FOUND]);
            assert_eq!(&*answer.groups[0].group_state, "Empty");
        },
    )]
}

fn fetch(member: &str, epoch: i32, topics: Vec<FetchTopic>) -> own::ShareFetchRequest {
    message!(own::ShareFetchRequest {
        group_id: Some("fetchers".into()),
        member_id: Some(member.into()),
        share_session_epoch: epoch,
        max_wait_ms: 100,
        max_bytes: 1 << 20,
        max_records: 4,
        topics,
    })
}

fn partition_0(world: &World, acknowledged: Vec<AcknowledgementBatch>) -> Vec<FetchTopic> {
    vec![message!(FetchTopic {
        topic_id: own::Uuid::from_bytes(*world.topic_id.as_bytes()),
        partitions: vec![message!(FetchPartition {
            partition_index: 0,
            acknowledgement_batches: acknowledged,
        })],
    })]
}

fn batch(first: i64, last: i64, kind: i8) -> AcknowledgementBatch {
    message!(AcknowledgementBatch {
        first_offset: first,
        last_offset: last,
        acknowledge_types: vec![kind],
    })
}

/// Has the group begin at the first record.
fn from_the_start(world: &mut World) {
    begin(world, "fetchers", "f");
    let topic = message!(
        own::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic {
            topic_name: TOPIC.into(),
            partitions: vec![message!(
                own::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestPartition {
                    partition_index: 0,
                    start_offset: 0,
                }
            )],
        }
    );
    let reset = message!(own::AlterShareGroupOffsetsRequest {
        group_id: "fetchers".into(),
        topics: vec![topic],
    });
    let done: own::AlterShareGroupOffsetsResponse = world.client.ask_own(0, &reset);
    assert_eq!(done.error_code, NONE);
}

fn fetch_cases() -> Vec<Case> {
    vec![
        newest(
            "records are acquired, acknowledged with the next fetch, and not given twice",
            1,
            |world| {
                from_the_start(world);
                fetch("f", 0, partition_0(world, Vec::new()))
            },
            |world, answer: own::ShareFetchResponse| {
                assert_eq!(answer.error_code, NONE);
                assert!(answer.acquisition_lock_timeout_ms > 0);
                let data = &answer.responses[0].partitions[0];
                let acquired = &data.acquired_records[0];
                assert_eq!((data.error_code, acquired.delivery_count), (NONE, 1));
                assert_eq!((acquired.first_offset, acquired.last_offset), (0, 3));
                assert!(!data.records.is_empty());
                // The second request of the session gives the first two back, and gets them again.
                let again = fetch(
                    "f",
                    1,
                    partition_0(world, vec![batch(0, 1, 2), batch(2, 3, 1)]),
                );
                let answer: own::ShareFetchResponse = world.client.ask_own(1, &again);
                let data = &answer.responses[0].partitions[0];
                assert_eq!(data.acknowledge_error_code, NONE);
                let acquired = &data.acquired_records[0];
                assert_eq!((acquired.first_offset, acquired.last_offset), (0, 1));
                assert_eq!(acquired.delivery_count, 2);
                // What was accepted is nobody's any more.
                let late = fetch("f", 2, partition_0(world, vec![batch(2, 3, 1)]));
                let answer: own::ShareFetchResponse = world.client.ask_own(1, &late);
                let data = &answer.responses[0].partitions[0];
                assert_eq!(data.acknowledge_error_code, INVALID_RECORD_STATE);
                let last = fetch("f", -1, Vec::new());
                let answer: own::ShareFetchResponse = world.client.ask_own(1, &last);
                assert_eq!(answer.error_code, NONE);
            },
        ),
        newest(
            "a session that is not there",
            1,
            |world| fetch("nobody", 3, partition_0(world, Vec::new())),
            |_, answer: own::ShareFetchResponse| {
                assert_eq!(answer.error_code, SHARE_SESSION_NOT_FOUND);
            },
        ),
        newest(
            "a topic that is not there",
            1,
            |world| {
                let mut topics = partition_0(world, Vec::new());
                topics[0].topic_id = own::Uuid::from_bytes(*world.unknown_id.as_bytes());
                fetch("g", 0, topics)
            },
            |_, answer: own::ShareFetchResponse| {
                let data = &answer.responses[0].partitions[0];
                assert_eq!(data.error_code, UNKNOWN_TOPIC_OR_PARTITION);
            },
        ),
        newest(
            "an acknowledgement of no known type",
            1,
            |world| fetch("g", 1, partition_0(world, vec![batch(0, 1, 9)])),
            |_, answer: own::ShareFetchResponse| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
    ]
}

fn acknowledge_cases() -> Vec<Case> {
    let request = |world: &World, epoch| {
        let topic = message!(AcknowledgeTopic {
            topic_id: own::Uuid::from_bytes(*world.topic_id.as_bytes()),
            partitions: vec![message!(AcknowledgePartition {
                partition_index: 0,
                acknowledgement_batches: vec![message!(
                    own::share_acknowledge_request::AcknowledgementBatch {
                        first_offset: 0,
                        last_offset: 3,
                        acknowledge_types: vec![1],
                    }
                )],
            })],
        });
        message!(own::ShareAcknowledgeRequest {
            group_id: Some("fetchers".into()),
            member_id: Some("a".into()),
            share_session_epoch: epoch,
            topics: vec![topic],
        })
    };
    vec![
        newest(
            "records are done with",
            1,
            move |world| {
                from_the_start(world);
                let opened: own::ShareFetchResponse = world
                    .client
                    .ask_own(1, &fetch("a", 0, partition_0(world, Vec::new())));
                assert_eq!(opened.responses[0].partitions[0].acquired_records.len(), 1);
                request(world, 1)
            },
            move |world, answer: own::ShareAcknowledgeResponse| {
                assert_eq!(answer.error_code, NONE);
                assert_eq!(answer.responses[0].partitions[0].error_code, NONE);
                let again: own::ShareAcknowledgeResponse =
                    world.client.ask_own(1, &request(world, 2));
                let code = again.responses[0].partitions[0].error_code;
                assert_eq!(code, INVALID_RECORD_STATE);
                let last: own::ShareAcknowledgeResponse =
                    world.client.ask_own(1, &request(world, -1));
                assert_eq!(last.error_code, NONE);
            },
        ),
        newest(
            "a session cannot begin with it",
            1,
            move |world| request(world, 0),
            |_, answer: own::ShareAcknowledgeResponse| {
                assert_eq!(answer.error_code, INVALID_SHARE_SESSION_EPOCH);
            },
        ),
    ]
}

fn offset_cases() -> Vec<Case> {
    use own::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
    use own::describe_share_group_offsets_request::{
        DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
    };
    vec![
        newest(
            "where groups stand",
            0,
            |world| {
                from_the_start(world);
                let topic = |name: &str, partitions: Vec<i32>| {
                    message!(DescribeShareGroupOffsetsRequestTopic {
                        topic_name: name.into(),
                        partitions
                    })
                };
                let group = |name: &str, topics| {
                    message!(DescribeShareGroupOffsetsRequestGroup {
                        group_id: name.into(),
                        topics
                    })
                };
                let asked = vec![topic(TOPIC, vec![0]), topic(NOWHERE, vec![0])];
                message!(own::DescribeShareGroupOffsetsRequest {
                    groups: vec![
                        group("fetchers", Some(asked)),
                        group("fetchers", None),
                        group("none", None)
                    ],
                })
            },
            |_, answer: own::DescribeShareGroupOffsetsResponse| {
                let [some, all, none] = &answer.groups[..] else {
                    panic!("{answer:?}");
                };
                let partition = &some.topics[0].partitions[0];
                assert_eq!((partition.error_code, partition.start_offset), (NONE, 0));
                let unknown = &some.topics[1].partitions[0];
                assert_eq!(unknown.error_code, UNKNOWN_TOPIC_OR_PARTITION);
                assert_eq!(all.topics[0].partitions.len(), 3);
                assert_eq!(none.error_code, GROUP_ID_NOT_FOUND);
            },
        ),
        newest(
            "a group goes on from elsewhere, and forgets",
            0,
            |world| {
                from_the_start(world);
                let topics = [TOPIC, NOWHERE].map(|name| {
                    message!(DeleteShareGroupOffsetsRequestTopic {
                        topic_name: name.into()
                    })
                });
                message!(own::DeleteShareGroupOffsetsRequest {
                    group_id: "fetchers".into(),
                    topics: topics.to_vec(),
                })
            },
            |_, answer: own::DeleteShareGroupOffsetsResponse| {
                let codes: Vec<_> = answer
                    .responses
                    .iter()
                    .map(|topic| topic.error_code)
                    .collect();
                assert_eq!(codes, [NONE, UNKNOWN_TOPIC_OR_PARTITION]);
            },
        ),
        newest(
            "not of a group that is not there",
            0,
            |_| {
                message!(own::AlterShareGroupOffsetsRequest {
                    group_id: "none".into(),
                    topics: Vec::new(),
                })
            },
            |_, answer: own::AlterShareGroupOffsetsResponse| {
                assert_eq!(answer.error_code, GROUP_ID_NOT_FOUND);
            },
        ),
    ]
}
