use alluvium_types::{ErrorCode, Offset};

use super::*;
use crate::testing::{
    Cluster, NOW, ORIGIN, appended, batch, claim, code, duplicate, end as ended, from, object,
    part, refused, run, within,
};
use crate::{
    AdvanceLogStart, BatchOutcome, Command, Compact, CompactStretch, OffsetCommit, RunLocation,
};

const MINUTE: i32 = 60_000;

fn init_as(cluster: &mut Cluster, id: &str, expected: Option<ProducerEpoch>) -> Outcome {
    cluster.apply(Command::InitTransactions(InitTransactions {
        transactional_id: id.to_owned(),
        timeout: MINUTE,
        expected,
        at: NOW,
    }))
}

fn init(cluster: &mut Cluster, id: &str) -> ProducerEpoch {
    producer(&init_as(cluster, id, None))
}

fn producer(outcome: &Outcome) -> ProducerEpoch {
    match outcome {
        Outcome::Producer(producer) => *producer,
        other => panic!("no producer: {other:?}"),
    }
}

fn add(cluster: &mut Cluster, id: &str, producer: ProducerEpoch, index: i32) -> Outcome {
    cluster.apply(Command::AddToTransaction(AddToTransaction {
        transactional_id: id.to_owned(),
        producer,
        partitions: vec![part(index)],
        groups: Vec::new(),
        at: NOW,
    }))
}

fn finish(
    cluster: &mut Cluster,
    id: &str,
    producer: ProducerEpoch,
    commit: bool,
    by: EndedBy,
) -> Outcome {
    cluster.apply(Command::EndTransaction(EndTransaction {
        transactional_id: id.to_owned(),
        producer,
        commit,
        by,
        at: NOW + 1,
    }))
}

/// Appends one record in a transaction.
fn append(
    cluster: &mut Cluster,
    producer: ProducerEpoch,
    index: i32,
    sequence: i32,
    how: InTransaction,
) -> BatchOutcome {
    let batch = within(producer, sequence, 1, how);
    let location = object(1000 + u128::from(cluster.chunk));
    cluster.sequence(location, vec![run(index, 0, &[batch])])[0][0]
}

fn advance(cluster: &mut Cluster, offset: Offset) {
    let partition = part(0);
    let start = AdvanceLogStart { partition, offset };
    let outcome = cluster.apply(Command::AdvanceLogStart(start));
    assert_eq!(outcome, Outcome::LogStart(offset));
}

fn marks(cluster: &Cluster, index: i32) -> (Offset, Offset) {
    let partition = cluster.partition(index);
    (partition.last_stable_offset(), partition.high_watermark())
}

fn aborted(cluster: &Cluster, index: i32) -> Vec<(ProducerId, Offset, Offset)> {
    let partition = cluster.partition(index);
    let within = partition.aborted_within(0, Offset::MAX);
    within
        .map(|done| (done.producer, done.first_offset, done.last_offset))
        .collect()
}

#[test]
fn a_transaction_shows_when_it_ends_and_in_all_its_partitions_at_once() {
    let mut cluster = Cluster::new(3);
    let one = init(&mut cluster, "one");
    assert_eq!(one.epoch, 0);
    for index in [0, 1, 2] {
        assert_eq!(add(&mut cluster, "one", one, index), Outcome::Done);
    }
    for index in [0, 1] {
        let outcome = append(&mut cluster, one, index, 0, InTransaction::Added);
        assert_eq!(outcome, appended(0));
    }
    cluster.append(&[batch(4)]);
    assert_eq!(marks(&cluster, 0), (0, 5));
    let outcome = finish(&mut cluster, "one", one, true, EndedBy::Producer);
    assert_eq!(producer(&outcome), one);
    assert_eq!((marks(&cluster, 0), marks(&cluster, 1)), ((6, 6), (2, 2)));
    let told = [0, 1].map(|index| Change::Partition(part(index)));
    assert_eq!(cluster.changes, told);
    // Nothing was written to the third, so nothing is to be marked there.
    assert_eq!(marks(&cluster, 2), (0, 0));
    assert!(aborted(&cluster, 0).is_empty());
    let last = cluster.partition(0).runs().last().unwrap();
    assert!(matches!(&last.location, RunLocation::Inline(bytes) if bytes.len() == 78));
    // Asked again, and asked for the opposite.
    let again = finish(&mut cluster, "one", one, true, EndedBy::Producer);
    assert_eq!(producer(&again), one);
    let opposite = finish(&mut cluster, "one", one, false, EndedBy::Producer);
    assert_eq!(code(&opposite), ErrorCode::InvalidTxnState);
}

