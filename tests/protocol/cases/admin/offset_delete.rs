//! OffsetDelete.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    JoinGroupRequest, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
};

use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::{group, text, topic};
use crate::world::{NOWHERE, TEAM, TOPIC, World, join};

fn delete(name: &str, topics: &[(&str, &[i32])]) -> OffsetDeleteRequest {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        OffsetDeleteRequestTopic::default()
            .with_name(topic(name))
            .with_partitions(partitions.collect())
    });
    OffsetDeleteRequest::default()
        .with_group_id(group(name))
        .with_topics(topics.collect())
}

fn codes(answer: &OffsetDeleteResponse) -> Vec<(i32, i16)> {
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| (partition.partition_index, partition.error_code))
        .collect()
}

/// What a group has committed for partition 0.
fn committed(world: &mut World, name: &str) -> i64 {
    let asked = OffsetFetchRequestTopic::default()
        .with_name(topic(TOPIC))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group(name))
        .with_topics(Some(vec![asked]));
    let answer = world.client.ask(5, &request);
    answer.topics[0].partitions[0].committed_offset
}

/// A group that has committed and has one member that reads a topic.
fn member_of(world: &mut World, protocol_type: &str, read: &str) -> String {
    let name = world.fresh("group");
    world.commit(&name, 3);
    let mut subscription = BytesMut::new();
    subscription.put_i16(0);
    subscription.put_i32(1);
    subscription.put_i16(read.len().try_into().unwrap());
    subscription.put_slice(read.as_bytes());
    subscription.put_i32(-1);
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription.freeze());
    let request: JoinGroupRequest = join(&name)
        .with_protocol_type(text(protocol_type))
        .with_protocols(vec![protocol]);
    let joined = world.join_twice(5, &request);
    assert_eq!(joined.error_code, NONE, "{joined:?}");
    name
}

pub(super) fn cases() -> Vec<Case> {
    let refused = |name, build: fn(&mut World) -> String, code: i16| {
        case(
            name,
            move |world, _| delete(&build(world), &[(TOPIC, &[0])]),
            move |_, _, _, answer: OffsetDeleteResponse| {
                assert_eq!((answer.error_code, codes(&answer)), (code, vec![]));
            },
        )
    };
    vec![
        case(
            "committed, not committed, and of no topic",
            |world, _| {
                let name = world.fresh("group");
                world.commit(&name, 3);
                delete(&name, &[(TOPIC, &[0, 1]), (NOWHERE, &[0])])
            },
            |world, _, request, answer| {
                assert_eq!(answer.error_code, NONE);
                let expected = [(0, NONE), (1, NONE), (0, UNKNOWN_TOPIC_OR_PARTITION)];
                assert_eq!(codes(&answer), expected);
                assert_eq!(committed(world, &request.group_id), -1);
            },
        ),
        case(
            "of a topic that a member reads",
            |world, _| {
                let name = member_of(world, "consumer", TOPIC);
                delete(&name, &[(TOPIC, &[0])])
            },
            |world, _, request, answer| {
                assert_eq!(codes(&answer), [(0, GROUP_SUBSCRIBED_TO_TOPIC)]);
                assert_eq!(committed(world, &request.group_id), 3);
            },
        ),
        case(
            "while a member reads another topic",
            |world, _| {
                let name = member_of(world, "consumer", NOWHERE);
                delete(&name, &[(TOPIC, &[0])])
            },
            |world, _, request, answer| {
                assert_eq!(codes(&answer), [(0, NONE)]);
                assert_eq!(committed(world, &request.group_id), -1);
            },
        ),
        case(
            "while a member reads nobody knows what",
            |_, _| delete(TEAM, &[(TOPIC, &[0])]),
            |_, _, _, answer| assert_eq!(codes(&answer), [(0, GROUP_SUBSCRIBED_TO_TOPIC)]),
        ),
        refused(
            "of a group whose members are no consumers",
            |world| member_of(world, "connect", NOWHERE),
            NON_EMPTY_GROUP,
        ),
        refused(
            "of a group that is not there",
            |_| "no-group".into(),
            GROUP_ID_NOT_FOUND,
        ),
        refused(
            "of a group without a name",
            |_| String::new(),
            INVALID_GROUP_ID,
        ),
        case(
            "nothing at all",
            |_, _| delete("no-group", &[]),
            |_, _, _, answer| assert_eq!((answer.error_code, codes(&answer)), (NONE, vec![])),
        ),
    ]
}
