//! What the tests of merging stand on: chunks of many partitions, and all that lies in them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{
    AgentOrigin, BatchStamp, ChunkRun, Command, CreateTopic, Location, Outcome, RegisterAgent, Run,
    RunLocation, Sequence, State, Topic,
};
use alluvium_objects::{ChunkOrigin, ObjectWriter, key};
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{ChunkNumber, ManualClock, Millis, ObjectId, Offset, TopicId, TopicPartition};
use bytes::Bytes;

use crate::{CompactionConfig, Context, Owner, Policies, TopicPolicy};

pub(super) const NOW: Millis = 1_700_000_000_000;

#[derive(Debug)]
struct Me(AgentOrigin);

impl Owner for Me {
    fn origin(&self) -> Option<AgentOrigin> {
        Some(self.0)
    }
}

/// Topics whose names begin with the same letter are kept equally long.
#[derive(Debug)]
pub(super) struct ByLetter;

impl Policies for ByLetter {
    fn policy(&self, _: &State, topic: &Topic) -> TopicPolicy {
        let letter = topic.name.bytes().next().unwrap_or(0);
        TopicPolicy {
            delete: true,
            compact: false,
            retention: Some(Duration::from_secs(u64::from(letter))),
            retention_bytes: None,
            delete_retention: Duration::ZERO,
            min_dirty_ratio: 0.5,
            min_compaction_lag: Duration::ZERO,
            max_compaction_lag: Duration::MAX,
        }
    }
}

/// A cluster of some agents that share metadata and bucket.
pub(super) struct Field {
    pub(super) metadata: Metadata,
    pub(super) bucket: Bucket,
    pub(super) agents: Vec<AgentOrigin>,
    chunks: Mutex<u64>,
    /// What each partition must hold: value and offset of every record.
    written: Mutex<BTreeMap<TopicPartition, Vec<Bytes>>>,
}

pub(super) fn config() -> CompactionConfig {
    CompactionConfig {
        merge_runs: 8,
        merge_age: Duration::from_secs(10),
        large_run_bytes: 64 << 10,
        target_bytes: 256 << 10,
        memory_bytes: 64 << 20,
        ..CompactionConfig::default()
    }
}

impl Field {
    pub(super) async fn of(agents: u128) -> Self {
        let metadata = Metadata::in_memory();
        let mut origins = Vec::new();
        for identity in 0..agents {
            let register = Command::RegisterAgent(RegisterAgent {
                identity,
                host: "localhost".to_owned(),
                port: 9092,
                zone: None,
                at: NOW,
                cluster_id: TopicId([9; 16]),
            });
            match metadata.propose(register).await.unwrap().outcome {
                Outcome::AgentRegistered(origin) => origins.push(origin),
                other => panic!("{other:?}"),
            }
        }
        Self {
            metadata,
            bucket: Bucket::open("memory://", LocalDisk::shared())
                .await
                .unwrap(),
            agents: origins,
            chunks: Mutex::default(),
            written: Mutex::default(),
        }
    }

    pub(super) fn context(&self, agent: usize) -> Context {
        Context {
            owner: Arc::new(Me(self.agents[agent])),
            metadata: self.metadata.clone(),
            bucket: self.bucket.clone(),
            clock: Arc::new(ManualClock::new(NOW)),
            policies: Arc::new(ByLetter),
        }
    }

    pub(super) async fn topic(&self, name: &str, partitions: i32) -> TopicId {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        let create = Command::CreateTopic(CreateTopic {
            name: name.to_owned(),
            id: TopicId(id),
            partitions,
            replication_factor: 1,
            configs: Vec::new(),
            at: NOW,
        });
        assert_eq!(self.propose(create).await, Outcome::Done);
        TopicId(id)
    }

    pub(super) async fn propose(&self, command: Command) -> Outcome {
        self.metadata.propose(command).await.unwrap().outcome
    }

    /// A chunk with one batch of some values for each of some partitions.
    pub(super) async fn chunk(&self, content: &[(TopicPartition, Vec<Bytes>)]) -> ObjectId {
        self.chunk_with(content, |bytes| bytes).await
    }

