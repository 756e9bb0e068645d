mod faults;
mod transactions;

use std::collections::BTreeMap;

use alluvium_metadata::{AdvanceLogStart, Command, Partition, RunLocation};
use alluvium_objects::key;
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{BatchOptions, Record, decode, encode};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::testing::{NOW, Rig, policy};

const LIMIT: usize = 1 << 24;
const RETENTION: Millis = 100_000;

fn compact() -> TopicPolicy {
    TopicPolicy {
        compact: true,
        ..policy()
    }
}

fn config(memory: u64) -> CompactionConfig {
    CompactionConfig {
        clean_interval: Duration::ZERO,
        clean_memory_bytes: memory,
        ..CompactionConfig::default()
    }
}

fn record(key: Option<&str>, value: Option<&str>) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record {
        offset: 0,
        timestamp: NOW,
        key: key.map(bytes),
        value: value.map(bytes),
        headers: vec![("h".to_owned(), key.map(bytes))],
    }
}

fn batch_of(codec: Codec, records: &[Record]) -> Bytes {
    let options = BatchOptions {
        codec,
        producer: Some((3, 1, 9)),
        transactional: false,
    };
    encode(records, options).unwrap()
}

fn plain(records: &[(&str, Option<&str>)]) -> Bytes {
    let records: Vec<Record> = records
        .iter()
        .map(|(key, value)| record(Some(key), *value))
        .collect();
    batch_of(Codec::None, &records)
}

async fn one(rig: &Rig) -> TopicPartition {
    TopicPartition::new(rig.topic(1, 1).await, 0)
}

fn partition<R>(rig: &Rig, at: TopicPartition, read: impl FnOnce(&Partition) -> R) -> R {
    rig.context
        .metadata
        .read(|state| read(state.partition(at).unwrap()))
}

/// The batches of a partition as its manifest says, each at its place.
async fn batches(rig: &Rig, at: TopicPartition) -> Vec<(BatchHeader, Bytes)> {
    let runs: Vec<_> = partition(rig, at, |partition| partition.runs().cloned().collect());
    let mut batches = Vec::new();
    for run in runs {
        let read = async |object, position| {
            let range = position..position + run.length;
            rig.context.bucket.read(&key(object), range).await.unwrap()
        };
        let (bytes, sparse) = match run.location {
            RunLocation::Object { object, position } => (read(object, position).await, false),
            RunLocation::Sparse { object, position } => (read(object, position).await, true),
            RunLocation::Inline(bytes) => (bytes, false),
            RunLocation::Gap => continue,
            other => panic!("{other:?}"),
        };
        let mut next = run.base_offset;
        for found in batch::split(&bytes).unwrap() {
            batch::check_crc(&found).unwrap();
            let mut placed = BytesMut::from(found);
            if !sparse {
                placed[..8].copy_from_slice(&next.to_be_bytes());
            }
            let placed = placed.freeze();
            let header = BatchHeader::parse(&placed).unwrap();
            assert!(header.base_offset >= next);
            next = header.last_offset() + 1;
            assert!(next <= run.end_offset);
            batches.push((header, placed));
        }
    }
    batches
}

async fn read(rig: &Rig, at: TopicPartition) -> Vec<Record> {
    let mut records = Vec::new();
    for (_, batch) in batches(rig, at).await {
        records.extend(decode(&batch, LIMIT).unwrap());
    }
    records
}

/// (offset, key, value) of what a partition holds.
async fn shown(rig: &Rig, at: TopicPartition) -> Vec<(Offset, String, Option<String>)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = read(rig, at).await;
    let shown = records.into_iter().map(|record| {
        (
            record.offset,
            text(record.key.unwrap()),
            record.value.map(text),
        )
    });
    shown.collect()
}

fn says(offset: Offset, key: &str, value: Option<&str>) -> (Offset, String, Option<String>) {
    (offset, key.to_owned(), value.map(str::to_owned))
}

/// What cleaning is to do, told without a thought for cost.
#[derive(Default)]
struct Model {
    records: Vec<(usize, Record)>,
    horizons: BTreeMap<usize, Millis>,
}

impl Model {
    fn append(&mut self, batch: usize, base: Offset, records: &[Record]) {
        for (offset, record) in (base..).zip(records) {
            let record = Record {
                offset,
                ..record.clone()
            };
            self.records.push((batch, record));
        }
    }

