//! Logs with transactions, as read_committed consumers see them before and after.

use std::collections::BTreeSet;

use alluvium_metadata::{AbortedTransaction, ProducerEpoch};
use alluvium_protocol::records::Marker;
use alluvium_types::ProducerId;

use super::*;

/// A batch of a transaction, from a sequence on.
fn batch_in(producer: ProducerEpoch, sequence: usize, records: &[(&str, Option<&str>)]) -> Bytes {
    let records: Vec<Record> = records
        .iter()
        .map(|(key, value)| record(Some(key), *value))
        .collect();
    let sequence = i32::try_from(sequence).unwrap();
    let options = BatchOptions {
        codec: Codec::None,
        producer: Some((producer.id, producer.epoch, sequence)),
        transactional: true,
    };
    encode(&records, options).unwrap()
}

fn aborted(partition: &Partition, from: Offset, to: Offset) -> Vec<AbortedTransaction> {
    partition.aborted_within(from, to).copied().collect()
}

/// (offset, key, value) that a consumer shows which is given so many batches at a time, by the rules of
/// Kafka's: a producer is off the list of aborted ones with its abort marker only.
async fn committed(
    rig: &Rig,
    at: TopicPartition,
    count: usize,
) -> Vec<(Offset, String, Option<String>)> {
    let stable = partition(rig, at, Partition::last_stable_offset);
    let all = batches(rig, at).await;
    let readable: Vec<_> = all
        .into_iter()
        .filter(|(header, _)| header.base_offset < stable)
        .collect();
    let mut shown = Vec::new();
    for answer in readable.chunks(count) {
        let (first, last) = (answer[0].0.base_offset, answer[answer.len() - 1].0);
        let mut told = partition(rig, at, |it| aborted(it, first, last.last_offset() + 1));
        let mut begun: BTreeSet<ProducerId> = BTreeSet::new();
        for (header, batch) in answer {
            told.retain(|one| {
                let begins = one.first_offset <= header.last_offset();
                if begins {
                    begun.insert(one.producer);
                }
                !begins
            });
            if Marker::of(batch) == Some(Marker::Abort) {
                begun.remove(&header.producer_id);
            }
            let is_aborted = header.is_transactional() && begun.contains(&header.producer_id);
            if header.is_control() || is_aborted {
                continue;
            }
            for record in decode(batch, LIMIT).unwrap() {
                let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                shown.push((
                    record.offset,
                    text(record.key.unwrap()),
                    record.value.map(text),
                ));
            }
        }
    }
    shown
}

async fn markers(rig: &Rig, at: TopicPartition) -> Vec<(Offset, Marker)> {
    let batches = batches(rig, at).await.into_iter();
    batches
        .filter_map(|(header, batch)| Some((header.base_offset, Marker::of(&batch)?)))
        .collect()
}

#[tokio::test]
async fn an_aborted_record_goes_and_makes_no_other_go() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    let producer = rig.producer("one").await;
    rig.append(at, &[plain(&[("a", Some("1")), ("b", Some("1"))])])
        .await;
    let aborted_batch = batch_in(producer, 0, &[("a", Some("aborted")), ("b", None)]);
    rig.append(at, &[aborted_batch]).await;
    assert_eq!(partition(&rig, at, Partition::last_stable_offset), 2);
    cleaner.round().await;
    assert_eq!(
        partition(&rig, at, Partition::clean_to),
        2,
        "no further than transactions have ended"
    );
    rig.end("one", producer, false).await;
    rig.settle(at).await;
    rig.append(at, &[batch_in(producer, 2, &[("b", Some("2"))])])
        .await;
    rig.end("one", producer, true).await;
    rig.settle(at).await;
    let expected = [says(0, "a", Some("1")), says(5, "b", Some("2"))];
    let (abort, commit) = ((4, Marker::Abort), (6, Marker::Commit));
    cleaner.round().await;
    for count in 1..6 {
        assert_eq!(committed(&rig, at, count).await, expected);
    }
    // Nobody is told of it any more, though its marker is there still.
    assert_eq!(partition(&rig, at, |it| aborted(it, 0, 100)), []);
    assert_eq!(markers(&rig, at).await, [abort, commit]);
    rig.append(at, &[plain(&[("c", Some("1"))])]).await;
    cleaner.round().await;
    assert_eq!(markers(&rig, at).await, [commit]);
    // The committed record goes, and then the marker is about nothing.
    rig.append(at, &[plain(&[("b", Some("3"))])]).await;
    cleaner.round().await;
    assert_eq!(markers(&rig, at).await, []);
    let expected = [
        says(0, "a", Some("1")),
        says(7, "c", Some("1")),
        says(8, "b", Some("3")),
    ];
    assert_eq!(committed(&rig, at, 100).await, expected);
}

