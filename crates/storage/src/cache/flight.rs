//! Fetches under way: who claims missing blocks, fetches them in the background and tells whoever
//! waits.
//!
//! A fetch for a neighbour never waits for a neighbour: it joins none that may do so, and its room is
//! not taken by such. So two caches that take each other for the owner of a segment (their views
//! differ for a moment) both end up at the store.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Shared, join_all, try_join_all};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::blocks::{BlockKey, block_len, blocks_of, bytes_of, segment_of};
use super::{Cache, Inner, Lane, Want};
use crate::bucket::BucketError;

/// Room for fetches is counted in these.
const UNIT_BYTES: u64 = 64 << 10;

/// Each kind of fetch has at least this much room.
const LEAST_ROOM_BYTES: usize = 32 << 20;

/// Blocks of one fetch that are looked for on the disk at a time.
const DISK_READS: usize = 8;

/// The blocks of one fetch, or why there are none.
pub(super) type Fetched = Result<Arc<[Bytes]>, BucketError>;

/// Names a flight: its block, and whether it surely waits for no neighbour.
pub(super) type FlightKey = (BlockKey, bool);

/// A block that is being fetched: the fetch, and the block's place in its answer.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) answer: Shared<oneshot::Receiver<Fetched>>,
    pub(super) place: usize,
}

/// Where a reader gets a block from.
pub(super) enum Source {
    Held(Bytes),
    Flying(Flight),
}

/// Adjacent blocks of one segment that this reader is to fetch.
struct Claim {
    object: Arc<str>,
    object_bytes: u64,
    blocks: Range<u64>,
    segment: u64,
    lane: Lane,
    is_direct: bool,
    answer: oneshot::Sender<Fetched>,
}

/// Bytes that may be under way at once, by kind of fetch. Each is a queue of its own.
#[derive(Debug)]
pub(super) struct Rooms {
    units: u32,
    hot: Semaphore,
    scan: Semaphore,
    neighbours: Semaphore,
}

impl Rooms {
    /// A third of what the cache may hold for each kind.
    pub(super) fn new(capacity: usize) -> Self {
        let bytes = (capacity / 3).max(LEAST_ROOM_BYTES) as u64;
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX >> 3);
        let room = || Semaphore::new(usize::try_from(units).unwrap_or(usize::MAX >> 3));
        Self {
            units,
            hot: room(),
            scan: room(),
            neighbours: room(),
        }
    }

    async fn enter(&self, lane: Lane, is_direct: bool, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let room = match (is_direct, lane) {
            (false, _) => &self.neighbours,
            (true, Lane::Hot) => &self.hot,
            (true, Lane::Scan) => &self.scan,
        };
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        // Never closed.
        room.acquire_many(units.min(self.units)).await.ok()
    }
}

impl Cache {
    /// Finds each block of the range in memory or in flight, and claims the rest.
    pub(super) fn locate(&self, want: &Want<'_>, is_direct: bool) -> Vec<Source> {
        let object: Arc<str> = want.key.into();
        let blocks = blocks_of(&want.range);
        let held = |block: u64| {
            let key = BlockKey {
                object: Arc::clone(&object),
                block,
            };
            let ends = bytes_of(&(block..block + 1), want.object_bytes).end;
            self.inner.held(&key, want.range.end >= ends)
        };
        let mut sources: Vec<Option<Source>> = blocks
            .clone()
            .map(|block| held(block).map(Source::Held))
            .collect();
        let missing = sources.iter().filter(|source| source.is_none()).count();
        self.inner.hits.increment((sources.len() - missing) as u64);
        self.inner.misses.increment(missing as u64);
        if missing == 0 {
            return sources.into_iter().flatten().collect();
        }
        let mut claims = Claims::new(&self.inner, want, &object, is_direct);
        {
            let mut in_flight = self.inner.in_flight();
            for (block, source) in blocks.clone().zip(&mut sources) {
                if source.is_none() {
                    // Again, now that no fetch can end in between.
                    *source = held(block).map(Source::Held);
                }
                if source.is_none() {
                    *source = claims.join(&mut in_flight, block).map(Source::Flying);
                }
            }
            // Only what follows on a block that is fetched anyway comes with it.
            let beyond = want.extend_to.min(want.object_bytes);
            let beyond = blocks.end..beyond.div_ceil(alluvium_types::limits::CACHE_BLOCK_BYTES);
            for block in beyond {
                if !claims.extend(&mut in_flight, block) {
                    break;
                }
            }
        }
        for claim in claims.done() {
            let inner = Arc::clone(&self.inner);
            tokio::spawn(async move { inner.fetch(claim).await });
        }
        // Every block was found or claimed above.
        sources.into_iter().flatten().collect()
    }
}

