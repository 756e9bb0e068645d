//! Records that are refused, with Kafka's codes: their neighbours are stored and they are not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, IncrementalAlterConfigsRequest, ProduceRequest,
};

use crate::batches::{Batch, TIME, message_set, offsets};
use crate::codes::*;
use crate::wire::Client;
use crate::world::{NOWHERE, World, produce};

/// Attributes of a batch.
const CODEC_5: i16 = 5;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// Where the fields of a batch are.
const LENGTH: usize = 8;
const LAST_OFFSET_DELTA: usize = 23;
const COUNT: usize = 57;

fn with_attributes(attributes: i16) -> Bytes {
    Batch {
        attributes,
        ..Batch::of(3)
    }
    .bytes()
}

/// What is refused, and how. `producer` has written nothing yet.
fn refused(producer: (i64, i16)) -> Vec<(&'static str, Bytes, i16)> {
    let three = Batch::of(3);
    let count = |count: i32| three.patched(COUNT, &count.to_be_bytes());
    let last = |delta: i32| three.patched(LAST_OFFSET_DELTA, &delta.to_be_bytes());
    let length = |length: i32| three.patched(LENGTH, &length.to_be_bytes());
    let whole = three.bytes();
    let two = [whole.clone(), whole.clone()].concat();
    let behind = [&whole[..], b"behind"].concat();
    let transactional = Batch {
        attributes: TRANSACTIONAL,
        ..Batch::of(3).from(producer, 0)
    };
    vec![
        ("nothing", Bytes::new(), INVALID_RECORD),
        ("a message set of magic 0", message_set(0), INVALID_RECORD),
        ("a message set of magic 1", message_set(1), INVALID_RECORD),
        ("a checksum that is wrong", three.corrupt(), CORRUPT_MESSAGE),
        ("a count that is too small", count(2), INVALID_RECORD),
        ("a count that is too large", count(4), INVALID_RECORD),
        ("a count of none", count(0), INVALID_RECORD),
        ("a negative count", count(-1), INVALID_RECORD),
        ("a count beyond all bounds", count(i32::MAX), INVALID_RECORD),
        ("a last offset that is too large", last(9), INVALID_RECORD),
        ("a last offset that is too small", last(0), INVALID_RECORD),
        ("a negative last offset", last(-1), INVALID_RECORD),
        ("two batches", two.into(), INVALID_RECORD),
        ("bytes behind the batch", behind.into(), INVALID_RECORD),
        (
            "half a batch",
            whole.slice(..whole.len() / 2),
            CORRUPT_MESSAGE,
        ),
        ("a few bytes", whole.slice(..5), CORRUPT_MESSAGE),
        ("a length that is negative", length(-1), CORRUPT_MESSAGE),
        (
            "a length beyond all bounds",
            length(i32::MAX),
            CORRUPT_MESSAGE,
        ),
        (
            "too large a batch",
            Batch::sized(3000).bytes(),
            MESSAGE_TOO_LARGE,
        ),
        (
            "an unknown codec",
            with_attributes(CODEC_5),
            UNSUPPORTED_COMPRESSION,
        ),
        ("gzip that is none", with_attributes(1), CORRUPT_MESSAGE),
        ("snappy that is none", with_attributes(2), CORRUPT_MESSAGE),
        ("lz4 that is none", with_attributes(3), CORRUPT_MESSAGE),
        ("zstd that is none", with_attributes(4), CORRUPT_MESSAGE),
        (
            "the broker's own time",
            with_attributes(LOG_APPEND_TIME),
            INVALID_TIMESTAMP,
        ),
        ("a control batch", with_attributes(CONTROL), INVALID_RECORD),
        ("a transaction's batch", transactional.bytes(), 53),
        (
            "a time far ahead",
            Batch::of(3).at(4_000_000_000_000).bytes(),
            INVALID_TIMESTAMP,
        ),
        (
            "a time long ago",
            Batch::of(3).at(TIME - 90_000_000).bytes(),
            INVALID_TIMESTAMP,
        ),
        (
            "no sequence",
            Batch::of(3).from(producer, -1).bytes(),
            INVALID_RECORD,
        ),
    ]
}

