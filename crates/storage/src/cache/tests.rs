//! The cache as its readers see it, over a store whose requests are counted and can be held up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use proptest::prelude::*;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::bucket::{Failure, ObjectMeta, Store};

const BLOCK: u64 = CACHE_BLOCK_BYTES;

/// Objects in memory. A GET takes as long as `slow` says of its number, and the numbers in `gated`
/// wait for `gate`.
#[derive(Debug, Default)]
struct Shelf {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    gets: AtomicU64,
    slow: Mutex<BTreeMap<u64, Duration>>,
    every: Mutex<Duration>,
    spoiled: Mutex<Vec<(u64, usize)>>,
    gated: AtomicU64,
    gate: Notify,
}

#[async_trait]
impl Store for Shelf {
    async fn put(&self, _: &str, _: &[Bytes]) -> Result<(), Failure> {
        Err(Failure::Denied("read only".to_owned()))
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let number = self.gets.fetch_add(1, Ordering::SeqCst);
        let pause = {
            let every = *self.every.lock().unwrap();
            *self.slow.lock().unwrap().get(&number).unwrap_or(&every)
        };
        if self.gated.load(Ordering::SeqCst) > number {
            self.gate.notified().await;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let objects = self.objects.lock().unwrap();
        let object = objects.get(key).ok_or(Failure::NotFound)?;
        let mut bytes = object[range.start as usize..range.end as usize].to_vec();
        for (spoiled, at) in self.spoiled.lock().unwrap().iter() {
            if *spoiled == number {
                bytes[*at] ^= 1;
            }
        }
        Ok(bytes.into())
    }

    async fn head(&self, _: &str) -> Result<ObjectMeta, Failure> {
        Err(Failure::NotFound)
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<ObjectMeta>, Failure> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

fn contents(bytes: u64, seed: u64) -> Vec<u8> {
    let page: Vec<u8> = (0..4096u64).map(|at| (at * 31 + seed) as u8).collect();
    let mut contents = page.repeat(bytes.div_ceil(4096) as usize);
    contents.truncate(bytes as usize);
    for (number, page) in contents.chunks_mut(4096).enumerate() {
        for (byte, stamp) in page.iter_mut().skip(8).zip(number.to_be_bytes()) {
            *byte ^= stamp;
        }
    }
    contents
}

/// A bucket with one object of `bytes` bytes.
fn shelf(bytes: u64) -> (Arc<Shelf>, Bucket, Vec<u8>) {
    let shelf = Arc::new(Shelf::default());
    let contents = contents(bytes, 0);
    shelf.put("object", contents.clone());
    let bucket = Bucket::over("shelf", Arc::clone(&shelf) as Arc<dyn Store>);
    (shelf, bucket, contents)
}

impl Shelf {
    fn put(&self, key: &str, bytes: Vec<u8>) {
        self.objects.lock().unwrap().insert(key.to_owned(), bytes);
    }

    fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
    }
}

fn scan(length: u64, range: Range<u64>, extend_to: u64) -> Want<'static> {
    Want {
        key: "object",
        object_bytes: length,
        range,
        lane: Lane::Scan,
        extend_to,
    }
}

#[tokio::test]
async fn any_range_is_read_as_slices_of_blocks() {
    let length = 2 * BLOCK + 1000;
    let (_, bucket, contents) = shelf(length);
    let cache = Cache::new(bucket, 64 << 20);
    for (start, end) in [
        (0, 1),
        (0, length),
        (BLOCK - 1, BLOCK + 1),
        (BLOCK, 2 * BLOCK),
        (length - 1, length),
        (7, 7),
    ] {
        let slices = cache.read("object", length, start..end).await.unwrap();
        assert!(slices.concat() == contents[start as usize..end as usize]);
    }
    let past = cache.read("object", length, 0..length + 1).await;
    assert!(matches!(past, Err(BucketError::Denied { .. })), "{past:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_readers_make_one_request() {
    let (shelf, bucket, contents) = shelf(3 * BLOCK);
    *shelf.every.lock().unwrap() = Duration::from_millis(20);
    let cache = Cache::new(bucket.clone(), 64 << 20);
    let readers = (0..64_u64).map(|reader| {
        let cache = cache.clone();
        let range = reader * 100..2 * BLOCK + reader;
        tokio::spawn(async move { (range.clone(), cache.read("object", 3 * BLOCK, range).await) })
    });
    for reader in join_all(readers).await {
        let (range, slices) = reader.unwrap();
        assert!(slices.unwrap().concat() == contents[range.start as usize..range.end as usize]);
    }
    // Blocks 0 and 1 in one request; the first reader stops short of block 2.
    assert!((1..=2).contains(&shelf.gets()), "{}", shelf.gets());
    assert_eq!(bucket.requests().bytes_read, 3 * BLOCK);
}

#[tokio::test]
async fn missing_neighbours_are_fetched_together_and_nothing_twice() {
    let length = 100 * BLOCK;
    let (shelf, bucket, _) = shelf(length);
    let cache = Cache::new(bucket.clone(), 256 << 20);
    let read = |range: Range<u64>| cache.read("object", length, range);
    read(3 * BLOCK..3 * BLOCK + 1).await.unwrap();
    assert_eq!((shelf.gets(), bucket.requests().bytes_read), (1, BLOCK));
    // Before the block and behind it, then two more segments.
    read(0..length).await.unwrap();
    assert_eq!((shelf.gets(), bucket.requests().bytes_read), (5, length));
    read(0..length).await.unwrap();
    assert_eq!(shelf.gets(), 5);
}

#[tokio::test]
async fn the_capacity_is_kept() {
    let length = 64 * BLOCK;
    let (_, bucket, _) = shelf(length);
    let capacity = 8 << 20;
    let cache = Cache::new(bucket, capacity);
    for block in 0..64 {
        let range = block * BLOCK..(block + 1) * BLOCK;
        cache.read("object", length, range.clone()).await.unwrap();
        let want = scan(length, range, length);
        cache.read_as(want).await.unwrap();
        assert!(cache.usage() <= capacity, "{} of {capacity}", cache.usage());
    }
    assert!(cache.usage() > capacity / 3);
}

#[tokio::test]
async fn an_error_reaches_every_reader_and_is_not_kept() {
    let (shelf, bucket, _) = shelf(10);
    let cache = Cache::new(bucket, 64 << 20);
    let readers = (0..8).map(|_| cache.read("late", 4, 0..4));
    for read in join_all(readers).await {
        assert!(
            matches!(read, Err(BucketError::NotFound { .. })),
            "{read:?}"
        );
    }
    assert_eq!(shelf.gets(), 1);
    shelf.put("late", b"here".to_vec());
    assert_eq!(cache.read("late", 4, 0..4).await.unwrap().concat(), b"here");
}

#[tokio::test]
async fn a_reader_that_goes_away_takes_nothing_from_the_others() {
    let (shelf, bucket, contents) = shelf(1000);
    let cache = Cache::new(bucket, 64 << 20);
    let mut gone = Box::pin(cache.read("object", 1000, 0..10));
    assert!(futures::poll!(&mut gone).is_pending());
    let stays = cache.read("object", 1000, 5..20);
    drop(gone);
    assert_eq!(stays.await.unwrap().concat(), contents[5..20]);
    assert_eq!(shelf.gets(), 1);
}

#[tokio::test]
async fn what_is_fetched_ahead_is_there_and_costs_one_request_a_segment() {
    let length = 4 * SEGMENT_BYTES + 1000;
    let (shelf, bucket, contents) = shelf(length);
    let cache = Cache::new(bucket.clone(), 256 << 20);
    let mut position = 0;
    while position < length {
        let end = segment_end(length, position);
        cache.ahead("object", length, position..end);
        position = end;
    }
    for start in (0..length).step_by(3 << 20) {
        let range = start..(start + (3 << 20)).min(length);
        let read = cache.read_as(scan(length, range.clone(), length)).await;
        assert!(read.unwrap().concat() == contents[range.start as usize..range.end as usize]);
    }
    assert_eq!((shelf.gets(), bucket.requests().bytes_read), (4, length));
    // A reader who comes unannounced gets as much as it says it will want.
    let other = Cache::new(bucket, 256 << 20);
    other.read_as(scan(length, 0..10, 5 << 20)).await.unwrap();
    other
        .read_as(scan(length, 10..5 << 20, 5 << 20))
        .await
        .unwrap();
    assert_eq!(shelf.gets(), 5);
}

#[tokio::test]
async fn a_scan_drives_out_nothing_that_is_read_at_the_tail() {
    let length = 64 * BLOCK;
    let (shelf, bucket, _) = shelf(length);
    shelf.put("tail", contents(8 * BLOCK, 7));
    let cache = Cache::new(bucket, 16 << 20);
    for _ in 0..2 {
        cache.read("tail", 8 * BLOCK, 0..8 * BLOCK).await.unwrap();
    }
    let before = shelf.gets();
    for round in 0..20 {
        let key = format!("cold-{round}");
        shelf.put(&key, contents(length, round));
        for block in 0..64 {
            let want = Want {
                key: &key,
                object_bytes: length,
                range: block * BLOCK..(block + 1) * BLOCK,
                lane: Lane::Scan,
                extend_to: (block + 4) * BLOCK,
            };
            cache.read_as(want).await.unwrap();
        }
    }
    let scanned = shelf.gets();
    assert!(scanned > before);
    cache.read("tail", 8 * BLOCK, 0..8 * BLOCK).await.unwrap();
    assert_eq!(shelf.gets(), scanned, "the tail's blocks were driven out");
    // Nor do reads here and there, which pass through probation.
    for round in 0..20 {
        let key = format!("cold-{round}");
        for block in 0..64 {
            let range = block * BLOCK..block * BLOCK + 1;
            cache.read(&key, length, range).await.unwrap();
        }
    }
    let scattered = shelf.gets();
    cache.read("tail", 8 * BLOCK, 0..8 * BLOCK).await.unwrap();
    assert_eq!(shelf.gets(), scattered, "the tail's blocks were driven out");
}

#[tokio::test]
async fn cold_readers_share_their_room_and_others_do_not_wait_for_it() {
    let length = 8 * SEGMENT_BYTES;
    let (shelf, bucket, _) = shelf(length);
    shelf.put("tail", contents(BLOCK, 1));
    // The first GETs wait at the gate: two segments fill the room.
    shelf.gated.store(2, Ordering::SeqCst);
    let cache = Cache::new(bucket, 96 << 20);
    for segment in 0..8 {
        let start = segment * SEGMENT_BYTES;
        cache.ahead("object", length, start..start + SEGMENT_BYTES);
    }
    while shelf.gets() < 2 {
        tokio::task::yield_now().await;
    }
    cache.read("tail", BLOCK, 0..BLOCK).await.unwrap();
    assert_eq!(shelf.gets(), 3, "two segments and the tail's block");
    shelf.gate.notify_one();
    shelf.gate.notify_one();
    let last = scan(length, length - 1..length, length);
    cache.read_as(last).await.unwrap();
    assert_eq!(shelf.gets(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_slow_get_is_made_again_and_the_first_answer_counts() {
    let length = 400 * BLOCK;
    let (shelf, bucket, contents) = shelf(length);
    *shelf.every.lock().unwrap() = Duration::from_millis(20);
    let cache = Cache::new(bucket, 512 << 20);
    let read = |block: u64| cache.read("object", length, block * BLOCK..block * BLOCK + 1);
    for block in 0..40 {
        read(2 * block).await.unwrap();
    }
    assert_eq!(shelf.gets(), 40);
    shelf
        .slow
        .lock()
        .unwrap()
        .insert(40, Duration::from_secs(8));
    let started = Instant::now();
    let slices = read(100).await.unwrap();
    assert_eq!(slices.concat(), contents[100 * BLOCK as usize..][..1]);
    assert_eq!(shelf.gets(), 42);
    assert!(
        started.elapsed() < Duration::from_millis(60),
        "{:?}",
        started.elapsed()
    );
    // When all are slow, few are made twice.
    *shelf.every.lock().unwrap() = Duration::from_secs(1);
    let before = shelf.gets();
    for block in 0..60 {
        read(200 + 2 * block).await.unwrap();
    }
    let made = shelf.gets() - before;
    assert!((60..=75).contains(&made), "{made} GETs for 60 reads");
}

#[tokio::test]
async fn what_was_spoiled_is_fetched_again_and_kept_anew() {
    let length = 40 * BLOCK;
    let (shelf, bucket, contents) = shelf(length);
    for lane in [Lane::Hot, Lane::Scan] {
        let number = shelf.gets();
        shelf.spoiled.lock().unwrap().push((number, 700));
        let cache = Cache::new(bucket.clone(), 64 << 20);
        let want = Want {
            lane,
            ..scan(length, 0..length, length)
        };
        assert!(cache.read_as(want.clone()).await.unwrap().concat() != contents);
        let fresh = cache.read_afresh("object", length, 600..BLOCK + 5).await;
        assert!(fresh.unwrap().concat() == contents[600..BLOCK as usize + 5]);
        assert!(cache.read_as(want).await.unwrap().concat() == contents);
    }
}

/// Caches that share segments: even numbers belong to one, odd ones to the other.
#[derive(Debug)]
struct Two {
    parity: u64,
    other: OnceLock<Cache>,
    asked: AtomicU64,
    is_down: bool,
}

#[async_trait]
impl Neighbours for Two {
    fn is_mine(&self, _: &str, segment: u64) -> bool {
        segment % 2 == self.parity
    }

    async fn read(&self, key: &str, bytes: u64, _: u64, range: Range<u64>) -> Option<Bytes> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_down {
            return None;
        }
        let other = self.other.get()?;
        let read = other.read_for_neighbour(key, bytes, range).await;
        read.ok().map(|slices| slices.concat().into())
    }
}

fn two(bucket: &Bucket, parities: [u64; 2], is_down: bool) -> [(Cache, Arc<Two>); 2] {
    let made = parities.map(|parity| {
        let cache = Cache::new(bucket.clone(), 256 << 20);
        let two = Arc::new(Two {
            parity,
            other: OnceLock::new(),
            asked: AtomicU64::new(0),
            is_down,
        });
        cache.share(Arc::clone(&two) as Arc<dyn Neighbours>);
        (cache, two)
    });
    let [(a, of_a), (b, of_b)] = &made;
    of_a.other.set(b.clone()).unwrap();
    of_b.other.set(a.clone()).unwrap();
    made
}

#[tokio::test]
async fn neighbours_fetch_each_segment_once_and_do_without_one_another() {
    let length = 4 * SEGMENT_BYTES;
    let (shelf, bucket, contents) = shelf(length);
    let [(a, _), (b, _)] = two(&bucket, [0, 1], false);
    let read = |cache: &Cache| {
        let cache = cache.clone();
        async move {
            cache
                .read_as(scan(length, 0..length, length))
                .await
                .unwrap()
                .concat()
        }
    };
    let (one, other) = tokio::join!(read(&a), read(&b));
    assert!(one == contents && other == contents);
    assert_eq!((shelf.gets(), bucket.requests().bytes_read), (4, length));
    // The other is gone: everything is there all the same.
    let [(a, of_a), _] = two(&bucket, [0, 1], true);
    assert!(read(&a).await == contents);
    assert_eq!((shelf.gets(), of_a.asked.load(Ordering::SeqCst)), (8, 2));
}

#[tokio::test(start_paused = true)]
async fn who_take_each_other_for_the_owner_do_not_wait_for_each_other() {
    let length = 6 * SEGMENT_BYTES;
    let (_, bucket, contents) = shelf(length);
    let [(a, _), (b, _)] = two(&bucket, [7, 7], false);
    let started = Instant::now();
    let all = scan(length, 0..length, length);
    let (one, other) = tokio::join!(a.read_as(all.clone()), b.read_as(all));
    assert!(one.unwrap().concat() == contents && other.unwrap().concat() == contents);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

fn tiers(dir: &std::path::Path, memory_bytes: usize) -> CacheConfig {
    let disk = DiskTier {
        dir: dir.to_owned(),
        bytes: 64 << 20,
    };
    CacheConfig {
        memory_bytes,
        disk: Some(disk),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_the_blocks_on_the_disk() {
    let length = 20 * BLOCK + 77;
    let (shelf, bucket, contents) = shelf(length);
    let dir = tempfile::tempdir().unwrap();
    let config = tiers(dir.path(), 64 << 20);
    let cache = Cache::open(bucket.clone(), &config).await;
    cache.read("object", length, 0..length).await.unwrap();
    assert_eq!(shelf.gets(), 1);
    cache.close().await;
    drop(cache);
    let cache = Cache::open(bucket.clone(), &config).await;
    let read = cache.read("object", length, 0..length).await.unwrap();
    assert!(read.concat() == contents);
    assert_eq!(shelf.gets(), 1, "fetched again after a restart");
    cache.close().await;
    drop(cache);
    // With another budget it begins anew, and leaves nothing of the old behind.
    let mut other = config.clone();
    if let Some(disk) = &mut other.disk {
        disk.bytes = 48 << 20;
    }
    let cache = Cache::open(bucket, &other).await;
    cache.read("object", length, 0..length).await.unwrap();
    assert_eq!(shelf.gets(), 2);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    cache.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_the_disk_is_fetched_again() {
    let length = 8 * BLOCK;
    let (shelf, bucket, contents) = shelf(length);
    let dir = tempfile::tempdir().unwrap();
    let config = tiers(dir.path(), 64 << 20);
    let cache = Cache::open(bucket.clone(), &config).await;
    cache.read("object", length, 0..length).await.unwrap();
    cache.close().await;
    drop(cache);
    let mut damaged = 0;
    for folder in std::fs::read_dir(dir.path()).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            // In the middle of a block, as its contents show.
            let sought = &contents[BLOCK as usize..BLOCK as usize + 100];
            if let Some(at) = bytes.windows(100).position(|window| window == sought) {
                bytes[at] ^= 0x10;
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    let cache = Cache::open(bucket, &config).await;
    let read = cache.read("object", length, 0..length).await.unwrap();
    assert!(read.concat() == contents);
    assert_eq!(shelf.gets(), 2, "one block, once more");
    cache.close().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_used_costs_speed_and_nothing_else() {
    let (_, bucket, contents) = shelf(1000);
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("file");
    std::fs::write(&taken, b"not a folder").unwrap();
    let cache = Cache::open(bucket, &tiers(&taken, 1 << 20)).await;
    let read = cache.read("object", 1000, 0..1000).await.unwrap();
    assert!(read.concat() == contents);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is read, in whatever order, through whichever tier: it is the object.
    #[test]
    fn any_reads_through_any_tier_equal_the_object(
        length in 1..(5 * SEGMENT_BYTES / 4),
        reads in prop::collection::vec((any::<u64>(), 0..3 * BLOCK, 0..5u8), 1..24),
        small in any::<bool>(),
        on_disk in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_, bucket, contents) = shelf(length);
            let dir = tempfile::tempdir().unwrap();
            let memory = if small { 3 << 20 } else { 64 << 20 };
            let config = CacheConfig {
                disk: tiers(dir.path(), memory).disk.filter(|_| on_disk),
                memory_bytes: memory,
            };
            let mut cache = Cache::open(bucket.clone(), &config).await;
            for (at, bytes, way) in reads {
                let start = at % length;
                let range = start..(start + bytes).min(length);
                let read = match way {
                    0 => cache.read("object", length, range.clone()).await,
                    1 => cache.read_afresh("object", length, range.clone()).await,
                    2 => cache.read_for_neighbour("object", length, range.clone()).await,
                    3 => {
                        cache.ahead("object", length, range.start..range.end + 4 * BLOCK);
                        cache.read_as(scan(length, range.clone(), length)).await
                    }
                    _ => {
                        cache.close().await;
                        cache = Cache::open(bucket.clone(), &config).await;
                        cache.read_as(scan(length, range.clone(), range.end + BLOCK)).await
                    }
                };
                let read = read.unwrap().concat();
                assert!(read == contents[range.start as usize..range.end as usize]);
                assert!(cache.usage() <= memory);
            }
            cache.close().await;
        });
    }
}
