//! Produce, Fetch, DeleteRecords, InitProducerId.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    DeleteRecordsRequest, FetchRequest, FetchResponse, InitProducerIdRequest, ProduceRequest,
    ProduceResponse, ProducerId,
};
use uuid::Uuid;

use crate::batches::{Batch, TIME, offsets};
use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::{topic, transactional};
use crate::world::{self, GONE, NOWHERE, RECORDS, TOPIC, World, fetch_partition};

pub(super) const KEYS: &[i16] = &[0, 1, 21, 22];

pub(super) fn cases() -> Vec<Case> {
    [
        produce_cases(),
        fetch_cases(),
        fetch_refusals(),
        other_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A topic's data by name or, since version 13, by id.
fn data(version: i16, name: &str, id: Uuid, sets: Vec<(i32, Option<Bytes>)>) -> TopicProduceData {
    let mut data = world::produce(name, sets).topic_data.remove(0);
    if version >= 13 {
        data.name = topic("");
        data.topic_id = id;
    }
    data
}

fn produce(topics: Vec<TopicProduceData>) -> ProduceRequest {
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(topics)
}

fn partition(answer: &ProduceResponse, topic: usize, at: usize) -> &PartitionProduceResponse {
    &answer.responses[topic].partition_responses[at]
}

fn unknown(version: i16) -> i16 {
    if version >= 13 {
        UNKNOWN_TOPIC_ID
    } else {
        UNKNOWN_TOPIC_OR_PARTITION
    }
}

fn produce_cases() -> Vec<Case> {
    let batch = || Some(Batch::of(3).bytes());
    vec![
        case(
            "good, unknown and deleted partitions together",
            move |world, version| {
                produce(vec![
                    data(
                        version,
                        TOPIC,
                        world.topic_id,
                        vec![(2, batch()), (9, batch())],
                    ),
                    data(version, NOWHERE, world.unknown_id, vec![(0, batch())]),
                    data(
                        version,
                        GONE,
                        world.gone_id,
                        vec![(0, batch()), (1, batch())],
                    ),
                ])
            },
            |world, version, request, answer| {
                for (asked, answered) in request.topic_data.iter().zip(&answer.responses) {
                    assert_eq!(asked.name, answered.name);
                    assert_eq!(asked.topic_id, answered.topic_id);
                }
                let good = partition(&answer, 0, 0);
                assert_eq!((good.index, good.error_code), (2, NONE));
                assert_eq!(good.log_append_time_ms, -1);
                assert_eq!(good.log_start_offset, if version >= 5 { 0 } else { -1 });
                let read = world.fetch(TOPIC, 2, good.base_offset);
                assert_eq!(offsets(&read.records.unwrap()), [(good.base_offset, 3)]);
                let missing = partition(&answer, 0, 1);
                assert_eq!(
                    (missing.index, missing.error_code),
                    (9, UNKNOWN_TOPIC_OR_PARTITION)
                );
                assert_eq!(missing.base_offset, -1);
                assert_eq!(partition(&answer, 1, 0).error_code, unknown(version));
                for at in 0..2 {
                    assert_eq!(partition(&answer, 2, at).error_code, unknown(version));
                }
            },
        ),
        case(
            "acks=1",
            move |world, version| {
                produce(vec![data(
                    version,
                    TOPIC,
                    world.topic_id,
                    vec![(2, batch())],
                )])
                .with_acks(1)
            },
            |_, _, _, answer| assert_eq!(partition(&answer, 0, 0).error_code, NONE),
        ),
        case(
            "the broker's time",
            move |world, version| {
                let name = world.fresh("stamped");
                let configs = [("message.timestamp.type", "LogAppendTime")];
                let id = world.create(&name, 1, &configs);
                produce(vec![data(version, &name, id, vec![(0, batch())])])
            },
            |_, _, _, answer| {
                let found = partition(&answer, 0, 0);
                assert_eq!((found.error_code, found.base_offset), (NONE, 0));
                assert!(found.log_append_time_ms > TIME, "{found:?}");
            },
        ),
        case(
            "nothing at all",
            |_, _| produce(vec![]),
            |_, _, _, answer| assert!(answer.responses.is_empty()),
        ),
        case(
            "no records",
            |world, version| {
                let sets = vec![(2, None), (1, Some(Bytes::new()))];
                produce(vec![data(version, TOPIC, world.topic_id, sets)])
            },
            |_, _, _, answer| {
                assert_eq!(partition(&answer, 0, 0).error_code, INVALID_RECORD);
                assert_eq!(partition(&answer, 0, 1).error_code, INVALID_RECORD);
            },
        ),
        case(
            "a transaction that nobody has begun",
            move |world, version| {
                let transactional_bit = 0x10;
                let batch = Batch {
                    attributes: transactional_bit,
                    ..Batch::of(1).from((1 << 40, 0), 0)
                };
                let sets = vec![(2, Some(batch.bytes()))];
                produce(vec![data(version, TOPIC, world.topic_id, sets)])
                    .with_transactional_id(Some(transactional("mover")))
            },
            |_, _, _, answer| {
                let code = partition(&answer, 0, 0).error_code;
                assert_eq!(code, INVALID_PRODUCER_ID_MAPPING);
            },
        ),
        case(
            "zstd before it was allowed",
            |world, version| {
                let zstd = Batch {
                    attributes: 4,
                    ..Batch::of(1)
                }
                .bytes();
                produce(vec![data(
                    version,
                    TOPIC,
                    world.topic_id,
                    vec![(2, Some(zstd))],
                )])
            },
            |_, _, _, answer| {
                assert_eq!(partition(&answer, 0, 0).error_code, UNSUPPORTED_COMPRESSION);
            },
        )
        .until(6),
    ]
}

fn fetch_topic(version: i16, name: &str, id: Uuid, partitions: Vec<FetchPartition>) -> FetchTopic {
    let asked = FetchTopic::default().with_partitions(partitions);
    if version >= 13 {
        asked.with_topic_id(id)
    } else {
        asked.with_topic(topic(name))
    }
}

fn one(answer: &FetchResponse) -> &PartitionData {
    assert_eq!(answer.error_code, NONE);
    &answer.responses[0].partitions[0]
}

const BYTES: i32 = 1 << 20;

/// A fetch of partition 0 of the topic.
fn fetch_from(world: &World, version: i16, offset: i64) -> FetchRequest {
    let partitions = vec![fetch_partition(0, offset, BYTES)];
    world::fetch(vec![fetch_topic(
        version,
        TOPIC,
        world.topic_id,
        partitions,
    )])
}

fn fetch_cases() -> Vec<Case> {
    vec![
        case(
            "from the beginning",
            |world, version| fetch_from(world, version, 0),
            |_, version, request, answer| {
                assert_eq!(answer.session_id, 0);
                assert_eq!(answer.responses[0].topic, request.topics[0].topic);
                assert_eq!(answer.responses[0].topic_id, request.topics[0].topic_id);
                let read = one(&answer);
                assert_eq!((read.partition_index, read.error_code), (0, NONE));
                assert_eq!(
                    (read.high_watermark, read.last_stable_offset),
                    (RECORDS, RECORDS)
                );
                assert_eq!(read.log_start_offset, if version >= 5 { 0 } else { -1 });
                assert_eq!(read.aborted_transactions, None);
                assert_eq!(read.preferred_read_replica.0, -1);
                assert_eq!(offsets(read.records.as_ref().unwrap()), [(0, 5), (5, 5)]);
            },
        ),
        case(
            "read committed, from within a batch",
            |world, version| fetch_from(world, version, 7).with_isolation_level(1),
            |_, _, _, answer| {
                let read = one(&answer);
                assert_eq!(read.aborted_transactions, Some(vec![]));
                assert_eq!(offsets(read.records.as_ref().unwrap()), [(5, 5)]);
            },
        ),
        case(
            "at the end, and an empty partition",
            |world, version| {
                let mut request = fetch_from(world, version, RECORDS);
                request.topics[0]
                    .partitions
                    .push(fetch_partition(1, 0, BYTES));
                request
            },
            |_, _, _, answer| {
                for read in &answer.responses[0].partitions {
                    assert_eq!(read.error_code, NONE);
                    assert_eq!(read.records, Some(Bytes::new()));
                }
                assert_eq!(answer.responses[0].partitions[1].high_watermark, 0);
            },
        ),
        case(
            "nothing at all",
            |_, _| world::fetch(vec![]),
            |_, _, _, answer| {
                assert_eq!(answer.error_code, NONE);
                assert!(answer.responses.is_empty());
            },
        ),
        case(
            "a new session",
            |world, version| fetch_from(world, version, 0).with_session_epoch(0),
            |_, _, _, answer| {
                assert_ne!(answer.session_id, 0);
                assert_eq!(one(&answer).high_watermark, RECORDS);
            },
        )
        .since(7),
    ]
}

fn fetch_refusals() -> Vec<Case> {
    vec![
        case(
            "offsets out of range, unknown partitions and topics, and a good one",
            |world, version| {
                let mut request = fetch_from(world, version, RECORDS + 1);
                for (partition, offset) in [(1, -5), (9, 0), (-1, 0), (0, 5)] {
                    request.topics[0]
                        .partitions
                        .push(fetch_partition(partition, offset, BYTES));
                }
                let other = || vec![fetch_partition(0, 0, BYTES)];
                request
                    .topics
                    .push(fetch_topic(version, NOWHERE, world.unknown_id, other()));
                request
                    .topics
                    .push(fetch_topic(version, GONE, world.gone_id, other()));
                request
            },
            |_, version, _, answer| {
                assert_eq!(answer.error_code, NONE);
                let codes = |at: usize| {
                    let partitions: &[PartitionData] = &answer.responses[at].partitions;
                    partitions
                        .iter()
                        .map(|read| read.error_code)
                        .collect::<Vec<_>>()
                };
                let expected = [
                    OFFSET_OUT_OF_RANGE,
                    OFFSET_OUT_OF_RANGE,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    NONE,
                ];
                assert_eq!(codes(0), expected);
                let good = &answer.responses[0].partitions[4];
                assert_eq!(offsets(good.records.as_ref().unwrap()), [(5, 5)]);
                assert_eq!(
                    (codes(1), codes(2)),
                    (vec![unknown(version)], vec![unknown(version)])
                );
            },
        ),
        case(
            "numbers that make no sense",
            |world, version| {
                let mut request = fetch_from(world, version, i64::MIN)
                    .with_max_wait_ms(i32::MIN)
                    .with_min_bytes(i32::MIN)
                    .with_max_bytes(i32::MIN);
                for (partition, offset, bytes) in [
                    (1, i64::MAX, i32::MIN),
                    (i32::MAX, 0, 1),
                    (i32::MIN, 0, 1),
                    (0, 0, i32::MIN),
                ] {
                    let asked = fetch_partition(partition, offset, bytes);
                    request.topics[0].partitions.push(asked);
                }
                request
            },
            |_, _, _, answer| {
                let read = &answer.responses[0].partitions;
                let codes: Vec<_> = read.iter().map(|one| one.error_code).collect();
                let expected = [
                    OFFSET_OUT_OF_RANGE,
                    OFFSET_OUT_OF_RANGE,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    NONE,
                ];
                assert_eq!(codes, expected);
                assert_eq!(offsets(read[4].records.as_ref().unwrap()), [(0, 5)]);
            },
        ),
        case(
            "zstd before it was known",
            |world, version| {
                let name = world.fresh("zstd");
                let id = world.create(&name, 1, &[("compression.type", "zstd")]);
                let partitions = vec![fetch_partition(0, 0, BYTES)];
                world::fetch(vec![fetch_topic(version, &name, id, partitions)])
            },
            |_, version, _, answer| {
                let code = if version < 10 {
                    UNSUPPORTED_COMPRESSION
                } else {
                    NONE
                };
                assert_eq!(one(&answer).error_code, code);
            },
        ),
        case(
            "an epoch that is yet to come",
            |world, version| {
                let mut request = fetch_from(world, version, 0);
                request.topics[0].partitions[0].current_leader_epoch = 5;
                request
            },
            |_, _, _, answer| assert_eq!(one(&answer).error_code, UNKNOWN_LEADER_EPOCH),
        )
        .since(9),
        case(
            "a session that nobody has",
            |world, version| {
                fetch_from(world, version, 0)
                    .with_session_id(12345)
                    .with_session_epoch(7)
            },
            |_, _, _, answer| {
                assert_eq!(answer.error_code, FETCH_SESSION_ID_NOT_FOUND);
                assert_eq!(answer.session_id, 0);
                assert!(answer.responses.is_empty());
            },
        )
        .since(7),
    ]
}

fn delete_records(name: &str, partitions: &[(i32, i64)]) -> DeleteRecordsTopic {
    let partitions = partitions.iter().map(|(partition, offset)| {
        DeleteRecordsPartition::default()
            .with_partition_index(*partition)
            .with_offset(*offset)
    });
    DeleteRecordsTopic::default()
        .with_name(topic(name))
        .with_partitions(partitions.collect())
}

fn other_cases() -> Vec<Case> {
    vec![
        case(
            "up to an offset, to the end, beyond it, and nowhere",
            |world, _| {
                let (name, _) = world.fresh_topic(3);
                for partition in 0..3 {
                    world.produce(&name, partition, Batch::of(5).bytes());
                }
                let topics = vec![
                    delete_records(&name, &[(0, 3), (1, -1), (2, 6), (3, 0)]),
                    delete_records(NOWHERE, &[(0, 0)]),
                ];
                DeleteRecordsRequest::default()
                    .with_timeout_ms(5000)
                    .with_topics(topics)
            },
            |world, _, request, answer| {
                assert_eq!(answer.topics[0].name, request.topics[0].name);
                let mut found: Vec<_> = answer.topics[0]
                    .partitions
                    .iter()
                    .map(|one| (one.partition_index, one.error_code, one.low_watermark))
                    .collect();
                found.sort_unstable();
                let expected = [
                    (0, NONE, 3),
                    (1, NONE, 5),
                    (2, OFFSET_OUT_OF_RANGE, -1),
                    (3, UNKNOWN_TOPIC_OR_PARTITION, -1),
                ];
                assert_eq!(found, expected);
                let nowhere = &answer.topics[1].partitions[0];
                assert_eq!(nowhere.error_code, UNKNOWN_TOPIC_OR_PARTITION);
                let name = request.topics[0].name.to_string();
                assert_eq!(world.fetch(&name, 0, 2).error_code, OFFSET_OUT_OF_RANGE);
                assert_eq!(world.fetch(&name, 0, 3).log_start_offset, 3);
            },
        ),
        case(
            "nothing at all",
            |_, _| DeleteRecordsRequest::default(),
            |_, _, _, answer| assert!(answer.topics.is_empty()),
        ),
        case(
            "ids are never given twice",
            |_, _| InitProducerIdRequest::default().with_transactional_id(None),
            |world, version, request, answer| {
                assert_eq!((answer.error_code, answer.producer_epoch), (NONE, 0));
                let other = world.client.ask(version, request);
                assert!(
                    other.producer_id.0 > answer.producer_id.0,
                    "{other:?} {answer:?}"
                );
            },
        ),
        case(
            "a transactional id",
            |_, _| {
                InitProducerIdRequest::default()
                    .with_transactional_id(Some(transactional("mover")))
                    .with_transaction_timeout_ms(60_000)
            },
            |world, version, request, answer| {
                assert_eq!(answer.error_code, NONE);
                let again = world.client.ask(version, request);
                assert_eq!(again.producer_id, answer.producer_id);
                assert_eq!(again.producer_epoch, answer.producer_epoch + 1);
                let request = request.clone().with_transaction_timeout_ms(i32::MAX);
                let refused = world.client.ask(version, &request);
                assert_eq!(refused.error_code, INVALID_TRANSACTION_TIMEOUT);
            },
        ),
        case(
            "an empty transactional id",
            |_, _| InitProducerIdRequest::default().with_transactional_id(Some(transactional(""))),
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
        case(
            "an id that the producer has",
            |_, _| {
                InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_producer_id(ProducerId(0))
                    .with_producer_epoch(0)
            },
            |_, _, _, answer| {
                assert_eq!((answer.error_code, answer.producer_epoch), (NONE, 0));
                assert!(answer.producer_id.0 > 0);
            },
        )
        .since(3),
        case(
            "an id without an epoch",
            |_, _| {
                InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_producer_id(ProducerId(5))
            },
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_REQUEST),
        )
        .since(3),
    ]
}
