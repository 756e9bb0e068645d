use std::sync::Arc;
use std::sync::atomic::Ordering;

use alluvium_cluster::Replayed;
use alluvium_metadata::{
    Command, Compact, CompactStretch, CompactedObject, CompactedPlace, CompactedRun, Outcome, Run,
    RunLocation, State,
};
use alluvium_objects::{Level, ObjectWriter, key};
use alluvium_protocol::batch::{BatchHeader, patched_head};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{BatchOptions, Record, encode};
use alluvium_types::{ObjectId, Offset, TopicId, TopicPartition};
use bytes::Bytes;

use super::manifest::{Claim, shared, tiles};
use super::*;
use crate::shelf::Shelf;
use crate::testing::{NOW, Rig, policy};

const GRACE: Millis = 600_000;
const HOUR: Millis = 3_600_000;

fn batch(records: usize) -> Bytes {
    let record = Record {
        timestamp: NOW,
        value: Some(Bytes::from(vec![7; 100])),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    encode(&vec![record; records], options).unwrap()
}

struct World {
    shelf: Arc<Shelf>,
    rig: Rig,
    at: TopicPartition,
}

impl World {
    /// A topic with three objects of two batches each.
    async fn new() -> Self {
        let shelf = Shelf::at(NOW - 2 * HOUR);
        let rig = Rig::over(policy(), shelf.bucket()).await;
        let at = TopicPartition::new(rig.topic(1, 1).await, 0);
        for _ in 0..3 {
            rig.append(at, &[batch(2), batch(3)]).await;
        }
        shelf.now.store(NOW, Ordering::SeqCst);
        Self { shelf, rig, at }
    }

    fn archived(&self) -> ArchivedState {
        ArchivedState {
            state: self.rig.context.metadata.read(State::clone),
            cluster: TopicId([9; 16]),
            history: 0,
            log: Replayed {
                until: NOW,
                ..Replayed::default()
            },
            written: NOW,
        }
    }

    fn live(&self) -> Vec<ObjectId> {
        let live = |state: &State| state.live_objects().map(|it| it.0).collect();
        self.rig.context.metadata.read(live)
    }

    fn config(&self, deep: bool) -> FsckConfig {
        FsckConfig {
            bucket: self.shelf.bucket(),
            grace: GRACE,
            deep,
        }
    }

    async fn check_with(&self, deep: bool, before: ArchivedState) -> Report {
        let again = || std::future::ready(Ok(self.archived()));
        let checked = compare_with(&self.config(deep), before, again, &|_| ()).await;
        checked.unwrap()
    }

    async fn check(&self) -> Report {
        self.check_with(true, self.archived()).await
    }

    async fn propose(&self, command: Command) -> Outcome {
        let metadata = &self.rig.context.metadata;
        metadata.propose(command).await.unwrap().outcome
    }

    /// Deletes the topic; its objects are dead then.
    async fn delete(&self) {
        let topic = self.at.topic;
        self.propose(Command::DeleteTopic { topic }).await;
        self.propose(Command::Purge { most: 1000 }).await;
    }

    /// Replaces all runs by one object made of these batches, with these offsets.
    async fn compact(&self, batches: &[(Offset, Bytes)], runs: Vec<CompactedRun>) -> ObjectId {
        let object = ObjectId(0xabcd);
        let mut writer = ObjectWriter::new(object, Level::Settled, NOW);
        writer.begin_run(self.at, Some(batches[0].0));
        for (_, bytes) in batches {
            let header = BatchHeader::parse(bytes).unwrap();
            let records = u32::try_from(header.last_offset_delta + 1).unwrap();
            writer.batch(std::slice::from_ref(bytes), records, NOW);
        }
        let built = writer.finish();
        let place = key(object);
        self.shelf
            .put_at(&place, built.parts.concat(), NOW - 2 * HOUR);
        let sources = self.rig.context.metadata.read(|state| {
            let runs = state.partition(self.at).unwrap().runs();
            runs.filter_map(|run| match run.location {
                RunLocation::Object { object, .. } => Some(object),
                _ => None,
            })
            .collect()
        });
        let compact = Command::Compact(Compact {
            origin: self.rig.context.owner.origin().unwrap(),
            objects: vec![CompactedObject {
                object,
                bytes: built.bytes,
                level: 1,
            }],
            stretches: vec![CompactStretch {
                partition: self.at,
                base_offset: 0,
                end_offset: 15,
                sources,
                runs,
                clean_to: None,
            }],
            at: NOW,
        });
        assert_eq!(self.propose(compact).await, Outcome::Compacted(vec![true]));
        object
    }
}

/// A batch that bears its own offset.
fn placed(base_offset: Offset, records: usize) -> (Offset, Bytes) {
    let batch = batch(records);
    let head: [u8; 16] = batch[..16].try_into().unwrap();
    let mut bytes = patched_head(&head, base_offset, -1).to_vec();
    bytes.extend_from_slice(&batch[16..]);
    (base_offset, bytes.into())
}

fn kinds(report: &Report) -> Vec<String> {
    let kind = |finding: &Finding| {
        let value = serde_json::to_value(finding).unwrap();
        value["kind"].as_str().unwrap().to_owned()
    };
    report.findings.iter().map(kind).collect()
}

#[tokio::test]
async fn a_sound_bucket_is_clean_and_counted() {
    let world = World::new().await;
    for other in ["quorum/history/0000000000", "prove/1", "readme", "ab/x.alv"] {
        world.shelf.put_at(other, "four", 0);
    }
    world
        .shelf
        .put_at(&key(ObjectId(1)), "young", NOW - HOUR + 1);
    let report = world.check().await;
    assert!(report.is_clean(), "{:?}", report.findings);
    let counts = report.counts;
    assert_eq!((counts.topics, counts.partitions, counts.runs), (1, 1, 3));
    assert_eq!((counts.live_objects, counts.read_objects), (3, 3));
    assert_eq!(counts.live_bytes, counts.read_bytes);
    assert_eq!((counts.young_objects, counts.young_bytes), (1, 5));
    assert_eq!((counts.archive_files, counts.archive_bytes), (1, 4));
    assert_eq!((counts.proofs, counts.foreign, counts.listed), (1, 2, 8));
}

#[tokio::test]
async fn an_object_that_is_missing_is_named_with_its_records() {
    let world = World::new().await;
    let live = world.live();
    // The first, the last: neither end of the listing hides one.
    for object in [live[0], live[2]] {
        world.shelf.remove(object);
    }
    let report = world.check().await;
    assert_eq!(kinds(&report), ["missing", "missing"]);
    assert_eq!((report.errors, report.warnings), (2, 0));
    let found: Vec<_> = report.findings.iter().filter_map(|it| it.object).collect();
    assert_eq!(found, [live[0], live[2]]);
    let stretch = &report.findings[0].stretches[0];
    assert_eq!((stretch.topic.as_str(), stretch.partition), ("topic-1", 0));
    assert_eq!(stretch.last - stretch.first, 4);
}

#[tokio::test]
async fn an_object_of_another_length_is_named() {
    let world = World::new().await;
    let object = world.live()[1];
    let bytes = world.shelf.get(object);
    world
        .shelf
        .put_at(&key(object), bytes.slice(..bytes.len() - 1), NOW);
    let report = world.check().await;
    assert_eq!(kinds(&report), ["wrong_length"]);
    assert_eq!(report.findings[0].object, Some(object));
}

#[tokio::test]
async fn orphans_are_found_by_the_stores_clock_and_repaired() {
    let world = World::new().await;
    let old = ObjectId(u128::MAX);
    world.shelf.put_at(&key(old), "old", NOW - ORPHAN_AGE - 1);
    world
        .shelf
        .put_at(&key(ObjectId(1)), "young", NOW - ORPHAN_AGE);
    world.shelf.put_at("backup/notes", "not ours", 0);
    let report = world.check().await;
    assert_eq!(kinds(&report), ["orphan"]);
    assert_eq!((report.errors, report.warnings), (0, 1));
    assert_eq!(report.orphans().collect::<Vec<_>>(), [(old, 3)]);
    assert_eq!(report.counts.young_objects, 1);
}

#[tokio::test]
async fn dead_objects_are_late_only_long_after_their_grace() {
    let world = World::new().await;
    world.delete().await;
    let report = world.check().await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(
        (report.counts.dead_objects, report.counts.live_objects),
        (3, 0)
    );
    let mut archived = world.archived();
    let died = archived.state.clock();
    archived.log.until = died + 2 * GRACE + LATE;
    assert!(world.check_with(true, archived.clone()).await.is_clean());
    archived.log.until += 1;
    let report = world.check_with(true, archived.clone()).await;
    assert_eq!(kinds(&report), ["dead_late"; 3]);
    assert_eq!(report.errors, 0);
    // Swept meanwhile.
    let objects: Vec<_> = archived.state.dead_objects().map(|it| it.0).collect();
    let forgotten = world.propose(Command::ForgetObjects { objects }).await;
    assert_eq!(forgotten, Outcome::Done);
    assert!(world.check_with(true, archived).await.is_clean());
}

#[tokio::test]
async fn what_changed_while_it_was_looked_at_is_no_finding() {
    let world = World::new().await;
    let before = world.archived();
    let live = world.live();
    // Merged and swept after the state was read.
    world.delete().await;
    for object in &live {
        world.shelf.remove(*object);
    }
    assert!(world.check_with(true, before).await.is_clean());
    // Named after the state was read, and old by the store's clock.
    let before = world.archived();
    world.shelf.now.store(NOW - 2 * HOUR, Ordering::SeqCst);
    let at = TopicPartition::new(world.rig.topic(2, 1).await, 0);
    world.rig.append(at, &[batch(1)]).await;
    assert!(world.check_with(true, before).await.is_clean());
}

#[tokio::test]
async fn every_flipped_bit_is_found_when_all_is_read() {
    let world = World::new().await;
    let object = world.live()[1];
    let length = world.shelf.get(object).len();
    for at in (0..length).step_by(3) {
        world.shelf.flip(object, at);
        let report = world.check().await;
        assert!(report.errors > 0, "bit at {at} of {length}");
        assert!(report.findings.iter().all(|it| it.object == Some(object)));
        let quick = world.check_with(false, world.archived()).await;
        assert!(quick.is_clean(), "nothing was read");
        world.shelf.flip(object, at);
    }
    assert!(world.check().await.is_clean());
}

#[tokio::test]
async fn a_damaged_batch_is_named_with_its_records() {
    let world = World::new().await;
    let object = world.live()[0];
    // In the records of the first batch.
    world.shelf.flip(object, 40 + 70);
    let report = world.check().await;
    assert_eq!(kinds(&report), ["damaged"]);
    assert_eq!(report.findings[0].stretches.len(), 1);
}

fn compacted(from: Offset, to: Offset, position: u64, length: u64, sparse: bool) -> CompactedRun {
    CompactedRun {
        base_offset: from,
        end_offset: to,
        max_timestamp: NOW,
        place: Some(CompactedPlace {
            object: 0,
            position,
            length,
            sparse,
        }),
    }
}

#[tokio::test]
async fn compacted_runs_and_gaps_are_sound() {
    let world = World::new().await;
    let batches = [placed(0, 2), placed(4, 3), placed(11, 1)];
    let lengths = batches
        .clone()
        .map(|(_, bytes)| u64::try_from(bytes.len()).unwrap());
    let all = lengths.iter().sum();
    let gap = CompactedRun {
        place: None,
        ..compacted(12, 15, 0, 0, true)
    };
    let runs = vec![compacted(0, 12, 40, all, true), gap];
    world.compact(&batches, runs).await;
    let report = world.check().await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.counts.sparse_runs, report.counts.gaps), (1, 1));
    assert_eq!(
        (report.counts.read_objects, report.counts.dead_objects),
        (1, 3)
    );
}

