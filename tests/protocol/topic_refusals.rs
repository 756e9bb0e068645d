//! Topics that are refused, with Kafka's codes; nothing is made of a refused one.

use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, MetadataRequest,
};

use crate::codes::*;
use crate::wire::{text, topic};
use crate::world::{TOPIC, World};

fn named(name: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
}

fn with(name: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig::default()
        .with_name(text(name))
        .with_value(value.map(text));
    named("refused").with_configs(vec![config])
}

/// A topic whose replicas the client places: by partition.
fn placed(placement: &[(i32, &[i32])]) -> CreatableTopic {
    let placement = placement.iter().map(|(partition, brokers)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*partition)
            .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
    });
    named("refused")
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(placement.collect())
}

fn create(world: &mut World, topics: Vec<CreatableTopic>) -> Vec<i16> {
    let request = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(5000);
    let answer = world.client.ask(7, &request);
    answer.topics.iter().map(|topic| topic.error_code).collect()
}

/// Every topic and how many partitions it has.
fn topics(world: &mut World) -> Vec<(String, usize)> {
    let request = MetadataRequest::default().with_topics(None);
    let answer = world.client.ask(9, &request);
    let of = |name: &kafka_protocol::messages::TopicName| name.to_string();
    let mut topics: Vec<_> = answer
        .topics
        .iter()
        .map(|topic| (topic.name.as_ref().map(of).unwrap(), topic.partitions.len()))
        .collect();
    topics.sort_unstable();
    topics
}

/// What is refused, and how.
fn refused() -> Vec<(&'static str, CreatableTopic, i16)> {
    let counts = |partitions, replicas| {
        named("refused")
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    };
    vec![
        ("an empty name", named(""), INVALID_TOPIC),
        ("the name .", named("."), INVALID_TOPIC),
        ("the name ..", named(".."), INVALID_TOPIC),
        ("a space", named("a b"), INVALID_TOPIC),
        ("a slash", named("a/b"), INVALID_TOPIC),
        ("not ASCII", named("ü"), INVALID_TOPIC),
        ("a NUL", named("a\0"), INVALID_TOPIC),
        ("too long a name", named(&"a".repeat(250)), INVALID_TOPIC),
        ("a name like another's", named("dotted_name"), INVALID_TOPIC),
        ("one that exists", named(TOPIC), TOPIC_ALREADY_EXISTS),
        ("no partitions", counts(0, 1), INVALID_PARTITIONS),
        ("fewer than none", counts(-2, 1), INVALID_PARTITIONS),
        ("far too many", counts(i32::MAX, 1), INVALID_PARTITIONS),
        ("no replicas", counts(1, 0), INVALID_REPLICATION_FACTOR),
        (
            "fewer replicas than none",
            counts(1, -2),
            INVALID_REPLICATION_FACTOR,
        ),
        (
            "an unknown setting",
            with("no.such.setting", Some("1")),
            INVALID_CONFIG,
        ),
        (
            "a setting without a value",
            with("retention.ms", None),
            INVALID_CONFIG,
        ),
        (
            "a number that is none",
            with("retention.ms", Some("soon")),
            INVALID_CONFIG,
        ),
        (
            "a number out of range",
            with("max.message.bytes", Some("-1")),
            INVALID_CONFIG,
        ),
        (
            "an unknown codec",
            with("compression.type", Some("rar")),
            INVALID_CONFIG,
        ),
        (
            "an unknown policy",
            with("cleanup.policy", Some("burn")),
            INVALID_CONFIG,
        ),
        (
            "replicas and counts",
            placed(&[(0, &[1])]).with_num_partitions(1),
            INVALID_REQUEST,
        ),
        (
            "replicas and a factor",
            placed(&[(0, &[1])]).with_replication_factor(1),
            INVALID_REQUEST,
        ),
        (
            "a partition left out",
            placed(&[(0, &[1]), (2, &[1])]),
            INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            "a partition twice",
            placed(&[(0, &[1]), (0, &[1])]),
            INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            "a broker twice",
            placed(&[(0, &[1, 1])]),
            INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            "replicas on no broker",
            placed(&[(0, &[])]),
            INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            "a negative broker",
            placed(&[(0, &[-1])]),
            INVALID_REPLICA_ASSIGNMENT,
        ),
    ]
}

#[test]
fn refused_topics_have_kafkas_codes_and_leave_no_trace() {
    let mut world = World::new();
    let good = [
        "dotted.name".to_owned(),
        "a".repeat(249),
        "...".to_owned(),
        "-_-".to_owned(),
    ];
    let made = create(&mut world, good.iter().map(|name| named(name)).collect());
    assert_eq!(made, [NONE; 4]);
    let before = topics(&mut world);
    for (what, new, code) in refused() {
        // Alone and as something that is only to be validated.
        assert_eq!(create(&mut world, vec![new.clone()]), [code], "{what}");
        let request = CreateTopicsRequest::default()
            .with_topics(vec![new])
            .with_timeout_ms(5000)
            .with_validate_only(true);
        let answer = world.client.ask(7, &request);
        assert_eq!(answer.topics[0].error_code, code, "{what}, validated");
        assert!(
            answer.topics[0].error_message.is_some(),
            "{what}: no reason is given"
        );
        assert!(answer.topics[0].topic_id.is_nil());
    }
    assert_eq!(topics(&mut world), before);
}

#[test]
fn a_topic_named_twice_in_one_request_is_refused_and_its_neighbours_are_made() {
    let mut world = World::new();
    let codes = create(
        &mut world,
        vec![named("one"), named("twice"), named("twice"), named("two")],
    );
    assert_eq!(codes, [NONE, INVALID_REQUEST, NONE]);
    assert_eq!(world.topic_code("twice"), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(
        (world.topic_code("one"), world.topic_code("two")),
        (NONE, NONE)
    );
}

#[test]
fn topics_never_get_fewer_partitions() {
    let mut world = World::new();
    let grow = |count| {
        CreatePartitionsTopic::default()
            .with_name(topic(TOPIC))
            .with_count(count)
            .with_assignments(None)
    };
    let on = |brokers: &[i32]| {
        let brokers = brokers.iter().copied().map(BrokerId).collect();
        CreatePartitionsAssignment::default().with_broker_ids(brokers)
    };
    let refused = [
        ("as many", grow(3), INVALID_PARTITIONS),
        ("fewer", grow(2), INVALID_PARTITIONS),
        ("none", grow(0), INVALID_PARTITIONS),
        ("fewer than none", grow(-1), INVALID_PARTITIONS),
        ("far too many", grow(i32::MAX), INVALID_PARTITIONS),
        (
            "no place",
            grow(4).with_assignments(Some(vec![])),
            INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            "a broker twice",
            grow(4).with_assignments(Some(vec![on(&[1, 1])])),
            INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            "an unknown topic",
            grow(4).with_name(topic("nowhere")),
            UNKNOWN_TOPIC_OR_PARTITION,
        ),
        (
            "a bad name",
            grow(4).with_name(topic("a/b")),
            UNKNOWN_TOPIC_OR_PARTITION,
        ),
    ];
    for (what, asked, code) in refused {
        let request = CreatePartitionsRequest::default()
            .with_timeout_ms(5000)
            .with_topics(vec![asked]);
        let answer = world.client.ask(3, &request);
        assert_eq!(answer.results[0].error_code, code, "{what}");
        assert!(
            answer.results[0].error_message.is_some(),
            "{what}: no reason is given"
        );
    }
    let topics = topics(&mut world);
    assert_eq!(topics, [(TOPIC.to_owned(), 3)]);
}
