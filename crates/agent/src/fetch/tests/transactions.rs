//! Transactions as read_committed consumers see them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_metadata::{
    AgentOrigin, BatchStamp, ChunkRun, EndTransaction, EndedBy, InTransaction, InitTransactions,
    Location, Outcome, ProducerEpoch, ProducerStamp, Sequence, State,
};
use alluvium_protocol::batch::{BatchHeader, split};
use alluvium_protocol::records::Marker;
use alluvium_types::{ChunkNumber, Offset, ProducerId};
use proptest::prelude::*;

use super::*;
use crate::fetch::ReadResult;

/// Writes to the metadata what producers and their coordinators do.
struct World {
    rig: Arc<Rig>,
    at: TopicPartition,
    origin: AgentOrigin,
    chunks: AtomicU64,
    producers: BTreeMap<String, (ProducerEpoch, i32)>,
}

impl World {
    async fn new() -> Self {
        let rig = Arc::new(Rig::with(forgetful()).await);
        let topic = rig.topic("t", 1, &[]).await;
        let origin = rig.registration.origin();
        Self {
            rig,
            at: TopicPartition::new(topic, 0),
            origin,
            chunks: AtomicU64::new(0),
            producers: BTreeMap::new(),
        }
    }

    async fn propose(&self, command: Command) -> Outcome {
        self.rig.metadata.propose(command).await.unwrap().outcome
    }

    /// Its producer, and its next sequence.
    async fn producer(&mut self, id: &str) -> (ProducerEpoch, i32) {
        if let Some(known) = self.producers.get(id) {
            return *known;
        }
        let init = Command::InitTransactions(InitTransactions {
            transactional_id: id.to_owned(),
            timeout: 60_000,
            expected: None,
            at: NOW,
        });
        let Outcome::Producer(producer) = self.propose(init).await else {
            panic!("no producer")
        };
        self.producers.insert(id.to_owned(), (producer, 0));
        (producer, 0)
    }

    /// Appends one batch, in a transaction of `id` if there is one.
    async fn append(&mut self, id: Option<&str>, values: &[&str]) {
        let mut options = PLAIN;
        let mut stamped = None;
        if let Some(id) = id {
            let (ProducerEpoch { id: number, epoch }, sequence) = self.producer(id).await;
            options.producer = Some((number, epoch, sequence));
            options.transactional = true;
            stamped = Some(ProducerStamp {
                id: number,
                epoch,
                base_sequence: sequence,
                transaction: InTransaction::Joins,
            });
            let known = self.producers.get_mut(id).unwrap();
            known.1 += i32::try_from(values.len()).unwrap();
        }
        let bytes = crate::testing::batch_with(values, options);
        let chunk = self.chunks.fetch_add(1, Ordering::SeqCst) + 1;
        let stamp = BatchStamp {
            bytes: u32::try_from(bytes.len()).unwrap(),
            records: u32::try_from(values.len()).unwrap(),
            max_timestamp: NOW,
            producer: stamped,
        };
        let sequence = Command::Sequence(Sequence {
            origin: self.origin,
            chunk: ChunkNumber(chunk),
            location: Location::Inline(bytes),
            runs: vec![ChunkRun {
                partition: self.at,
                position: 0,
                batches: vec![stamp],
            }],
            sealed_at: NOW,
            at: NOW,
        });
        let outcome = self.propose(sequence).await;
        assert!(matches!(outcome, Outcome::Sequenced(_)), "{outcome:?}");
    }

    async fn end(&mut self, id: &str, commit: bool) {
        let (producer, _) = self.producer(id).await;
        let end = Command::EndTransaction(EndTransaction {
            transactional_id: id.to_owned(),
            producer,
            commit,
            by: EndedBy::Producer,
            at: NOW + 1000,
        });
        self.propose(end).await;
    }

    async fn settle(&self) {
        self.rig.settler().shutdown().await;
        let inline = self.rig.metadata.read(State::inline_bytes);
        assert_eq!(inline, 0, "it is settled on the way out");
    }

