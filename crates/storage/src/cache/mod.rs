//! Blocks of immutable objects, fetched once and kept: in memory, and on the local disk if there is a
//! tier for it.
//!
//! Objects never change, so a block is named by its object's key and its number and never grows
//! stale. Memory has two parts that do not compete. What is read at the tail or here and there is
//! kept by S3-FIFO ([`Lane::Hot`]); what readers of old data go through once lies in a room of
//! its own (`scan`), so that no scan, however long, drives out what others come back to.
//!
//! What is missing is fetched by a task of its own, ended by the bucket's time limits: readers that
//! want the same block share the answer (errors too), and one that goes away takes nothing from the
//! others (`flight`). It comes from the local disk (`disk`), from a neighbour that keeps the segment
//! for all ([`Neighbours`]), or from the bucket, in GETs that end where segments do and are
//! asked again when they are slow (`hedge`). Fetches wait for room in bytes, first come first served;
//! scans wait in a queue of their own, and PUTs wait in neither.

mod blocks;
mod disk;
mod flight;
mod hedge;
mod neighbours;
mod scan;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use alluvium_types::limits::CACHE_BLOCK_BYTES;
use alluvium_types::{hash::HashMap, random};
use bytes::Bytes;
use foyer::{CacheBuilder, S3FifoConfig};
use metrics::Counter;

use crate::bucket::{Bucket, BucketError, Cause};

use blocks::{BlockKey, blocks_of, bytes_of, slice};
use disk::DiskBlocks;
use flight::{Flight, FlightKey, Rooms, Source};
use hedge::Hedged;
use scan::ScanArea;

pub use blocks::{SEGMENT_BYTES, segment_end};
pub use disk::DiskTier;
pub use neighbours::Neighbours;

/// What an entry costs beyond its key and its bytes.
const ENTRY_OVERHEAD: usize = 200;

/// One shard of the cache holds at least this many bytes, or a block would not fit well.
const SHARD_BYTES: usize = 16 << 20;

const SHARDS: usize = 16;

/// What neighbours ask for in pieces of at least this is a scan of theirs.
const NEIGHBOURS_SCAN_BYTES: u64 = 4 << 20;

/// A read cache over a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Hedged,
    hot: foyer::Cache<BlockKey, Bytes>,
    scan: Mutex<ScanArea>,
    scan_capacity: usize,
    disk: Option<DiskBlocks>,
    neighbours: OnceLock<Arc<dyn Neighbours>>,
    in_flight: Mutex<HashMap<FlightKey, Flight>>,
    rooms: Rooms,
    hits: Counter,
    misses: Counter,
    bad: Counter,
}

/// How much a cache may hold. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// In memory, keys and overhead counted; what is being fetched comes on top, about as much again
    /// at most.
    pub memory_bytes: usize,
    /// On the local disk.
    pub disk: Option<DiskTier>,
}

/// What a reader does with what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Others, or it itself, may well come back to it.
    Hot,
    /// It goes on and on through old data.
    Scan,
}

/// A range of an object, and how it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want<'a> {
    /// The object's key.
    pub key: &'a str,
    /// The object's whole length.
    pub object_bytes: u64,
    /// Which bytes.
    pub range: Range<u64>,
    /// What for.
    pub lane: Lane,
    /// Where bytes of the range must be fetched, those behind it up to here come with them, within the
    /// segment.
    pub extend_to: u64,
}

impl Cache {
    /// A cache in memory, of at most `capacity` bytes (keys and overhead counted).
    #[must_use]
    pub fn new(bucket: Bucket, capacity: usize) -> Self {
        Self::over(&bucket, capacity, None)
    }

