//! What the tests of the data path stand on: a metadata state in memory, a bucket, both paths.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;

use alluvium_cluster::Metadata;
use alluvium_metadata::{
    Command, ConfigChange, ConfigOp, ConfigTarget, CreateTopic, Outcome, RegisterAgent, RunLocation,
};
use alluvium_protocol::batch;
use alluvium_protocol::compression::Codec;
use alluvium_protocol::produce::ProduceResult;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::cache::Cache;
use alluvium_storage::disk::{Disk, DiskEntry, DiskFile, LocalDisk};
use alluvium_types::{Clock, ErrorCode, ManualClock, Offset, TopicId, TopicPartition};

use crate::AgentConfig;
use crate::fetch::{Fetch, ReadLimits, ReadPartition, ReadResult};
use crate::freshness::Freshness;
use crate::peers::{NoPeers, Peers};
use crate::produce::{PartitionRecords, Pending, Produce, ProducerConnection, WritePaths};
use crate::registration::Registration;
use crate::settle::Settler;
use crate::store_health::StoreHealth;
use crate::topics::Topics;
use crate::write_ahead::AgentJournal;

pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) struct Rig {
    pub(crate) config: AgentConfig,
    pub(crate) metadata: Metadata,
    pub(crate) bucket: Bucket,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) registration: Registration,
    pub(crate) produce: Produce,
    pub(crate) fetch: Fetch,
    pub(crate) paths: WritePaths,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(AgentConfig::default()).await
    }

    pub(crate) async fn with(config: AgentConfig) -> Self {
        let bucket = Bucket::open("memory://", LocalDisk::shared())
            .await
            .unwrap();
        Self::over(config, bucket).await
    }

    pub(crate) async fn over(config: AgentConfig, bucket: Bucket) -> Self {
        Self::beside(config, bucket, Metadata::in_memory(), Arc::new(NoPeers)).await
    }

    /// Over metadata that others may use too.
    pub(crate) async fn beside(
        config: AgentConfig,
        bucket: Bucket,
        metadata: Metadata,
        peers: Arc<dyn Peers>,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let form = Command::FormCluster {
            id: TopicId([9; 16]),
        };
        metadata.propose(form).await.unwrap();
        let register = Command::RegisterAgent(registration(&config));
        let registered = metadata.propose(register).await.unwrap();
        let Outcome::AgentRegistered(origin) = registered.outcome else {
            panic!("{registered:?}")
        };
        let cache = Cache::new(bucket.clone(), config.cache_bytes);
        let freshness = Freshness::of(&metadata);
        let fetch = Fetch::start(&config, metadata.clone(), freshness, cache);
        let registration = Registration::fixed(origin);
        let topics = Topics::new(BTreeMap::new()).unwrap();
        let paths = WritePaths {
            journal: config.journal.clone().map(AgentJournal::new),
            peers,
            health: StoreHealth::default(),
            recent: fetch.recent(),
        };
        let produce = Produce::start(
            &config,
            registration.clone(),
            metadata.clone(),
            bucket.clone(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            topics,
            paths.clone(),
        );
        Self {
            config,
            metadata,
            bucket,
            clock,
            registration,
            produce,
            fetch,
            paths,
        }
    }

    pub(crate) fn settler(&self) -> Settler {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let (metadata, bucket) = (self.metadata.clone(), self.bucket.clone());
        let registration = self.registration.clone();
        let paths = self.paths.clone();
        Settler::start(&self.config, registration, metadata, bucket, clock, paths)
    }

    /// Makes a topic; topics are told apart by their first letter.
    pub(crate) async fn topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> TopicId {
        let id = TopicId([name.as_bytes()[0]; 16]);
        let create = CreateTopic {
            name: name.to_owned(),
            id,
            partitions,
            replication_factor: 1,
            configs: configs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            at: NOW,
        };
        let created = self
            .metadata
            .propose(Command::CreateTopic(create))
            .await
            .unwrap();
        assert_eq!(created.outcome, Outcome::Done);
        id
    }

    pub(crate) async fn set(&self, topic: TopicId, name: &str, value: &str) {
        let op = ConfigOp::Set(value.to_owned());
        let alter = Command::AlterConfigs {
            target: ConfigTarget::Topic(topic),
            replace: false,
            changes: vec![ConfigChange {
                name: name.to_owned(),
                op,
            }],
        };
        assert_eq!(
            self.metadata.propose(alter).await.unwrap().outcome,
            Outcome::Done
        );
    }

    pub(crate) fn clock_advance(&self, millis: i64) {
        self.clock.advance(millis);
    }

    /// Another process takes this agent's identity.
    pub(crate) async fn register_again(&self) {
        self.metadata
            .propose(Command::RegisterAgent(registration(&self.config)))
            .await
            .unwrap();
    }

    /// Sends one batch on a connection of its own and waits.
    pub(crate) async fn send(&self, partition: TopicPartition, records: Bytes) -> ProduceResult {
        send(&self.produce.connect(), partition, records).await
    }

    pub(crate) async fn append(&self, partition: TopicPartition, records: Bytes) -> Offset {
        let result = self.send(partition, records).await;
        assert_eq!(result.error, ErrorCode::None, "{:?}", result.message);
        result.base_offset
    }

    pub(crate) async fn read_from(&self, partition: TopicPartition, offset: Offset) -> ReadResult {
        let asked = [ReadPartition {
            partition,
            offset,
            max_bytes: usize::MAX,
        }];
        self.fetch.read(&asked, NO_WAIT).await.remove(0)
    }

    /// Everything a partition holds, fetched as a client would.
    pub(crate) async fn read_all(
        &self,
        partition: TopicPartition,
        max_bytes: usize,
    ) -> Vec<Record> {
        let mut all: Vec<Record> = Vec::new();
        let mut offset = 0;
        loop {
            let asked = [ReadPartition {
                partition,
                offset,
                max_bytes,
            }];
            let result = self.fetch.read(&asked, NO_WAIT).await.remove(0);
            assert_eq!(result.error, ErrorCode::None);
            let records = decode(&result);
            let Some(last) = records.last() else {
                assert_eq!(offset, result.high_watermark);
                return all;
            };
            let next = last.offset + 1;
            all.extend(records.into_iter().filter(|record| record.offset >= offset));
            offset = next;
        }
    }

    /// How many runs of a partition are inline, and how many in objects.
    pub(crate) fn runs(&self, partition: TopicPartition) -> (usize, usize) {
        self.metadata.read(|state| {
            let partition = state.partition(partition).unwrap();
            let is_inline = |location: &RunLocation| matches!(location, RunLocation::Inline(_));
            let inline = partition
                .runs()
                .filter(|run| is_inline(&run.location))
                .count();
            (inline, partition.runs().len() - inline)
        })
    }

    pub(crate) async fn objects(&self) -> usize {
        self.bucket.list("", None, 10_000).await.unwrap().len()
    }
}