#[test]
fn refused_records_have_kafkas_codes_and_are_not_stored() {
    let mut world = World::new();
    let producer = world.producer();
    let since = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() - TIME;
    let before = (since + 3_600_000).to_string();
    let configs = [
        ("max.message.bytes", "2000"),
        ("message.timestamp.before.max.ms", &before),
    ];
    world.create("strict", 3, &configs);
    let mut stored = 0;
    for (what, records, code) in refused(producer) {
        let good = || Some(Batch::of(2).bytes());
        let request = produce("strict", vec![(0, good()), (1, Some(records)), (2, good())]);
        let answer = world.client.ask(9, &request);
        let found = &answer.responses[0].partition_responses;
        let codes: Vec<_> = found.iter().map(|one| one.error_code).collect();
        assert_eq!(
            codes,
            [NONE, code, NONE],
            "{what}: {:?}",
            found[1].error_message
        );
        assert_eq!(
            (found[0].base_offset, found[2].base_offset),
            (stored, stored),
            "{what}"
        );
        assert_eq!(
            (found[1].base_offset, found[1].log_append_time_ms),
            (-1, -1),
            "{what}"
        );
        assert!(
            found[1].error_message.is_some(),
            "{what}: no reason is given"
        );
        stored += 2;
    }
    let nothing = world.fetch("strict", 1, 0);
    assert_eq!((nothing.error_code, nothing.high_watermark), (NONE, 0));
    assert!(nothing.records.unwrap().is_empty());
    for partition in [0, 2] {
        let read = world.fetch("strict", partition, 0);
        assert_eq!(read.high_watermark, stored);
        let batches: Vec<_> = (0..stored / 2).map(|batch| (batch * 2, 2)).collect();
        assert_eq!(offsets(&read.records.unwrap()), batches);
    }
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    let mut world = World::new();
    world.create("compacted", 1, &[("cleanup.policy", "compact")]);
    let answer = world.try_produce("compacted", 0, Batch::of(1).bytes());
    assert_eq!(answer.error_code, INVALID_RECORD);
    assert_eq!(world.fetch("compacted", 0, 0).high_watermark, 0);
}

#[test]
fn acks_are_none_one_or_all() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    for acks in [2, -2, i16::MAX] {
        let request = produce(&name, vec![(0, Some(Batch::of(1).bytes()))]).with_acks(acks);
        let answer = world.client.ask(9, &request);
        let found = &answer.responses[0].partition_responses[0];
        assert_eq!(
            (found.error_code, found.base_offset),
            (INVALID_REQUIRED_ACKS, -1)
        );
    }
    assert_eq!(world.fetch(&name, 0, 0).high_watermark, 0);
}

#[test]
fn without_acks_there_is_no_answer_and_a_refusal_closes_the_connection() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    for version in 3..=12 {
        let request = produce(&name, vec![(0, Some(Batch::of(1).bytes()))]).with_acks(0);
        world.client.produce_unanswered(version, &request);
        // The next frame is the answer to the next request.
        assert_eq!(
            world
                .client
                .ask(0, &ApiVersionsRequest::default())
                .error_code,
            NONE
        );
    }
    // What comes after it on the connection is appended after it.
    assert_eq!(world.produce(&name, 0, Batch::of(1).bytes()), 10);
    let mut other = Client::of(&world.server);
    let nowhere = produce(NOWHERE, vec![(0, Some(Batch::of(1).bytes()))]).with_acks(0);
    other.produce_unanswered(9, &nowhere);
    assert!(other.is_closed());
}

fn append(world: &mut World, name: &str, batch: Batch) -> (i16, i64) {
    let answer = world.try_produce(name, 0, batch.bytes());
    (answer.error_code, answer.base_offset)
}

#[test]
fn an_idempotent_producer_is_kept_in_order_and_its_retries_are_known() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let (id, epoch) = world.producer();
    let mut send = |epoch: i16, sequence: i32| {
        append(&mut world, &name, Batch::of(2).from((id, epoch), sequence))
    };
    for batch in 0..6 {
        assert_eq!(send(epoch, batch * 2), (NONE, i64::from(batch) * 2));
    }
    // Each of the last five is told its first offset again.
    for batch in [5, 1, 3] {
        assert_eq!(
            send(epoch, batch * 2),
            (NONE, i64::from(batch) * 2),
            "retry"
        );
    }
    let (code, _) = send(epoch, 0);
    assert!(
        [OUT_OF_ORDER_SEQUENCE, DUPLICATE_SEQUENCE].contains(&code),
        "a retry too late: {code}"
    );
    assert_eq!(send(epoch, 14), (OUT_OF_ORDER_SEQUENCE, -1), "a gap");
    assert_eq!(send(epoch, 12), (NONE, 12), "the gap did no harm");
    // A new epoch begins at sequence 0 and ends the one before.
    assert_eq!(send(epoch + 1, 4), (OUT_OF_ORDER_SEQUENCE, -1));
    assert_eq!(send(epoch + 1, 0), (NONE, 14));
    assert_eq!(send(epoch, 14), (INVALID_PRODUCER_EPOCH, -1), "a zombie");
    let read = world.fetch(&name, 0, 0);
    let batches: Vec<_> = (0..8).map(|batch| (batch * 2, 2)).collect();
    assert_eq!(offsets(&read.records.unwrap()), batches);
}