type InFlight = alluvium_types::hash::HashMap<FlightKey, Flight>;

/// The claims of one read in the making.
struct Claims<'a> {
    inner: &'a Inner,
    object: &'a Arc<str>,
    object_bytes: u64,
    lane: Lane,
    is_direct: bool,
    open: Option<(Claim, Shared<oneshot::Receiver<Fetched>>)>,
    full: Vec<Claim>,
}

impl<'a> Claims<'a> {
    fn new(inner: &'a Inner, want: &Want<'_>, object: &'a Arc<str>, is_direct: bool) -> Self {
        Self {
            inner,
            object,
            object_bytes: want.object_bytes,
            lane: want.lane,
            is_direct,
            open: None,
            full: Vec::new(),
        }
    }

    fn key(&self, block: u64) -> BlockKey {
        BlockKey {
            object: Arc::clone(self.object),
            block,
        }
    }

    /// The flight of a block that is not in memory: one under way, or a new claim.
    fn join(&mut self, in_flight: &mut InFlight, block: u64) -> Option<Flight> {
        if let Some(flight) = in_flight.get(&(self.key(block), true)) {
            return Some(flight.clone());
        }
        if !self.is_direct
            && let Some(flight) = in_flight.get(&(self.key(block), false))
        {
            return Some(flight.clone());
        }
        self.claim(in_flight, block)
    }

    /// Takes one more block into the claim that is open. False when it does not follow on it, is of
    /// another segment, or is here or on its way.
    fn extend(&mut self, in_flight: &mut InFlight, block: u64) -> bool {
        let follows = self.open.as_ref().is_some_and(|(claim, _)| {
            claim.blocks.end == block && claim.segment == segment_of(self.object_bytes, block)
        });
        let is_coming = [true, false]
            .into_iter()
            .any(|direct| in_flight.contains_key(&(self.key(block), direct)));
        let extends = follows && !is_coming && !self.inner.is_held(&self.key(block));
        extends && self.claim(in_flight, block).is_some()
    }

    fn claim(&mut self, in_flight: &mut InFlight, block: u64) -> Option<Flight> {
        let segment = segment_of(self.object_bytes, block);
        let joins = |claim: &Claim| claim.blocks.end == block && claim.segment == segment;
        if !self.open.as_ref().is_some_and(|(claim, _)| joins(claim)) {
            let (answer, receiver) = oneshot::channel();
            let neighbours = self.inner.neighbours.get();
            let is_mine = neighbours.is_none_or(|it| it.is_mine(self.object, segment));
            let claim = Claim {
                object: Arc::clone(self.object),
                object_bytes: self.object_bytes,
                blocks: block..block,
                segment,
                lane: self.lane,
                is_direct: self.is_direct || is_mine,
                answer,
            };
            let full = self.open.replace((claim, receiver.shared()));
            self.full.extend(full.map(|(claim, _)| claim));
        }
        let key = self.key(block);
        let (claim, answer) = self.open.as_mut()?;
        let flight = Flight {
            answer: answer.clone(),
            place: usize::try_from(block - claim.blocks.start).unwrap_or(usize::MAX),
        };
        claim.blocks.end = block + 1;
        in_flight.insert((key, claim.is_direct), flight.clone());
        Some(flight)
    }

    fn done(mut self) -> Vec<Claim> {
        self.full.extend(self.open.map(|(claim, _)| claim));
        self.full
    }
}

impl Inner {
    /// Fetches what was claimed, keeps it and tells whoever waits.
    async fn fetch(&self, claim: Claim) {
        let landing = Landing {
            inner: self,
            object: &claim.object,
            blocks: claim.blocks.clone(),
            is_direct: claim.is_direct,
        };
        let range = bytes_of(&claim.blocks, claim.object_bytes);
        let bytes = range.end - range.start;
        let room = self.rooms.enter(claim.lane, claim.is_direct, bytes).await;
        let fetched: Fetched = self.gather(&claim).await;
        drop(room);
        if let Ok(blocks) = &fetched {
            self.keep(&claim.object, claim.blocks.start, claim.lane, blocks);
        }
        // In memory first, then out of flight: nobody finds a block in neither.
        drop(landing);
        // Nobody may be waiting any more.
        let _ = claim.answer.send(fetched);
    }