#[tokio::test]
async fn a_manifest_that_does_not_fit_its_object_is_found() {
    let bytes = |records: &[usize]| -> u64 {
        let lengths = records.iter().map(|records| batch(*records).len());
        u64::try_from(lengths.sum::<usize>()).unwrap()
    };
    let first = bytes(&[2]);
    let gap = CompactedRun {
        place: None,
        ..compacted(2, 3, 0, 0, true)
    };
    let wrong = [
        // Fewer offsets than the manifest says.
        (
            vec![placed(0, 2), placed(2, 3), placed(5, 9)],
            vec![compacted(0, 15, 40, bytes(&[2, 3, 9]), false)],
        ),
        // More.
        (
            vec![placed(0, 2), placed(2, 14)],
            vec![compacted(0, 15, 40, bytes(&[2, 14]), false)],
        ),
        // A run that ends within a batch, and one that begins there.
        (
            vec![placed(0, 2), placed(3, 12)],
            vec![
                compacted(0, 2, 40, first - 1, false),
                gap,
                compacted(3, 15, 40 + first - 1, bytes(&[12]) + 1, false),
            ],
        ),
        // Batches that bear other offsets than the run holds, or not in order.
        (
            vec![placed(0, 2), placed(13, 3)],
            vec![compacted(0, 15, 40, bytes(&[2, 3]), true)],
        ),
        (
            vec![placed(4, 2), placed(5, 3)],
            vec![compacted(0, 15, 40, bytes(&[2, 3]), true)],
        ),
    ];
    for (batches, runs) in wrong {
        let world = World::new().await;
        world.compact(&batches, runs.clone()).await;
        let report = world.check().await;
        let found = kinds(&report);
        assert!(!found.is_empty(), "{runs:?}");
        assert!(found.iter().all(|kind| kind == "not_as_named"), "{found:?}");
        let quick = world.check_with(false, world.archived()).await;
        assert!(quick.is_clean());
    }
}