#[test]
fn a_retry_in_the_same_request_stream_is_stored_once() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let producer = world.producer();
    let request = |sequence| {
        produce(
            &name,
            vec![(0, Some(Batch::of(1).from(producer, sequence).bytes()))],
        )
    };
    // Sent twice without waiting, as a client does that lost a connection.
    let sent: Vec<_> = [0, 1, 0, 1, 2]
        .into_iter()
        .map(|sequence| world.client.request(9, &request(sequence)))
        .collect();
    let mut found = Vec::new();
    for correlation in sent {
        let answer = world.client.answer::<ProduceRequest>(9, correlation);
        let one = &answer.responses[0].partition_responses[0];
        found.push((one.error_code, one.base_offset));
    }
    assert_eq!(
        found,
        [(NONE, 0), (NONE, 1), (NONE, 0), (NONE, 1), (NONE, 2)]
    );
    assert_eq!(world.fetch(&name, 0, 0).high_watermark, 3);
}

/// Its first batch may still be on its way: what follows it must not be stored before it.
#[test]
fn a_producer_that_is_not_known_begins_with_sequence_zero() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let producer = world.producer();
    let mut send = |sequence| append(&mut world, &name, Batch::of(2).from(producer, sequence));
    assert_eq!(send(2), (OUT_OF_ORDER_SEQUENCE, -1));
    assert_eq!(send(0), (NONE, 0));
    assert_eq!(send(2), (NONE, 2));
    assert_eq!(send(0), (NONE, 0), "retry");
}

/// Sets `producer.id.expiration.ms` of the whole cluster.
fn expire_producers_after(world: &mut World, millis: &str) {
    let setting = AlterableConfig::default()
        .with_name("producer.id.expiration.ms".into())
        .with_value(Some(millis.to_owned().into()));
    let brokers = AlterConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name("".into())
        .with_configs(vec![setting]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![brokers]);
    assert_eq!(world.client.ask(1, &request).responses[0].error_code, NONE);
}

/// A producer whose state a partition has forgotten goes on where it was, and from the greatest
/// sequence to 0.
#[test]
fn a_producer_that_was_forgotten_may_begin_anywhere_and_sequences_wrap() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    // Ids grow: one that came after the idle one could not have been forgotten with it.
    let (producer, idle) = (world.producer(), world.producer());
    let younger = world.producer();
    expire_producers_after(&mut world, "1");
    let first = append(&mut world, &name, Batch::of(4).from(idle, 0));
    assert_eq!(first, (NONE, 0));
    // By the clock it is idle soon.
    let deadline = Instant::now() + Duration::from_secs(10);
    while append(&mut world, &name, Batch::of(4).from(idle, i32::MAX - 5)) != (NONE, 4) {
        assert!(Instant::now() < deadline, "it is not forgotten");
    }
    expire_producers_after(&mut world, "86400000");
    let refused = append(&mut world, &name, Batch::of(4).from(younger, 4));
    assert_eq!(refused, (OUT_OF_ORDER_SEQUENCE, -1));
    let mut send = |sequence| append(&mut world, &name, Batch::of(4).from(producer, sequence));
    assert_eq!(send(i32::MAX - 5), (NONE, 8));
    assert_eq!(send(i32::MAX - 1), (NONE, 12));
    assert_eq!(send(2), (NONE, 16));
    assert_eq!(send(i32::MAX - 1), (NONE, 12), "retry");
}

#[test]
fn one_request_to_many_partitions_is_answered_for_each() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(100);
    let sets = (0..200)
        .map(|partition| (partition, Some(Batch::of(1).bytes())))
        .collect();
    let answer = world.client.ask(9, &produce(&name, sets));
    for (index, found) in (0..).zip(&answer.responses[0].partition_responses) {
        let code = if index < 100 {
            NONE
        } else {
            UNKNOWN_TOPIC_OR_PARTITION
        };
        assert_eq!((found.index, found.error_code), (index, code));
    }
    assert_eq!(answer.responses[0].partition_responses.len(), 200);
}

/// A partition that a request names twice gets both.
#[test]
fn a_partition_twice_in_one_request() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let set = || (0, Some(Batch::of(2).bytes()));
    let answer = world.client.ask(9, &produce(&name, vec![set(), set()]));
    let found: Vec<_> = answer.responses[0]
        .partition_responses
        .iter()
        .map(|one| (one.error_code, one.base_offset))
        .collect();
    assert_eq!(found, [(NONE, 0), (NONE, 2)]);
    assert_eq!(world.fetch(&name, 0, 0).high_watermark, 4);
}

/// What a client left in the base offset has no meaning, as in Kafka: some pass on what they read
/// elsewhere.
#[test]
fn a_base_offset_that_is_not_zero_is_of_no_interest() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    for (base, given) in [(1000i64, 0), (i64::MAX, 3), (-1, 6)] {
        let batch = Batch::of(3).patched(0, &base.to_be_bytes());
        assert_eq!(world.produce(&name, 0, batch), given);
    }
    let read = world.fetch(&name, 0, 4);
    assert_eq!(offsets(&read.records.unwrap()), [(3, 3), (6, 3)]);
}
