//! Blocks of immutable objects, read once and kept in memory.
//!
//! Objects never change, so a block is named by its object's key and its number and never grows
//! stale. Eviction is S3-FIFO: a scan passes through without driving out what is read often. A block
//! that is being fetched is fetched by nobody else: readers share the answer, errors too. A fetch is
//! a task of its own, ended by the bucket's time limits, so that a reader that goes away takes
//! nothing from the others.

use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_types::hash::HashMap;
use alluvium_types::limits::CACHE_BLOCK_BYTES;
use bytes::Bytes;
use foyer::{CacheBuilder, S3FifoConfig};
use futures::FutureExt;
use futures::future::Shared;
use metrics::Counter;
use tokio::sync::{Semaphore, oneshot};

use crate::bucket::{Bucket, BucketError};

/// Most adjacent blocks that one GET fetches.
const GROUP_BLOCKS: usize = 8;

/// GETs at the same time; with [`GROUP_BLOCKS`] this bounds what is in flight (128 MiB).
const FETCHES: usize = 32;

/// What an entry costs beyond its key and its bytes.
const ENTRY_OVERHEAD: usize = 200;

/// One shard of the cache holds at least this many bytes, or a block would not fit well.
const SHARD_BYTES: usize = 16 << 20;

const SHARDS: usize = 16;

/// A read cache over a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bucket: Bucket,
    blocks: foyer::Cache<BlockKey, Bytes>,
    in_flight: Mutex<HashMap<BlockKey, Flight>>,
    fetches: Semaphore,
    hits: Counter,
    misses: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BlockKey {
    object: Arc<str>,
    block: u64,
}

/// The blocks of one GET, or why there are none.
type Fetched = Result<Arc<[Bytes]>, BucketError>;

/// A block that is being fetched: the GET, and the block's place in its answer.
#[derive(Clone, Debug)]
struct Flight {
    answer: Shared<oneshot::Receiver<Fetched>>,
    place: usize,
}

/// Adjacent blocks that this reader is to fetch.
struct Group {
    blocks: Range<u64>,
    answer: oneshot::Sender<Fetched>,
}

/// Where a reader gets a block from.
enum Source {
    Held(Bytes),
    Flying(Flight),
}

