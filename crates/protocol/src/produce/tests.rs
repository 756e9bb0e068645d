use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{self as theirs, TransactionalId};
use kafka_protocol::protocol::StrBytes as TheirString;
use proptest::prelude::*;

use super::*;
use crate::oracle;

/// Topics with the record sets of their partitions.
type Topics = Vec<Vec<(i32, Option<Vec<u8>>)>>;

fn topic_name(index: usize) -> String {
    format!("topic-{index}")
}

fn topic_uuid(index: usize) -> String {
    format!("00000000-0000-4000-8000-{:012x}", index + 1)
}

fn topic_ref(index: usize, version: i16) -> TopicRef {
    if version < TOPIC_IDS {
        return TopicRef::Name(StrBytes::from(topic_name(index)));
    }
    let hex = topic_uuid(index).replace('-', "");
    TopicRef::Id(TopicId(
        u128::from_str_radix(&hex, 16).unwrap().to_be_bytes(),
    ))
}

fn their_request(topics: &Topics, version: i16, txn: Option<&str>) -> theirs::ProduceRequest {
    let topic_data = topics.iter().enumerate().map(|(index, partitions)| {
        let partitions = partitions.iter().map(|(partition, records)| {
            PartitionProduceData::default()
                .with_index(*partition)
                .with_records(records.clone().map(Bytes::from))
        });
        let topic = TopicProduceData::default().with_partition_data(partitions.collect());
        if version < TOPIC_IDS {
            topic.with_name(TheirString::from_string(topic_name(index)).into())
        } else {
            topic.with_topic_id(topic_uuid(index).parse().unwrap())
        }
    });
    theirs::ProduceRequest::default()
        .with_transactional_id(
            txn.map(|id| TransactionalId(TheirString::from_string(id.to_owned()))),
        )
        .with_acks(-1)
        .with_timeout_ms(1500)
        .with_topic_data(topic_data.collect())
}

fn decode(frame: Bytes) -> Result<ProduceRequest, RequestError> {
    Request::parse(frame).and_then(|request| ProduceRequest::decode(&request))
}

fn our_request(topics: &Topics, version: i16) -> ProduceRequest {
    decode(oracle::request(
        &their_request(topics, version, None),
        version,
        1,
    ))
    .unwrap()
}

fn topics() -> impl Strategy<Value = Topics> {
    let records = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    let partitions = proptest::collection::vec((any::<i32>(), records), 0..5);
    proptest::collection::vec(partitions, 0..5)
}

proptest! {
    #[test]
    fn requests_read_as_they_were_written(
        topics in topics(),
        version in 3i16..=13,
        txn in proptest::option::of("[a-z]{0,200}"),
    ) {
        let theirs = their_request(&topics, version, txn.as_deref());
        let read = decode(oracle::request(&theirs, version, 1)).unwrap();
        prop_assert_eq!(read.transactional_id.as_deref(), txn.as_deref());
        prop_assert_eq!((read.acks, read.timeout_ms), (-1, 1500));
        let mut expected = Vec::new();
        for (index, partitions) in topics.iter().enumerate() {
            for (partition, records) in partitions {
                expected.push(ProducePartition {
                    topic_index: u32::try_from(index).unwrap(),
                    topic: topic_ref(index, version),
                    partition: *partition,
                    records: records.clone().map(Bytes::from),
                });
            }
        }
        prop_assert_eq!(read.partitions, expected);
    }

    #[test]
    fn answers_read_as_they_were_written(
        topics in topics(),
        version in 3i16..=13,
        message in proptest::option::of(".{0,40}"),
        offset in any::<i64>(),
    ) {
        let request = our_request(&topics, version);
        let results: Vec<_> = (0i64..).zip(&request.partitions).map(|(index, _)| ProduceResult {
            error: if index % 2 == 0 { ErrorCode::None } else { ErrorCode::InvalidRecord },
            message: message.clone(),
            base_offset: offset.wrapping_add(index),
            log_append_time: index,
            log_start: index - 1,
        }).collect();
        let frame = encode_response(99, version, &request, &results, 250);
        let (id, read) = oracle::response::<theirs::ProduceResponse>(&frame, version);
        prop_assert_eq!((id, read.throttle_time_ms), (99, 250));

        let mut results = results.into_iter();
        let asked = topics.iter().enumerate().filter(|(_, partitions)| !partitions.is_empty());
        prop_assert_eq!(read.responses.len(), asked.clone().count());
        for ((index, partitions), answer) in asked.zip(&read.responses) {
            match topic_ref(index, version) {
                TopicRef::Name(name) => prop_assert_eq!(answer.name.as_str(), name.as_str()),
                TopicRef::Id(id) => prop_assert_eq!(answer.topic_id.as_bytes(), &id.0),
            }
            prop_assert_eq!(answer.partition_responses.len(), partitions.len());
            for ((partition, _), got) in partitions.iter().zip(&answer.partition_responses) {
                let result = results.next().unwrap();
                prop_assert_eq!(got.index, *partition);
                prop_assert_eq!(got.error_code, result.error.code());
                prop_assert_eq!(got.base_offset, result.base_offset);
                prop_assert_eq!(got.log_append_time_ms, result.log_append_time);
                let log_start = if version >= 5 { result.log_start } else { -1 };
                prop_assert_eq!(got.log_start_offset, log_start);
                let message = result.message.filter(|_| version >= 8);
                prop_assert_eq!(got.error_message.as_deref(), message.as_deref());
            }
        }
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        version in 0i16..16,
        body in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
    ) {
        let frame = oracle::raw_request(api::PRODUCE, version, version >= FLEXIBLE, &body);
        let _ = decode(frame);
    }
}

