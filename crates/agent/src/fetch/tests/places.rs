//! Runs of every kind: compacted by key, gaps, and chunks in write-ahead buffers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use alluvium_metadata::{
    BatchStamp, ChunkRun, Compact, CompactStretch, CompactedObject, CompactedPlace, CompactedRun,
    JournalChunkId, JournalCopy, Location, Outcome, RunLocation, Sequence,
};
use alluvium_objects::{Level, ObjectWriter, key};
use alluvium_protocol::batch as headers;
use alluvium_types::{AgentId, ChunkNumber, ObjectId, Offset};
use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::peers::{Copies, PeerError, Peers};

/// A batch of so many records that bears its offset; each record's time is its offset.
fn placed(base_offset: Offset, records: usize, padding: usize) -> Bytes {
    let text = "x".repeat(padding);
    let records: Vec<_> = (0..records)
        .map(|number| Record {
            timestamp: NOW + base_offset + i64::try_from(number).unwrap(),
            ..record(&text)
        })
        .collect();
    let batch = records::encode(&records, PLAIN).unwrap();
    let (head, rest) = batch.split_first_chunk::<16>().unwrap();
    [&headers::patched_head(head, base_offset, 0)[..], rest]
        .concat()
        .into()
}

/// What a partition holds from offset 0 on, run by run; a run is its batches (base offset, records).
#[derive(Clone, Debug)]
enum Kind {
    Gap,
    Sparse(Vec<(Offset, usize)>),
    Dense(usize),
}

/// Offsets of a run, whether nothing is in it, and whether its batches bear their own offsets.
type Written = (Range<Offset>, bool, bool);

/// Writes runs of these kinds and lengths: the runs, and the first and last offset of each batch.
fn write(
    writer: &mut ObjectWriter,
    at: TopicPartition,
    kinds: &[(Offset, Kind)],
    padding: usize,
) -> (Vec<Written>, Vec<(Offset, Offset)>) {
    let (mut written, mut batches, mut base) = (Vec::new(), Vec::new(), 0);
    for (length, kind) in kinds {
        let inside: Vec<(Offset, usize)> = match kind {
            Kind::Gap => Vec::new(),
            Kind::Sparse(inside) => inside.iter().map(|(at, n)| (base + at, *n)).collect(),
            Kind::Dense(step) => (base..base + length)
                .step_by(*step)
                .map(|at| (at, *step))
                .collect(),
        };
        if !inside.is_empty() {
            writer.begin_run(at, Some(base));
        }
        let mut before = base;
        for (first, records) in &inside {
            let last = first + i64::try_from(*records).unwrap() - 1;
            let taken = u32::try_from(last + 1 - before).unwrap();
            writer.batch(&[placed(*first, *records, padding)], taken, NOW + last);
            batches.push((*first, last));
            before = last + 1;
        }
        let is_sparse = matches!(kind, Kind::Sparse(_));
        written.push((base..base + length, inside.is_empty(), is_sparse));
        base += length;
    }
    (written, batches)
}