impl Cache {
    /// A cache of at most `capacity` bytes (keys and overhead counted).
    #[must_use]
    pub fn new(bucket: Bucket, capacity: usize) -> Self {
        let blocks = CacheBuilder::new(capacity)
            .with_name("blocks")
            .with_shards((capacity / SHARD_BYTES).clamp(1, SHARDS))
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(|key: &BlockKey, block: &Bytes| {
                key.object.len() + block.len() + ENTRY_OVERHEAD
            })
            .build();
        let inner = Inner {
            bucket,
            blocks,
            in_flight: Mutex::default(),
            fetches: Semaphore::new(FETCHES),
            hits: metrics::counter!("alluvium_cache_blocks_total", "result" => "hit"),
            misses: metrics::counter!("alluvium_cache_blocks_total", "result" => "miss"),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Bytes held now, keys and overhead counted.
    #[must_use]
    pub fn usage(&self) -> usize {
        self.inner.blocks.usage()
    }

    /// Reads a range of an object whose whole length is `object_bytes`, as slices of cached blocks
    /// ([`alluvium_types::limits::CACHE_BLOCK_BYTES`], aligned), in order. Blocks that are missing are
    /// fetched with as few ranged GETs as possible; equal blocks asked for at the same time are
    /// fetched once.
    ///
    /// The answer holds all of the range: callers bound what they ask for.
    ///
    /// # Errors
    /// The bucket's; [`BucketError::Denied`] when the range is not within `object_bytes`.
    pub async fn read(
        &self,
        key: &str,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, BucketError> {
        if range.start > range.end || range.end > object_bytes {
            return Err(self.denied(
                key,
                format!("{range:?} of an object of {object_bytes} bytes"),
            ));
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let blocks = range.start / CACHE_BLOCK_BYTES..range.end.div_ceil(CACHE_BLOCK_BYTES);
        let (sources, groups) = self.locate(key, blocks.clone());
        for group in groups {
            let inner = Arc::clone(&self.inner);
            let key: Arc<str> = key.into();
            tokio::spawn(async move { inner.fetch(key, object_bytes, group).await });
        }
        let mut slices = Vec::with_capacity(sources.len());
        for (number, source) in blocks.zip(sources) {
            let block = match source {
                Source::Held(block) => block,
                Source::Flying(flight) => {
                    let cancelled = || self.denied(key, "the fetch was cancelled".to_owned());
                    let fetched = flight.answer.await.map_err(|_| cancelled())??;
                    fetched.get(flight.place).cloned().ok_or_else(cancelled)?
                }
            };
            let start = number * CACHE_BLOCK_BYTES;
            let within = |position: u64| {
                let offset = usize::try_from(position.saturating_sub(start));
                offset.unwrap_or(usize::MAX).min(block.len())
            };
            slices.push(block.slice(within(range.start)..within(range.end)));
        }
        Ok(slices)
    }

    /// Finds each block in memory or in flight, and claims the rest.
    fn locate(&self, key: &str, blocks: Range<u64>) -> (Vec<Source>, Vec<Group>) {
        let object: Arc<str> = key.into();
        let block_key = |block| BlockKey {
            object: Arc::clone(&object),
            block,
        };
        let held = |block| {
            self.inner
                .blocks
                .get(&block_key(block))
                .map(|e| e.value().clone())
        };
        let mut sources: Vec<Option<Source>> = blocks
            .clone()
            .map(|block| held(block).map(Source::Held))
            .collect();
        let missing = sources.iter().filter(|source| source.is_none()).count();
        self.inner.hits.increment((sources.len() - missing) as u64);
        self.inner.misses.increment(missing as u64);
        let mut groups: Vec<Group> = Vec::new();
        if missing > 0 {
            let mut in_flight = self.inner.in_flight();
            let mut open: Option<(Group, Shared<oneshot::Receiver<Fetched>>)> = None;
            for (block, source) in blocks.zip(&mut sources) {
                if source.is_none() {
                    // Again, now that no fetch can end in between.
                    *source = held(block).map(Source::Held);
                }
                let vacant = match (source.is_none(), in_flight.entry(block_key(block))) {
                    (false, _) => continue,
                    (true, Entry::Occupied(flight)) => {
                        *source = Some(Source::Flying(flight.get().clone()));
                        continue;
                    }
                    (true, Entry::Vacant(vacant)) => vacant,
                };
                let joins = |group: &Group| {
                    group.blocks.end == block && block - group.blocks.start < GROUP_BLOCKS as u64
                };
                if !open.as_ref().is_some_and(|(group, _)| joins(group)) {
                    let (answer, receiver) = oneshot::channel();
                    let group = Group {
                        blocks: block..block,
                        answer,
                    };
                    let full = open.replace((group, receiver.shared()));
                    groups.extend(full.map(|(group, _)| group));
                }
                if let Some((group, answer)) = &mut open {
                    let place = usize::try_from(block - group.blocks.start).unwrap_or(usize::MAX);
                    group.blocks.end = block + 1;
                    let flight = Flight {
                        answer: answer.clone(),
                        place,
                    };
                    *source = Some(Source::Flying(vacant.insert(flight).clone()));
                }
            }
            groups.extend(open.map(|(group, _)| group));
        }
        // Every block was found or claimed above.
        (sources.into_iter().flatten().collect(), groups)
    }

    fn denied(&self, key: &str, reason: String) -> BucketError {
        BucketError::Denied {
            store: self.inner.bucket.url().into(),
            operation: "GET",
            key: key.to_owned(),
            reason,
        }
    }
}

impl Inner {
    fn in_flight(&self) -> MutexGuard<'_, HashMap<BlockKey, Flight>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a group with one GET, keeps its blocks and tells whoever waits.
    async fn fetch(&self, object: Arc<str>, object_bytes: u64, group: Group) {
        let landing = Landing {
            inner: self,
            object: &object,
            blocks: group.blocks.clone(),
        };
        let start = group.blocks.start * CACHE_BLOCK_BYTES;
        let end = (group.blocks.end * CACHE_BLOCK_BYTES).min(object_bytes);
        let permit = self.fetches.acquire().await;
        let read = self.bucket.read(&object, start..end).await;
        drop(permit);
        let fetched: Fetched = read.map(|whole| {
            let block_bytes = usize::try_from(CACHE_BLOCK_BYTES).unwrap_or(usize::MAX);
            // Blocks are copied apart, or one that stays would keep its neighbours' memory.
            whole
                .chunks(block_bytes)
                .map(Bytes::copy_from_slice)
                .collect()
        });
        if let Ok(blocks) = &fetched {
            for (block, bytes) in group.blocks.zip(blocks.iter()) {
                let key = BlockKey {
                    object: Arc::clone(&object),
                    block,
                };
                self.blocks.insert(key, bytes.clone());
            }
        }
        // In memory first, then out of flight: nobody finds a block in neither.
        drop(landing);
        // Nobody may be waiting any more.
        let _ = group.answer.send(fetched);
    }
}

/// Takes a group's blocks out of flight, whether its fetch ended, was dropped or panicked.
struct Landing<'a> {
    inner: &'a Inner,
    object: &'a Arc<str>,
    blocks: Range<u64>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.inner.in_flight();
        for block in self.blocks.clone() {
            in_flight.remove(&BlockKey {
                object: Arc::clone(self.object),
                block,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::disk::LocalDisk;

    const BLOCK: u64 = CACHE_BLOCK_BYTES;

    /// A bucket with one object of `bytes` bytes, each telling its position.
    async fn bucket(bytes: u64) -> (Bucket, Vec<u8>) {
        let bucket = Bucket::open("memory://", LocalDisk::shared())
            .await
            .unwrap();
        let contents: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        bucket
            .create("object", vec![contents.clone().into()])
            .await
            .unwrap();
        (bucket, contents)
    }

    #[tokio::test]
    async fn any_range_is_read_as_slices_of_blocks() {
        let length = 2 * BLOCK + 1000;
        let (bucket, contents) = bucket(length).await;
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
            assert_eq!(
                slices.concat(),
                contents[start as usize..end as usize],
                "{start}..{end}"
            );
        }
        let past = cache
            .read("object", length, 0..length + 1)
            .await
            .unwrap_err();
        assert!(matches!(past, BucketError::Denied { .. }), "{past}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sixty_four_readers_make_one_request() {
        let (bucket, contents) = bucket(3 * BLOCK).await;
        let cache = Cache::new(bucket.clone(), 64 << 20);
        let readers = (0..64_u64).map(|reader| {
            let cache = cache.clone();
            let range = reader * 100..2 * BLOCK + reader;
            tokio::spawn(
                async move { (range.clone(), cache.read("object", 3 * BLOCK, range).await) },
            )
        });
        for reader in join_all(readers).await {
            let (range, slices) = reader.unwrap();
            let wanted = &contents[range.start as usize..range.end as usize];
            assert!(slices.unwrap().concat() == wanted);
        }
        // Blocks 0 and 1 in one request; the first reader stops short of block 2.
        assert!(
            (1..=2).contains(&bucket.requests().get),
            "{:?}",
            bucket.requests()
        );
        assert_eq!(bucket.requests().bytes_read, 3 * BLOCK);
    }

    #[tokio::test]
    async fn missing_neighbours_are_fetched_together_and_nothing_twice() {
        let length = 20 * BLOCK;
        let (bucket, _) = bucket(length).await;
        let cache = Cache::new(bucket.clone(), 64 << 20);
        cache
            .read("object", length, 3 * BLOCK..3 * BLOCK + 1)
            .await
            .unwrap();
        assert_eq!(
            (bucket.requests().get, bucket.requests().bytes_read),
            (1, BLOCK)
        );
        // Blocks 0..3, then 4..12, then 12..20.
        cache.read("object", length, 0..length).await.unwrap();
        assert_eq!(
            (bucket.requests().get, bucket.requests().bytes_read),
            (4, length)
        );
        cache.read("object", length, 0..length).await.unwrap();
        assert_eq!(bucket.requests().get, 4);
    }

    #[tokio::test]
    async fn the_capacity_is_kept() {
        let length = 64 * BLOCK;
        let (bucket, _) = bucket(length).await;
        let capacity = 8 << 20;
        let cache = Cache::new(bucket, capacity);
        for block in 0..64 {
            cache
                .read("object", length, block * BLOCK..(block + 1) * BLOCK)
                .await
                .unwrap();
            assert!(cache.usage() <= capacity, "{} of {capacity}", cache.usage());
        }
        assert!(cache.usage() > capacity / 2);
    }

    #[tokio::test]
    async fn an_error_reaches_every_reader_and_is_not_kept() {
        let (bucket, _) = bucket(10).await;
        let cache = Cache::new(bucket.clone(), 64 << 20);
        let readers = (0..8).map(|_| cache.read("late", 4, 0..4));
        for read in join_all(readers).await {
            assert!(
                matches!(read, Err(BucketError::NotFound { .. })),
                "{read:?}"
            );
        }
        assert_eq!(bucket.requests().get, 1);
        bucket
            .create("late", vec![Bytes::from_static(b"here")])
            .await
            .unwrap();
        assert_eq!(cache.read("late", 4, 0..4).await.unwrap().concat(), b"here");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_takes_nothing_from_the_others() {
        let (bucket, contents) = bucket(1000).await;
        let cache = Cache::new(bucket.clone(), 64 << 20);
        let mut gone = Box::pin(cache.read("object", 1000, 0..10));
        assert!(futures::poll!(&mut gone).is_pending());
        let stays = cache.read("object", 1000, 5..20);
        drop(gone);
        assert_eq!(stays.await.unwrap().concat(), contents[5..20]);
        assert_eq!(bucket.requests().get, 1);
    }
}
