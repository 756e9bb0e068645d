//! A burned cluster comes back with every record whose object is in the bucket.

mod refused;
mod transactions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use alluvium_metadata::{
    Command, CommitOffsets, OffsetCommit, Outcome, RunLocation, Standing, State,
};
use alluvium_objects::{ChunkOrigin, Level, ObjectWriter, key};
use alluvium_protocol::batch::BatchHeader;
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{BatchOptions, Record, encode};
use alluvium_storage::disk::{Disk, ForgetfulDisk};
use alluvium_types::{AgentEpoch, ManualClock, Millis, ObjectId, Offset, TopicId, TopicPartition};

use super::{RestoreConfig, RestoreReport, restore};
use crate::archive::keys;
use crate::archive::testing::{Log, NOW, ORIGIN, Shelf, Voter, beginning, topic};
use crate::{RestoreError, snapshots, voter_id};

const DIR: &str = "/data/metadata";

/// A cluster that archives, the store, and what restores it.
struct World {
    log: Arc<Log>,
    shelf: Arc<Shelf>,
    leader: Voter,
    disk: ForgetfulDisk,
    chunks: u64,
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId([1; 16]), partition)
}

/// A batch with a record for each value.
fn batch(values: &[&str], producer: Option<(i64, i16, i32)>) -> Bytes {
    let records: Vec<Record> = values
        .iter()
        .map(|value| Record {
            offset: 0,
            timestamp: NOW,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        })
        .collect();
    let options = BatchOptions {
        codec: Codec::None,
        producer,
        transactional: false,
    };
    encode(&records, options).unwrap()
}

/// An object, with the offset that each batch's run begins at when it is a settled one.
fn object(
    id: u128,
    origin: Option<ChunkOrigin>,
    level: Level,
    created_at: Millis,
    batches: &[(TopicPartition, Option<Offset>, Bytes)],
) -> (ObjectId, Bytes) {
    let object = ObjectId(id);
    let mut writer = match origin {
        Some(origin) => ObjectWriter::chunk(object, origin, created_at),
        None => ObjectWriter::new(object, level, created_at),
    };
    for (place, base_offset, bytes) in batches {
        let header = BatchHeader::parse(bytes).unwrap();
        writer.begin_run(*place, *base_offset);
        let records = u32::try_from(header.last_offset_delta + 1).unwrap();
        writer.batch(std::slice::from_ref(bytes), records, header.max_timestamp);
    }
    (object, writer.finish().parts.concat().into())
}

fn sealed(seal: u64, at: Millis) -> Option<ChunkOrigin> {
    Some(ChunkOrigin {
        agent: ORIGIN.agent,
        epoch: ORIGIN.epoch,
        seal,
        sealed_at: at,
    })
}

impl World {
    async fn new() -> Self {
        let (log, shelf) = (Arc::default(), Arc::default());
        let leader = Voter::new(&log, &shelf);
        let mut world = Self {
            log,
            shelf,
            leader,
            disk: ForgetfulDisk::default(),
            chunks: 0,
        };
        world.commit(beginning()).await;
        world
    }

    /// Commits and archives.
    async fn commit(&mut self, commands: impl IntoIterator<Item = Command>) {
        commands
            .into_iter()
            .for_each(|command| self.log.push(command));
        self.leader.apply();
        self.leader.archive().await;
    }

    /// A chunk's object, as an agent puts it.
    fn put(
        &self,
        id: u128,
        origin: Option<ChunkOrigin>,
        batches: &[(i32, Bytes)],
    ) -> (ObjectId, u64) {
        let at = origin.map_or(NOW, |origin| origin.sealed_at);
        let batches: Vec<_> = batches
            .iter()
            .map(|(partition, bytes)| (place(*partition), None, bytes.clone()))
            .collect();
        let (object, bytes) = object(id, origin, Level::Chunk, at, &batches);
        let length = bytes.len() as u64;
        self.shelf.put(&key(object), bytes, at);
        (object, length)
    }

    /// A chunk that is put, sequenced and archived.
    async fn produce(&mut self, id: u128, seal: u64, partition: i32, batch: Bytes) {
        let (object, bytes) = self.put(id, sealed(seal, NOW), &[(partition, batch.clone())]);
        let location = alluvium_metadata::Location::Object { object, bytes };
        self.sequence(location, partition, &batch).await;
    }

