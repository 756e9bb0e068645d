//! Readers of old data: what they cost, and what becomes of bytes that are bad.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alluvium_metadata::{BatchStamp, ChunkRun, Location, Outcome, Sequence};
use alluvium_objects::{Level, ObjectWriter, key};
use alluvium_protocol::batch as headers;
use alluvium_storage::bucket::{Failure, ObjectMeta, Store};
use alluvium_types::{ChunkNumber, ObjectId};
use async_trait::async_trait;

use super::*;

/// A store whose GETs count, and may come back with a bit changed.
#[derive(Debug)]
struct Spoiling {
    bucket: Bucket,
    gets: AtomicU64,
    /// GETs to spoil from now on, and at which byte of the object.
    spoil: Mutex<(u64, u64)>,
}

#[async_trait]
impl Store for Spoiling {
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        let put = self.bucket.create(key, parts.to_vec()).await;
        put.map_err(|error| Failure::Denied(error.to_string()))
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let read = self.bucket.read(key, range.clone()).await;
        let mut bytes = read.map_err(|_| Failure::NotFound)?.to_vec();
        let mut spoil = self.spoil.lock().unwrap();
        if spoil.0 > 0 && range.contains(&spoil.1) {
            spoil.0 -= 1;
            bytes[usize::try_from(spoil.1 - range.start).unwrap()] ^= 8;
        }
        Ok(bytes.into())
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        self.bucket.head(key).await.map_err(|_| Failure::NotFound)
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<ObjectMeta>, Failure> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

async fn spoiling() -> (Arc<Spoiling>, Bucket) {
    let store = Arc::new(Spoiling {
        bucket: Bucket::open("memory://", LocalDisk::shared())
            .await
            .unwrap(),
        gets: AtomicU64::new(0),
        spoil: Mutex::new((0, 0)),
    });
    let bucket = Bucket::over("spoiling", Arc::clone(&store) as Arc<dyn Store>);
    (store, bucket)
}

/// Sequences an object of `batches` equal batches. Its bytes are those of the batches and the footer's.
async fn sequence(
    rig: &Rig,
    at: TopicPartition,
    number: u64,
    batch: &Bytes,
    batches: usize,
) -> u64 {
    let object = ObjectId(u128::from(number));
    let mut writer = ObjectWriter::new(object, Level::Settled, NOW);
    writer.begin_run(at, Some(0));
    for _ in 0..batches {
        writer.batch(std::slice::from_ref(batch), 1, NOW);
    }
    let built = writer.finish();
    let run = built.runs[0];
    rig.bucket.create(&key(object), built.parts).await.unwrap();
    let stamp = BatchStamp {
        bytes: u32::try_from(batch.len()).unwrap(),
        records: 1,
        max_timestamp: NOW,
        producer: None,
    };
    let sequence = Sequence {
        origin: rig.registration.origin(),
        chunk: ChunkNumber(number),
        location: Location::Object {
            object,
            bytes: built.bytes,
        },
        runs: vec![ChunkRun {
            partition: at,
            position: run.position,
            batches: vec![stamp; batches],
        }],
        sealed_at: NOW,
        at: NOW,
    };
    let done = rig
        .metadata
        .propose(Command::Sequence(sequence))
        .await
        .unwrap();
    assert!(matches!(done.outcome, Outcome::Sequenced(_)), "{done:?}");
    run.length
}

#[tokio::test]
async fn a_scan_of_settled_data_costs_one_request_for_16_mib() {
    let (store, bucket) = spoiling().await;
    let rig = Rig::over(forgetful(), bucket).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let batch = large_batch(200_000, 1);
    let mut length = 0;
    for number in 1..=6 {
        length += sequence(&rig, at, number, &batch, 170).await;
    }
    let before = rig.bucket.requests();
    let mut offset = 0;
    let mut delivered = 0;
    loop {
        let asked = [ask(at, offset, 1 << 20)];
        let result = rig.fetch.read(&asked, NO_WAIT).await.remove(0);
        assert_eq!(result.error, ErrorCode::None);
        let records = Bytes::from(result.records.concat());
        let batches = headers::split(&records).unwrap();
        if batches.is_empty() {
            break;
        }
        delivered += records.len() as u64;
        offset += i64::try_from(batches.len()).unwrap();
    }
    assert_eq!((offset, delivered), (6 * 170, length));
    let gets = store.gets.load(Ordering::SeqCst);
    let fetched = rig.bucket.requests().bytes_read - before.bytes_read;
    // 194 MiB. A few more while nobody knows yet that it is a scan, and near the end of the log.
    assert!(gets <= length.div_ceil(16 << 20) + 6, "{gets} GETs");
    assert!(
        fetched * 10 <= delivered * 11,
        "{fetched} fetched, {delivered} delivered"
    );
}

#[tokio::test]
async fn a_bad_block_is_fetched_again_and_named_when_it_stays_bad() {
    let (store, bucket) = spoiling().await;
    let rig = Rig::over(forgetful(), bucket).await;
    let topic = rig.topic("t", 2, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let batch = large_batch(100_000, 1);
    let length = sequence(&rig, at, 1, &batch, 20).await;
    let one = u64::try_from(batch.len()).unwrap();
    assert_eq!(length, 20 * one);
    // In a record, in a header's length, in a checksum of the fifth batch; and in the footer.
    for place in [500, 9, 18, u64::MAX] {
        for times in [1, 2] {
            let rig = Rig::beside_cold(&rig).await;
            let header = 40 + 4 * one;
            let footer = rig.bucket_length(1).await - 30;
            let position = if place == u64::MAX {
                footer
            } else {
                header + place
            };
            *store.spoil.lock().unwrap() = (times, position);
            let asked = [ask(at, 4, 150_000)];
            let mut results = rig.fetch.read(&asked, NO_WAIT).await;
            let result = results.remove(0);
            if times == 1 {
                assert_eq!(result.error, ErrorCode::None, "{place}");
                assert_eq!(decode(&result)[0].offset, 4);
            } else {
                assert_eq!(result.error, ErrorCode::KafkaStorageError, "{place}");
                // Once the store gives good bytes, they are read.
                *store.spoil.lock().unwrap() = (0, 0);
                let result = rig.fetch.read(&asked, NO_WAIT).await.remove(0);
                assert_eq!(result.error, ErrorCode::None, "{place}");
            }
        }
    }
}

/// A read path with a cache of its own over another's metadata and bucket.
struct Cold<'a> {
    rig: &'a Rig,
    fetch: crate::fetch::Fetch,
}

impl Rig {
    async fn beside_cold(rig: &Self) -> Cold<'_> {
        let cache = alluvium_storage::cache::Cache::new(rig.bucket.clone(), 64 << 20);
        let freshness = crate::freshness::Freshness::of(&rig.metadata);
        let metadata = rig.metadata.clone();
        Cold {
            rig,
            fetch: crate::fetch::Fetch::start(&rig.config, metadata, freshness, cache),
        }
    }
}

impl Cold<'_> {
    async fn bucket_length(&self, object: u128) -> u64 {
        let key = key(ObjectId(object));
        self.rig.bucket.head(&key).await.unwrap().bytes
    }
}
