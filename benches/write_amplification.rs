//! Requests to the store per GiB produced, and how often each byte is written.
//!
//! `cargo bench --bench write_amplification`. An agent in this process takes 100 MiB/s for some time
//! while three readers follow, in several shapes side by side, over a store in memory and a write-ahead
//! buffer on this disk; then what is left is settled and merged. Everything that is counted in bytes
//! is made smaller by `SCALE` (input, chunks, settled objects, merged objects, buffers) and everything
//! that is counted in time or pieces is as it would be, so a request for so many bytes stands for one
//! for `SCALE` times as many. The footers of objects are not smaller, so the amplification that is
//! printed is a little more than it would be.
//!
//! A PUT is an object here. On S3 an object above 16 MiB goes up in four parts, which are billed too.
//! With the argument `memory=BYTES` merging gets so much memory (unscaled) and makes objects that fit.

#![allow(missing_docs, reason = "a bench has no readers but its output")]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench ends at the first fault and prints its figures"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alluvium_agent::fetch::{ReadLimits, ReadPartition};
use alluvium_agent::produce::{Acks, PartitionRecords};
use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, CreateTopic, Outcome, State};
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_storage::bucket::{Bucket, Cause, Requests};
use alluvium_storage::disk::LocalDisk;
use alluvium_storage::write_ahead::{WriteAhead, WriteAheadOptions};
use alluvium_types::{Clock, ErrorCode, Offset, SystemClock, TopicId, TopicPartition};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const SCALE: u64 = 64;
const MIB: u64 = 1 << 20;
const GIB: f64 = 1_073_741_824.0;
/// What all producers of a shape send in a second, before scaling.
const RATE: u64 = 100 * MIB;
const SECONDS: u64 = 80;
const TICK: Duration = Duration::from_millis(20);
/// Batches that wait for their answers, most.
const IN_FLIGHT: usize = 2000;
const READERS: usize = 3;

/// What is produced.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// Partitions, the size of a batch before scaling, and the share of the input in percent.
    topics: &'static [(i32, u64, u64)],
    lane: &'static str,
    acks: Acks,
    /// Whether the aims are for it.
    counts: bool,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "one busy topic",
        topics: &[(12, MIB, 100)],
        lane: "low-latency",
        acks: Acks::All,
        counts: true,
    },
    Shape {
        name: "1000 quiet partitions",
        topics: &[(1000, MIB / 32, 100)],
        lane: "low-latency",
        acks: Acks::All,
        counts: true,
    },
    Shape {
        name: "mixed, acks=1",
        topics: &[(6, MIB, 70), (500, MIB / 32, 30)],
        lane: "auto",
        acks: Acks::One,
        counts: true,
    },
    // A chunk of 8 MiB is an object of its own here; it is what it costs to ask for no disk.
    Shape {
        name: "busy, object lane",
        topics: &[(12, MIB, 100)],
        lane: "object",
        acks: Acks::All,
        counts: false,
    },
];

fn main() {
    let memory = std::env::args()
        .find_map(|argument| argument.strip_prefix("memory=")?.parse().ok())
        .unwrap_or(768 * MIB);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let rows = runtime.block_on(async {
        let runs = SHAPES.map(|shape| tokio::spawn(run(shape, memory)));
        let mut rows = Vec::new();
        for run in runs {
            rows.push(run.await.expect("a run"));
        }
        rows
    });
    println!(
        "{:22} {:>8} {:>14} {:>12} {:>6} {:>12} {:>13} {:>9}",
        "shape",
        "GiB",
        "flush+settle",
        "compaction",
        "times",
        "reader GETs",
        "compaction",
        "runs per"
    );
    println!(
        "{:22} {:>8} {:>14} {:>12} {:>6} {:>12} {:>13} {:>9}",
        "", "", "PUTs/GiB", "PUTs/GiB", "stored", "/GiB", "GETs/GiB", "partition"
    );
    for row in &rows {
        row.print();
    }
    for row in &rows {
        row.judge();
    }
}

/// What a shape came to.
struct Row {
    shape: Shape,
    gib: f64,
    first_puts: f64,
    merge_puts: f64,
    amplification: f64,
    reader_gets: f64,
    merge_gets: f64,
    runs: f64,
}

impl Row {
    fn print(&self) {
        println!(
            "{:22} {:>8.2} {:>14.1} {:>12.1} {:>6.2} {:>12.1} {:>13.1} {:>9.1}",
            self.shape.name,
            self.gib,
            self.first_puts,
            self.merge_puts,
            self.amplification,
            self.reader_gets,
            self.merge_gets,
            self.runs
        );
    }