    /// A chunk is sequenced and archived.
    async fn sequence(
        &mut self,
        location: alluvium_metadata::Location,
        partition: i32,
        batch: &Bytes,
    ) {
        let position = match location {
            alluvium_metadata::Location::Inline(_) => 0,
            _ => 40,
        };
        let header = BatchHeader::parse(batch).unwrap();
        self.chunks += 1;
        let producer = (header.producer_id >= 0).then_some(alluvium_metadata::ProducerStamp {
            id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transaction: if header.is_transactional() {
                alluvium_metadata::InTransaction::Joins
            } else {
                alluvium_metadata::InTransaction::No
            },
        });
        let command = Command::Sequence(alluvium_metadata::Sequence {
            origin: ORIGIN,
            chunk: alluvium_types::ChunkNumber(self.chunks),
            location,
            runs: vec![alluvium_metadata::ChunkRun {
                partition: place(partition),
                position,
                batches: vec![alluvium_metadata::BatchStamp {
                    bytes: u32::try_from(header.bytes).unwrap(),
                    records: u32::try_from(header.last_offset_delta + 1).unwrap(),
                    max_timestamp: NOW,
                    producer,
                }],
            }],
            sealed_at: NOW,
            at: NOW,
        });
        self.commit([command]).await;
    }

    fn config(&self) -> RestoreConfig {
        RestoreConfig {
            bucket: self.shelf.bucket(),
            dir: PathBuf::from(DIR),
            disk: self.disk.shared(),
            node: 1,
            address: String::new(),
            at: None,
            plan: false,
            clock: Arc::new(ManualClock::new(NOW + 60_000)),
        }
    }

    async fn restore(&mut self) -> (RestoreReport, State) {
        let report = restore(&self.config(), &|_| ()).await.unwrap();
        (report, self.restored())
    }

    /// The state in the folder that a restore wrote, as it is after the machine's power failed.
    fn restored(&mut self) -> State {
        self.disk = self.disk.crash();
        let disk = self.disk.shared();
        let dir = Path::new(DIR);
        assert!(voter_id::read(disk.as_ref(), dir).unwrap().is_some());
        let (_, current) = snapshots::Snapshots::open(disk, &dir.join("snapshots"), 0).unwrap();
        current.state.check().unwrap();
        current.state
    }

