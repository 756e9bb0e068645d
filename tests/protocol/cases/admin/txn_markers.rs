//! WriteTxnMarkers.

use alluvium_protocol::message;
use alluvium_protocol::messages as own;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{ProducerId, WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::batches::Batch;
use crate::cases::transactions::{add, begin, single};
use crate::codes::*;
use crate::table::{Case, case, newest};
use crate::wire::{topic, transactional};
use crate::world::{NOWHERE, TOPIC, World, produce};

/// Where a batch has its attributes, and the one that says it is part of a transaction.
const ATTRIBUTES: usize = 21;
const TRANSACTIONAL: i16 = 0x10;

/// A producer with a transaction that is open in a new topic, with a record there.
fn open(world: &mut World) -> (String, (i64, i16), String) {
    let (name, _) = world.fresh_topic(1);
    let id = world.fresh("transaction");
    let producer = begin(world, &id);
    let request = single(add(&id, producer, &[(&name, &[0])]));
    let _: own::AddPartitionsToTxnResponse = world.client.ask_own(3, &request);
    let batch = Batch::of(1).from(producer, 0);
    let records = batch.patched(ATTRIBUTES, &TRANSACTIONAL.to_be_bytes());
    let request =
        produce(&name, vec![(0, Some(records))]).with_transactional_id(Some(transactional(&id)));
    let produced = world.client.ask(9, &request);
    let produced = &produced.responses[0].partition_responses[0];
    assert_eq!(produced.error_code, NONE, "{produced:?}");
    (id, producer, name)
}

fn abort((id, epoch): (i64, i16), names: &[&str]) -> WriteTxnMarkersRequest {
    let topics = names.iter().map(|name| {
        WritableTxnMarkerTopic::default()
            .with_name(topic(name))
            .with_partition_indexes(vec![0])
    });
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
        .with_transaction_result(false)
        .with_coordinator_epoch(0)
        .with_topics(topics.collect());
    WriteTxnMarkersRequest::default().with_markers(vec![marker])
}

fn codes(answer: &WriteTxnMarkersResponse) -> Vec<i16> {
    let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

/// How a transactional id stands.
fn state(world: &mut World, id: &str) -> String {
    let request = message!(own::DescribeTransactionsRequest {
        transactional_ids: vec![id.into()],
    });
    let answer: own::DescribeTransactionsResponse = world.client.ask_own(0, &request);
    answer.transaction_states[0].transaction_state.to_string()
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "a transaction that is open",
            |world, _| {
                let (id, producer, name) = open(world);
                assert_eq!(state(world, &id), "Ongoing");
                abort(producer, &[&name, NOWHERE])
            },
            |world, version, request, answer| {
                assert_eq!(codes(&answer), [NONE, UNKNOWN_TOPIC_OR_PARTITION]);
                // It is over, so there is nothing left to be done.
                let again = world.client.ask(version, request);
                assert_eq!(codes(&again), [NONE, UNKNOWN_TOPIC_OR_PARTITION]);
                let topics = &request.markers[0].topics;
                // The record, and the marker behind it.
                let read = world.fetch(topics[0].name.as_str(), 0, 0);
                assert_eq!(read.last_stable_offset, 2);
            },
        ),
        case(
            "of a producer that is another by now",
            |world, _| {
                let (_, (id, epoch), name) = open(world);
                abort((id, epoch - 1), &[&name])
            },
            |_, _, _, answer| assert_eq!(codes(&answer), [INVALID_PRODUCER_EPOCH]),
        ),
        case(
            "of a producer that nobody knows",
            |_, _| abort((4711, 0), &[TOPIC]),
            |_, _, _, answer| assert_eq!(codes(&answer), [NONE]),
        ),
        newest(
            "a transaction that is open, committed",
            2,
            |world| {
                let (_, (id, epoch), name) = open(world);
                let marker = message!(own::write_txn_markers_request::WritableTxnMarker {
                    producer_id: id,
                    producer_epoch: epoch,
                    transaction_result: true,
                    topics: vec![message!(
                        own::write_txn_markers_request::WritableTxnMarkerTopic {
                            name: name.as_str().into(),
                            partition_indexes: vec![0],
                        }
                    )],
                    transaction_version: 2,
                });
                message!(own::WriteTxnMarkersRequest {
                    markers: vec![marker]
                })
            },
            |world, answer: own::WriteTxnMarkersResponse| {
                let topic = &answer.markers[0].topics[0];
                assert_eq!(topic.partitions[0].error_code, NONE);
                let read = world.fetch(&topic.name, 0, 0);
                assert_eq!(read.last_stable_offset, 2);
            },
        ),
    ]
}