#[tokio::test]
async fn a_log_that_ends_with_a_marker_can_be_read_to_its_end() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    let producer = rig.producer("one").await;
    for sequence in 0..3 {
        rig.append(at, &[batch_in(producer, sequence, &[("a", Some("1"))])])
            .await;
        rig.end("one", producer, false).await;
        rig.settle(at).await;
        cleaner.round().await;
        let last = batches(&rig, at).await.pop().unwrap().0;
        let end = partition(&rig, at, Partition::next_offset);
        assert_eq!(last.last_offset() + 1, end);
    }
    assert_eq!(committed(&rig, at, 1).await, []);
}

#[tokio::test]
async fn where_damage_hides_aborted_records_readers_are_still_told_of_them() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let producer = rig.producer("one").await;
    rig.append(at, &[plain(&[("a", Some("1")), ("a", Some("2"))])])
        .await;
    rig.append(at, &[batch_in(producer, 0, &[("a", Some("aborted"))])])
        .await;
    rig.end("one", producer, false).await;
    rig.settle(at).await;
    rig.append(at, &[plain(&[("b", Some("1")), ("b", Some("2"))])])
        .await;
    let told = partition(&rig, at, |it| aborted(it, 0, 100));
    assert_eq!(told.len(), 1);
    let object = partition(&rig, at, |it| {
        let run = it.runs().nth(1).unwrap();
        match run.location {
            RunLocation::Object { object, .. } => object,
            _ => panic!("{run:?}"),
        }
    });
    let bucket = &rig.context.bucket;
    let length = bucket.head(&key(object)).await.unwrap().bytes;
    let sound = bucket.read(&key(object), 0..length).await.unwrap();
    let mut damaged = sound.to_vec();
    damaged[40 + 61 + 5] ^= 1;
    bucket.delete(&key(object)).await.unwrap();
    bucket
        .create(&key(object), vec![damaged.into()])
        .await
        .unwrap();
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    cleaner.round().await;
    assert_eq!(partition(&rig, at, |it| aborted(it, 0, 100)), told);
    assert_eq!(partition(&rig, at, Partition::clean_to), 0);
    // What came before is clean all the same; and all of it once the object is as it was.
    bucket.delete(&key(object)).await.unwrap();
    bucket.create(&key(object), vec![sound]).await.unwrap();
    let kept = committed(&rig, at, 1).await;
    assert_eq!(kept.first(), Some(&says(1, "a", Some("2"))));
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    cleaner.round().await;
    assert_eq!(partition(&rig, at, |it| aborted(it, 0, 100)), []);
    let kept = [says(1, "a", Some("2")), says(5, "b", Some("2"))];
    assert_eq!(committed(&rig, at, 1).await, kept);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Option<usize>, Vec<u8>),
    End(usize, bool),
    Settle,
    Clean,
}