fn registration(config: &AgentConfig) -> RegisterAgent {
    RegisterAgent {
        identity: config.identity,
        host: "localhost".to_owned(),
        port: 9092,
        zone: config.zone.clone(),
        at: NOW,
        cluster_id: TopicId([9; 16]),
    }
}

pub(crate) const NO_WAIT: ReadLimits = ReadLimits {
    max_wait: Duration::ZERO,
    min_bytes: 1,
    max_bytes: usize::MAX,
    read_committed: false,
};

pub(crate) fn submit(
    connection: &ProducerConnection,
    partition: TopicPartition,
    records: Bytes,
) -> Pending {
    connection.submit(vec![PartitionRecords { partition, records }])
}

pub(crate) async fn send(
    connection: &ProducerConnection,
    partition: TopicPartition,
    records: Bytes,
) -> ProduceResult {
    submit(connection, partition, records)
        .await
        .unwrap()
        .remove(0)
}

/// The records of an answer. Also checks that it consists of whole batches with a good checksum and
/// offsets that follow one another.
pub(crate) fn decode(result: &ReadResult) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for batch in batch::split(&Bytes::from(result.records.concat())).unwrap() {
        batch::check_crc(&batch).unwrap();
        let decoded = records::decode(&batch, 1 << 30).unwrap();
        if let (Some(last), Some(next)) = (records.last(), decoded.first()) {
            assert_eq!(last.offset + 1, next.offset);
        }
        records.extend(decoded);
    }
    records
}