    fn judge(&self) {
        for (what, value, aim) in [
            ("flush and settle PUTs per GiB", self.first_puts, 32.0),
            ("compaction PUTs per GiB", self.merge_puts, 2.0),
            ("write amplification", self.amplification, 3.0),
            ("GETs per GiB with three readers", self.reader_gets, 64.0),
        ] {
            if value > aim {
                let kind = if self.shape.counts {
                    "FALLS SHORT"
                } else {
                    "for comparison"
                };
                println!("{kind}: {}: {what} {value:.1}, aim {aim}", self.shape.name);
            }
        }
    }
}

async fn run(shape: Shape, memory: u64) -> Row {
    let folder = tempfile::tempdir().expect("a folder");
    let bucket = Bucket::open("memory://", LocalDisk::shared())
        .await
        .expect("a bucket");
    let options = WriteAheadOptions {
        bytes: 512 * MIB,
        tail_bytes: 16 << 20,
    };
    let journal = WriteAhead::open(LocalDisk::shared(), folder.path(), options)
        .await
        .expect("a buffer");
    let topics = Topics::new(BTreeMap::new()).expect("settings");
    let agent = Agent::start(
        config(journal, memory),
        Metadata::in_memory(),
        bucket.clone(),
        Arc::new(SystemClock),
        topics,
        TopicId([9; 16]),
    )
    .await
    .expect("an agent");
    let places = create(&agent, shape).await;
    let done = Arc::new(AtomicBool::new(false));
    let all: Vec<_> = places.iter().flatten().copied().collect();
    let readers: Vec<_> = (0..READERS)
        .map(|_| tokio::spawn(follow(Arc::clone(&agent), all.clone(), Arc::clone(&done))))
        .collect();
    let produced = Arc::new(AtomicU64::new(0));
    let producers: Vec<_> = shape
        .topics
        .iter()
        .zip(&places)
        .map(|((_, batch, percent), places)| {
            let rate = RATE / SCALE * percent / 100;
            let size = usize::try_from(batch / SCALE).expect("a size");
            let work = (Arc::clone(&agent), places.clone(), Arc::clone(&produced));
            tokio::spawn(produce(work, shape.acks, rate, size))
        })
        .collect();
    for producer in producers {
        producer.await.expect("a producer");
    }
    finish(&agent, &bucket).await;
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let read = reader.await.expect("a reader");
        assert_eq!(
            read,
            produced.load(Ordering::Relaxed),
            "a reader lacks bytes"
        );
    }
    let row = row(shape, &agent, &bucket, produced.load(Ordering::Relaxed));
    agent.shutdown().await;
    row
}

fn config(journal: WriteAhead, memory: u64) -> AgentConfig {
    let scaled = |bytes: u64| usize::try_from(bytes / SCALE).expect("a size");
    let mut config = AgentConfig {
        chunk_bytes: scaled(8 * MIB),
        inline_bytes_per_second: MIB / SCALE,
        journal: Some(journal),
        settle_bytes: 64 * MIB / SCALE,
        settle_interval: Duration::from_secs(30),
        recent_bytes: scaled(512 * MIB),
        cache_bytes: scaled(1024 * MIB),
        ..AgentConfig::default()
    };
    let compaction = &mut config.compaction;
    compaction.large_run_bytes /= SCALE;
    compaction.target_bytes /= SCALE;
    compaction.bytes_per_second /= SCALE;
    compaction.memory_bytes = memory / SCALE;
    config
}

async fn create(agent: &Agent, shape: Shape) -> Vec<Vec<TopicPartition>> {
    let mut places = Vec::new();
    for (number, (partitions, ..)) in (1..).zip(shape.topics) {
        let id = TopicId([number; 16]);
        let create = Command::CreateTopic(CreateTopic {
            name: format!("topic-{number}"),
            id,
            partitions: *partitions,
            replication_factor: 1,
            configs: vec![("alluvium.lane".to_owned(), shape.lane.to_owned())],
            at: 0,
        });
        let created = agent.metadata.propose(create).await.expect("proposed");
        assert_eq!(created.outcome, Outcome::Done);
        places.push(
            (0..*partitions)
                .map(|it| TopicPartition::new(id, it))
                .collect(),
        );
    }
    places
}

type Work = (Arc<Agent>, Vec<TopicPartition>, Arc<AtomicU64>);

