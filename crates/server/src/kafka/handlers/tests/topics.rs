//! Topics, partitions, records, and what Metadata tells of them.

use alluvium_protocol::message;
use alluvium_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use alluvium_protocol::messages::create_topics_request::CreatableTopic;
use alluvium_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use alluvium_protocol::messages::delete_topics_request::DeleteTopicState;
use alluvium_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use alluvium_protocol::messages::metadata_request::MetadataRequestTopic;
use alluvium_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeTopicPartitionsRequest, MetadataRequest, MetadataResponse,
    uuid,
};

use super::super::{
    create_partitions, create_topics, delete_records, delete_topics, describe_cluster,
    describe_topic_partitions, metadata,
};
use super::*;

async fn create(agent: &Arc<Agent>, name: &str, partitions: i32) -> i16 {
    let topic = message!(CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
    });
    let request = message!(CreateTopicsRequest {
        topics: vec![topic]
    });
    create_topics::handle(&context(agent, 7), request)
        .await
        .topics[0]
        .error_code
}

fn named(name: &str) -> MetadataRequestTopic {
    message!(MetadataRequestTopic {
        name: Some(name.into())
    })
}

async fn ask(
    agent: &Arc<Agent>,
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
    create: bool,
) -> MetadataResponse {
    let request = message!(MetadataRequest {
        topics,
        allow_auto_topic_creation: create
    });
    sendable(
        version,
        metadata::handle(&context(agent, version), request).await,
    )
}

fn told(response: &MetadataResponse) -> Vec<(String, ErrorCode, usize)> {
    let topics = response.topics.iter();
    topics
        .map(|topic| {
            let name = topic.name.as_deref().unwrap_or("-").to_owned();
            (name, code(topic.error_code), topic.partitions.len())
        })
        .collect()
}

#[tokio::test]
async fn each_topic_of_a_request_is_created_or_fails_alone() {
    let agent = agent(&[]).await;
    for version in 2..=7 {
        let topic = |name: &str, partitions: i32| {
            message!(CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor: 3,
            })
        };
        let good = format!("good-{version}");
        let topics = vec![
            topic(&good, 2),
            topic("bad name", 1),
            topic("twice", 1),
            topic("none", 0),
            topic("twice", 1),
        ];
        let request = message!(CreateTopicsRequest { topics });
        let response = create_topics::handle(&context(&agent, version), request).await;
        let response = sendable(version, response);
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| (topic.name.as_str(), code(topic.error_code)))
            .collect();
        assert_eq!(
            codes,
            [
                (good.as_str(), ErrorCode::None),
                ("bad name", ErrorCode::InvalidTopic),
                ("twice", ErrorCode::InvalidRequest),
                ("none", ErrorCode::InvalidPartitions),
            ]
        );
        let first = &response.topics[0];
        assert!(!first.topic_id.is_zero());
        assert_eq!((first.num_partitions, first.replication_factor), (2, 1));
        let configs = first.configs.as_ref().unwrap();
        assert!(
            configs
                .iter()
                .any(|config| config.name.as_str() == "cleanup.policy")
        );
        assert_eq!(
            response.topics[2].error_message.as_deref(),
            Some("Duplicate topic name.")
        );
    }
    assert_eq!(agent.metadata.read(|state| state.topics().count()), 6);
}

#[tokio::test]
async fn one_request_cannot_ask_for_more_partitions_than_its_limit() {
    let agent = agent(&[]).await;
    let topic = |name: &str, partitions: i32| {
        message!(CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
        })
    };
    let topics = vec![topic("a", 60_000), topic("b", 60_000), topic("c", 1)];
    let request = message!(CreateTopicsRequest {
        topics,
        validate_only: true
    });
    let response = create_topics::handle(&context(&agent, 7), request).await;
    let codes: Vec<_> = response
        .topics
        .iter()
        .map(|topic| code(topic.error_code))
        .collect();
    assert_eq!(
        codes,
        [ErrorCode::None, ErrorCode::PolicyViolation, ErrorCode::None]
    );
}