    /// The values in a partition, in the order of their offsets, read where the manifest says.
    fn values(&self, state: &State, partition: i32) -> Vec<String> {
        let mut values = Vec::new();
        let partition = state.partition(place(partition)).unwrap();
        for run in partition.runs() {
            let RunLocation::Object { object, position } = &run.location else {
                panic!("{run:?}")
            };
            let bytes = self.shelf.get(&key(*object));
            let start = usize::try_from(*position).unwrap();
            let bytes = bytes.slice(start..start + usize::try_from(run.length).unwrap());
            for batch in alluvium_protocol::batch::split(&bytes).unwrap() {
                for record in alluvium_protocol::records::decode(&batch, 1 << 20).unwrap() {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
            }
        }
        assert_eq!(partition.next_offset(), values.len() as i64);
        values
    }
}

#[tokio::test]
async fn all_that_was_archived_comes_back_under_a_new_history() {
    let mut world = World::new().await;
    world.produce(1, 1, 0, batch(&["a", "b"], None)).await;
    world
        .commit([
            Command::ClaimGroup {
                origin: ORIGIN,
                group: "readers".to_owned(),
            },
            Command::CommitOffsets(CommitOffsets {
                origin: ORIGIN,
                group: "readers".to_owned(),
                offsets: vec![OffsetCommit {
                    partition: place(0),
                    offset: 1,
                    leader_epoch: -1,
                    metadata: String::new(),
                }],
                at: NOW,
            }),
        ])
        .await;
    let (report, mut state) = world.restore().await;
    assert_eq!((report.new_history, state.restores()), (1, 1));
    assert_eq!((report.topics, report.partitions, report.groups), (1, 4, 1));
    assert_eq!(report.records, 2);
    assert_eq!(report.resequenced.chunks, 0);
    assert_eq!(world.values(&state, 0), ["a", "b"]);
    let group = state.group("readers").unwrap();
    assert_eq!(group.offsets[&place(0)].offset, 1);
    // The agents of before cannot write.
    assert!(
        state
            .agents()
            .all(|agent| matches!(agent.standing, Standing::Ended { .. }))
    );
    let late = Command::DrainAgent { origin: ORIGIN };
    let refused = state.apply(late, &mut Vec::new());
    assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
    // The old leader is fenced, and the folder is not restored over.
    let error = world.leader.round().await.unwrap_err();
    assert!(error.contains("fenced"), "{error}");
    let error = restore(&world.config(), &|_| ()).await.unwrap_err();
    assert!(
        error.to_string().contains("holds metadata already"),
        "{error}"
    );
    // What the restore left in the bucket is a whole archive by itself.
    world.disk = ForgetfulDisk::default();
    let (again, second) = world.restore().await;
    assert_eq!((again.restored_history, again.new_history), (1, 2));
    assert_eq!(world.values(&second, 0), ["a", "b"]);
}

#[tokio::test]
async fn chunks_that_no_manifest_names_are_sequenced_anew_once_each() {
    let mut world = World::new().await;
    world.produce(1, 1, 0, batch(&["a"], Some((9, 0, 0)))).await;
    // Another attempt at the same chunk; its batches are in the state.
    world.put(2, sealed(1, NOW), &[(0, batch(&["a"], Some((9, 0, 0))))]);
    // Two attempts at the next, in the wrong order of ids, and one behind it with a lower id.
    world.put(
        8,
        sealed(2, NOW + 10),
        &[
            (0, batch(&["b"], Some((9, 0, 1)))),
            (1, batch(&["x"], None)),
        ],
    );
    world.put(
        9,
        sealed(2, NOW + 10),
        &[
            (0, batch(&["b"], Some((9, 0, 1)))),
            (1, batch(&["x"], None)),
        ],
    );
    world.put(
        3,
        sealed(3, NOW + 20),
        &[
            (0, batch(&["c", "d"], Some((9, 0, 2)))),
            (1, batch(&["y"], None)),
        ],
    );
    // An orphan of long ago, one of a registration that had ended, one damaged, one of no topic.
    world.put(
        4,
        sealed(0, NOW - 3_600_000),
        &[(1, batch(&["orphan"], None))],
    );
    let late = ChunkOrigin {
        epoch: AgentEpoch(0),
        ..sealed(1, NOW).unwrap()
    };
    world.put(5, Some(late), &[(1, batch(&["late"], None))]);
    let (damaged, _) = world.put(6, sealed(4, NOW), &[(1, batch(&["damaged"], None))]);
    world.shelf.damage(&key(damaged));
    let gone = (
        TopicPartition::new(TopicId([3; 16]), 0),
        None,
        batch(&["gone"], None),
    );
    let (id, bytes) = object(7, sealed(5, NOW), Level::Chunk, NOW, &[gone]);
    world.shelf.put(&key(id), bytes, NOW);

    let (report, state) = world.restore().await;
    assert_eq!(world.values(&state, 0), ["a", "b", "c", "d"]);
    assert_eq!(world.values(&state, 1), ["x", "y"]);
    let anew: Vec<_> = report
        .resequenced
        .partitions
        .iter()
        .map(|given| (given.partition, given.first, given.last, given.records))
        .collect();
    assert_eq!(anew, [(0, 1, 3, 3), (1, 0, 1, 2)]);
    assert_eq!(report.resequenced.partitions[0].topic, "clicks");
    assert_eq!(report.damaged_objects.len(), 1);
    assert!(report.damaged_objects[0].contains(&key(damaged)));
    assert_eq!(
        report.resequenced.refused[0].reason,
        "UNKNOWN_TOPIC_OR_PARTITION"
    );
    assert_eq!(report.passed_over_objects, 3);
    // A client that sends again what it was not answered for is told where it is.
    let known = state.partition(place(0)).unwrap();
    let (_, producer) = known.producer_states().next().unwrap();
    assert_eq!(producer.last_sequence(), 3);
}

/// The store failed, or so it said: the agent had the batches sequenced without it.
#[tokio::test]
async fn a_chunk_that_the_log_holds_is_not_sequenced_anew() {
    let mut world = World::new().await;
    let inline = batch(&["a"], None);
    world.put(1, sealed(1, NOW), &[(0, inline.clone())]);
    let location = alluvium_metadata::Location::Inline(inline.clone());
    world.sequence(location, 0, &inline).await;
    // Others of the same agent and the same moment are not in the log, though they look like it.
    world.put(2, sealed(2, NOW), &[(1, inline.clone())]);
    world.put(3, sealed(3, NOW), &[(0, batch(&["b"], None))]);
    let (report, state) = world.restore().await;
    assert_eq!(state.partition(place(0)).unwrap().next_offset(), 2);
    assert_eq!(world.values(&state, 1), ["a"]);
    assert_eq!(report.passed_over_objects, 1);
}

#[tokio::test]
async fn an_idempotent_producers_batches_keep_their_order_across_agents() {
    let mut world = World::new().await;
    world.produce(1, 1, 0, batch(&["a"], Some((9, 0, 0)))).await;
    // Another agent, with a clock that is ahead, took the second; the third is here.
    let elsewhere = ChunkOrigin {
        agent: alluvium_types::AgentId(2),
        ..sealed(1, NOW + 5_000).unwrap()
    };
    world.put(
        2,
        sealed(2, NOW + 10),
        &[(0, batch(&["c"], Some((9, 0, 2))))],
    );
    world.put(3, Some(elsewhere), &[(0, batch(&["b"], Some((9, 0, 1))))]);
    // Of this one the first batch was inline in the lost tail: what is there is kept, in order.
    world.put(
        5,
        sealed(4, NOW + 30),
        &[(2, batch(&["r"], Some((4, 0, 2))))],
    );
    world.put(
        6,
        sealed(3, NOW + 20),
        &[(2, batch(&["q"], Some((4, 0, 1))))],
    );
    let (report, mut state) = world.restore().await;
    assert_eq!(world.values(&state, 0), ["a", "b", "c"]);
    assert_eq!(world.values(&state, 2), ["q", "r"]);
    assert_eq!(report.resequenced.across_gaps, 1);
    // The producer goes on where it was.
    let register = beginning().remove(1);
    let Outcome::AgentRegistered(origin) = state.apply(register, &mut Vec::new()) else {
        panic!("refused")
    };
    let next = batch(&["s"], Some((4, 0, 3)));
    let command = Command::Sequence(alluvium_metadata::Sequence {
        origin,
        chunk: alluvium_types::ChunkNumber(1),
        location: alluvium_metadata::Location::Inline(next.clone()),
        runs: vec![alluvium_metadata::ChunkRun {
            partition: place(2),
            position: 0,
            batches: vec![alluvium_metadata::BatchStamp {
                bytes: u32::try_from(next.len()).unwrap(),
                records: 1,
                max_timestamp: NOW,
                producer: Some(alluvium_metadata::ProducerStamp {
                    id: 4,
                    epoch: 0,
                    base_sequence: 3,
                    transaction: alluvium_metadata::InTransaction::No,
                }),
            }],
        }],
        sealed_at: NOW,
        at: NOW,
    });
    let Outcome::Sequenced(answer) = state.apply(command, &mut Vec::new()) else {
        panic!("refused")
    };
    assert_eq!(
        answer[0].batches,
        [alluvium_metadata::BatchOutcome::Appended { base_offset: 2 }]
    );
}

#[tokio::test]
async fn settled_objects_bring_back_what_was_inline_in_the_lost_tail() {
    let mut world = World::new().await;
    world.produce(1, 1, 0, batch(&["a"], None)).await;
    // Settled before the disks burned, with a batch that the state has (elsewhere) and two it has not.
    let runs = [
        (place(0), Some(0), batch(&["a"], None)),
        (place(0), Some(1), batch(&["b"], None)),
        (place(0), Some(2), batch(&["c", "d"], None)),
    ];
    for id in [2, 3] {
        let (settled, bytes) = object(id, None, Level::Settled, NOW + 5, &runs);
        world.shelf.put(&key(settled), bytes, NOW + 5);
    }
    world.put(4, sealed(9, NOW + 20), &[(0, batch(&["e"], None))]);
    let (report, state) = world.restore().await;
    assert_eq!(world.values(&state, 0), ["a", "b", "c", "d", "e"]);
    assert_eq!(report.resequenced.partitions[0].records, 4);
}

#[tokio::test]
async fn settled_objects_take_the_place_of_write_ahead_buffers() {
    let mut world = World::new().await;
    let batches = [batch(&["a"], None), batch(&["b", "c"], None)];
    for (number, (bytes, stable)) in (1..).zip(batches.iter().zip([true, false])) {
        let header = BatchHeader::parse(bytes).unwrap();
        let chunk = alluvium_types::ChunkNumber(number);
        let location = alluvium_metadata::Location::Journal {
            chunk: alluvium_metadata::JournalChunkId {
                agent: ORIGIN.agent,
                epoch: ORIGIN.epoch,
                chunk,
            },
            copies: vec![alluvium_metadata::JournalCopy {
                agent: ORIGIN.agent,
                journal: 1,
            }],
            bytes: 1000,
            stable,
        };
        let stamp = alluvium_metadata::BatchStamp {
            bytes: u32::try_from(header.bytes).unwrap(),
            records: u32::try_from(header.last_offset_delta + 1).unwrap(),
            max_timestamp: NOW,
            producer: None,
        };
        let run = alluvium_metadata::ChunkRun {
            partition: place(0),
            position: 0,
            batches: vec![stamp],
        };
        let command = Command::Sequence(alluvium_metadata::Sequence {
            origin: ORIGIN,
            chunk,
            location,
            runs: vec![run],
            sealed_at: NOW,
            at: NOW,
        });
        world.commit([command]).await;
    }
    // Both were settled and trimmed; that it was applied is lost.
    let [first, second] = batches;
    let runs = [(place(0), Some(0), first), (place(0), Some(1), second)];
    let (settled, bytes) = object(2, None, Level::Settled, NOW + 5, &runs);
    world.shelf.put(&key(settled), bytes, NOW + 5);
    let (_, state) = world.restore().await;
    assert_eq!(world.values(&state, 0), ["a", "b", "c"]);
    assert_eq!(state.journal_chunks().count(), 0);
    assert_eq!(state.partition(place(0)).unwrap().next_offset(), 3);
}

#[tokio::test]
async fn a_missing_object_is_reported_with_its_offsets() {
    let mut world = World::new().await;
    world.produce(1, 1, 0, batch(&["a"], None)).await;
    world.produce(2, 2, 0, batch(&["b", "c"], None)).await;
    world.shelf.remove(&key(ObjectId(2)));
    let (report, state) = world.restore().await;
    assert_eq!(report.lost.len(), 1);
    let lost = &report.lost[0];
    assert_eq!(
        (lost.topic.as_str(), lost.first, lost.last),
        ("clicks", 1, 2)
    );
    assert_eq!(state.partition(place(0)).unwrap().next_offset(), 3);
}

#[tokio::test]
async fn a_moment_of_the_past_is_restored_without_what_came_later() {
    let mut world = World::new().await;
    world.produce(1, 1, 0, batch(&["a"], None)).await;
    world.leader.clock.advance(10_000);
    let mut later = topic("later", 2);
    if let Command::CreateTopic(later) = &mut later {
        later.at = NOW + 10_000;
    }
    world.commit([later]).await;
    world.leader.clock.advance(10_000);
    world.put(2, sealed(2, NOW + 2_000), &[(0, batch(&["b"], None))]);
    world.put(3, sealed(3, NOW + 9_000), &[(0, batch(&["c"], None))]);
    let config = RestoreConfig {
        at: Some(NOW + 5_000),
        ..world.config()
    };
    // A plan changes nothing.
    let plan = RestoreConfig {
        plan: true,
        ..config.clone()
    };
    let planned = restore(&plan, &|_| ()).await.unwrap();
    assert_eq!(world.shelf.keys("quorum/history/").len(), 1);
    let report = restore(&config, &|_| ()).await.unwrap();
    assert_eq!((planned.records, planned.voter), (report.records, None));
    assert_eq!((report.topics, report.records), (1, 2));
    let state = world.restored();
    assert_eq!(world.values(&state, 0), ["a", "b"]);
    // Before that restore there is the first history still.
    world.disk = ForgetfulDisk::default();
    let config = RestoreConfig {
        at: Some(NOW + 15_000),
        ..world.config()
    };
    let report = restore(&config, &|_| ()).await.unwrap();
    assert_eq!(
        (report.restored_history, report.new_history, report.topics),
        (0, 2, 2)
    );
    let config = RestoreConfig {
        at: Some(NOW - 1),
        disk: ForgetfulDisk::default().shared(),
        ..world.config()
    };
    let error = restore(&config, &|_| ()).await.unwrap_err();
    assert!(error.to_string().contains("archive begins"), "{error}");
}
