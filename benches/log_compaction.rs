//! How long log compaction takes, and how much memory.
//!
//! `cargo bench --bench log_compaction [-- RECORDS KEYS [KEY_MEMORY_MIB [VALUE_BYTES [CODEC]]]]`. One
//! partition gets RECORDS records over KEYS keys, in no order, in objects of about 64 MiB in a folder
//! under `target/`, and is cleaned once. The figure that the project promises is
//! `-- 50000000 5000000` within 256 MiB of memory: it needs about 8 GiB of disk for a while.
//!
//! Printed: passes over the log, time, records and bytes a second, the greatest resident memory while
//! it was cleaned (and before), and what was left, which must be each key once. The floor beside it
//! is what one read of the same objects takes, with nothing done to the bytes but their checksums.

#![allow(missing_docs, reason = "a bench has no readers but its output")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench ends at the first fault and prints its figures"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use alluvium_cluster::Metadata;
use alluvium_compaction::clean::Cleaner;
use alluvium_compaction::{CompactionConfig, Context, Owner, Policies, TopicPolicy};
use alluvium_metadata::{
    AgentOrigin, BatchStamp, ChunkRun, Command, CreateTopic, Location, Outcome, RegisterAgent,
    RunLocation, Sequence, State, Topic,
};
use alluvium_objects::{ChunkOrigin, ObjectWriter, key};
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{BatchOptions, Record, encode};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{ChunkNumber, Clock, ObjectId, SystemClock, TopicId, TopicPartition};

const OBJECT_BYTES: u64 = 64 << 20;
const BATCH_RECORDS: u64 = 500;
const AT: TopicPartition = TopicPartition {
    topic: TopicId([1; 16]),
    partition: 0,
};

#[derive(Debug)]
struct Me(AgentOrigin);

impl Owner for Me {
    fn origin(&self) -> Option<AgentOrigin> {
        Some(self.0)
    }
}

#[derive(Debug)]
struct Compacted;

impl Policies for Compacted {
    fn policy(&self, _: &State, _: &Topic) -> TopicPolicy {
        TopicPolicy {
            delete: false,
            compact: true,
            retention: None,
            retention_bytes: None,
            delete_retention: Duration::from_secs(86_400),
            min_dirty_ratio: 0.5,
            min_compaction_lag: Duration::ZERO,
            max_compaction_lag: Duration::MAX,
        }
    }
}

struct Arguments {
    records: u64,
    keys: u64,
    key_memory: u64,
    value_bytes: usize,
    codec: Codec,
}

impl Arguments {
    fn read() -> Self {
        let given: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| !argument.starts_with("--"))
            .collect();
        let number = |at: usize, default: u64| {
            given
                .get(at)
                .map_or(default, |text| text.parse().expect("a number"))
        };
        Self {
            records: number(0, 2_000_000),
            keys: number(1, 200_000),
            key_memory: number(2, 128) << 20,
            value_bytes: usize::try_from(number(3, 100)).expect("a size"),
            codec: given
                .get(4)
                .map_or(Codec::Lz4, |name| Codec::from_name(name).expect("a codec")),
        }
    }
}

/// A generator of numbers that need be no better than this.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn main() {
    let arguments = Arguments::read();
    let folder = tempfile::tempdir_in(Path::new(env!("CARGO_MANIFEST_DIR")).join("target"))
        .expect("a folder under target/");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(bench(&arguments, folder.path()));
}

async fn bench(arguments: &Arguments, folder: &Path) {
    let url = format!("file://{}", folder.join("objects").display());
    let bucket = Bucket::open(&url, LocalDisk::shared())
        .await
        .expect("a bucket");
    let (metadata, origin) = cluster().await;
    let started = Instant::now();
    let bytes = load(arguments, &metadata, origin, &bucket).await;
    let mib = bytes as f64 / f64::from(1 << 20);
    println!(
        "{} records over {} keys, {mib:.0} MiB of {}, written in {:.1} s",
        arguments.records,
        arguments.keys,
        arguments.codec.name(),
        started.elapsed().as_secs_f64()
    );
    let floor = read_all(&metadata, &bucket).await;
    println!(
        "reading it once: {:.1} s, {:.0} MiB/s",
        floor.as_secs_f64(),
        mib / floor.as_secs_f64()
    );
    let context = Context {
        owner: Arc::new(Me(origin)),
        metadata: metadata.clone(),
        bucket: bucket.clone(),
        clock: Arc::new(SystemClock),
        policies: Arc::new(Compacted),
    };
    let config = CompactionConfig {
        clean_interval: Duration::ZERO,
        clean_memory_bytes: arguments.key_memory,
        bytes_per_second: u64::MAX,
        ..CompactionConfig::default()
    };
    let before = forget_peak();
    let started = Instant::now();
    let done = Cleaner::new(context, &config).round().await;
    let took = started.elapsed().as_secs_f64();
    let peak = memory("VmHWM");
    let [(_, cleaned)] = done[..] else {
        panic!("not cleaned: {done:?}")
    };
    println!(
        "cleaned in {took:.1} s: {} passes, {:.0} records/s, {:.0} MiB/s of the log, {:.1} times its bytes read",
        cleaned.passes,
        arguments.records as f64 / took,
        mib / took,
        cleaned.read_bytes as f64 / bytes as f64,
    );
    println!(
        "memory: {} MiB at most, {} MiB of it before; {} MiB for keys",
        peak >> 20,
        before >> 20,
        arguments.key_memory >> 20
    );
    let (left, runs) = metadata.read(|state| {
        let partition = state.partition(AT).expect("the partition");
        (partition.bytes(), partition.runs().len())
    });
    println!(
        "left: {} records in {:.0} MiB, {runs} runs",
        arguments.records - cleaned.removed,
        left as f64 / f64::from(1 << 20)
    );
    assert!(
        arguments.records - cleaned.removed <= arguments.keys,
        "a key is there twice"
    );
}

