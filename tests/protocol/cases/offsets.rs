//! ListOffsets, OffsetForLeaderEpoch, OffsetCommit, OffsetFetch; the newest versions of three of
//! them are in [`super::offsets_by_id`].

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, ListOffsetsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, OffsetForLeaderEpochRequest,
};

use crate::batches::TIME;
use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::{group, text, topic};
use crate::world::{GONE, NOWHERE, READERS, RECORDS, TEAM, TOPIC, World};

use super::offsets_by_id;

pub(super) const KEYS: &[i16] = &[2, 8, 9, 23];

pub(super) fn cases() -> Vec<Case> {
    [
        list_cases(),
        epoch_cases(),
        commit_cases(),
        fetch_cases(),
        offsets_by_id::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn list(name: &str, asked: &[(i32, i64)]) -> ListOffsetsRequest {
    let partitions = asked.iter().map(|(partition, timestamp)| {
        ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_timestamp(*timestamp)
    });
    let asked = ListOffsetsTopic::default()
        .with_name(topic(name))
        .with_partitions(partitions.collect());
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![asked])
}

/// (error, offset, timestamp) for a timestamp of partition 0.
fn listed(world: &mut World, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let answer = world.client.ask(version, &list(TOPIC, &[(0, timestamp)]));
    let found = &answer.topics[0].partitions[0];
    let epoch = if version >= 4 && found.offset >= 0 {
        0
    } else {
        -1
    };
    assert_eq!(found.leader_epoch, epoch, "leader epoch for {timestamp}");
    (found.error_code, found.offset, found.timestamp)
}

fn list_cases() -> Vec<Case> {
    vec![
        case(
            "all partitions and those that are not there",
            |_, _| {
                let mut request = list(TOPIC, &[(0, -1), (1, -1), (1, -2), (9, -1)]);
                // Twice the same partition is refused: another request asks for it.
                request.topics[0].partitions.remove(2);
                request
                    .topics
                    .push(list(NOWHERE, &[(0, -1)]).topics.remove(0));
                request.topics.push(list(GONE, &[(0, -1)]).topics.remove(0));
                request
            },
            |_, _, _, answer| {
                let found: Vec<_> = answer
                    .topics
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .map(|found| (found.partition_index, found.error_code, found.offset))
                    .collect();
                let expected = [
                    (0, NONE, RECORDS),
                    (1, NONE, 0),
                    (9, UNKNOWN_TOPIC_OR_PARTITION, -1),
                    (0, UNKNOWN_TOPIC_OR_PARTITION, -1),
                    (0, UNKNOWN_TOPIC_OR_PARTITION, -1),
                ];
                assert_eq!(found, expected);
            },
        ),
        case(
            "by every kind of time",
            |_, _| list(TOPIC, &[(0, -2)]),
            |world, version, _, answer| {
                assert_eq!(answer.topics[0].partitions[0].offset, 0);
                assert_eq!(listed(world, version, TIME + 3), (NONE, 3, TIME + 3));
                assert_eq!(listed(world, version, TIME + 1000), (NONE, -1, -1));
                assert_eq!(listed(world, version, -1), (NONE, RECORDS, -1));
                // The first of the two batches has the greatest timestamp first.
                let since = |known: i16, found| {
                    if version >= known {
                        found
                    } else {
                        (UNSUPPORTED_VERSION, -1, -1)
                    }
                };
                assert_eq!(listed(world, version, -3), since(7, (NONE, 4, TIME + 4)));
                assert_eq!(listed(world, version, -4), since(8, (NONE, 0, -1)));
                assert_eq!(listed(world, version, -5), since(9, (NONE, -1, -1)));
                assert_eq!(listed(world, version, -99), (UNSUPPORTED_VERSION, -1, -1));
            },
        ),
        case(
            "read committed",
            |_, _| list(TOPIC, &[(0, -1)]).with_isolation_level(1),
            |_, _, _, answer| assert_eq!(answer.topics[0].partitions[0].offset, RECORDS),
        )
        .since(2),
        case(
            "a partition twice",
            |_, _| list(TOPIC, &[(0, -1), (0, -2), (1, -1)]),
            |_, _, _, answer| {
                let codes = answer.topics[0]
                    .partitions
                    .iter()
                    .map(|found| found.error_code);
                assert_eq!(
                    codes.collect::<Vec<_>>(),
                    [INVALID_REQUEST, INVALID_REQUEST, NONE]
                );
            },
        ),
        case(
            "an epoch that is yet to come",
            |_, _| {
                let mut request = list(TOPIC, &[(0, -1)]);
                request.topics[0].partitions[0].current_leader_epoch = 5;
                request
            },
            |_, _, _, answer| {
                assert_eq!(
                    answer.topics[0].partitions[0].error_code,
                    UNKNOWN_LEADER_EPOCH
                );
            },
        )
        .since(4),
    ]
}

fn epoch_cases() -> Vec<Case> {
    let ask = |partition, current, epoch| {
        OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch)
    };
    let request = move |_: &mut World, _| {
        let known = vec![
            ask(0, -1, 0),
            ask(1, 0, 0),
            ask(0, -1, 7),
            ask(0, 5, 0),
            ask(9, -1, 0),
        ];
        let of = |name: &str, partitions| {
            OffsetForLeaderTopic::default()
                .with_topic(topic(name))
                .with_partitions(partitions)
        };
        OffsetForLeaderEpochRequest::default()
            .with_topics(vec![of(TOPIC, known), of(NOWHERE, vec![ask(0, -1, 0)])])
    };
    vec![case(
        "known, unknown and future epochs",
        request,
        |_, _, _, answer| {
            let found: Vec<_> = answer
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|found| {
                    (
                        found.partition,
                        found.error_code,
                        found.leader_epoch,
                        found.end_offset,
                    )
                })
                .collect();
            let expected = [
                (0, NONE, 0, RECORDS),
                (1, NONE, 0, 0),
                (0, NONE, -1, -1),
                (0, UNKNOWN_LEADER_EPOCH, -1, -1),
                (9, UNKNOWN_TOPIC_OR_PARTITION, -1, -1),
                (0, UNKNOWN_TOPIC_OR_PARTITION, -1, -1),
            ];
            assert_eq!(found, expected);
        },
    )]
}