/// Compacts the partition's whole log, which has `end` offsets, into runs of these kinds and lengths.
/// Answers with the batches that are left: first and last offset.
async fn compact(
    rig: &Rig,
    at: TopicPartition,
    end: Offset,
    kinds: &[(Offset, Kind)],
    padding: usize,
) -> Vec<(Offset, Offset)> {
    let object = ObjectId(77);
    let mut writer = ObjectWriter::new(object, Level::Compacted, NOW);
    let (written, batches) = write(&mut writer, at, kinds, padding);
    let built = writer.finish();
    let mut places = built.runs.iter();
    let runs = written
        .into_iter()
        .map(|(offsets, is_gap, sparse)| CompactedRun {
            base_offset: offsets.start,
            end_offset: offsets.end,
            max_timestamp: if is_gap {
                i64::MIN
            } else {
                NOW + offsets.end - 1
            },
            place: (!is_gap).then(|| {
                let run = places.next().unwrap();
                CompactedPlace {
                    object: 0,
                    position: run.position,
                    length: run.length,
                    sparse,
                }
            }),
        });
    let stretch = CompactStretch {
        partition: at,
        base_offset: 0,
        end_offset: end,
        sources: rig.metadata.read(|state| {
            let runs = state.partition(at).unwrap().runs();
            let objects = runs.filter_map(|run| match run.location {
                RunLocation::Object { object, .. } => Some(object),
                _ => None,
            });
            objects.collect()
        }),
        runs: runs.collect(),
        clean_to: Some(end),
    };
    rig.bucket.create(&key(object), built.parts).await.unwrap();
    let compact = Compact {
        origin: rig.registration.origin(),
        objects: vec![CompactedObject {
            object,
            bytes: built.bytes,
            level: 1,
        }],
        stretches: vec![stretch],
        at: NOW,
    };
    let done = rig.metadata.propose(Command::Compact(compact)).await;
    assert_eq!(done.unwrap().outcome, Outcome::Compacted(vec![true]));
    batches
}

/// Offsets of the batches of an answer: first and last.
fn spans(result: &crate::fetch::ReadResult) -> Vec<(Offset, Offset)> {
    let all = Bytes::from(result.records.concat());
    let spans = headers::split(&all).unwrap().into_iter().map(|batch| {
        headers::check_crc(&batch).unwrap();
        let header = headers::BatchHeader::parse(batch.first_chunk::<61>().unwrap()).unwrap();
        (header.base_offset, header.last_offset())
    });
    spans.collect()
}

async fn log_of(rig: &Rig, end: Offset) -> TopicPartition {
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let texts = vec!["v"; usize::try_from(end).unwrap()];
    rig.append(at, batch(&texts)).await;
    at
}

async fn is_read_as(rig: &Rig, at: TopicPartition, end: Offset, batches: &[(Offset, Offset)]) {
    let step = (end / 97).max(1);
    for offset in (0..=end).step_by(usize::try_from(step).unwrap()) {
        for max_bytes in [1, 9000, usize::MAX] {
            let asked = [ask(at, offset, max_bytes)];
            let result = rig.fetch.read(&asked, NO_WAIT).await.remove(0);
            assert_eq!(result.error, ErrorCode::None);
            let expected: Vec<_> = batches.iter().filter(|(_, last)| *last >= offset).collect();
            let got = spans(&result);
            assert!(
                got.iter().eq(expected.iter().copied().take(got.len())),
                "at {offset}: {got:?}, expected {expected:?}"
            );
            assert_eq!(got.is_empty(), expected.is_empty(), "at {offset}");
            assert!(max_bytes < usize::MAX || got.len() == expected.len());
        }
        // Every record's time is its offset.
        let holds = batches.iter().find(|(_, last)| *last >= offset);
        let expected = holds.map_or(-1, |(first, _)| offset.max(*first));
        let spec = OffsetSpec::Timestamp(NOW + offset);
        assert_eq!(
            rig.fetch.list_offset(at, spec, false).await.unwrap().0,
            expected
        );
    }
    // As a consumer reads: on from the last offset it got.
    for max_bytes in [1, 70_000] {
        let mut offset = 0;
        let mut all = Vec::new();
        loop {
            let asked = [ask(at, offset, max_bytes)];
            let got = spans(&rig.fetch.read(&asked, NO_WAIT).await.remove(0));
            let Some((_, last)) = got.last() else { break };
            offset = last + 1;
            all.extend(got);
        }
        assert_eq!(all, batches);
    }
}