    async fn fetch(&self, offset: Offset, max_bytes: usize) -> ReadResult {
        let limits = ReadLimits {
            read_committed: true,
            ..NO_WAIT
        };
        let asked = [ask(self.at, offset, max_bytes)];
        self.rig.fetch.read(&asked, limits).await.remove(0)
    }

    /// What a consumer shows of the partition, answer by answer.
    async fn committed(&self, max_bytes: usize) -> Vec<String> {
        let mut shown = Vec::new();
        let mut offset = 0;
        loop {
            let result = self.fetch(offset, max_bytes).await;
            assert_eq!(result.error, ErrorCode::None);
            if result.records.is_empty() {
                assert!(result.aborted.is_empty());
                assert_eq!(offset, result.last_stable_offset);
                return shown;
            }
            offset = show(&result, &mut shown);
        }
    }
}

/// What a consumer shows of one answer, by the rules of Kafka's; the offset to go on from.
fn show(result: &ReadResult, shown: &mut Vec<String>) -> Offset {
    let mut to_come = result.aborted.clone();
    assert!(to_come.is_sorted_by_key(|(_, first)| *first));
    let mut begun: BTreeSet<ProducerId> = BTreeSet::new();
    let mut next = 0;
    for batch in split(&Bytes::from(result.records.concat())).unwrap() {
        let header = BatchHeader::parse(&batch).unwrap();
        next = header.last_offset() + 1;
        assert!(next <= result.last_stable_offset);
        to_come.retain(|(producer, first)| {
            let begins = *first <= header.last_offset();
            if begins {
                begun.insert(*producer);
            }
            !begins
        });
        if Marker::of(&batch) == Some(Marker::Abort) {
            begun.remove(&header.producer_id);
        }
        let is_aborted = header.is_transactional() && begun.contains(&header.producer_id);
        if !header.is_control() && !is_aborted {
            shown.extend(values(&records::decode(&batch, 1 << 20).unwrap()));
        }
    }
    assert!(to_come.is_empty(), "told of what lies past the answer");
    next
}