#[tokio::test]
async fn metadata_tells_of_all_topics_of_none_or_of_those_that_are_named() {
    let agent = agent(&[("auto.create.topics.enable", "false")]).await;
    assert_eq!(create(&agent, "b", 2).await, 0);
    assert_eq!(create(&agent, "a", 1).await, 0);
    let all = [
        ("a".to_owned(), ErrorCode::None, 1),
        ("b".to_owned(), ErrorCode::None, 2),
    ];
    for version in 0..=13 {
        if version > 0 {
            assert_eq!(told(&ask(&agent, version, None, false).await), all);
            assert_eq!(told(&ask(&agent, version, Some(vec![]), false).await), []);
        } else {
            assert_eq!(told(&ask(&agent, version, Some(vec![]), false).await), all);
        }
        let wanted = vec![named("b"), named("nobody"), named("a b")];
        let response = ask(&agent, version, Some(wanted), true).await;
        let expected = [
            ("b".to_owned(), ErrorCode::None, 2),
            ("nobody".to_owned(), ErrorCode::UnknownTopicOrPartition, 0),
            ("a b".to_owned(), ErrorCode::InvalidTopic, 0),
        ];
        assert_eq!(told(&response), expected);
        let broker = &response.brokers[0];
        assert_eq!((broker.host.as_str(), broker.port), ("broker.test", 9092));
        assert_eq!(broker.rack.as_deref(), Some("a"));
        assert_eq!(response.controller_id, broker.node_id);
        assert_eq!(response.cluster_id.as_ref().map(|id| id.len()), Some(22));
        let partition = &response.topics[0].partitions[1];
        assert_eq!(partition.leader_id, broker.node_id);
        assert_eq!(partition.replica_nodes, [broker.node_id]);
        assert_eq!(partition.isr_nodes, [broker.node_id]);
        assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
    }
}

#[tokio::test]
async fn metadata_finds_topics_by_id() {
    let agent = agent(&[]).await;
    create(&agent, "t", 1).await;
    let id = agent
        .metadata
        .read(|state| state.topic_by_name("t").unwrap().id);
    for version in 10..=13 {
        let wanted = [id, TopicId::from_random(5)].map(|id| {
            message!(MetadataRequestTopic {
                topic_id: uuid(id),
                name: None
            })
        });
        let response = ask(&agent, version, Some(wanted.to_vec()), true).await;
        assert_eq!(response.topics[0].name.as_deref(), Some("t"));
        assert_eq!(
            code(response.topics[1].error_code),
            ErrorCode::UnknownTopicId
        );
        assert_eq!(response.topics[1].topic_id, uuid(TopicId::from_random(5)));
    }
}

#[tokio::test]
async fn a_topic_is_made_on_first_use_unless_the_client_does_not_want_that() {
    let agent = agent(&[("num.partitions", "3")]).await;
    let refused = ask(&agent, 12, Some(vec![named("t")]), false).await;
    assert_eq!(
        code(refused.topics[0].error_code),
        ErrorCode::UnknownTopicOrPartition
    );
    let wanted = vec![
        named("t"),
        named("u"),
        named("t"),
        named("__consumer_offsets"),
    ];
    let response = ask(&agent, 12, Some(wanted), true).await;
    let expected = [
        ("t".to_owned(), ErrorCode::None, 3),
        ("u".to_owned(), ErrorCode::None, 3),
        ("t".to_owned(), ErrorCode::None, 3),
        (
            "__consumer_offsets".to_owned(),
            ErrorCode::UnknownTopicOrPartition,
            0,
        ),
    ];
    assert_eq!(told(&response), expected);
    // What clients send before version 4 always asks for creation.
    assert!(MetadataRequest::default().allow_auto_topic_creation);
}