#[tokio::test]
async fn compacted_runs_and_gaps_are_read_from_any_offset() {
    let rig = Rig::with(forgetful()).await;
    let at = log_of(&rig, 3000).await;
    let kinds = [
        (20, Kind::Gap),
        (
            1000,
            Kind::Sparse((5..900).step_by(3).map(|at| (at, 1)).collect()),
        ),
        (80, Kind::Gap),
        (
            900,
            Kind::Sparse((0..800).step_by(11).map(|at| (at, 4)).collect()),
        ),
        (900, Kind::Dense(3)),
        (100, Kind::Sparse(vec![(99, 1)])),
    ];
    let batches = compact(&rig, at, 3000, &kinds, 700).await;
    is_read_as(&rig, at, 3000, &batches).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_where_no_record_is_left_waits_for_the_next() {
    for offset in [11, 70] {
        let rig = Rig::with(forgetful()).await;
        let at = log_of(&rig, 100).await;
        let kinds = [(60, Kind::Sparse(vec![(0, 1), (10, 1)])), (40, Kind::Gap)];
        compact(&rig, at, 100, &kinds, 10).await;
        let limits = |seconds| ReadLimits {
            max_wait: Duration::from_secs(seconds),
            ..NO_WAIT
        };
        let asked = [ask(at, offset, usize::MAX)];
        let begun = Instant::now();
        let read = rig.fetch.read(&asked, limits(600));
        tokio::pin!(read);
        assert!(futures::poll!(&mut read).is_pending());
        let (result, appended) = tokio::join!(read, rig.append(at, batch(&["new"])));
        assert_eq!((spans(&result[0])[0].0, appended), (100, 100));
        assert!(begun.elapsed() < Duration::from_secs(60));
        // And without news it waits out its time.
        let begun = Instant::now();
        let asked = [ask(at, 101, usize::MAX)];
        let result = rig.fetch.read(&asked, limits(5)).await;
        assert!(result[0].records.is_empty());
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_compacted_log_is_read_as_it_is(
        shapes in prop::collection::vec((0..3u8, 1..200i64, 1..9usize, 1..5usize), 1..7),
        padding in 1..1500usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let kinds: Vec<(Offset, Kind)> = shapes.into_iter().map(|(kind, length, step, records)| {
                match kind {
                    0 => (length, Kind::Gap),
                    1 => {
                        let width = i64::try_from(records).unwrap();
                        let inside: Vec<_> = (0..=(length - width))
                            .step_by(records + step - 1)
                            .map(|at| (at, records))
                            .collect();
                        if inside.is_empty() { (length, Kind::Gap) } else { (length, Kind::Sparse(inside)) }
                    }
                    _ => (length * i64::try_from(records).unwrap(), Kind::Dense(records)),
                }
            }).collect();
            let end = kinds.iter().map(|(length, _)| length).sum();
            let rig = Rig::with(forgetful()).await;
            let at = log_of(&rig, end).await;
            let batches = compact(&rig, at, end, &kinds, padding).await;
            is_read_as(&rig, at, end, &batches).await;
        });
    }
}

/// Write-ahead buffers: this agent's own, and those of others by agent.
#[derive(Debug, Default)]
struct Buffers {
    own: Mutex<Option<Bytes>>,
    others: Mutex<BTreeMap<AgentId, Bytes>>,
}

fn cut(bytes: &Bytes, range: Range<u64>) -> Bytes {
    bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
}

#[async_trait]
impl Copies for Buffers {
    fn journal(&self) -> u128 {
        1
    }

    async fn append(&self, _: JournalChunkId, _: Bytes) -> Result<(), String> {
        Err("full".to_owned())
    }

    async fn read(&self, _: JournalChunkId, range: Range<u64>) -> Result<Vec<Bytes>, String> {
        let own = self.own.lock().unwrap();
        let bytes = own.as_ref().ok_or("it is not here")?;
        Ok(vec![cut(bytes, range)])
    }
}

#[async_trait]
impl Peers for Buffers {
    async fn append(
        &self,
        peer: AgentId,
        _: JournalChunkId,
        _: &[Bytes],
    ) -> Result<JournalCopy, PeerError> {
        let reason = "full".to_owned();
        Err(PeerError::Refused { peer, reason })
    }

    async fn read_chunk(
        &self,
        peer: AgentId,
        _: JournalChunkId,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        let reason = "gone".to_owned();
        let others = self.others.lock().unwrap();
        let bytes = others
            .get(&peer)
            .ok_or(PeerError::Unreachable { peer, reason })?;
        Ok(cut(bytes, range))
    }