    fn clean(&mut self, now: Millis) {
        let mut newest = BTreeMap::new();
        for (_, record) in &self.records {
            if let Some(key) = &record.key {
                newest.insert(key.clone(), record.offset);
            }
        }
        let horizons = self.horizons.clone();
        self.records.retain(|(batch, record)| {
            let is_newest = record
                .key
                .as_ref()
                .is_some_and(|key| newest[key] == record.offset);
            let expired = horizons.get(batch).is_some_and(|horizon| now >= *horizon);
            is_newest && !(record.value.is_none() && expired)
        });
        for (batch, record) in &self.records {
            if record.value.is_none() {
                self.horizons.entry(*batch).or_insert(now + RETENTION);
            }
        }
    }
}

/// Of each record its key and whether it is a tombstone.
type Shapes = Vec<(Option<u8>, bool)>;

#[derive(Clone, Debug)]
enum Step {
    /// Batches of one object.
    Append(Vec<(Codec, Shapes)>),
    Clean(Millis),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![9 => (0u8..12).prop_map(Some), 1 => Just(None)];
    let record = (key, proptest::bool::weighted(0.3));
    let codec = proptest::sample::select(Codec::ALL.to_vec());
    let batch = (codec, proptest::collection::vec(record, 1..8));
    let append = proptest::collection::vec(batch, 1..4).prop_map(Step::Append);
    let clean = (0..RETENTION).prop_map(Step::Clean);
    proptest::collection::vec(prop_oneof![3 => append, 1 => clean], 1..16)
}

/// Appends and cleans, and compares after each cleaning.
async fn follows_the_model(steps: Vec<Step>, memory: u64) {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(memory));
    let mut model = Model::default();
    let (mut next, mut count) = (0, 0);
    for step in steps.into_iter().chain([Step::Clean(RETENTION)]) {
        match step {
            Step::Append(object) => {
                let mut built = Vec::new();
                for (codec, shapes) in object {
                    let records: Vec<Record> = shapes
                        .iter()
                        .zip(next..)
                        .map(|((key, dead), offset)| {
                            let key = key.map(|key| format!("key-{key}"));
                            let value = (!dead).then(|| format!("value-{offset}"));
                            record(key.as_deref(), value.as_deref())
                        })
                        .collect();
                    model.append(count, next, &records);
                    count += 1;
                    next += i64::try_from(records.len()).unwrap();
                    built.push(batch_of(codec, &records));
                }
                rig.append(at, &built).await;
            }
            Step::Clean(later) => {
                rig.clock.advance(later);
                let dirty = partition(&rig, at, |partition| {
                    partition.clean_to() < partition.next_offset()
                });
                cleaner.round().await;
                if dirty {
                    model.clean(alluvium_types::Clock::now(&*rig.clock));
                }
                let found = read(&rig, at).await;
                let expected: Vec<Record> = model
                    .records
                    .iter()
                    .map(|(_, record)| record.clone())
                    .collect();
                assert_eq!(found, expected);
                assert_eq!(partition(&rig, at, Partition::clean_to), next);
                rig.context.metadata.read(|state| state.check()).unwrap();
                for (header, _) in batches(&rig, at).await {
                    assert_eq!((header.producer_id, header.base_sequence), (3, 9));
                }
            }
        }
    }
}

fn wait<R>(work: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn cleaning_is_what_the_model_says(steps in steps()) {
        wait(follows_the_model(steps, 1 << 20));
    }

    /// Twelve keys and one more never fit: a pass goes as far as they do.
    #[test]
    fn so_it_is_in_passes(
        rounds in proptest::collection::vec(proptest::collection::vec(0u16..40, 1..60), 1..4),
    ) {
        wait(async {
            let rig = Rig::new(compact()).await;
            let at = one(&rig).await;
            let mut cleaner = Cleaner::new(rig.context.clone(), &config(0));
            let mut newest: BTreeMap<u16, Offset> = BTreeMap::new();
            let mut next = 0;
            for keys in rounds {
                for few in keys.chunks(7) {
                    let records: Vec<Record> = few
                        .iter()
                        .map(|key| record(Some(&key.to_string()), Some("v")))
                        .collect();
                    newest.extend(few.iter().copied().zip(next..));
                    next += i64::try_from(few.len()).unwrap();
                    rig.append(at, &[batch_of(Codec::Lz4, &records)]).await;
                }
                let done = cleaner.round().await;
                let distinct = keys.iter().collect::<std::collections::BTreeSet<_>>().len();
                assert_eq!(done[0].1.passes > 1, distinct > 12);
                let mut expected: Vec<_> = newest.iter().map(|(key, at)| (*at, *key)).collect();
                expected.sort_unstable();
                let expected: Vec<_> = expected
                    .into_iter()
                    .map(|(offset, key)| says(offset, &key.to_string(), Some("v")))
                    .collect();
                assert_eq!(shown(&rig, at).await, expected);
            }
        });
    }
}

