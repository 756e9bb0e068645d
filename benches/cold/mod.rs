//! What the benches of cold reads share: settled objects in a store, made without a producer, and the
//! agent that reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use alluvium_agent::fetch::{ReadLimits, ReadPartition};
use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_cluster::Metadata;
use alluvium_metadata::{
    AgentOrigin, BatchStamp, ChunkRun, Command, CreateTopic, Location, Outcome, RegisterAgent,
    Sequence,
};
use alluvium_objects::{Level, ObjectWriter, key};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{ChunkNumber, Clock, ObjectId, SystemClock, TopicId, TopicPartition};

pub(crate) const COLD: TopicId = TopicId([1; 16]);
/// One batch of cold data holds a record of about this many bytes.
const VALUE_BYTES: usize = 64 << 10;

/// An argument `--name value` as a number.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    text(name).map_or(default, |value| value.parse().expect("a number"))
}

/// An argument `--name value`.
pub(crate) fn text(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|it| it != name);
    arguments.next()?;
    arguments.next()
}

/// A store with settled data in it.
pub(crate) struct Settled {
    pub(crate) bucket: Bucket,
    pub(crate) metadata: Metadata,
    /// Key, and where its batches lie.
    pub(crate) objects: Vec<(String, std::ops::Range<u64>)>,
    _folder: tempfile::TempDir,
}

/// Opens the store of `--store` (a URL; `DIR` in it stands for a new folder) and fills it with a
/// topic of `partitions` partitions, each of `mib` MiB in objects of `object_mib`.
pub(crate) async fn settle(partitions: i32, mib: u64, object_mib: u64) -> Settled {
    let folder = tempfile::tempdir_in("target").expect("a folder");
    let path = std::path::absolute(folder.path()).expect("a path");
    let url = text("--store").unwrap_or_else(|| "file://DIR".to_owned());
    let url = url.replace("DIR", &path.display().to_string());
    println!(
        "store {}, {partitions} x {mib} MiB in objects of {object_mib} MiB",
        url
    );
    let plain = url
        .rsplit_once("file://")
        .map(|(_, path)| format!("file://{path}"));
    let bucket = Bucket::open(&url, LocalDisk::shared())
        .await
        .expect("a bucket");
    // Filled past whatever makes it slow.
    let filled = match &plain {
        Some(plain) => Bucket::open(plain, LocalDisk::shared())
            .await
            .expect("a bucket"),
        None => bucket.clone(),
    };
    let metadata = Metadata::in_memory();
    let origin = loader(&metadata).await;
    topic(&metadata, "cold", COLD, partitions, "object").await;
    let batch = batch(VALUE_BYTES, 7);
    let mut objects = Vec::new();
    let mut number = 0;
    for partition in 0..partitions {
        for _ in 0..mib.div_ceil(object_mib).max(1) {
            number += 1;
            let partition = TopicPartition::new(COLD, partition);
            let batches = (object_mib << 20) / batch.len() as u64;
            let object = load(
                &filled, &metadata, origin, number, partition, &batch, batches,
            );
            objects.push(object.await);
        }
    }
    Settled {
        bucket,
        metadata,
        objects,
        _folder: folder,
    }
}

async fn loader(metadata: &Metadata) -> AgentOrigin {
    let register = Command::RegisterAgent(RegisterAgent {
        identity: 99,
        host: "loader".to_owned(),
        port: 1,
        zone: None,
        at: SystemClock.now(),
        cluster_id: TopicId([9; 16]),
    });
    match metadata.propose(register).await.expect("proposed").outcome {
        Outcome::AgentRegistered(origin) => origin,
        other => panic!("not registered: {other:?}"),
    }
}

pub(crate) async fn topic(
    metadata: &Metadata,
    name: &str,
    id: TopicId,
    partitions: i32,
    lane: &str,
) {
    let create = Command::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id,
        partitions,
        replication_factor: 1,
        configs: vec![("alluvium.lane".to_owned(), lane.to_owned())],
        at: 0,
    });
    let created = metadata.propose(create).await.expect("proposed");
    assert_eq!(created.outcome, Outcome::Done);
}

