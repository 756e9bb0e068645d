use alluvium_types::TopicId;
use kafka_protocol::messages as theirs;
use kafka_protocol::messages::fetch_request as request;
use kafka_protocol::protocol::StrBytes as TheirString;
use proptest::prelude::*;

use super::*;
use crate::messages::StrBytes;
use crate::oracle;

fn topic_uuid(index: usize) -> String {
    format!("00000000-0000-4000-8000-{:012x}", index + 1)
}

fn topic_ref(index: usize, version: i16) -> TopicRef {
    if version < TOPIC_IDS {
        return TopicRef::Name(StrBytes::from(format!("topic-{index}")));
    }
    let hex = topic_uuid(index).replace('-', "");
    TopicRef::Id(TopicId(
        u128::from_str_radix(&hex, 16).unwrap().to_be_bytes(),
    ))
}

fn their_topic(index: usize, version: i16) -> request::FetchTopic {
    let topic = request::FetchTopic::default();
    if version < TOPIC_IDS {
        topic.with_topic(TheirString::from_string(format!("topic-{index}")).into())
    } else {
        topic.with_topic_id(topic_uuid(index).parse().unwrap())
    }
}

fn their_forgotten(index: usize, version: i16) -> request::ForgottenTopic {
    let topic = their_topic(index, version);
    request::ForgottenTopic::default()
        .with_topic(topic.topic)
        .with_topic_id(topic.topic_id)
        .with_partitions(vec![4, 5])
}

fn their_request(topics: &[Vec<(i32, i64)>], version: i16) -> theirs::FetchRequest {
    let topics = topics.iter().enumerate().map(|(index, partitions)| {
        let partitions = partitions.iter().map(|(partition, offset)| {
            let partition = request::FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(4096);
            let partition = if version >= 9 {
                partition.with_current_leader_epoch(3)
            } else {
                partition
            };
            if version >= 12 {
                partition.with_last_fetched_epoch(2)
            } else {
                partition
            }
        });
        their_topic(index, version).with_partitions(partitions.collect())
    });
    let mut theirs = theirs::FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_isolation_level(1)
        .with_topics(topics.collect());
    if version >= 7 {
        theirs.session_id = 17;
        theirs.session_epoch = 3;
        theirs.forgotten_topics_data = vec![their_forgotten(0, version)];
    }
    if version >= 11 {
        theirs.rack_id = TheirString::from_static_str("zone-a");
    }
    theirs
}

fn decode(frame: Bytes) -> Result<FetchRequest, RequestError> {
    Request::parse(frame).and_then(|request| FetchRequest::decode(&request))
}

fn expected(topics: &[Vec<(i32, i64)>], version: i16) -> FetchRequest {
    let partitions = topics.iter().enumerate().flat_map(|(index, partitions)| {
        partitions
            .iter()
            .map(move |(partition, offset)| FetchPartition {
                topic: topic_ref(index, version),
                partition: *partition,
                current_leader_epoch: if version >= 9 { 3 } else { -1 },
                last_fetched_epoch: if version >= 12 { 2 } else { -1 },
                offset: *offset,
                max_bytes: 4096,
            })
    });
    let session = version >= 7;
    let forgotten = [(topic_ref(0, version), 4), (topic_ref(0, version), 5)];
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        read_committed: true,
        session_id: if session { 17 } else { 0 },
        session_epoch: if session { 3 } else { -1 },
        partitions: partitions.collect(),
        forgotten: if session { forgotten.to_vec() } else { vec![] },
        rack: if version >= 11 {
            "zone-a".to_owned()
        } else {
            String::new()
        },
    }
}

fn answer(topics: &[Vec<Vec<usize>>], version: i16) -> FetchResponse {
    let partitions = topics.iter().enumerate().flat_map(|(index, partitions)| {
        (0i32..)
            .zip(partitions)
            .map(move |(partition, sizes)| FetchedPartition {
                topic: topic_ref(index, version),
                partition,
                error: if sizes.len() == 1 {
                    ErrorCode::OffsetOutOfRange
                } else {
                    ErrorCode::None
                },
                high_watermark: 1000 + i64::from(partition),
                last_stable_offset: 900,
                log_start: 3,
                aborted: (partition % 2 == 0).then(|| vec![(11, 12), (13, 14)]),
                preferred_read_replica: partition - 1,
                records: sizes
                    .iter()
                    .map(|size| Bytes::from(vec![size.to_be_bytes()[7]; *size]))
                    .collect(),
            })
    });
    FetchResponse {
        throttle_ms: 5,
        error: ErrorCode::None,
        session_id: 21,
        partitions: partitions.collect(),
    }
}