#[tokio::test]
async fn a_tombstone_stays_for_its_time_after_it_was_met() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    rig.append(at, &[plain(&[("a", Some("1")), ("b", Some("1"))])])
        .await;
    rig.append(at, &[plain(&[("a", None)])]).await;
    cleaner.round().await;
    let kept = [says(1, "b", Some("1")), says(2, "a", None)];
    assert_eq!(shown(&rig, at).await, kept);
    let horizon = |batches: Vec<(BatchHeader, Bytes)>| batches.last().unwrap().0.delete_horizon();
    assert_eq!(horizon(batches(&rig, at).await), Some(NOW + RETENTION));
    // The next cleaning comes before its time, the one after it not.
    rig.clock.advance(RETENTION - 1);
    rig.append(at, &[plain(&[("c", Some("1"))])]).await;
    cleaner.round().await;
    assert!(shown(&rig, at).await.contains(&says(2, "a", None)));
    rig.clock.advance(1);
    rig.append(at, &[plain(&[("c", Some("2"))])]).await;
    cleaner.round().await;
    assert_eq!(
        shown(&rig, at).await,
        [says(1, "b", Some("1")), says(4, "c", Some("2"))]
    );
}

#[tokio::test]
async fn nothing_is_done_twice() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    rig.append(at, &[plain(&[("a", Some("1")), ("a", Some("2"))])])
        .await;
    assert_eq!(cleaner.round().await.len(), 1);
    let before = partition(&rig, at, Clone::clone);
    assert!(cleaner.round().await.is_empty());
    assert_eq!(partition(&rig, at, Clone::clone), before);
}

#[tokio::test]
async fn a_log_of_which_all_stays_is_not_written_again() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    rig.append(at, &[plain(&[("a", Some("1")), ("b", Some("1"))])])
        .await;
    rig.append(at, &[plain(&[("c", Some("1"))])]).await;
    let before: Vec<_> = partition(&rig, at, |it| it.runs().cloned().collect());
    cleaner.round().await;
    assert_eq!(partition(&rig, at, Partition::clean_to), 3);
    assert_eq!(
        partition(&rig, at, |it| it.runs().cloned().collect::<Vec<_>>()),
        before
    );
}

#[tokio::test]
async fn small_partitions_share_an_object_and_empty_ones_need_none() {
    let rig = Rig::new(TopicPolicy {
        delete_retention: Duration::ZERO,
        ..compact()
    })
    .await;
    let topic = rig.topic(1, 20).await;
    for index in 0..20 {
        let at = TopicPartition::new(topic, index);
        rig.append(at, &[plain(&[("a", Some("1")), ("a", None)])])
            .await;
    }
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    assert_eq!(cleaner.round().await.len(), 20);
    let live = |rig: &Rig| {
        rig.context
            .metadata
            .read(|state| state.live_objects().count())
    };
    assert_eq!(live(&rig), 1);
    for index in 0..20 {
        let at = TopicPartition::new(topic, index);
        assert_eq!(shown(&rig, at).await, [says(1, "a", None)]);
    }
    // With the tombstones gone nothing is left below the new record.
    let at = TopicPartition::new(topic, 7);
    rig.append(at, &[plain(&[("b", None)])]).await;
    cleaner.round().await;
    rig.append(at, &[plain(&[("b", Some("1")), ("c", Some("1"))])])
        .await;
    cleaner.round().await;
    assert_eq!(
        shown(&rig, at).await,
        [says(3, "b", Some("1")), says(4, "c", Some("1"))]
    );
}