#[test]
fn records_are_slices_of_the_frame() {
    let topics = vec![vec![(0, Some(vec![7; 1000]))]];
    let frame = oracle::request(&their_request(&topics, 9, None), 9, 1);
    let within = frame.as_ptr_range();
    let read = decode(frame).unwrap();
    let records = read.partitions[0].records.clone().unwrap().as_ptr_range();
    assert!(within.start <= records.start && records.end <= within.end);
}

#[test]
fn every_truncation_and_every_byte_too_many_is_refused() {
    let topics = vec![
        vec![(0, Some(vec![7; 20])), (1, None)],
        vec![(5, Some(vec![]))],
    ];
    for version in 3..=13 {
        let frame = oracle::request(&their_request(&topics, version, Some("txn")), version, 1);
        assert!(decode(frame.clone()).is_ok());
        for length in 0..frame.len() {
            let read = decode(frame.slice(..length));
            assert!(
                read.is_err(),
                "version {version}, {length} of {} bytes",
                frame.len()
            );
        }
        let mut longer = BytesMut::from(&frame[..]);
        longer.put_u8(0);
        assert!(decode(longer.freeze()).is_err());
    }
}

#[test]
fn counts_and_lengths_that_lie_are_refused() {
    // transactional id null, acks, timeout, then two thousand million topics.
    let body = [
        &[0xff, 0xff, 0, 1, 0, 0, 0, 9][..],
        &[0x7f, 0xff, 0xff, 0xff],
    ]
    .concat();
    let error = decode(oracle::raw_request(api::PRODUCE, 3, false, &body)).unwrap_err();
    assert!(
        error.to_string().contains("more elements than bytes"),
        "{error}"
    );

    let mut body = BytesMut::new();
    body.put_slice(&[
        0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1,
    ]);
    body.put_slice(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
    let error = decode(oracle::raw_request(api::PRODUCE, 3, false, &body)).unwrap_err();
    assert!(
        error.to_string().contains("a length beyond the end"),
        "{error}"
    );
}

#[test]
fn too_many_partitions_are_refused() {
    let mut body = BytesMut::new();
    body.put_slice(&[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b'a']);
    let count = LIMITS.elements + 1;
    body.put_i32(i32::try_from(count).unwrap());
    for _ in 0..count {
        body.put_i32(0);
        body.put_i32(-1);
    }
    let error = decode(oracle::raw_request(api::PRODUCE, 3, false, &body)).unwrap_err();
    assert!(error.to_string().contains("too many partitions"), "{error}");
}

#[test]
fn versions_that_are_not_served_are_refused() {
    for version in [0, 2, 14] {
        assert!(
            decode(oracle::raw_request(
                api::PRODUCE,
                version,
                version >= 9,
                &[0; 40]
            ))
            .is_err()
        );
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let topics = vec![vec![(3, Some(vec![1, 2, 3]))]];
    let mut theirs = their_request(&topics, 13, None);
    let unknown = Bytes::from_static(b"from the future");
    theirs.unknown_tagged_fields.insert(40, unknown.clone());
    theirs.topic_data[0]
        .unknown_tagged_fields
        .insert(41, unknown.clone());
    theirs.topic_data[0].partition_data[0]
        .unknown_tagged_fields
        .insert(42, unknown);
    let read = decode(oracle::request(&theirs, 13, 1)).unwrap();
    assert_eq!(read.partitions.len(), 1);
    assert_eq!(read.partitions[0].partition, 3);
}

#[test]
fn a_missing_result_is_an_error_of_the_server() {
    let request = our_request(&vec![vec![(0, None), (1, None)]], 9);
    let frame = encode_response(1, 9, &request, &[], 0);
    let (_, read) = oracle::response::<theirs::ProduceResponse>(&frame, 9);
    for partition in &read.responses[0].partition_responses {
        assert_eq!(partition.error_code, ErrorCode::UnknownServerError.code());
        assert_eq!(partition.base_offset, -1);
    }
}
