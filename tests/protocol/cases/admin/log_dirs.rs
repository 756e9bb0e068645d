//! DescribeLogDirs, AlterReplicaLogDirs.

use alluvium_protocol::message;
use alluvium_protocol::messages as own;
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, DescribeLogDirsRequest};

use crate::codes::*;
use crate::table::{Case, case, newest};
use crate::wire::{text, topic};
use crate::world::{NOWHERE, TOPIC, World};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = describe_cases();
    cases.extend(alter_cases());
    cases
}

fn describe(asked: Option<&[(&str, &[i32])]>) -> DescribeLogDirsRequest {
    let topics = asked.map(|asked| {
        let topics = asked.iter().map(|(name, partitions)| {
            DescribableLogDirTopic::default()
                .with_topic(topic(name))
                .with_partitions(partitions.to_vec())
        });
        topics.collect()
    });
    DescribeLogDirsRequest::default().with_topics(topics)
}

/// The sizes of a topic's partitions.
fn sizes(store: &DescribeLogDirsResult, name: &str) -> Vec<(i32, i64)> {
    let topics = store
        .topics
        .iter()
        .filter(|topic| topic.name.as_str() == name);
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| (partition.partition_index, partition.partition_size))
        .collect()
}

/// The name of the one directory.
fn store(world: &mut World) -> String {
    let answer = world.client.ask(4, &describe(None));
    answer.results[0].log_dir.to_string()
}

fn describe_cases() -> Vec<Case> {
    vec![
        case(
            "everything",
            |_, _| describe(None),
            |_, _, _, answer| {
                assert_eq!(answer.results.len(), 1);
                let store = &answer.results[0];
                assert_eq!(store.error_code, NONE);
                let sizes = sizes(store, TOPIC);
                let indexes: Vec<_> = sizes.iter().map(|(index, _)| *index).collect();
                assert_eq!(indexes, [0, 1, 2]);
                // Two batches, and none.
                assert!(sizes[0].1 > 100 && sizes[1].1 == 0, "{sizes:?}");
                let partition = &store.topics[0].partitions[0];
                assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
            },
        ),
        case(
            "some partitions, and some that are not there",
            |_, _| describe(Some(&[(TOPIC, &[1, 9]), (NOWHERE, &[0])])),
            |_, _, _, answer| {
                let store = &answer.results[0];
                assert_eq!(store.topics.len(), 1);
                assert_eq!(sizes(store, TOPIC), [(1, 0)]);
            },
        ),
        newest(
            "whether the store takes anything",
            5,
            |_| message!(own::DescribeLogDirsRequest { topics: None }),
            |_, answer: own::DescribeLogDirsResponse| {
                let store = &answer.results[0];
                assert_eq!((answer.error_code, store.error_code), (NONE, NONE));
                assert!(!store.is_cordoned);
                assert_eq!((store.total_bytes, store.usable_bytes), (-1, -1));
            },
        ),
    ]
}

fn alter_cases() -> Vec<Case> {
    vec![case(
        "to the store, and to somewhere else",
        |world, _| {
            let to = |path: &str, name: &str, partitions: Vec<i32>| {
                let topics = AlterReplicaLogDirTopic::default()
                    .with_name(topic(name))
                    .with_partitions(partitions);
                AlterReplicaLogDir::default()
                    .with_path(text(path))
                    .with_topics(vec![topics])
            };
            let store = store(world);
            AlterReplicaLogDirsRequest::default().with_dirs(vec![
                to(&store, TOPIC, vec![0, 9]),
                to(&store, NOWHERE, vec![0]),
                to("/var/lib/kafka", TOPIC, vec![1]),
            ])
        },
        |_, _, _, answer| {
            let partitions = answer.results.iter().flat_map(|topic| &topic.partitions);
            let codes: Vec<_> = partitions.map(|partition| partition.error_code).collect();
            let expected = [
                NONE,
                UNKNOWN_TOPIC_OR_PARTITION,
                UNKNOWN_TOPIC_OR_PARTITION,
                LOG_DIR_NOT_FOUND,
            ];
            assert_eq!(codes, expected);
        },
    )]
}