#[tokio::test]
async fn a_flood_of_bad_names_is_answered_and_makes_nothing() {
    let agent = agent(&[]).await;
    let names = (0..50_000)
        .map(|number| named(&format!("bad {number}")))
        .collect();
    let response = ask(&agent, 12, Some(names), true).await;
    assert_eq!(response.topics.len(), 50_000);
    assert_eq!(agent.metadata.read(|state| state.topics().count()), 0);
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let agent = agent(&[]).await;
    for version in 1..=5 {
        create(&agent, "t", 1).await;
        let topic_names = vec!["t".into(), "nobody".into(), "nobody".into()];
        let request = message!(DeleteTopicsRequest { topic_names });
        let response = delete_topics::handle(&context(&agent, version), request).await;
        let response = sendable(version, response);
        let codes: Vec<_> = response
            .responses
            .iter()
            .map(|one| code(one.error_code))
            .collect();
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(codes, [ErrorCode::None, unknown, ErrorCode::InvalidRequest]);
    }
    create(&agent, "t", 1).await;
    create(&agent, "u", 1).await;
    let id = agent
        .metadata
        .read(|state| state.topic_by_name("u").unwrap().id);
    let by_name = |name: &str| {
        message!(DeleteTopicState {
            name: Some(name.into())
        })
    };
    let by_id = |id| {
        message!(DeleteTopicState {
            name: None,
            topic_id: uuid(id)
        })
    };
    let topics = vec![
        by_name("t"),
        by_id(id),
        by_id(TopicId::from_random(3)),
        by_id(TopicId::ZERO),
        message!(DeleteTopicState {
            name: Some("x".into()),
            topic_id: uuid(id)
        }),
    ];
    let request = message!(DeleteTopicsRequest { topics });
    let response = delete_topics::handle(&context(&agent, 6), request).await;
    let response = sendable(6, response);
    let codes: Vec<_> = response
        .responses
        .iter()
        .map(|one| code(one.error_code))
        .collect();
    let invalid = ErrorCode::InvalidRequest;
    let none = ErrorCode::None;
    assert_eq!(
        codes,
        [none, none, ErrorCode::UnknownTopicId, invalid, invalid]
    );
    assert_eq!(response.responses[1].name.as_deref(), Some("u"));
    assert_eq!(agent.metadata.read(|state| state.topics().count()), 0);
}

#[tokio::test]
async fn a_cluster_can_forbid_deletion() {
    let agent = agent(&[("delete.topic.enable", "false")]).await;
    create(&agent, "t", 1).await;
    for (version, expected) in [
        (2, ErrorCode::InvalidRequest),
        (5, ErrorCode::TopicDeletionDisabled),
    ] {
        let request = message!(DeleteTopicsRequest {
            topic_names: vec!["t".into()]
        });
        let response = delete_topics::handle(&context(&agent, version), request).await;
        assert_eq!(code(response.responses[0].error_code), expected);
    }
}

#[tokio::test]
async fn partitions_are_added_topic_by_topic() {
    let agent = agent(&[]).await;
    create(&agent, "t", 1).await;
    create(&agent, "u", 4).await;
    let topic = |name: &str, count| {
        message!(CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: None
        })
    };
    let topics = vec![
        topic("t", 3),
        topic("u", 3),
        topic("x", 1),
        topic("y", 1),
        topic("x", 2),
    ];
    let request = message!(CreatePartitionsRequest { topics });
    for version in 0..=3 {
        let response = create_partitions::handle(&context(&agent, version), request.clone()).await;
        let response = sendable(version, response);
        let codes: Vec<_> = response
            .results
            .iter()
            .map(|one| code(one.error_code))
            .collect();
        let grown = if version == 0 {
            ErrorCode::None
        } else {
            ErrorCode::InvalidPartitions
        };
        assert_eq!(
            codes,
            [
                grown,
                ErrorCode::InvalidPartitions,
                ErrorCode::InvalidRequest,
                ErrorCode::UnknownTopicOrPartition,
            ]
        );
    }
    assert_eq!(
        told(&ask(&agent, 12, Some(vec![named("t")]), false).await)[0].2,
        3
    );
}