fn commit_topic(name: &str, offsets: &[(i32, i64, &str)]) -> OffsetCommitRequestTopic {
    let partitions = offsets.iter().map(|(partition, offset, metadata)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text(metadata)))
    });
    OffsetCommitRequestTopic::default()
        .with_name(topic(name))
        .with_partitions(partitions.collect())
}

/// A commit of offset 7 of partition 0.
fn commit(name: &str, generation: i32, member: &str) -> OffsetCommitRequest {
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![commit_topic(TOPIC, &[(0, 7, "")])])
}

fn commit_codes(answer: &OffsetCommitResponse) -> Vec<i16> {
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

fn commit_cases() -> Vec<Case> {
    let refused = |name, build: fn(&mut World) -> OffsetCommitRequest, old: i16, new: i16| {
        case(
            name,
            move |world, _| build(world),
            move |_, version, _, answer: OffsetCommitResponse| {
                assert_eq!(
                    commit_codes(&answer),
                    [if version >= 9 { new } else { old }]
                );
            },
        )
    };
    vec![
        case(
            "by nobody's member, good and bad partitions together",
            |world, _| {
                let long = "x".repeat(5000);
                let mut request = commit(&world.fresh("group"), -1, "");
                let asked = [
                    (0, 6, "here"),
                    (9, 1, ""),
                    (1, 2, long.as_str()),
                    (2, 0, ""),
                ];
                request.topics = vec![commit_topic(TOPIC, &asked)];
                request.topics[0].partitions[3].committed_metadata = None;
                request.topics.push(commit_topic(NOWHERE, &[(0, 1, "")]));
                request
            },
            |world, _, request, answer| {
                let expected = [
                    NONE,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    OFFSET_METADATA_TOO_LARGE,
                    NONE,
                    UNKNOWN_TOPIC_OR_PARTITION,
                ];
                assert_eq!(commit_codes(&answer), expected);
                let read = fetch(5, request.group_id.as_str(), Some(&[(TOPIC, &[0, 1, 2])]));
                let found = committed(world.client.ask(5, &read));
                assert_eq!(
                    found,
                    [(0, 6, "here".into()), (1, -1, "".into()), (2, 0, "".into())]
                );
            },
        ),
        case(
            "by a member",
            |world, _| commit(TEAM, world.member.generation, &world.member.id.clone()),
            |_, _, _, answer| assert_eq!(commit_codes(&answer), [NONE]),
        ),
        case(
            "nothing at all",
            |world, _| commit(&world.fresh("group"), -1, "").with_topics(vec![]),
            |_, _, _, answer| assert!(answer.topics.is_empty()),
        ),
        refused(
            "in an old generation",
            |world| commit(TEAM, world.member.generation - 1, &world.member.id.clone()),
            ILLEGAL_GENERATION,
            ILLEGAL_GENERATION,
        ),
        refused(
            "by an unknown member",
            |world| commit(TEAM, world.member.generation, "stranger"),
            UNKNOWN_MEMBER_ID,
            UNKNOWN_MEMBER_ID,
        ),
        refused(
            "by nobody's member to a group that has some",
            |_| commit(TEAM, -1, ""),
            UNKNOWN_MEMBER_ID,
            UNKNOWN_MEMBER_ID,
        ),
        refused(
            "by a member of a group that is not there",
            |world| commit(&world.fresh("no-group"), 3, "stranger"),
            ILLEGAL_GENERATION,
            GROUP_ID_NOT_FOUND,
        ),
    ]
}

type Asked<'a> = Option<&'a [(&'a str, &'a [i32])]>;

fn fetch(version: i16, name: &str, asked: Asked<'_>) -> OffsetFetchRequest {
    if version >= 8 {
        return OffsetFetchRequest::default().with_groups(vec![fetch_group(name, asked)]);
    }
    let of = |(name, partitions): &(&str, &[i32])| {
        OffsetFetchRequestTopic::default()
            .with_name(topic(name))
            .with_partition_indexes(partitions.to_vec())
    };
    OffsetFetchRequest::default()
        .with_group_id(group(name))
        .with_topics(asked.map(|asked| asked.iter().map(of).collect()))
}

fn fetch_group(name: &str, asked: Asked<'_>) -> OffsetFetchRequestGroup {
    let of = |(name, partitions): &(&str, &[i32])| {
        OffsetFetchRequestTopics::default()
            .with_name(topic(name))
            .with_partition_indexes(partitions.to_vec())
    };
    OffsetFetchRequestGroup::default()
        .with_group_id(group(name))
        .with_topics(asked.map(|asked| asked.iter().map(of).collect()))
}

/// (partition, offset, metadata) of all topics, all of which are to be without error.
fn committed(answer: OffsetFetchResponse) -> Vec<(i32, i64, String)> {
    assert_eq!(answer.error_code, NONE);
    let mut found = Vec::new();
    for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
        assert_eq!(partition.error_code, NONE);
        let metadata = partition.metadata.unwrap().to_string();
        found.push((
            partition.partition_index,
            partition.committed_offset,
            metadata,
        ));
    }
    for group in answer.groups {
        assert_eq!(group.error_code, NONE);
        for partition in group.topics.into_iter().flat_map(|topic| topic.partitions) {
            assert_eq!(partition.error_code, NONE);
            let metadata = partition.metadata.unwrap().to_string();
            found.push((
                partition.partition_index,
                partition.committed_offset,
                metadata,
            ));
        }
    }
    found
}