    async fn read_object(
        &self,
        peer: AgentId,
        _: ObjectId,
        _: u64,
        _: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        let reason = "no cache".to_owned();
        Err(PeerError::Refused { peer, reason })
    }
}

/// Sequences a chunk of batches of five records that this agent and another one have.
async fn journaled(rig: &Rig, at: TopicPartition, batches: &[Bytes], other: AgentId) {
    let origin = rig.registration.origin();
    let stamps = batches.iter().map(|batch| BatchStamp {
        bytes: u32::try_from(batch.len()).unwrap(),
        records: 5,
        max_timestamp: NOW + 4,
        producer: None,
    });
    let chunk = JournalChunkId {
        agent: origin.agent,
        epoch: origin.epoch,
        chunk: ChunkNumber(1),
    };
    let copies = [origin.agent, other].map(|agent| JournalCopy { agent, journal: 1 });
    let sequence = Sequence {
        origin,
        chunk: ChunkNumber(1),
        location: Location::Journal {
            chunk,
            copies: copies.to_vec(),
            bytes: batches.iter().map(|batch| batch.len() as u64).sum(),
            stable: true,
        },
        runs: vec![ChunkRun {
            partition: at,
            position: 0,
            batches: stamps.collect(),
        }],
        sealed_at: NOW,
        at: NOW,
    };
    let done = rig.metadata.propose(Command::Sequence(sequence)).await;
    assert!(matches!(done.unwrap().outcome, Outcome::Sequenced(_)));
    assert!(
        rig.metadata
            .read(|state| state.journal_chunk(chunk).is_some())
    );
}

#[tokio::test]
async fn a_chunk_in_write_ahead_buffers_is_read_from_whoever_has_it() {
    let rig = Rig::with(forgetful()).await;
    let topic = rig.topic("t", 1, &[]).await;
    let other = rig.topic("other", 1, &[]).await;
    let (at, beside) = (TopicPartition::new(topic, 0), TopicPartition::new(other, 0));
    let batches: Vec<_> = (0..3).map(|_| placed(0, 5, 40_000)).collect();
    let whole = Bytes::from(batches.concat());
    let other_agent = AgentId(9);
    journaled(&rig, at, &batches, other_agent).await;
    let buffers = Arc::new(Buffers::default());
    rig.fetch.join(
        rig.registration.clone(),
        None,
        Arc::clone(&buffers) as Arc<dyn Peers>,
        Some(Arc::clone(&buffers) as Arc<dyn Copies>),
    );
    let read = || async {
        let asked = [ask(at, 7, usize::MAX), ask(beside, 0, 1000)];
        let mut results = rig.fetch.read(&asked, NO_WAIT).await;
        assert_eq!(results.remove(1).error, ErrorCode::None);
        results.remove(0)
    };
    let good = [(5, 9), (10, 14)];
    // Nobody gives it: this partition has an error for the time being, the other has none.
    assert_eq!(read().await.error, ErrorCode::KafkaStorageError);
    buffers
        .others
        .lock()
        .unwrap()
        .insert(other_agent, whole.clone());
    assert_eq!(spans(&read().await), good);
    *buffers.own.lock().unwrap() = Some(whole.clone());
    buffers.others.lock().unwrap().clear();
    assert_eq!(spans(&read().await), good);
    // A damaged copy is as good as none while another is there.
    let mut damaged = whole.to_vec();
    damaged[batches[0].len() + 1000] ^= 4;
    *buffers.own.lock().unwrap() = Some(damaged.into());
    assert_eq!(read().await.error, ErrorCode::KafkaStorageError);
    buffers.others.lock().unwrap().insert(other_agent, whole);
    assert_eq!(spans(&read().await)[0], good[0]);
    let by_time = OffsetSpec::Timestamp(NOW + 3);
    assert_eq!(
        rig.fetch.list_offset(at, by_time, false).await,
        Ok((3, NOW + 3))
    );
}