/// Sends so many bytes a second, one batch after another to each partition in turn.
async fn produce((agent, places, produced): Work, acks: Acks, rate: u64, size: usize) {
    let record = Record {
        // Old records would be let go at once.
        timestamp: SystemClock.now(),
        value: Some(Bytes::from(vec![b'x'; size.saturating_sub(70).max(1)])),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    let batch = records::encode(&[record], options).expect("a batch");
    let bytes = batch.len() as u64;
    let producer = agent.produce.connect();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut turn = places.iter().cycle();
    let mut in_flight = FuturesUnordered::new();
    let mut sent = 0;
    for tick in 1..=SECONDS * 50 {
        ticks.tick().await;
        while sent + bytes <= rate * tick / 50 {
            let partition = *turn.next().expect("a partition");
            let records = batch.clone();
            in_flight
                .push(producer.submit_with(vec![PartitionRecords { partition, records }], acks));
            sent += bytes;
            while in_flight.len() >= IN_FLIGHT {
                answered(in_flight.next().await);
            }
        }
    }
    while !in_flight.is_empty() {
        answered(in_flight.next().await);
    }
    produced.fetch_add(sent, Ordering::Relaxed);
}

fn answered<E: std::fmt::Debug>(
    answer: Option<Result<Vec<alluvium_protocol::produce::ProduceResult>, E>>,
) {
    let results = answer.expect("one is under way").expect("answered");
    for result in results {
        assert_eq!(result.error, ErrorCode::None, "{:?}", result.message);
    }
}

/// Reads all partitions at their tails until nothing comes any more; bytes read.
async fn follow(agent: Arc<Agent>, places: Vec<TopicPartition>, done: Arc<AtomicBool>) -> u64 {
    let mut offsets: BTreeMap<TopicPartition, Offset> =
        places.iter().map(|place| (*place, 0)).collect();
    let limits = ReadLimits {
        max_wait: Duration::from_millis(500),
        min_bytes: 1,
        max_bytes: 50 << 20,
        read_committed: false,
    };
    let mut bytes = 0;
    loop {
        let was_done = done.load(Ordering::Relaxed);
        let asked: Vec<_> = offsets
            .iter()
            .map(|(partition, offset)| ReadPartition {
                partition: *partition,
                offset: *offset,
                max_bytes: 1 << 20,
            })
            .collect();
        let results = agent.fetch.read(&asked, limits).await;
        let before = bytes;
        for (asked, result) in asked.iter().zip(results) {
            assert_eq!(result.error, ErrorCode::None);
            let read = Bytes::from(result.records.concat());
            for batch in batch::split(&read).expect("batches") {
                let header = BatchHeader::parse(&batch).expect("a batch");
                offsets.insert(asked.partition, header.last_offset() + 1);
                bytes += batch.len() as u64;
            }
        }
        if was_done && bytes == before {
            return bytes;
        }
        // As a client that takes its time between two fetches.
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until all is settled and merging has nothing more to do.
async fn finish(agent: &Agent, bucket: &Bucket) {
    let waiting = |state: &State| state.inline_bytes() + state.journal_bytes();
    let begun = Instant::now();
    while agent.metadata.read(waiting) > 0 && begun.elapsed() < Duration::from_secs(90) {
        sleep(Duration::from_millis(100)).await;
    }
    let mut merged = u64::MAX;
    loop {
        let now = of(bucket, &[Cause::Compaction]).put;
        if now == merged {
            return;
        }
        merged = now;
        sleep(Duration::from_secs(12)).await;
    }
}

fn of(bucket: &Bucket, causes: &[Cause]) -> Requests {
    let mut sum = Requests::default();
    for (cause, requests) in bucket.requests_by_cause() {
        if causes.contains(&cause) {
            sum.put += requests.put;
            sum.get += requests.get;
            sum.bytes_written += requests.bytes_written;
        }
    }
    sum
}

fn row(shape: Shape, agent: &Agent, bucket: &Bucket, produced: u64) -> Row {
    let gib = (produced * SCALE) as f64 / GIB;
    let per_gib = |count: u64| count as f64 / gib;
    let first = of(bucket, &[Cause::Flush, Cause::Settle]);
    let merge = of(bucket, &[Cause::Compaction]);
    let readers = of(bucket, &[Cause::CacheMiss]);
    let (runs, partitions) = agent.metadata.read(|state| {
        let partitions = || state.topics().flat_map(|topic| &topic.partitions);
        let runs: usize = partitions().map(|partition| partition.runs().len()).sum();
        (runs, partitions().count())
    });
    Row {
        shape,
        gib,
        first_puts: per_gib(first.put),
        merge_puts: per_gib(merge.put),
        amplification: (first.bytes_written + merge.bytes_written) as f64 / produced as f64,
        reader_gets: per_gib(readers.get),
        merge_gets: per_gib(merge.get),
        runs: runs as f64 / partitions as f64,
    }
}