#[tokio::test]
async fn nothing_is_read_past_the_first_open_transaction() {
    let mut world = World::new().await;
    world.append(None, &["a"]).await;
    world.append(Some("one"), &["b"]).await;
    world.append(None, &["c"]).await;
    let result = world.fetch(0, usize::MAX).await;
    assert_eq!((result.last_stable_offset, result.high_watermark), (1, 3));
    assert_eq!(values(&decode(&result)), ["a"]);
    // Others see all, and hear nothing of transactions.
    let all = world.rig.read_from(world.at, 0).await;
    assert_eq!((decode(&all).len(), all.aborted.len()), (3, 0));
    world.end("one", false).await;
    let result = world.fetch(0, usize::MAX).await;
    let (one, _) = world.producer("one").await;
    assert_eq!(result.aborted, [(one.id, 1)]);
    assert_eq!(world.committed(usize::MAX).await, ["a", "c"]);
    // Of what lies past the answer nothing is told.
    let first = world.fetch(0, 1).await;
    assert_eq!((decode(&first).len(), first.aborted.len()), (1, 0));
    world.settle().await;
    assert_eq!(world.fetch(0, usize::MAX).await.aborted, [(one.id, 1)]);
    assert_eq!(world.committed(usize::MAX).await, ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_an_open_transaction_is_woken_by_its_end_alone() {
    let mut world = World::new().await;
    world.append(None, &["read"]).await;
    world.append(Some("one"), &["a"]).await;
    world.append(None, &["b"]).await;
    // One run holds all three.
    world.settle().await;
    let waiting = ReadLimits {
        max_wait: Duration::from_secs(600),
        read_committed: true,
        ..NO_WAIT
    };
    let rig = Arc::clone(&world.rig);
    let at = world.at;
    let begun = Instant::now();
    let waits = tokio::spawn(async move { rig.fetch.read(&[ask(at, 1, 1000)], waiting).await });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.append(None, &["more"]).await;
        assert!(!waits.is_finished(), "what it may not read is no news");
    }
    world.end("one", true).await;
    let result = waits.await.unwrap().remove(0);
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(result.last_stable_offset, 7);
    assert!(!result.records.is_empty());
}

#[tokio::test]
async fn offsets_are_listed_up_to_the_last_stable_one_and_markers_are_no_answer() {
    let mut world = World::new().await;
    world.append(None, &["a"]).await;
    world.append(Some("one"), &["b"]).await;
    world.end("one", true).await;
    world.append(Some("two"), &["c"]).await;
    world.append(None, &["d"]).await;
    for _ in 0..2 {
        let (fetch, at) = (&world.rig.fetch, world.at);
        let list = |spec, read_committed| fetch.list_offset(at, spec, read_committed);
        assert_eq!(list(OffsetSpec::Latest, true).await, Ok((3, -1)));
        assert_eq!(list(OffsetSpec::Latest, false).await, Ok((5, -1)));
        for spec in [OffsetSpec::Timestamp(NOW), OffsetSpec::MaxTimestamp] {
            assert_eq!(list(spec, true).await, Ok((0, NOW)), "{spec:?}");
        }
        // The marker at offset 2 bears this time.
        let later = OffsetSpec::Timestamp(NOW + 1);
        assert_eq!(list(later, false).await, Ok((-1, -1)));
        world.settle().await;
    }
    // Only markers, and what is open, are left.
    let raise = AdvanceLogStart {
        partition: world.at,
        offset: 2,
    };
    world.propose(Command::AdvanceLogStart(raise)).await;
    let (fetch, at) = (&world.rig.fetch, world.at);
    for spec in [OffsetSpec::Timestamp(NOW), OffsetSpec::MaxTimestamp] {
        assert_eq!(fetch.list_offset(at, spec, true).await, Ok((-1, -1)));
        assert_eq!(fetch.list_offset(at, spec, false).await, Ok((3, NOW)));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Option<u8>, u8),
    End(u8, bool),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let producer = prop_oneof![1 => Just(None), 4 => (0u8..4).prop_map(Some)];
    let step = prop_oneof![
        6 => (producer, 1u8..4).prop_map(|(producer, records)| Step::Append(producer, records)),
        3 => (0u8..4, any::<bool>()).prop_map(|(producer, commit)| Step::End(producer, commit)),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn consumers_show_what_was_committed(steps: Vec<Step>, max_bytes: usize) {
    let mut world = World::new().await;
    // Each value with its transaction, and how those ended.
    let mut log: Vec<(Option<usize>, String)> = Vec::new();
    let mut ends: Vec<Option<bool>> = Vec::new();
    let mut open: BTreeMap<u8, usize> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Append(producer, records) => {
                let transaction = producer.map(|producer| {
                    *open.entry(producer).or_insert_with(|| {
                        ends.push(None);
                        ends.len() - 1
                    })
                });
                let texts: Vec<String> = (0..records)
                    .map(|record| format!("{}-{record}", log.len()))
                    .collect();
                let values: Vec<&str> = texts.iter().map(String::as_str).collect();
                let id = producer.map(|producer| producer.to_string());
                world.append(id.as_deref(), &values).await;
                log.extend(texts.into_iter().map(|text| (transaction, text)));
            }
            Step::End(producer, commit) => {
                if let Some(transaction) = open.remove(&producer) {
                    ends[transaction] = Some(commit);
                    world.end(&producer.to_string(), commit).await;
                }
            }
            Step::Settle => world.settle().await,
        }
        let is_open = |(transaction, _): &&(Option<usize>, String)| {
            transaction.is_some_and(|transaction| ends[transaction].is_none())
        };
        let expected: Vec<&String> = log
            .iter()
            .take_while(|one| !is_open(one))
            .filter(|(transaction, _)| {
                transaction.is_none_or(|transaction| ends[transaction] == Some(true))
            })
            .map(|(_, text)| text)
            .collect();
        let shown = world.committed(max_bytes).await;
        assert_eq!(shown.iter().collect::<Vec<_>>(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_consumer_shows_what_was_committed(
        steps in steps(),
        max_bytes in prop_oneof![Just(1usize), 50usize..1000, Just(usize::MAX)],
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(consumers_show_what_was_committed(steps, max_bytes));
    }
}