#[test]
fn an_aborted_transaction_is_told_to_readers_until_its_records_are_gone() {
    let mut cluster = Cluster::new(1);
    let one = init(&mut cluster, "one");
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    append(&mut cluster, one, 0, 1, InTransaction::Added);
    finish(&mut cluster, "one", one, false, EndedBy::Producer);
    assert_eq!(aborted(&cluster, 0), [(one.id, 0, 2)]);
    assert_eq!(marks(&cluster, 0), (3, 3));
    advance(&mut cluster, 2);
    assert_eq!(aborted(&cluster, 0).len(), 1);
    advance(&mut cluster, 3);
    assert!(aborted(&cluster, 0).is_empty());
}

#[test]
fn a_clean_log_lets_go_of_the_aborted_transactions_that_ended_in_it() {
    let mut cluster = Cluster::new(1);
    let (one, two) = (init(&mut cluster, "one"), init(&mut cluster, "two"));
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    append(&mut cluster, two, 0, 0, InTransaction::Joins);
    finish(&mut cluster, "one", one, false, EndedBy::Producer);
    finish(&mut cluster, "two", two, false, EndedBy::Producer);
    let all = [(one.id, 0, 2), (two.id, 1, 3)];
    assert_eq!(aborted(&cluster, 0), all);
    let mut clean = |to| {
        let mark = CompactStretch {
            partition: part(0),
            base_offset: to,
            end_offset: to,
            sources: Vec::new(),
            runs: Vec::new(),
            clean_to: Some(to),
        };
        let outcome = cluster.apply(Command::Compact(Compact {
            origin: ORIGIN,
            objects: Vec::new(),
            stretches: vec![mark],
            at: NOW,
        }));
        assert_eq!(outcome, Outcome::Compacted(vec![true]));
        cluster.state.check().unwrap();
        aborted(&cluster, 0)
    };
    // Its marker is not below it.
    assert_eq!(clean(2), all);
    assert_eq!(clean(3), all[1..]);
    assert_eq!(clean(4), []);
}

#[test]
fn records_may_be_deleted_under_an_open_transaction() {
    let mut cluster = Cluster::new(1);
    let one = init(&mut cluster, "one");
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    cluster.append(&[batch(4)]);
    assert_eq!(marks(&cluster, 0), (0, 5));
    advance(&mut cluster, 3);
    assert_eq!(marks(&cluster, 0), (3, 5));
    append(&mut cluster, one, 0, 1, InTransaction::Added);
    advance(&mut cluster, 6);
    cluster.state.check().unwrap();
    assert_eq!(marks(&cluster, 0), (6, 6));
    append(&mut cluster, one, 0, 2, InTransaction::Added);
    assert_eq!(marks(&cluster, 0), (6, 7), "what is open is not shown");
    finish(&mut cluster, "one", one, false, EndedBy::Producer);
    cluster.state.check().unwrap();
    assert_eq!(marks(&cluster, 0), (8, 8));
    assert_eq!(aborted(&cluster, 0), [(one.id, 0, 7)]);
    let snapshot = cluster.state.to_snapshot();
    assert_eq!(State::from_snapshot(&snapshot).unwrap(), cluster.state);
}

#[test]
fn a_partition_must_be_added_unless_the_batch_may_join_by_itself() {
    let mut cluster = Cluster::new(2);
    let one = init(&mut cluster, "one");
    let outcome = append(&mut cluster, one, 0, 0, InTransaction::Added);
    assert_eq!(outcome, refused(ErrorCode::InvalidTxnState));
    let outcome = append(&mut cluster, one, 0, 0, InTransaction::Joins);
    assert_eq!(outcome, appended(0));
    // The other partition is not in it by that.
    let outcome = append(&mut cluster, one, 1, 0, InTransaction::Added);
    assert_eq!(outcome, refused(ErrorCode::InvalidTxnState));
    let outcome = append(&mut cluster, one, 0, 0, InTransaction::Joins);
    assert_eq!(outcome, duplicate(0));
    // A batch outside of the transaction by the same producer, in the midst of it.
    let outside = from(one.id, one.epoch, 1, 1);
    let outcome = cluster.append(&[outside])[0];
    assert_eq!(outcome, refused(ErrorCode::InvalidTxnState));
    let stranger = ProducerEpoch { id: 999, epoch: 0 };
    let outcome = append(&mut cluster, stranger, 0, 0, InTransaction::Joins);
    assert_eq!(outcome, refused(ErrorCode::InvalidProducerIdMapping));
}