    /// The blocks of a claim: those on the disk from there, each stretch of the others in one piece.
    async fn gather(&self, claim: &Claim) -> Fetched {
        let mut blocks = self.look_on_disk(claim).await;
        let mut stretches: Vec<Range<u64>> = Vec::new();
        for (block, found) in claim.blocks.clone().zip(&blocks) {
            match stretches.last_mut() {
                _ if found.is_some() => {}
                Some(last) if last.end == block => last.end = block + 1,
                _ => stretches.push(block..block + 1),
            }
        }
        let fetches = stretches.iter().map(|stretch| async move {
            let range = bytes_of(stretch, claim.object_bytes);
            let bytes = self.bring(claim, range).await?;
            Ok::<_, BucketError>((stretch.start, bytes))
        });
        for (first, bytes) in try_join_all(fetches).await? {
            let place = usize::try_from(first - claim.blocks.start).unwrap_or(usize::MAX);
            let mut rest = bytes;
            for (found, block) in blocks.iter_mut().skip(place).zip(first..) {
                if rest.is_empty() {
                    break;
                }
                let piece = rest.split_to(block_len().min(rest.len()));
                if let Some(disk) = &self.disk {
                    let object = Arc::clone(&claim.object);
                    disk.insert(BlockKey { object, block }, &piece);
                }
                *found = Some(piece);
            }
        }
        Ok(blocks.into_iter().flatten().collect())
    }

    async fn look_on_disk(&self, claim: &Claim) -> Vec<Option<Bytes>> {
        let keys: Vec<_> = claim.blocks.clone().collect();
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(DISK_READS) {
            let Some(disk) = &self.disk else {
                found.extend(keys.iter().map(|_| None));
                continue;
            };
            let reads = keys.iter().map(|block| async move {
                let key = BlockKey {
                    object: Arc::clone(&claim.object),
                    block: *block,
                };
                let expected = Self::block_bytes(claim.object_bytes, *block);
                disk.get(&key, expected).await
            });
            found.extend(join_all(reads).await);
        }
        found
    }

    /// A range from the neighbour that fetches its segment, or from the store.
    async fn bring(&self, claim: &Claim, range: Range<u64>) -> Result<Bytes, BucketError> {
        if let (false, Some(neighbours)) = (claim.is_direct, self.neighbours.get()) {
            let (key, bytes) = (&claim.object, claim.object_bytes);
            let read = neighbours.read(key, bytes, claim.segment, range.clone());
            match read.await {
                Some(bytes) if bytes.len() as u64 == range.end - range.start => return Ok(bytes),
                Some(bytes) => tracing::warn!(
                    object = %claim.object, got = bytes.len(), ?range,
                    "a neighbour gave another length than was asked for; the store is asked"
                ),
                None => {}
            }
        }
        self.store.read(&claim.object, range).await
    }

    /// Fetches blocks from the store, whatever is held of them, and keeps them.
    pub(super) async fn fetch_afresh(
        &self,
        object: &Arc<str>,
        object_bytes: u64,
        blocks: Range<u64>,
    ) -> Fetched {
        let range = bytes_of(&blocks, object_bytes);
        let bytes = range.end - range.start;
        let room = self.rooms.enter(Lane::Hot, true, bytes).await;
        let mut rest = self.store.read(object, range).await?;
        drop(room);
        let mut fresh = Vec::new();
        for block in blocks.clone() {
            let piece = rest.split_to(block_len().min(rest.len()));
            if let Some(disk) = &self.disk {
                let object = Arc::clone(object);
                disk.insert(BlockKey { object, block }, &piece);
            }
            fresh.push(piece);
        }
        let fresh: Arc<[Bytes]> = fresh.into();
        self.keep(object, blocks.start, Lane::Hot, &fresh);
        Ok(fresh)
    }
}

/// Takes a claim's blocks out of flight, whether its fetch ended, was dropped or panicked.
struct Landing<'a> {
    inner: &'a Inner,
    object: &'a Arc<str>,
    blocks: Range<u64>,
    is_direct: bool,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.inner.in_flight();
        for block in self.blocks.clone() {
            let key = BlockKey {
                object: Arc::clone(self.object),
                block,
            };
            in_flight.remove(&(key, self.is_direct));
        }
    }
}