#[tokio::test]
async fn topics_are_described_in_pages() {
    let agent = agent(&[("max.request.partition.size.limit", "3")]).await;
    create(&agent, "a", 2).await;
    create(&agent, "b", 4).await;
    create(&agent, "c", 1).await;
    for topics in [vec![], vec!["c", "missing", "b", "a"]] {
        let wanted: Vec<_> = topics
            .iter()
            .map(|name| {
                message!(TopicRequest {
                    name: (*name).into()
                })
            })
            .collect();
        let mut cursor: Option<Cursor> = None;
        let mut seen = Vec::new();
        for _ in 0..10 {
            let request = message!(DescribeTopicPartitionsRequest {
                topics: wanted.clone(),
                cursor: cursor.take(),
            });
            let response = describe_topic_partitions::handle(&context(&agent, 0), request).await;
            let response = sendable(0, response);
            let size: usize = response
                .topics
                .iter()
                .map(|topic| topic.partitions.len())
                .sum();
            assert!(size <= 3);
            for topic in &response.topics {
                let name = topic.name.as_deref().unwrap_or_default();
                seen.extend(
                    topic
                        .partitions
                        .iter()
                        .map(|one| (name.to_owned(), one.partition_index)),
                );
                let expected = match name {
                    "missing" => ErrorCode::UnknownTopicOrPartition,
                    _ => ErrorCode::None,
                };
                assert_eq!(code(topic.error_code), expected);
            }
            let Some(next) = response.next_cursor else {
                break;
            };
            cursor = Some(message!(Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
            }));
        }
        let expected = [
            ("a", 0),
            ("a", 1),
            ("b", 0),
            ("b", 1),
            ("b", 2),
            ("b", 3),
            ("c", 0),
        ];
        assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));
    }
}

#[tokio::test]
async fn records_are_deleted_partition_by_partition() {
    let agent = agent(&[]).await;
    create(&agent, "t", 1).await;
    let partition = |partition_index, offset| {
        message!(DeleteRecordsPartition {
            partition_index,
            offset
        })
    };
    let topic = message!(DeleteRecordsTopic {
        name: "t".into(),
        partitions: vec![partition(0, -1), partition(0, 5), partition(7, 0)],
    });
    let request = message!(DeleteRecordsRequest {
        topics: vec![topic]
    });
    for version in 0..=2 {
        let response = delete_records::handle(&context(&agent, version), request.clone()).await;
        let response = sendable(version, response);
        let told: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|one| (code(one.error_code), one.low_watermark))
            .collect();
        let missing = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(
            told,
            [
                (ErrorCode::None, 0),
                (ErrorCode::OffsetOutOfRange, -1),
                (missing, -1)
            ]
        );
    }
}

#[tokio::test]
async fn a_cluster_describes_its_brokers_and_has_no_controllers_to_talk_to() {
    let agent = agent(&[]).await;
    for version in 0..=2 {
        let request = message!(DescribeClusterRequest {
            endpoint_type: 1,
            include_cluster_authorized_operations: true,
        });
        let response = describe_cluster::handle(&context(&agent, version), request).await;
        let response = sendable(version, response);
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(response.controller_id, response.brokers[0].broker_id);
        assert!(response.cluster_authorized_operations > 0);
    }
    for (endpoint_type, expected) in [
        (2, ErrorCode::MismatchedEndpointType),
        (9, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = message!(DescribeClusterRequest { endpoint_type });
        let response = describe_cluster::handle(&context(&agent, 1), request).await;
        let response = sendable(1, response);
        assert_eq!(code(response.error_code), expected);
        assert!(response.brokers.is_empty() && response.error_message.is_some());
    }
}