async fn cluster() -> (Metadata, AgentOrigin) {
    let metadata = Metadata::in_memory();
    let at = SystemClock.now();
    let register = Command::RegisterAgent(RegisterAgent {
        identity: 1,
        host: "localhost".to_owned(),
        port: 9092,
        zone: None,
        at,
        cluster_id: TopicId([9; 16]),
    });
    let applied = metadata.propose(register).await.expect("an answer");
    let Outcome::AgentRegistered(origin) = applied.outcome else {
        panic!("not registered: {applied:?}")
    };
    let create = Command::CreateTopic(CreateTopic {
        name: "bench".to_owned(),
        id: AT.topic,
        partitions: 1,
        replication_factor: 1,
        configs: Vec::new(),
        at,
    });
    metadata.propose(create).await.expect("a topic");
    (metadata, origin)
}

/// Writes the log; its bytes.
async fn load(
    arguments: &Arguments,
    metadata: &Metadata,
    origin: AgentOrigin,
    bucket: &Bucket,
) -> u64 {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut left, mut chunk, mut bytes) = (arguments.records, 0, 0);
    while left > 0 {
        chunk += 1;
        let object = ObjectId(alluvium_types::random::value());
        let now = SystemClock.now();
        let seal = ChunkOrigin {
            agent: origin.agent,
            epoch: origin.epoch,
            seal: chunk,
            sealed_at: now,
        };
        let mut writer = ObjectWriter::chunk(object, seal, now);
        writer.begin_run(AT, None);
        let mut batches = Vec::new();
        while left > 0 && writer.len() < OBJECT_BYTES {
            let count = left.min(BATCH_RECORDS);
            left -= count;
            let batch = batch(arguments, count, now, &mut numbers);
            let records = u32::try_from(count).expect("few records");
            batches.push(BatchStamp {
                bytes: u32::try_from(batch.len()).expect("a small batch"),
                records,
                max_timestamp: now,
                producer: None,
            });
            writer.batch(&[batch], records, now);
        }
        let built = writer.finish();
        let run = built.runs[0];
        bytes += run.length;
        bucket
            .create(&key(object), built.parts)
            .await
            .expect("an object");
        let sequence = Command::Sequence(Sequence {
            origin,
            chunk: ChunkNumber(chunk),
            location: Location::Object {
                object,
                bytes: built.bytes,
            },
            runs: vec![ChunkRun {
                partition: AT,
                position: run.position,
                batches,
            }],
            sealed_at: now,
            at: now,
        });
        let applied = metadata.propose(sequence).await.expect("an answer");
        assert!(matches!(applied.outcome, Outcome::Sequenced(_)));
    }
    bytes
}

fn batch(arguments: &Arguments, count: u64, now: i64, numbers: &mut Numbers) -> Bytes {
    let mut records = Vec::new();
    for _ in 0..count {
        let key = numbers.next() % arguments.keys;
        let mut value = BytesMut::zeroed(arguments.value_bytes);
        // Half of a value says nothing, as in life.
        for eight in value.chunks_mut(16) {
            let length = eight.len().min(8);
            eight[..length].copy_from_slice(&numbers.next().to_be_bytes()[..length]);
        }
        records.push(Record {
            timestamp: now,
            key: Some(Bytes::from(format!("user-{key:012}"))),
            value: Some(value.freeze()),
            ..Record::default()
        });
    }
    let options = BatchOptions {
        codec: arguments.codec,
        producer: None,
        transactional: false,
    };
    encode(&records, options).expect("a batch")
}

/// Reads the log once and checks its checksums.
async fn read_all(metadata: &Metadata, bucket: &Bucket) -> Duration {
    let runs: Vec<_> = metadata.read(|state| {
        let partition = state.partition(AT).expect("the partition");
        partition.runs().cloned().collect()
    });
    let started = Instant::now();
    for run in runs {
        let RunLocation::Object { object, position } = run.location else {
            panic!("{run:?}")
        };
        let range = position..position + run.length;
        let bytes = bucket.read(&key(object), range).await.expect("bytes");
        let mut rest = bytes;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).expect("a header");
            batch::check_crc(&rest.split_to(header.bytes)).expect("a sound batch");
        }
    }
    started.elapsed()
}

/// Lets the peak of resident memory begin anew; resident memory now.
fn forget_peak() -> u64 {
    let _ = fs::write("/proc/self/clear_refs", "5");
    memory("VmRSS")
}

/// A figure of this process's memory, in bytes; 0 where the system does not tell.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}