fn fetch_cases() -> Vec<Case> {
    let none = |partition: i32| (partition, -1, String::new());
    vec![
        case(
            "committed and not, known and unknown topics",
            |_, version| {
                fetch(
                    version,
                    READERS,
                    Some(&[(TOPIC, &[0, 1, 9]), (NOWHERE, &[0])]),
                )
            },
            move |_, version, _, answer| {
                let epoch = match version {
                    ..5 => -1,
                    5..8 => answer.topics[0].partitions[0].committed_leader_epoch,
                    _ => answer.groups[0].topics[0].partitions[0].committed_leader_epoch,
                };
                assert_eq!(epoch, if version >= 5 { 0 } else { -1 });
                let expected = [(0, 4, "note".to_owned()), none(1), none(9), none(0)];
                assert_eq!(committed(answer), expected);
            },
        ),
        case(
            "no topics",
            |_, version| fetch(version, READERS, Some(&[])),
            |_, _, _, answer| assert!(committed(answer).is_empty()),
        ),
        case(
            "all topics",
            |_, version| fetch(version, READERS, None),
            |_, _, _, answer| assert_eq!(committed(answer), [(0, 4, "note".to_owned())]),
        )
        .since(2),
        case(
            "a group that is not there",
            |_, version| fetch(version, "no-group", Some(&[(TOPIC, &[0])])),
            move |_, _, _, answer| assert_eq!(committed(answer), [none(0)]),
        ),
        case(
            "only what is stable",
            |_, version| fetch(version, READERS, Some(&[(TOPIC, &[0])])).with_require_stable(true),
            |_, _, _, answer| assert_eq!(committed(answer)[0].1, 4),
        )
        .since(7),
        case(
            "several groups",
            |_, _| {
                let groups = vec![
                    fetch_group("no-group", None),
                    fetch_group(READERS, Some(&[(TOPIC, &[0])])),
                ];
                OffsetFetchRequest::default().with_groups(groups)
            },
            |_, _, _, answer| {
                let names = answer.groups.iter().map(|group| group.group_id.to_string());
                assert_eq!(names.collect::<Vec<_>>(), ["no-group", READERS]);
                assert!(answer.groups[0].topics.is_empty());
                assert_eq!(answer.groups[1].topics[0].partitions[0].committed_offset, 4);
            },
        )
        .since(8),
        case(
            "no groups",
            |_, _| OffsetFetchRequest::default(),
            |_, _, _, answer| assert!(answer.groups.is_empty()),
        )
        .since(8),
    ]
}