#[tokio::test]
async fn an_archive_that_ends_early_is_said_and_nothing_is_sure() {
    let world = World::new().await;
    let mut archived = world.archived();
    archived.log.ended_early = Some("a gap".to_owned());
    archived.log.damaged.push("a file".to_owned());
    let report = world.check_with(false, archived).await;
    assert_eq!(kinds(&report), ["archive_ends_early", "archive_damaged"]);
    let mut before = world.archived();
    before.history = 4;
    world.shelf.remove(world.live()[0]);
    let again = || std::future::ready(Ok(world.archived()));
    let restored = compare_with(&world.config(false), before, again, &|_| ()).await;
    assert!(matches!(restored, Err(FsckError::Unsure(_))));
}

fn run(base_offset: Offset, end_offset: Offset) -> Run {
    Run {
        base_offset,
        end_offset,
        max_timestamp: 0,
        length: 10,
        location: RunLocation::Object {
            object: ObjectId(1),
            position: 0,
        },
    }
}

#[test]
fn runs_that_do_not_tile_are_found() {
    let gap = Run {
        length: 0,
        location: RunLocation::Gap,
        ..run(10, 20)
    };
    let sound = [run(0, 10), gap.clone(), run(20, 30)];
    assert_eq!(tiles((5, 30), sound.iter()), []);
    assert_eq!(tiles((7, 7), [].iter()), []);
    let hole = |first, last| (first, last, Problem::Hole);
    let overlap = |first, last| (first, last, Problem::Overlap);
    let kinds = |ends, runs: &[Run]| tiles(ends, runs.iter());
    assert_eq!(kinds((0, 30), &[run(0, 10), run(20, 30)]), [hole(10, 19)]);
    assert_eq!(kinds((0, 30), &[run(5, 30)]), [hole(0, 4)]);
    assert_eq!(kinds((0, 30), &[run(0, 29)]), [hole(29, 29)]);
    assert_eq!(kinds((3, 9), &[]), [hole(3, 8)]);
    assert_eq!(
        kinds((0, 30), &[run(0, 20), run(10, 30)]),
        [overlap(10, 19)]
    );
    assert_eq!(
        kinds((0, 30), &[run(0, 30), run(10, 20)]),
        [overlap(10, 19)]
    );
    for bad in [
        vec![run(0, 31)],
        vec![
            Run {
                length: 5,
                ..gap.clone()
            },
            run(20, 30),
        ],
        vec![
            run(0, 10),
            Run {
                length: 0,
                ..run(10, 30)
            },
        ],
        vec![Run {
            location: RunLocation::Inline(Bytes::from_static(b"1234")),
            ..run(0, 30)
        }],
        vec![run(0, 30), run(30, 30)],
    ] {
        let found = kinds((bad[0].base_offset, 30), &bad);
        assert!(
            matches!(found[..], [(.., Problem::BadRun { .. })]),
            "{bad:?}: {found:?}"
        );
    }
}

#[test]
fn runs_that_share_bytes_are_found() {
    let claim = |position, length| Claim {
        object: ObjectId(1),
        position,
        length,
        place: TopicPartition::new(TopicId([1; 16]), 0),
        base_offset: 0,
        end_offset: 1,
        sparse: false,
    };
    let other = Claim {
        object: ObjectId(2),
        ..claim(0, 10)
    };
    assert_eq!(shared(&[claim(0, 10), claim(10, 5), other]).count(), 0);
    assert_eq!(shared(&[claim(0, 10), claim(9, 5), other]).count(), 1);
}

#[test]
fn findings_say_what_to_do_and_are_flat() {
    let problem = Problem::Missing { bytes: 7 };
    let finding = Finding::new(Some(ObjectId(1)), Vec::new(), problem);
    assert!(!finding.advice.is_empty());
    assert!(finding.thing().contains("00/0000"));
    let value = serde_json::to_value(&finding).unwrap();
    assert_eq!(value["kind"], "missing");
    assert_eq!(value["severity"], "error");
    assert_eq!(value["bytes"], 7);
    assert_eq!(value["object"], "00000000000000000000000000000001");
}