const PRODUCERS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let producer = prop_oneof![1 => Just(None), 3 => (0..PRODUCERS).prop_map(Some)];
    let keys = proptest::collection::vec(0u8..6, 1..4);
    let step = prop_oneof![
        6 => (producer, keys).prop_map(|(producer, keys)| Step::Append(producer, keys)),
        4 => (0..PRODUCERS, any::<bool>()).prop_map(|(producer, commit)| Step::End(producer, commit)),
        2 => Just(Step::Settle),
        2 => Just(Step::Clean),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A record, the transaction it is part of, and where it is.
struct Written {
    offset: Offset,
    key: String,
    transaction: Option<usize>,
}

/// What a read_committed consumer must show: below where the log is clean each key once, all behind it.
fn expected(
    log: &[Written],
    ends: &[Option<bool>],
    (clean_to, stable): (Offset, Offset),
) -> Vec<(Offset, String, Option<String>)> {
    let shows = |one: &&Written| {
        let is_committed = one.transaction.is_none_or(|it| ends[it] == Some(true));
        is_committed && one.offset < stable
    };
    let mut newest: BTreeMap<&str, Offset> = BTreeMap::new();
    let clean = log.iter().filter(shows).filter(|one| one.offset < clean_to);
    newest.extend(clean.map(|one| (one.key.as_str(), one.offset)));
    log.iter()
        .filter(shows)
        .filter(|one| one.offset >= clean_to || newest[one.key.as_str()] == one.offset)
        .map(|one| says(one.offset, &one.key, Some(&one.offset.to_string())))
        .collect()
}

async fn transactions_are_cleaned(steps: Vec<Step>, memory: u64, count: usize) {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(memory));
    let mut producers = Vec::new();
    for id in 0..PRODUCERS {
        producers.push((rig.producer(&id.to_string()).await, 0usize, None::<usize>));
    }
    let (mut log, mut ends): (Vec<Written>, Vec<Option<bool>>) = (Vec::new(), Vec::new());
    let close = (0..PRODUCERS).map(|producer| Step::End(producer, producer % 2 == 0));
    let last = [Step::Settle, Step::Clean];
    let more = [Step::Append(None, vec![9]), Step::Settle, Step::Clean];
    let steps = steps.into_iter().chain(close).chain(last).chain(more);
    for step in steps {
        let is_clean = matches!(step, Step::Clean);
        match step {
            Step::Append(producer, keys) => {
                let next = partition(&rig, at, Partition::next_offset);
                let keys: Vec<String> = keys.iter().map(|key| format!("key-{key}")).collect();
                let values: Vec<String> = (next..)
                    .take(keys.len())
                    .map(|offset| offset.to_string())
                    .collect();
                let records: Vec<_> = keys
                    .iter()
                    .zip(&values)
                    .map(|(key, value)| (key.as_str(), Some(value.as_str())))
                    .collect();
                let transaction = producer.map(|producer| {
                    *producers[producer].2.get_or_insert_with(|| {
                        ends.push(None);
                        ends.len() - 1
                    })
                });
                let batch = match producer {
                    Some(producer) => {
                        let (producer, sequence, _) = &mut producers[producer];
                        let batch = batch_in(*producer, *sequence, &records);
                        *sequence += records.len();
                        batch
                    }
                    None => plain(&records),
                };
                assert_eq!(rig.append(at, &[batch]).await, next);
                for (offset, key) in (next..).zip(keys) {
                    log.push(Written {
                        offset,
                        key,
                        transaction,
                    });
                }
            }
            Step::End(producer, commit) => {
                let (id, (producer, _, open)) = (producer.to_string(), &mut producers[producer]);
                if let Some(transaction) = open.take() {
                    ends[transaction] = Some(commit);
                    rig.end(&id, *producer, commit).await;
                }
            }
            Step::Settle => rig.settle(at).await,
            Step::Clean => {
                cleaner.round().await;
            }
        }
        let marks = partition(&rig, at, |it| (it.clean_to(), it.last_stable_offset()));
        let expected = expected(&log, &ends, marks);
        assert_eq!(committed(&rig, at, count).await, expected);
        assert_eq!(committed(&rig, at, usize::MAX).await, expected);
        rig.context.metadata.read(|state| state.check()).unwrap();
        if is_clean {
            let told = partition(&rig, at, |it| aborted(it, 0, Offset::MAX));
            assert!(told.iter().all(|one| one.last_offset >= marks.0));
        }
    }
    // All has ended, and was cleaned twice: nothing is left of what was aborted.
    let (end, clean_to) = partition(&rig, at, |it| (it.next_offset(), it.clean_to()));
    assert_eq!(clean_to, end);
    let left = batches(&rig, at).await;
    let has_record = |producer| {
        let mut data = left.iter().filter(|(header, _)| !header.is_control());
        data.any(|(header, _)| header.producer_id == producer)
    };
    for (header, batch) in &left {
        match Marker::of(batch) {
            Some(Marker::Abort) => panic!("an abort marker is left at {}", header.base_offset),
            Some(Marker::Commit) => assert!(has_record(header.producer_id)),
            None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_committed_stays_and_what_was_aborted_goes(
        steps in steps(),
        memory in prop_oneof![Just(0u64), Just(1u64 << 20)],
        count in 1usize..6,
    ) {
        wait(transactions_are_cleaned(steps, memory, count));
    }
}