pub(crate) fn record(value: &str) -> Record {
    Record {
        timestamp: NOW,
        key: Some(Bytes::from("key")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    }
}

pub(crate) const PLAIN: BatchOptions = BatchOptions {
    codec: Codec::None,
    producer: None,
    transactional: false,
};

pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_with(values, PLAIN)
}

pub(crate) fn batch_with(values: &[&str], options: BatchOptions) -> Bytes {
    let records: Vec<_> = values.iter().map(|value| record(value)).collect();
    records::encode(&records, options).unwrap()
}

/// A batch of one record of about so many bytes that no codec makes smaller.
pub(crate) fn large_batch(bytes: usize, seed: u8) -> Bytes {
    let mut state = u64::from(seed) + 1;
    let value: Vec<u8> = (0..bytes)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect();
    let record = Record {
        timestamp: NOW,
        value: Some(Bytes::from(value)),
        ..Record::default()
    };
    records::encode(&[record], PLAIN).unwrap()
}

pub(crate) fn idempotent(values: &[&str], id: i64, sequence: i32) -> Bytes {
    batch_with(
        values,
        BatchOptions {
            producer: Some((id, 0, sequence)),
            ..PLAIN
        },
    )
}

pub(crate) fn values(records: &[Record]) -> Vec<String> {
    let text =
        |record: &Record| String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
    records.iter().map(text).collect()
}

/// A disk whose writes can be held up or made to fail.
#[derive(Debug, Default)]
pub(crate) struct MoodyDisk {
    state: Arc<Mood>,
}

#[derive(Debug, Default)]
pub(crate) struct Mood {
    /// New files are counted; those in this list may be written only once they were let go.
    held: Mutex<Vec<usize>>,
    freed: Condvar,
    files: AtomicUsize,
    fails: AtomicBool,
}

impl Mood {
    /// Holds up the write of the `n`th file from now, counted from 0.
    pub(crate) fn hold(&self, n: usize) {
        self.held
            .lock()
            .unwrap()
            .push(self.files.load(Ordering::SeqCst) + n);
    }

    /// Waits until so many files were begun since the start.
    pub(crate) async fn begun(&self, files: usize) {
        while self.files() < files {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn files(&self) -> usize {
        self.files.load(Ordering::SeqCst)
    }

    pub(crate) fn free(&self) {
        self.held.lock().unwrap().clear();
        self.freed.notify_all();
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    fn enter(&self) -> io::Result<()> {
        let file = self.files.fetch_add(1, Ordering::SeqCst);
        let mut held = self.held.lock().unwrap();
        while held.contains(&file) {
            held = self.freed.wait(held).unwrap();
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is in a mood"));
        }
        Ok(())
    }
}

impl MoodyDisk {
    pub(crate) async fn bucket(dir: &Path) -> (Bucket, Arc<Mood>) {
        let disk = Self::default();
        let mood = Arc::clone(&disk.state);
        let url = format!("file://{}", dir.display());
        (Bucket::open(&url, Arc::new(disk)).await.unwrap(), mood)
    }
}

impl Disk for MoodyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir_all(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.state.enter()?;
        LocalDisk.create_new(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        LocalDisk.open(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>> {
        LocalDisk.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_dir(path)
    }
}