    /// A chunk whose object is changed before it is written.
    pub(super) async fn chunk_with(
        &self,
        content: &[(TopicPartition, Vec<Bytes>)],
        change: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> ObjectId {
        let (origin, chunk) = self.next_chunk();
        let object = ObjectId(alluvium_types::random::value());
        let seal = ChunkOrigin {
            agent: origin.agent,
            epoch: origin.epoch,
            seal: chunk.0,
            sealed_at: NOW,
        };
        let mut writer = ObjectWriter::chunk(object, seal, NOW);
        let mut runs = Vec::new();
        for (partition, values) in content {
            let batch = encode(values);
            let header = BatchHeader::parse(&batch).unwrap();
            let records = u32::try_from(values.len()).unwrap();
            writer.begin_run(*partition, None);
            writer.batch(std::slice::from_ref(&batch), records, header.max_timestamp);
            runs.push((*partition, u32::try_from(batch.len()).unwrap(), records));
            let mut written = self.written.lock().unwrap();
            written
                .entry(*partition)
                .or_default()
                .extend(values.iter().cloned());
        }
        let built = writer.finish();
        let runs = runs.iter().zip(&built.runs);
        let runs: Vec<_> = runs
            .map(|((partition, bytes, records), written)| ChunkRun {
                partition: *partition,
                position: written.position,
                batches: vec![stamp(*bytes, *records)],
            })
            .collect();
        let bytes = change(built.parts.concat());
        self.bucket
            .create(&key(object), vec![bytes.into()])
            .await
            .unwrap();
        let location = Location::Object {
            object,
            bytes: built.bytes,
        };
        self.sequence(origin, chunk, location, runs).await;
        object
    }

    /// A chunk of which only the metadata know: lengths and records by partition.
    pub(super) async fn pretend(&self, content: &[(TopicPartition, u32, u32)]) {
        let (origin, chunk) = self.next_chunk();
        let mut position = 40;
        let mut runs = Vec::new();
        for (partition, bytes, records) in content {
            runs.push(ChunkRun {
                partition: *partition,
                position,
                batches: vec![stamp(*bytes, *records)],
            });
            position += u64::from(*bytes);
        }
        let location = Location::Object {
            object: ObjectId(alluvium_types::random::value()),
            bytes: position + 1000,
        };
        self.sequence(origin, chunk, location, runs).await;
    }

    fn next_chunk(&self) -> (AgentOrigin, ChunkNumber) {
        let mut chunks = self.chunks.lock().unwrap();
        *chunks += 1;
        (self.agents[0], ChunkNumber(*chunks))
    }

    async fn sequence(
        &self,
        origin: AgentOrigin,
        chunk: ChunkNumber,
        location: Location,
        runs: Vec<ChunkRun>,
    ) {
        let sequence = Sequence {
            origin,
            chunk,
            location,
            runs,
            sealed_at: NOW,
            at: NOW,
        };
        let outcome = self.propose(Command::Sequence(sequence)).await;
        assert!(matches!(outcome, Outcome::Sequenced(_)), "{outcome:?}");
    }

    pub(super) fn runs(&self, at: TopicPartition) -> Vec<Run> {
        self.metadata
            .read(|state| state.partition(at).unwrap().runs().cloned().collect())
    }

    /// Reads all partitions from the bucket and compares them with what was written.
    pub(super) async fn check(&self) {
        let written = self.written.lock().unwrap().clone();
        for (at, values) in written {
            let log_start = self
                .metadata
                .read(|state| state.partition(at).unwrap().log_start());
            let mut found = Vec::new();
            for run in self.runs(at) {
                found.extend(self.records(&run).await);
            }
            found.retain(|(offset, _)| *offset >= log_start);
            let expected: Vec<_> = (0..)
                .zip(values)
                .filter(|(offset, _)| *offset >= log_start)
                .collect();
            assert!(
                found == expected,
                "{at:?} holds {} records, not {}",
                found.len(),
                expected.len()
            );
        }
        self.metadata.read(State::check).unwrap();
    }

    async fn records(&self, run: &Run) -> Vec<(Offset, Bytes)> {
        let (object, position, sparse) = match run.location {
            RunLocation::Object { object, position } => (object, position, false),
            RunLocation::Sparse { object, position } => (object, position, true),
            ref other => panic!("{other:?}"),
        };
        let range = position..position + run.length;
        let bytes = self.bucket.read(&key(object), range).await.unwrap();
        let mut found = Vec::new();
        let mut offset = run.base_offset;
        for batch in batch::split(&bytes).unwrap() {
            batch::check_crc(&batch).unwrap();
            let header = BatchHeader::parse(&batch).unwrap();
            if sparse {
                offset = header.base_offset;
            }
            let records = records::decode(&batch, 1 << 30).unwrap();
            for (record, at) in records.into_iter().zip(offset..) {
                found.push((at, record.value.unwrap()));
            }
            offset += i64::from(header.last_offset_delta) + 1;
        }
        assert!(if sparse {
            offset <= run.end_offset
        } else {
            offset == run.end_offset
        });
        found
    }

    pub(super) fn live(&self) -> Vec<ObjectId> {
        self.metadata
            .read(|state| state.live_objects().map(|(object, _)| object).collect())
    }
}

fn stamp(bytes: u32, records: u32) -> BatchStamp {
    BatchStamp {
        bytes,
        records,
        max_timestamp: NOW,
        producer: None,
    }
}

fn encode(values: &[Bytes]) -> Bytes {
    let records: Vec<_> = values
        .iter()
        .map(|value| Record {
            timestamp: NOW,
            value: Some(value.clone()),
            ..Record::default()
        })
        .collect();
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    records::encode(&records, options).unwrap()
}
