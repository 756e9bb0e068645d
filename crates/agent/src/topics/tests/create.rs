//! Creating, growing and deleting topics and records.

use ErrorCode::{
    InvalidConfig, InvalidPartitions, InvalidReplicaAssignment, InvalidReplicationFactor,
    InvalidRequest, InvalidTopic, OffsetOutOfRange, PolicyViolation, TopicAlreadyExists,
    TopicDeletionDisabled, UnknownTopicOrPartition,
};

use super::*;
use crate::topics::check_name;

#[tokio::test]
async fn defaults_fill_what_the_client_leaves_open() {
    let topics = topics(&[("num.partitions", "6"), ("default.replication.factor", "3")]);
    let metadata = metadata().await;
    let created = topics
        .create(&metadata, NOW, &NewTopic::named("t"), false)
        .await
        .unwrap();
    assert_eq!((created.partitions, created.replication_factor), (6, 3));
    metadata.read(|state| {
        let topic = state.topic_by_name("t").unwrap();
        assert_eq!(topic.id, created.id);
        assert_eq!(topic.partitions.len(), 6);
        assert_eq!(topic.replication_factor, 3);
        assert!(topic.configs.is_empty());
    });
}

#[tokio::test]
async fn what_is_wrong_with_a_topic_is_told_in_kafkas_words_and_nothing_is_made() {
    let topics = topics(&[]);
    let metadata = with_topic(&topics, &[]).await;
    topics
        .create(&metadata, NOW, &NewTopic::named("a.b"), false)
        .await
        .unwrap();
    let config = |name, value| new_topic("x", 1, 1, &[(name, value)]);
    let null = NewTopic {
        configs: vec![("cleanup.policy".to_owned(), None)],
        ..NewTopic::named("x")
    };
    let cases = [
        (
            new_topic("", 1, 1, &[]),
            InvalidTopic,
            "Topic name is invalid: the empty string is not allowed",
        ),
        (
            new_topic("t", 1, 1, &[]),
            TopicAlreadyExists,
            "Topic 't' already exists.",
        ),
        (
            new_topic("x", 0, 1, &[]),
            InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            new_topic("x", -2, 1, &[]),
            InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            new_topic("x", 100_001, 1, &[]),
            InvalidPartitions,
            "Topic 'x' would have 100001 partitions; a topic may have 100000.",
        ),
        (
            new_topic("x", 1, 0, &[]),
            InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            config("retention.sm", "1"),
            InvalidConfig,
            "Unknown topic config name: retention.sm; the nearest known one is retention.ms",
        ),
        (
            config("foo", "1"),
            InvalidConfig,
            "Unknown topic config name: foo",
        ),
        (
            config("log.retention.hours", "1"),
            InvalidConfig,
            "Unknown topic config name: log.retention.hours; of a topic it is retention.ms",
        ),
        (
            config("retention.ms", "soon"),
            InvalidConfig,
            "Invalid value soon for configuration retention.ms: Not a number of type LONG",
        ),
        (
            config("retention.ms", "-2"),
            InvalidConfig,
            "Invalid value -2 for configuration retention.ms: Value must be at least -1",
        ),
        (
            config("compression.type", "brotli"),
            InvalidConfig,
            "Invalid value brotli for configuration compression.type: String must be one of: \
             uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            new_topic(
                "x",
                1,
                1,
                &[
                    ("min.compaction.lag.ms", "5"),
                    ("max.compaction.lag.ms", "3"),
                ],
            ),
            InvalidConfig,
            "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (3)",
        ),
        (
            null,
            InvalidConfig,
            "Null value not supported for topic configs: cleanup.policy",
        ),
    ];
    for (new, code, message) in cases {
        for validate_only in [true, false] {
            let outcome = topics.create(&metadata, NOW, &new, validate_only).await;
            assert_eq!(told(outcome), (code, message.to_owned()));
        }
    }
    assert!(
        topics
            .create(
                &metadata,
                NOW,
                &config("remote.storage.enable", "true"),
                false
            )
            .await
            .is_err()
    );
    for validate_only in [true, false] {
        let collides = topics
            .create(&metadata, NOW, &NewTopic::named("a_b"), validate_only)
            .await;
        assert_eq!(told(collides).0, InvalidTopic);
    }
    assert_eq!(metadata.read(|state| state.topics().count()), 2);
}

#[tokio::test]
async fn validation_alone_makes_nothing() {
    let topics = topics(&[]);
    let metadata = metadata().await;
    let created = topics
        .create(&metadata, NOW, &new_topic("x", 4, 2, &[]), true)
        .await
        .unwrap();
    assert_eq!((created.id, created.partitions), (TopicId::ZERO, 4));
    assert_eq!(metadata.read(|state| state.topics().count()), 0);
}