fn record_size() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..200, (JOIN_BYTES - 2)..(JOIN_BYTES + 2)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn requests_read_as_they_were_written(
        topics in proptest::collection::vec(
            proptest::collection::vec(any::<(i32, i64)>(), 0..4), 0..4),
        version in 4i16..=18,
    ) {
        let frame = oracle::request(&their_request(&topics, version), version, 1);
        prop_assert_eq!(decode(frame).unwrap(), expected(&topics, version));
    }

    #[test]
    fn answers_read_as_they_were_written(
        topics in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(record_size(), 0..4), 1..4), 0..4),
        version in 4i16..=18,
    ) {
        let answer = answer(&topics, version);
        let chain = answer.encode(55, version);
        prop_assert!(chain.iter().all(|part| !part.is_empty()));
        let frame = chain.concat();
        let (id, read) = oracle::response::<theirs::FetchResponse>(&frame, version);
        prop_assert_eq!((id, read.throttle_time_ms), (55, 5));
        prop_assert_eq!(read.session_id, if version >= 7 { 21 } else { 0 });
        let mut ours = answer.partitions.iter();
        prop_assert_eq!(read.responses.len(), topics.len());
        for topic in &read.responses {
            for got in &topic.partitions {
                let partition = ours.next().unwrap();
                match &partition.topic {
                    TopicRef::Name(name) => prop_assert_eq!(topic.topic.as_str(), name.as_str()),
                    TopicRef::Id(id) => prop_assert_eq!(topic.topic_id.as_bytes(), &id.0),
                }
                prop_assert_eq!(got.partition_index, partition.partition);
                prop_assert_eq!(got.error_code, partition.error.code());
                prop_assert_eq!(got.high_watermark, partition.high_watermark);
                prop_assert_eq!(got.last_stable_offset, 900);
                prop_assert_eq!(got.log_start_offset, if version >= 5 { 3 } else { -1 });
                let preferred = if version >= 11 { partition.preferred_read_replica } else { -1 };
                prop_assert_eq!(got.preferred_read_replica.0, preferred);
                let aborted = got.aborted_transactions.as_ref().map(|aborted| {
                    aborted.iter().map(|txn| (txn.producer_id.0, txn.first_offset)).collect()
                });
                prop_assert_eq!(&aborted, &partition.aborted);
                let records = partition.records.concat();
                prop_assert_eq!(got.records.as_deref(), Some(&records[..]));
            }
        }
        prop_assert!(ours.next().is_none());
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        version in 0i16..20,
        body in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
    ) {
        let frame = oracle::raw_request(api::FETCH, version, version >= FLEXIBLE, &body);
        let _ = decode(frame);
    }
}

#[test]
fn every_truncation_is_refused() {
    for version in 4..=18 {
        let topics = [vec![(0, 5), (1, 6)], vec![(2, 7)]];
        let frame = oracle::request(&their_request(&topics, version), version, 1);
        for length in 0..frame.len() {
            let read = decode(frame.slice(..length));
            assert!(
                read.is_err(),
                "version {version}, {length} of {} bytes",
                frame.len()
            );
        }
    }
}

#[test]
fn large_record_buffers_are_passed_on_and_small_ones_joined() {
    let answer = answer(&[vec![vec![100, JOIN_BYTES, 200, 300, JOIN_BYTES * 2]]], 12);
    let chain = answer.encode(1, 12);
    let records = &answer.partitions[0].records;
    assert_eq!(
        chain.len(),
        5,
        "head, records, joined records, records, tail"
    );
    assert_eq!(chain[1].as_ptr(), records[1].as_ptr());
    assert_eq!(chain[2].len(), 500);
    assert_eq!(chain[3].as_ptr(), records[4].as_ptr());
}

#[test]
fn records_that_no_frame_can_hold_are_left_out() {
    // One buffer, many times: 2 GiB without the memory.
    let part = Bytes::from(vec![1; 16 << 20]);
    let mut answer = answer(&[vec![vec![], vec![]]], 12);
    answer.partitions[0].records = vec![part; 128];
    answer.partitions[1].records = vec![Bytes::from_static(b"small")];
    let frame = answer.encode(1, 12).concat();
    assert!(frame.len() < 1000);
    let (_, read) = oracle::response::<theirs::FetchResponse>(&frame, 12);
    assert_eq!(
        read.responses[0].partitions[0].records.as_deref(),
        Some(&b""[..])
    );
    assert_eq!(
        read.responses[0].partitions[1].records.as_deref(),
        Some(&b"small"[..])
    );
}

#[test]
fn a_count_of_four_bytes_does_not_make_us_allocate() {
    let body = [&[0; 12][..], &[0, 0, 0, 1, 0], &[0x7f, 0xff, 0xff, 0xff]].concat();
    let error = decode(oracle::raw_request(api::FETCH, 4, false, &body)).unwrap_err();
    assert!(
        error.to_string().contains("more elements than bytes"),
        "{error}"
    );
}