#[tokio::test]
async fn large_runs_are_written_as_several_objects() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    let value = "x".repeat(30_000);
    let keys: Vec<String> = (0..20).map(|key| format!("key-{key}")).collect();
    let mut batches = Vec::new();
    for _ in 0..2 {
        for key in &keys {
            batches.push(plain(&[(key, Some(&value))]));
        }
    }
    rig.append(at, &batches).await;
    rig.append(at, &[plain(&[("key-3", Some("new"))])]).await;
    // An object takes 64 KiB at least: two batches and a bit.
    let config = CompactionConfig {
        target_bytes: 0,
        ..config(1 << 20)
    };
    let mut cleaner = Cleaner::new(rig.context.clone(), &config);
    cleaner.round().await;
    let offsets: Vec<Offset> = read(&rig, at).await.iter().map(|it| it.offset).collect();
    let expected: Vec<Offset> = (20..41).filter(|offset| *offset != 23).collect();
    assert_eq!(offsets, expected);
    assert!(partition(&rig, at, |it| it.runs().len()) > 5);
    rig.context.metadata.read(|state| state.check()).unwrap();
}

#[tokio::test]
async fn what_is_newer_than_the_lag_is_not_cleaned() {
    let lag = Duration::from_secs(10);
    let rig = Rig::new(TopicPolicy {
        min_compaction_lag: lag,
        ..compact()
    })
    .await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    rig.append(at, &[plain(&[("a", Some("1")), ("a", Some("2"))])])
        .await;
    assert!(cleaner.round().await.is_empty());
    rig.clock.advance(10_000);
    cleaner.round().await;
    assert_eq!(shown(&rig, at).await, [says(1, "a", Some("2"))]);
}

#[tokio::test]
async fn the_ratio_decides_until_the_greatest_lag_forces() {
    let rig = Rig::new(TopicPolicy {
        min_dirty_ratio: 0.5,
        max_compaction_lag: Duration::from_secs(60),
        ..compact()
    })
    .await;
    let at = one(&rig).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    let value = "x".repeat(1000);
    rig.append(at, &[plain(&[("a", Some(&value)), ("b", Some(&value))])])
        .await;
    assert_eq!(cleaner.round().await.len(), 1, "all of it is dirty");
    rig.append(at, &[plain(&[("a", Some("1"))])]).await;
    assert!(cleaner.round().await.is_empty());
    rig.clock.advance(60_001);
    assert_eq!(cleaner.round().await.len(), 1);
    assert_eq!(read(&rig, at).await.len(), 2);
}

#[tokio::test]
async fn a_little_waits_for_more() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    rig.append(at, &[plain(&[("a", Some("1")), ("a", Some("2"))])])
        .await;
    let config = CompactionConfig {
        clean_interval: Duration::from_millis(20),
        ..config(1 << 20)
    };
    let mut cleaner = Cleaner::new(rig.context.clone(), &config);
    assert!(cleaner.round().await.is_empty());
    tokio::time::sleep(Duration::from_millis(170)).await;
    assert_eq!(cleaner.round().await.len(), 1);
}

#[tokio::test]
async fn records_below_the_log_start_are_no_matter() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    rig.append(
        at,
        &[plain(&[
            ("a", Some("1")),
            ("b", Some("1")),
            ("a", Some("2")),
        ])],
    )
    .await;
    rig.append(at, &[plain(&[("b", Some("2"))])]).await;
    let advance = AdvanceLogStart {
        partition: at,
        offset: 1,
    };
    let command = Command::AdvanceLogStart(advance);
    rig.context.metadata.propose(command).await.unwrap();
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    cleaner.round().await;
    let seen: Vec<_> = shown(&rig, at)
        .await
        .into_iter()
        .filter(|it| it.0 >= 1)
        .collect();
    assert_eq!(seen, [says(2, "a", Some("2")), says(3, "b", Some("2"))]);
}

#[tokio::test]
async fn a_batch_that_cannot_be_decoded_stays_and_is_counted() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    // Its records are garbage under a good checksum.
    let good = plain(&[("a", Some("1"))]);
    let mut bad = BytesMut::from(&good[..]);
    bad[61..].fill(0xff);
    batch::set_max_timestamp(&mut bad, NOW);
    let bad = bad.freeze();
    rig.append(at, &[good.clone(), bad.clone(), good.clone()])
        .await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    let done = cleaner.round().await;
    assert_eq!(done[0].1.unreadable_batches, 1);
    let left = batches(&rig, at).await;
    let offsets: Vec<Offset> = left.iter().map(|(header, _)| header.base_offset).collect();
    assert_eq!(offsets, [1, 2]);
    assert_eq!(left[0].1[16..], bad[16..]);
}
