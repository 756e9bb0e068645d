//! Transactions of which the archive lost the end.

use alluvium_metadata::{EndTransaction, EndedBy, InitTransactions, ProducerEpoch};

use super::*;

fn batch_in(producer: ProducerEpoch, sequence: i32, value: &str) -> Bytes {
    let record = Record {
        timestamp: NOW,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: Some((producer.id, producer.epoch, sequence)),
        transactional: true,
    };
    encode(&[record], options).unwrap()
}

/// The marker that ends a transaction in partition 0.
fn marker(state: &State, producer: ProducerEpoch, commit: bool) -> Bytes {
    let mut state = state.clone();
    let end = Command::EndTransaction(EndTransaction {
        transactional_id: "one".to_owned(),
        producer,
        commit,
        by: EndedBy::Producer,
        at: NOW,
    });
    state.apply(end, &mut Vec::new());
    let last = state.partition(place(0)).unwrap().runs().last().cloned();
    match last.unwrap().location {
        RunLocation::Inline(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn aborted(state: &State, index: i32) -> Vec<(i64, Offset, Offset)> {
    let partition = state.partition(place(index)).unwrap();
    assert_eq!(partition.last_stable_offset(), partition.next_offset());
    let within = partition.aborted_within(0, Offset::MAX);
    within
        .map(|done| (done.producer, done.first_offset, done.last_offset))
        .collect()
}

#[tokio::test]
async fn a_transaction_whose_end_is_lost_is_aborted_in_all_its_partitions() {
    for commit in [false, true] {
        let mut world = World::new().await;
        let init = InitTransactions {
            transactional_id: "one".to_owned(),
            timeout: 60_000,
            expected: None,
            at: NOW,
        };
        world.commit([Command::InitTransactions(init)]).await;
        let known = world.leader.current().state.transaction("one").cloned();
        let producer = known.unwrap().producer;
        world.produce(1, 1, 0, batch_in(producer, 0, "kept")).await;
        // What follows was inline and is in no piece of the log, but was settled: another batch of the
        // transaction, its end, one of the next transaction and others' in both partitions.
        let end = marker(&world.leader.current().state, producer, commit);
        let settled = [
            (place(0), Some(1), batch_in(producer, 1, "lost")),
            (place(0), Some(2), end),
            (place(0), Some(3), batch(&["other"], None)),
            (place(0), Some(4), batch_in(producer, 2, "next")),
            (place(1), Some(0), batch_in(producer, 0, "elsewhere")),
            (place(1), Some(1), batch(&["other"], None)),
        ];
        let (id, bytes) = object(2, None, Level::Settled, NOW, &settled);
        world.shelf.put(&key(id), bytes, NOW);
        let (report, state) = world.restore().await;
        assert_eq!(report.new_history, 1);
        let first = state.partition(place(0)).unwrap();
        // Each at the offset that it had; the last marker is the restore's own.
        let offsets: Vec<_> = first
            .runs()
            .map(|run| (run.base_offset, run.end_offset))
            .collect();
        assert_eq!(offsets, [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6)]);
        assert_eq!(
            aborted(&state, 0),
            [(producer.id, 0, 2), (producer.id, 4, 5)]
        );
        assert_eq!(aborted(&state, 1), [(producer.id, 0, 2)]);
        let fenced = state.transaction("one").unwrap().producer;
        assert!(fenced.epoch > producer.epoch);
    }
}