    /// A cache as configured. Where the disk tier cannot be opened it goes without, and says so in the
    /// log; so it does in a simulation, which has no disk that can be repeated.
    pub async fn open(bucket: Bucket, config: &CacheConfig) -> Self {
        let disk = match &config.disk {
            Some(tier) if tier.bytes > 0 && !random::is_seeded() => {
                match DiskBlocks::open(tier).await {
                    Ok(disk) => Some(disk),
                    Err(error) => {
                        tracing::error!(
                            "the cache goes without its disk tier, so cold reads cost more: {error}; \
                             mend the folder or set cache.disk_bytes to 0"
                        );
                        None
                    }
                }
            }
            _ => None,
        };
        Self::over(&bucket, config.memory_bytes, disk)
    }

    fn over(bucket: &Bucket, capacity: usize, disk: Option<DiskBlocks>) -> Self {
        let scan_capacity = capacity / 2;
        let hot_capacity = capacity - scan_capacity;
        let hot = CacheBuilder::new(hot_capacity)
            .with_name("blocks")
            .with_shards((hot_capacity / SHARD_BYTES).clamp(1, SHARDS))
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(|key: &BlockKey, block: &Bytes| {
                key.object.len() + block.len() + ENTRY_OVERHEAD
            })
            .build();
        let inner = Inner {
            store: Hedged::new(bucket.for_cause(Cause::CacheMiss)),
            hot,
            scan: Mutex::new(ScanArea::new(scan_capacity)),
            scan_capacity,
            disk,
            neighbours: OnceLock::new(),
            in_flight: Mutex::default(),
            rooms: Rooms::new(capacity),
            hits: metrics::counter!("alluvium_cache_blocks_total", "result" => "hit"),
            misses: metrics::counter!("alluvium_cache_blocks_total", "result" => "miss"),
            bad: metrics::counter!("alluvium_cache_damaged_blocks_total", "where" => "read"),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Has it share GETs with others from here on. Only the first call counts.
    pub fn share(&self, neighbours: Arc<dyn Neighbours>) {
        let _ = self.inner.neighbours.set(neighbours);
    }

    /// Bytes held in memory now, keys and overhead counted.
    #[must_use]
    pub fn usage(&self) -> usize {
        self.inner.hot.usage() + self.inner.scan().bytes()
    }

    /// Bytes that readers of old data may fetch ahead, all of them together.
    #[must_use]
    pub fn scan_capacity(&self) -> usize {
        self.inner.scan_capacity
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
        let want = Want {
            key,
            object_bytes,
            extend_to: range.end,
            range,
            lane: Lane::Hot,
        };
        self.read_as(want).await
    }

    /// Reads as [`Self::read`] does, in a lane and with a view to what comes next.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_as(&self, want: Want<'_>) -> Result<Vec<Bytes>, BucketError> {
        self.answer(want, false).await
    }

    /// Reads for a neighbour: what is missing is fetched from the store, and no other neighbour is
    /// asked.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_for_neighbour(
        &self,
        key: &str,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, BucketError> {
        let is_long = range.end.saturating_sub(range.start) >= NEIGHBOURS_SCAN_BYTES;
        let want = Want {
            key,
            object_bytes,
            extend_to: range.end,
            range,
            lane: if is_long { Lane::Scan } else { Lane::Hot },
        };
        self.answer(want, true).await
    }

    /// Begins to fetch what a reader of old data will soon want. Nobody waits, and nobody is told of
    /// errors: who reads it meets them again.
    pub fn ahead(&self, key: &str, object_bytes: u64, range: Range<u64>) {
        let range = range.start..range.end.min(object_bytes);
        if range.start < range.end {
            let want = Want {
                key,
                object_bytes,
                extend_to: range.end,
                range,
                lane: Lane::Scan,
            };
            self.locate(&want, false);
        }
    }

    /// Reads a range after what is held of it turned out not to be what was written: its blocks are
    /// dropped everywhere, fetched from the store and kept anew.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_afresh(
        &self,
        key: &str,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, BucketError> {
        self.check(key, object_bytes, &range)?;
        let object: Arc<str> = key.into();
        let mut slices = Vec::new();
        let mut position = range.start;
        while position < range.end {
            let end = segment_end(object_bytes, position).min(range.end);
            let blocks = blocks_of(&(position..end));
            self.inner.drop_blocks(&object, blocks.clone());
            self.inner.bad.increment(blocks.end - blocks.start);
            let fetched = self
                .inner
                .fetch_afresh(&object, object_bytes, blocks.clone());
            for (block, bytes) in blocks.zip(fetched.await?.iter()) {
                slices.push(slice(bytes, block, &(position..end)));
            }
            position = end;
        }
        Ok(slices)
    }

    /// Writes what waits for the local disk, so that a restart finds it.
    pub async fn close(&self) {
        if let Some(disk) = &self.inner.disk {
            disk.close().await;
        }
    }

    async fn answer(&self, want: Want<'_>, is_direct: bool) -> Result<Vec<Bytes>, BucketError> {
        self.check(want.key, want.object_bytes, &want.range)?;
        if want.range.is_empty() {
            return Ok(Vec::new());
        }
        let sources = self.locate(&want, is_direct);
        let mut slices = Vec::with_capacity(sources.len());
        for (block, source) in blocks_of(&want.range).zip(sources) {
            let bytes = match source {
                Source::Held(bytes) => bytes,
                Source::Flying(flight) => {
                    let cancelled = || self.denied(want.key, "the fetch was cancelled".to_owned());
                    let fetched = flight.answer.await.map_err(|_| cancelled())??;
                    fetched.get(flight.place).cloned().ok_or_else(cancelled)?
                }
            };
            slices.push(slice(&bytes, block, &want.range));
        }
        Ok(slices)
    }

    fn check(&self, key: &str, object_bytes: u64, range: &Range<u64>) -> Result<(), BucketError> {
        if range.start > range.end || range.end > object_bytes {
            let reason = format!("{range:?} of an object of {object_bytes} bytes");
            return Err(self.denied(key, reason));
        }
        Ok(())
    }

    fn denied(&self, key: &str, reason: String) -> BucketError {
        BucketError::Denied {
            store: self.inner.store.bucket().url().into(),
            operation: "GET",
            key: key.to_owned(),
            reason,
        }
    }
}

impl Inner {
    fn in_flight(&self) -> MutexGuard<'_, HashMap<FlightKey, Flight>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn scan(&self) -> MutexGuard<'_, ScanArea> {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block in memory. `is_whole` says that the reader takes it up to its end.
    fn held(&self, key: &BlockKey, is_whole: bool) -> Option<Bytes> {
        if let Some(entry) = self.hot.get(key) {
            return Some(entry.value().clone());
        }
        self.scan().get(key, is_whole)
    }

    fn is_held(&self, key: &BlockKey) -> bool {
        self.hot.contains(key) || self.scan().contains(key)
    }

    /// Keeps blocks that were fetched.
    fn keep(&self, object: &Arc<str>, first: u64, lane: Lane, blocks: &Arc<[Bytes]>) {
        let key = |block| BlockKey {
            object: Arc::clone(object),
            block,
        };
        if lane == Lane::Scan {
            self.scan().insert(key(first), Arc::clone(blocks));
            return;
        }
        for (block, bytes) in (first..).zip(blocks.iter()) {
            // Apart, or one that stays would keep its neighbours' memory.
            self.hot.insert(key(block), Bytes::copy_from_slice(bytes));
        }
    }

    fn drop_blocks(&self, object: &Arc<str>, blocks: Range<u64>) {
        self.scan().remove(object, blocks.clone());
        for block in blocks {
            let key = BlockKey {
                object: Arc::clone(object),
                block,
            };
            self.hot.remove(&key);
            if let Some(disk) = &self.disk {
                disk.remove(&key);
            }
        }
    }

    /// Bytes of a block of an object of this length.
    fn block_bytes(object_bytes: u64, block: u64) -> usize {
        let range = bytes_of(&(block..block.saturating_add(1)), object_bytes);
        usize::try_from((range.end - range.start).min(CACHE_BLOCK_BYTES)).unwrap_or(0)
    }
}