#[test]
fn who_begins_again_fences_whoever_was_there_and_aborts_what_it_left() {
    let mut cluster = Cluster::new(1);
    let old = init(&mut cluster, "one");
    append(&mut cluster, old, 0, 0, InTransaction::Joins);
    let new = init(&mut cluster, "one");
    assert_eq!((new.id, new.epoch), (old.id, 1));
    assert_eq!(aborted(&cluster, 0), [(old.id, 0, 1)]);
    let outcome = append(&mut cluster, old, 0, 1, InTransaction::Joins);
    assert_eq!(outcome, refused(ErrorCode::InvalidProducerEpoch));
    for by in [EndedBy::Producer, EndedBy::BumpingProducer] {
        let outcome = finish(&mut cluster, "one", old, true, by);
        assert_eq!(code(&outcome), ErrorCode::ProducerFenced);
    }
    let outcome = add(&mut cluster, "one", old, 0);
    assert_eq!(code(&outcome), ErrorCode::ProducerFenced);
    assert_eq!(
        code(&init_as(&mut cluster, "one", Some(old))),
        ErrorCode::ProducerFenced
    );
    // KIP-360: who still has it goes on, also when the answer was lost.
    let next = producer(&init_as(&mut cluster, "one", Some(new)));
    assert_eq!(next.epoch, 2);
    assert_eq!(producer(&init_as(&mut cluster, "one", Some(new))), next);
}

#[test]
fn every_end_brings_a_new_epoch_to_those_who_can_take_it() {
    let mut cluster = Cluster::new(1);
    let one = init(&mut cluster, "one");
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    let by = EndedBy::BumpingProducer;
    let two = producer(&finish(&mut cluster, "one", one, true, by));
    assert_eq!((two.id, two.epoch), (one.id, 1));
    assert_eq!(producer(&finish(&mut cluster, "one", one, true, by)), two);
    let outcome = finish(&mut cluster, "one", two, true, by);
    assert_eq!(code(&outcome), ErrorCode::InvalidTxnState);
    // It may not know whether it began anything.
    let three = producer(&finish(&mut cluster, "one", two, false, by));
    assert_eq!(three.epoch, 2);
    assert_eq!(
        producer(&finish(&mut cluster, "one", two, false, by)),
        three
    );
    let late = append(&mut cluster, one, 0, 1, InTransaction::Joins);
    assert_eq!(late, refused(ErrorCode::InvalidProducerEpoch));
    assert_eq!(
        append(&mut cluster, three, 0, 0, InTransaction::Joins),
        appended(2)
    );
}

#[test]
fn after_the_last_epoch_comes_a_new_producer_id() {
    let mut cluster = Cluster::new(1);
    let first = init(&mut cluster, "one");
    let known = cluster.state.transactions.by_id.get_mut("one").unwrap();
    known.producer.epoch = LAST_EPOCH;
    let last = known.producer;
    append(&mut cluster, last, 0, 0, InTransaction::Joins);
    let next = producer(&finish(
        &mut cluster,
        "one",
        last,
        true,
        EndedBy::BumpingProducer,
    ));
    assert_eq!((next.id, next.epoch), (first.id + 1, 0));
    let outcome = append(&mut cluster, last, 0, 1, InTransaction::Joins);
    assert_eq!(outcome, refused(ErrorCode::InvalidProducerIdMapping));
    let again = finish(&mut cluster, "one", last, true, EndedBy::BumpingProducer);
    assert_eq!(producer(&again), next);
}

#[test]
fn a_transaction_whose_time_is_over_is_aborted_and_its_producer_fenced() {
    let mut cluster = Cluster::new(1);
    let one = init(&mut cluster, "one");
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    finish(&mut cluster, "one", one, false, EndedBy::Server);
    assert_eq!(aborted(&cluster, 0).len(), 1);
    let outcome = finish(&mut cluster, "one", one, true, EndedBy::Producer);
    assert_eq!(code(&outcome), ErrorCode::ProducerFenced);
    // What asked for it too late finds nothing to abort.
    let held = cluster.state.transaction("one").unwrap().producer;
    let outcome = finish(&mut cluster, "one", held, false, EndedBy::Server);
    assert_eq!(code(&outcome), ErrorCode::InvalidTxnState);
}

fn commit(cluster: &mut Cluster, one: ProducerEpoch, joins: bool, offset: Offset) -> Outcome {
    cluster.apply(Command::CommitTransactionOffsets(
        CommitTransactionOffsets {
            origin: ORIGIN,
            transactional_id: "one".to_owned(),
            producer: one,
            group: "g".to_owned(),
            joins,
            offsets: vec![OffsetCommit {
                partition: part(0),
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            }],
            at: NOW,
        },
    ))
}