/// A batch of one record whose bytes no file system makes smaller.
pub(crate) fn batch(bytes: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let value: Vec<u8> = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect();
    let record = Record {
        timestamp: SystemClock.now(),
        value: Some(value.into()),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    records::encode(&[record], options).expect("a batch")
}

async fn load(
    bucket: &Bucket,
    metadata: &Metadata,
    origin: AgentOrigin,
    number: u64,
    partition: TopicPartition,
    batch: &Bytes,
    batches: u64,
) -> (String, std::ops::Range<u64>) {
    let object = ObjectId(u128::from(number) << 64 | 0x5eed);
    let now = SystemClock.now();
    let mut writer = ObjectWriter::new(object, Level::Settled, now);
    writer.begin_run(partition, Some(0));
    for _ in 0..batches {
        writer.batch(std::slice::from_ref(batch), 1, now);
    }
    let built = writer.finish();
    let run = built.runs[0];
    let name = key(object);
    bucket.create(&name, built.parts).await.expect("written");
    let stamp = BatchStamp {
        bytes: u32::try_from(batch.len()).expect("small"),
        records: 1,
        max_timestamp: now,
        producer: None,
    };
    let sequence = Command::Sequence(Sequence {
        origin,
        chunk: ChunkNumber(number),
        location: Location::Object {
            object,
            bytes: built.bytes,
        },
        runs: vec![ChunkRun {
            partition,
            position: run.position,
            batches: vec![stamp; usize::try_from(batches).expect("some")],
        }],
        sealed_at: now,
        at: now,
    });
    let done = metadata.propose(sequence).await.expect("proposed").outcome;
    assert!(matches!(done, Outcome::Sequenced(_)), "{done:?}");
    (name, run.position..run.position + run.length)
}

/// An agent over it with a cold cache.
pub(crate) async fn agent(settled: &Settled, cache_mib: u64) -> Arc<Agent> {
    let config = AgentConfig {
        identity: 1,
        settle_bytes: u64::MAX,
        settle_interval: Duration::from_secs(3600),
        early_puts_per_second: 10_000,
        cache_bytes: usize::try_from(cache_mib << 20).expect("a size"),
        ..AgentConfig::default()
    };
    let topics = Topics::new(BTreeMap::new()).expect("settings");
    let (metadata, bucket) = (settled.metadata.clone(), settled.bucket.clone());
    let clock = Arc::new(SystemClock);
    let agent = Agent::start(config, metadata, bucket, clock, topics, TopicId([9; 16]));
    agent.await.expect("an agent")
}

/// Reads a partition from its beginning to its end, as one consumer; the bytes it got.
pub(crate) async fn scan(agent: &Agent, partition: TopicPartition, max_bytes: usize) -> u64 {
    let limits = ReadLimits {
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes,
        read_committed: false,
    };
    let mut offset = 0;
    let mut delivered = 0;
    loop {
        let asked = [ReadPartition {
            partition,
            offset,
            max_bytes,
        }];
        let result = agent.fetch.read(&asked, limits).await.remove(0);
        assert_eq!(i16::from(result.error), 0, "{:?}", result.error);
        let bytes: usize = result.records.iter().map(Bytes::len).sum();
        if bytes == 0 {
            assert_eq!(offset, result.high_watermark);
            return delivered;
        }
        delivered += bytes as u64;
        // All batches are of one record and one length.
        let one = batch_bytes(&result.records);
        offset += i64::try_from(bytes / one).expect("offsets");
    }
}

/// The length of the first batch of an answer.
fn batch_bytes(parts: &[Bytes]) -> usize {
    let head: Vec<u8> = parts.iter().flatten().take(12).copied().collect();
    let length = head[8..12].try_into().map(u32::from_be_bytes);
    12 + usize::try_from(length.expect("a length")).expect("a size")
}