#[tokio::test]
async fn manual_assignments_count_when_they_are_well_formed() {
    let topics = topics(&[]);
    let metadata = metadata().await;
    let assigned = |name: &str, assignments: &[(i32, &[i32])]| NewTopic {
        assignments: assignments
            .iter()
            .map(|(index, list)| (*index, list.to_vec()))
            .collect(),
        ..NewTopic::named(name)
    };
    let good = assigned("good", &[(1, &[1, 2]), (0, &[2, 3])]);
    let created = topics.create(&metadata, NOW, &good, false).await.unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 2));
    let bad: [&[(i32, &[i32])]; 6] = [
        &[(0, &[1]), (0, &[2])],
        &[(0, &[1]), (2, &[1])],
        &[(0, &[1, 1])],
        &[(0, &[])],
        &[(0, &[1]), (1, &[1, 2])],
        &[(0, &[-1])],
    ];
    for assignments in bad {
        let outcome = topics
            .create(&metadata, NOW, &assigned("bad", assignments), false)
            .await;
        assert_eq!(told(outcome).0, InvalidReplicaAssignment, "{assignments:?}");
    }
    let both = NewTopic {
        partitions: 1,
        ..assigned("bad", &[(0, &[1])])
    };
    assert_eq!(
        told(topics.create(&metadata, NOW, &both, false).await).0,
        InvalidRequest
    );
}

#[tokio::test]
async fn topics_are_made_on_first_use_when_that_is_enabled() {
    let metadata = metadata().await;
    let closed = topics(&[("auto.create.topics.enable", "false")]);
    let refused = closed.auto_create(&metadata, NOW, "t").await;
    assert_eq!(told(refused).0, UnknownTopicOrPartition);

    let open = topics(&[("num.partitions", "3")]);
    let id = open.auto_create(&metadata, NOW, "t").await.unwrap();
    assert_eq!(open.auto_create(&metadata, NOW, "t").await, Ok(id));
    assert_eq!(closed.auto_create(&metadata, NOW, "t").await, Ok(id));
    assert_eq!(
        metadata.read(|state| state.topic(id).unwrap().partitions.len()),
        3
    );

    assert_eq!(
        told(open.auto_create(&metadata, NOW, "a b").await).0,
        InvalidTopic
    );
    let internal = open.auto_create(&metadata, NOW, "__consumer_offsets").await;
    assert_eq!(told(internal).0, UnknownTopicOrPartition);
    assert!(check_name("__consumer_offsets").is_ok());
}

#[tokio::test]
async fn many_first_uses_at_once_make_one_topic() {
    let topics = topics(&[]);
    let metadata = metadata().await;
    let uses = (0..20).map(|_| topics.auto_create(&metadata, NOW, "t"));
    let ids = futures::future::join_all(uses).await;
    assert!(ids.iter().all(|id| id.is_ok() && *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn topics_grow_and_never_shrink() {
    let topics = topics(&[]);
    let metadata = with_topic(&topics, &[]).await;
    let partitions = || metadata.read(|state| state.topic_by_name("t").unwrap().partitions.len());
    topics.grow(&metadata, "t", 3, None, true).await.unwrap();
    assert_eq!(partitions(), 1);
    topics.grow(&metadata, "t", 3, None, false).await.unwrap();
    assert_eq!(partitions(), 3);
    let cases = [
        (
            "t",
            3,
            InvalidPartitions,
            "Topic already has 3 partition(s).",
        ),
        (
            "t",
            2,
            InvalidPartitions,
            "The topic t currently has 3 partition(s); 2 would not be an increase.",
        ),
        (
            "t",
            -1,
            InvalidPartitions,
            "The topic t currently has 3 partition(s); -1 would not be an increase.",
        ),
        (
            "nobody",
            2,
            UnknownTopicOrPartition,
            "This server does not host this topic-partition.",
        ),
    ];
    for (name, count, code, message) in cases {
        let outcome = topics.grow(&metadata, name, count, None, false).await;
        assert_eq!(told(outcome), (code, message.to_owned()));
    }
    let one = [vec![1]];
    let outcome = topics.grow(&metadata, "t", 5, Some(&one), false).await;
    assert_eq!(told(outcome).0, InvalidReplicaAssignment);
    topics
        .grow(&metadata, "t", 4, Some(&one), false)
        .await
        .unwrap();
    assert_eq!(partitions(), 4);
}

#[tokio::test]
async fn deletion_can_be_disabled() {
    let open = topics(&[]);
    let metadata = with_topic(&open, &[]).await;
    let id = metadata.read(|state| state.topic_by_name("t").unwrap().id);
    let closed = topics(&[("delete.topic.enable", "false")]);
    assert_eq!(
        told(closed.delete(&metadata, id).await).0,
        TopicDeletionDisabled
    );
    open.delete(&metadata, id).await.unwrap();
    assert!(metadata.read(|state| state.topic(id).is_none()));
    assert!(open.delete(&metadata, id).await.is_err());
}

#[tokio::test]
async fn records_are_deleted_within_range_and_policy() {
    let topics = topics(&[]);
    let metadata = with_topic(&topics, &[]).await;
    let compacted = new_topic("compacted", 1, 1, &[("cleanup.policy", "compact")]);
    topics
        .create(&metadata, NOW, &compacted, false)
        .await
        .unwrap();
    assert_eq!(topics.delete_records(&metadata, "t", 0, -1).await, Ok(0));
    let cases = [
        ("t", 0, 1, OffsetOutOfRange),
        ("t", 0, -2, OffsetOutOfRange),
        ("t", 1, 0, UnknownTopicOrPartition),
        ("t", -1, 0, UnknownTopicOrPartition),
        ("nobody", 0, 0, UnknownTopicOrPartition),
        ("compacted", 0, -1, PolicyViolation),
        ("__consumer_offsets", 0, -1, InvalidTopic),
    ];
    for (name, partition, offset, code) in cases {
        let outcome = topics
            .delete_records(&metadata, name, partition, offset)
            .await;
        assert_eq!(told(outcome).0, code, "{name}-{partition} {offset}");
    }
}