fn committed(cluster: &Cluster) -> Option<Offset> {
    let group = cluster.state.group("g")?;
    group.offsets.get(&part(0)).map(|known| known.offset)
}

#[test]
fn offsets_of_a_transaction_are_committed_with_it_or_not_at_all() {
    let mut cluster = Cluster::new(1);
    cluster.apply(claim(ORIGIN, "g"));
    let one = init(&mut cluster, "one");
    let outcome = commit(&mut cluster, one, false, 3);
    assert_eq!(code(&outcome), ErrorCode::InvalidTxnState);
    assert_eq!(commit(&mut cluster, one, true, 3), Outcome::Done);
    let group = cluster.state.group("g").unwrap();
    assert!(group.is_unstable(part(0)) && !group.is_unstable(part(1)));
    assert_eq!(committed(&cluster), None);
    finish(&mut cluster, "one", one, false, EndedBy::Producer);
    assert_eq!(committed(&cluster), None);
    assert_eq!(commit(&mut cluster, one, true, 4), Outcome::Done);
    finish(&mut cluster, "one", one, true, EndedBy::Producer);
    assert_eq!(committed(&cluster), Some(4));
    assert!(!cluster.state.group("g").unwrap().has_pending());
    // Who does not coordinate the group may not.
    cluster.apply(ended(&[ORIGIN]));
    let outcome = commit(&mut cluster, one, true, 5);
    assert!(matches!(outcome, Outcome::Refused(_)));
}

#[test]
fn a_topic_that_is_deleted_is_left_out_of_its_transactions() {
    let mut cluster = Cluster::new(1);
    cluster.apply(claim(ORIGIN, "g"));
    let one = init(&mut cluster, "one");
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    commit(&mut cluster, one, true, 3);
    cluster.apply(Command::DeleteTopic {
        topic: crate::testing::TOPIC,
    });
    let outcome = finish(&mut cluster, "one", one, true, EndedBy::Producer);
    assert_eq!(producer(&outcome), one);
    assert_eq!(committed(&cluster), None);
}

#[test]
fn ids_that_nobody_used_for_long_are_forgotten_unless_used_since() {
    let mut cluster = Cluster::new(1);
    let one = init(&mut cluster, "one");
    let idle = |producer, used_at| {
        Command::ForgetTransactionalIds(vec![IdleTransactionalId {
            transactional_id: "one".to_owned(),
            producer,
            used_at,
        }])
    };
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    let since = cluster.state.transaction("one").unwrap().at;
    cluster.apply(idle(one, since));
    assert!(cluster.state.transaction("one").is_some(), "it is open");
    finish(&mut cluster, "one", one, true, EndedBy::Producer);
    cluster.apply(idle(one, NOW));
    assert!(cluster.state.transaction("one").is_some(), "it was used");
    cluster.apply(idle(one, NOW + 1));
    assert!(cluster.state.transaction("one").is_none());
    assert!(init(&mut cluster, "one").id > one.id);
}

#[test]
fn a_restored_cluster_has_aborted_what_was_open_and_fenced_its_producers() {
    let mut cluster = Cluster::new(1);
    let one = init(&mut cluster, "one");
    append(&mut cluster, one, 0, 0, InTransaction::Joins);
    cluster.state.mark_restored(1, NOW);
    cluster.state.check().unwrap();
    assert_eq!(aborted(&cluster, 0), [(one.id, 0, 1)]);
    let outcome = finish(&mut cluster, "one", one, true, EndedBy::Producer);
    assert_eq!(code(&outcome), ErrorCode::ProducerFenced);
    let snapshot = cluster.state.to_snapshot();
    assert_eq!(State::from_snapshot(&snapshot).unwrap(), cluster.state);
}

#[test]
fn offsets_that_are_deleted_are_not_committed_by_an_open_transaction() {
    let mut cluster = Cluster::new(1);
    cluster.apply(claim(ORIGIN, "g"));
    let one = init(&mut cluster, "one");
    assert_eq!(commit(&mut cluster, one, true, 3), Outcome::Done);
    let forget = Command::RemoveOffsets {
        origin: ORIGIN,
        group: "g".to_owned(),
        partitions: vec![part(0)],
    };
    assert_eq!(cluster.apply(forget), Outcome::Done);
    finish(&mut cluster, "one", one, true, EndedBy::Producer);
    assert_eq!(committed(&cluster), None);
}
