//! Metadata, CreateTopics, DeleteTopics, CreatePartitions, DescribeTopicPartitions.

use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeTopicPartitionsRequest, MetadataRequest,
};

use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::{text, topic};
use crate::world::{GONE, NOWHERE, TOPIC, World};

pub(super) const KEYS: &[i16] = &[3, 19, 20, 37, 75];

pub(super) fn cases() -> Vec<Case> {
    [
        metadata_cases(),
        metadata_by_id_cases(),
        create_cases(),
        delete_cases(),
        grow_cases(),
        describe_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn metadata(version: i16, names: &[&str]) -> MetadataRequest {
    let topics = names
        .iter()
        .map(|name| MetadataRequestTopic::default().with_name(Some(topic(name))));
    MetadataRequest::default()
        .with_topics(Some(topics.collect()))
        // Older versions always create; the field's default is that, too.
        .with_allow_auto_topic_creation(version < 4)
}

fn is_the_topic(world: &World, version: i16, found: &MetadataResponseTopic) {
    assert_eq!(found.error_code, NONE);
    assert!(!found.is_internal);
    if version >= 10 {
        assert_eq!(found.topic_id, world.topic_id);
    }
    assert_eq!(found.partitions.len(), 3);
    for (index, partition) in (0..).zip(&found.partitions) {
        assert_eq!(
            (partition.partition_index, partition.error_code),
            (index, NONE)
        );
        assert_eq!(partition.leader_id.0, world.broker);
        assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
        assert_eq!(partition.replica_nodes, [BrokerId(world.broker)]);
        assert_eq!(partition.isr_nodes, [BrokerId(world.broker)]);
        assert!(partition.offline_replicas.is_empty());
    }
}

fn metadata_cases() -> Vec<Case> {
    vec![
        case(
            "all topics",
            |_, version| {
                // Version 0 has no null; there it is the empty list that means all.
                let none = if version == 0 { Some(vec![]) } else { None };
                metadata(version, &[]).with_topics(none)
            },
            |world, version, _, answer| {
                assert_eq!(answer.brokers.len(), 1);
                let broker = &answer.brokers[0];
                assert_eq!(broker.node_id.0, world.broker);
                assert_eq!(broker.host.as_str(), "127.0.0.1");
                assert_eq!(broker.port, i32::from(world.server.options.port));
                if version >= 1 {
                    assert_eq!(answer.controller_id.0, world.broker);
                }
                assert_eq!(answer.cluster_id.is_some(), version >= 2);
                let name = |found: &&MetadataResponseTopic| found.name == Some(topic(TOPIC));
                is_the_topic(world, version, answer.topics.iter().find(name).unwrap());
                assert!(
                    !answer
                        .topics
                        .iter()
                        .any(|found| found.name == Some(topic(GONE)))
                );
            },
        ),
        case(
            "no topics",
            |_, version| metadata(version, &[]),
            |_, _, _, answer| assert!(answer.topics.is_empty()),
        )
        .since(1),
        case(
            "a topic and a name that cannot be",
            |_, version| metadata(version, &[TOPIC, "not/a/name"]),
            |world, version, _, answer| {
                is_the_topic(world, version, &answer.topics[0]);
                assert_eq!(answer.topics[1].error_code, INVALID_TOPIC);
                assert_eq!(answer.topics[1].name, Some(topic("not/a/name")));
            },
        ),
        case(
            "topics that are not there",
            |_, version| metadata(version, &[NOWHERE, GONE]),
            |_, _, _, answer| {
                for found in &answer.topics {
                    assert_eq!(found.error_code, UNKNOWN_TOPIC_OR_PARTITION);
                    assert!(found.partitions.is_empty());
                }
            },
        )
        .since(4),
        case(
            "a topic that is made on first use",
            |world, version| {
                let name = world.fresh("made");
                metadata(version, &[&name]).with_allow_auto_topic_creation(true)
            },
            |world, _, request, answer| {
                let name = request.topics.as_ref().unwrap()[0].name.clone().unwrap();
                assert_eq!(answer.topics[0].error_code, NONE);
                assert_eq!(answer.topics[0].partitions.len(), 1);
                assert_eq!(world.topic_code(name.as_str()), NONE);
            },
        ),
        case(
            "what may be done",
            |_, version| {
                metadata(version, &[TOPIC])
                    .with_include_topic_authorized_operations(true)
                    .with_include_cluster_authorized_operations(version <= 10)
            },
            |_, version, _, answer| {
                assert_eq!(
                    answer.topics[0].topic_authorized_operations,
                    0b1101_1111_1000
                );
                if version <= 10 {
                    assert!(answer.cluster_authorized_operations > 0);
                }
            },
        )
        .since(8),
    ]
}

fn metadata_by_id_cases() -> Vec<Case> {
    vec![
        case(
            "by id",
            |world, _| {
                let by_id = |id| {
                    MetadataRequestTopic::default()
                        .with_name(None)
                        .with_topic_id(id)
                };
                let ids = [world.topic_id, world.unknown_id, world.gone_id];
                metadata(12, &[]).with_topics(Some(ids.map(by_id).to_vec()))
            },
            |world, version, _, answer| {
                assert_eq!(answer.topics[0].name, Some(topic(TOPIC)));
                is_the_topic(world, version, &answer.topics[0]);
                for (found, id) in answer.topics[1..]
                    .iter()
                    .zip([world.unknown_id, world.gone_id])
                {
                    assert_eq!((found.error_code, found.topic_id), (UNKNOWN_TOPIC_ID, id));
                    assert_eq!(found.name, None);
                }
            },
        )
        .since(12),
    ]
}

fn new_topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(5000)
}

fn create_cases() -> Vec<Case> {
    vec![
        case(
            "good ones between bad ones",
            |world, version| {
                let config = CreatableTopicConfig::default()
                    .with_name(text("retention.ms"))
                    .with_value(Some(text("1000")));
                let (one, other) = (world.fresh("created"), world.fresh("created"));
                let mut bad = new_topic(&world.fresh("bad"), 1);
                bad.configs = vec![config.clone().with_name(text("no.such")), config.clone()];
                let mut topics = vec![
                    new_topic("not a name", 1),
                    new_topic(&one, 2).with_configs(vec![config]),
                    new_topic(TOPIC, 1),
                    new_topic(&other, 1),
                    bad,
                ];
                if version >= 4 {
                    topics[3] = new_topic(&other, -1).with_replication_factor(-1);
                }
                create(topics)
            },
            |world, version, request, answer| {
                let codes = answer
                    .topics
                    .iter()
                    .map(|found| found.error_code)
                    .collect::<Vec<_>>();
                assert_eq!(
                    codes,
                    [
                        INVALID_TOPIC,
                        NONE,
                        TOPIC_ALREADY_EXISTS,
                        NONE,
                        INVALID_CONFIG
                    ]
                );
                assert!(answer.topics[0].error_message.is_some());
                let made = &answer.topics[1];
                assert_eq!(
                    (&made.name, &made.error_message),
                    (&request.topics[1].name, &None)
                );
                assert_eq!(made.topic_id.is_nil(), version < 7);
                if version >= 5 {
                    assert_eq!((made.num_partitions, made.replication_factor), (2, 1));
                    let configs = made.configs.as_ref().unwrap();
                    let found = configs
                        .iter()
                        .find(|one| one.name.as_str() == "retention.ms");
                    assert_eq!(found.unwrap().value, Some(text("1000")));
                }
                assert_eq!(world.topic_code(made.name.as_str()), NONE);
                assert_eq!(world.topic_code(answer.topics[3].name.as_str()), NONE);
                let bad = request.topics[4].name.to_string();
                assert_eq!(world.topic_code(&bad), UNKNOWN_TOPIC_OR_PARTITION);
            },
        ),
        case(
            "with replicas placed",
            |world, _| {
                let placed = |partition| {
                    CreatableReplicaAssignment::default()
                        .with_partition_index(partition)
                        .with_broker_ids(vec![BrokerId(world.broker)])
                };
                let new = new_topic(&world.fresh("placed"), -1)
                    .with_replication_factor(-1)
                    .with_assignments(vec![placed(0), placed(1)]);
                create(vec![new])
            },
            |_, version, _, answer| {
                assert_eq!(answer.topics[0].error_code, NONE, "{answer:?}");
                if version >= 5 {
                    assert_eq!(answer.topics[0].num_partitions, 2);
                }
            },
        ),
        case(
            "only to see whether it could be",
            |world, _| create(vec![new_topic(&world.fresh("thought"), 4)]).with_validate_only(true),
            |world, _, request, answer| {
                assert_eq!(answer.topics[0].error_code, NONE);
                assert!(answer.topics[0].topic_id.is_nil());
                let name = request.topics[0].name.to_string();
                assert_eq!(world.topic_code(&name), UNKNOWN_TOPIC_OR_PARTITION);
            },
        ),
        case(
            "nothing at all",
            |_, _| create(vec![]),
            |_, _, _, answer| assert!(answer.topics.is_empty()),
        ),
    ]
}

fn delete_cases() -> Vec<Case> {
    vec![
        case(
            "by name",
            |world, version| {
                let (name, _) = world.fresh_topic(1);
                let names = [name.as_str(), NOWHERE, GONE];
                let request = DeleteTopicsRequest::default().with_timeout_ms(5000);
                if version < 6 {
                    return request.with_topic_names(names.map(topic).to_vec());
                }
                let by_name = |name| DeleteTopicState::default().with_name(Some(topic(name)));
                request.with_topics(names.map(by_name).to_vec())
            },
            |world, version, _, answer| {
                let codes = answer.responses.iter().map(|found| found.error_code);
                let expected = [NONE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
                assert_eq!(answer.responses[0].topic_id.is_nil(), version < 6);
                assert_eq!(answer.responses[1].error_message.is_some(), version >= 5);
                let name = answer.responses[0].name.as_ref().unwrap().to_string();
                assert_eq!(world.topic_code(&name), UNKNOWN_TOPIC_OR_PARTITION);
            },
        ),
        case(
            "by id",
            |world, _| {
                let (_, id) = world.fresh_topic(1);
                let by_id = |id| {
                    DeleteTopicState::default()
                        .with_name(None)
                        .with_topic_id(id)
                };
                let ids = [id, world.unknown_id, world.gone_id];
                DeleteTopicsRequest::default().with_topics(ids.map(by_id).to_vec())
            },
            |_, _, request, answer| {
                let codes = answer.responses.iter().map(|found| found.error_code);
                let expected = [NONE, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_ID];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
                assert_eq!(answer.responses[0].topic_id, request.topics[0].topic_id);
                assert!(answer.responses[0].name.is_some());
                assert_eq!(answer.responses[1].name, None);
            },
        )
        .since(6),
        case(
            "nothing at all",
            |_, _| DeleteTopicsRequest::default(),
            |_, _, _, answer| assert!(answer.responses.is_empty()),
        ),
    ]
}

fn grow(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic::default()
        .with_name(topic(name))
        .with_count(count)
        .with_assignments(None)
}

fn grow_to(topics: Vec<CreatePartitionsTopic>) -> CreatePartitionsRequest {
    CreatePartitionsRequest::default()
        .with_timeout_ms(5000)
        .with_topics(topics)
}

fn grow_cases() -> Vec<Case> {
    vec![
        case(
            "more, as many, fewer, and of no topic",
            |world, _| {
                let names = [(); 4].map(|()| world.fresh_topic(2).0);
                let to =
                    |broker| CreatePartitionsAssignment::default().with_broker_ids(vec![broker]);
                let placed = vec![to(BrokerId(world.broker))];
                grow_to(vec![
                    grow(&names[0], 5),
                    grow(&names[1], 2),
                    grow(&names[2], 1),
                    grow(NOWHERE, 3),
                    grow(&names[3], 3).with_assignments(Some(placed.clone())),
                    grow(TOPIC, 9).with_assignments(Some(placed)),
                ])
            },
            |world, _, request, answer| {
                let codes = answer.results.iter().map(|found| found.error_code);
                let expected = [
                    NONE,
                    INVALID_PARTITIONS,
                    INVALID_PARTITIONS,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    NONE,
                    INVALID_REPLICA_ASSIGNMENT,
                ];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
                assert!(answer.results[1].error_message.is_some());
                let grown = request.topics[0].name.to_string();
                assert_eq!(world.fetch(&grown, 4, 0).error_code, NONE);
            },
        ),
        case(
            "only to see whether it could be",
            |world, _| {
                let (name, _) = world.fresh_topic(1);
                grow_to(vec![grow(&name, 2)]).with_validate_only(true)
            },
            |world, _, request, answer| {
                assert_eq!(answer.results[0].error_code, NONE);
                let name = request.topics[0].name.to_string();
                assert_eq!(
                    world.fetch(&name, 1, 0).error_code,
                    UNKNOWN_TOPIC_OR_PARTITION
                );
            },
        ),
        case(
            "a topic twice",
            |_, _| grow_to(vec![grow(TOPIC, 8), grow(TOPIC, 9)]),
            |_, _, _, answer| {
                assert_eq!(answer.results.len(), 1);
                assert_eq!(answer.results[0].error_code, INVALID_REQUEST);
            },
        ),
        case(
            "nothing at all",
            |_, _| grow_to(vec![]),
            |_, _, _, answer| assert!(answer.results.is_empty()),
        ),
    ]
}

fn describe(names: &[&str]) -> DescribeTopicPartitionsRequest {
    let topics = names
        .iter()
        .map(|name| TopicRequest::default().with_name(topic(name)));
    DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_response_partition_limit(2000)
        .with_cursor(None)
}

fn describe_cases() -> Vec<Case> {
    vec![
        case(
            "known and unknown topics",
            |_, _| describe(&[TOPIC, NOWHERE, "not/a/name"]),
            |world, _, _, answer| {
                let found: Vec<_> = answer
                    .topics
                    .iter()
                    .map(|found| (found.name.as_ref().unwrap().to_string(), found.error_code))
                    .collect();
                let expected = [
                    (TOPIC.to_owned(), NONE),
                    ("not/a/name".to_owned(), INVALID_TOPIC),
                    (NOWHERE.to_owned(), UNKNOWN_TOPIC_OR_PARTITION),
                ];
                assert_eq!(found, expected);
                let topic = &answer.topics[0];
                assert_eq!(
                    (topic.topic_id, topic.partitions.len()),
                    (world.topic_id, 3)
                );
                assert_eq!(topic.partitions[0].leader_id.0, world.broker);
                assert_eq!(answer.next_cursor, None);
            },
        ),
        case(
            "in pages",
            |_, _| describe(&[TOPIC]).with_response_partition_limit(2),
            |world, _, request, answer| {
                assert_eq!(answer.topics[0].partitions.len(), 2);
                let next = answer.next_cursor.unwrap();
                assert_eq!((next.topic_name.as_str(), next.partition_index), (TOPIC, 2));
                let cursor = Cursor::default()
                    .with_topic_name(topic(TOPIC))
                    .with_partition_index(2);
                let rest = world
                    .client
                    .ask(0, &request.clone().with_cursor(Some(cursor)));
                assert_eq!(rest.topics[0].partitions[0].partition_index, 2);
                assert_eq!(rest.next_cursor, None);
            },
        ),
        case(
            "all topics",
            |_, _| describe(&[]),
            |_, _, _, answer| {
                let names = answer
                    .topics
                    .iter()
                    .map(|found| found.name.as_ref().unwrap().as_str());
                assert!(names.into_iter().any(|name| name == TOPIC));
            },
        ),
    ]
}
