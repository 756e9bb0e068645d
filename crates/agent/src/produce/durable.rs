//! Makes a chunk durable: in write-ahead buffers, or in an object, trying until a deadline.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep, timeout_at};

use alluvium_metadata::{ChunkRun, Location};
use alluvium_objects::{BuiltObject, ChunkOrigin, key};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_storage::hedge::Hedges;
use alluvium_types::{Clock, ObjectId, limits::INLINE_CHUNK_BYTES};

use crate::backoff::Backoff;
use crate::fetch::Recent;
use crate::store_health::{SLOW, StoreHealth};
use crate::write_ahead::UnderWay;

use super::chunk::Batches;
use super::journal::{Journaler, Kept};

/// How long a chunk may try to get into the bucket. Kafka's clients wait 30 seconds for an answer.
pub(super) const PUT_DEADLINE: Duration = Duration::from_secs(25);

/// No second PUT before this: below, it cannot win enough.
const HEDGE_FLOOR: Duration = Duration::from_millis(25);

/// What uploads need.
#[derive(Clone, Debug)]
pub(super) struct Uploader {
    pub(super) bucket: Bucket,
    pub(super) hedges: Arc<Hedges>,
    pub(super) recent: Recent,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: StoreHealth,
    pub(super) journaler: Option<Journaler>,
}

/// A chunk that is durable.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) location: Location,
    pub(super) runs: Vec<ChunkRun>,
    /// While it lies in write-ahead buffers.
    pub(super) under_way: Option<UnderWay>,
}

impl From<Kept> for Durable {
    fn from(kept: Kept) -> Self {
        Self {
            location: kept.location,
            runs: kept.runs,
            under_way: Some(kept.under_way),
        }
    }
}

/// A chunk that is in the bucket.
struct Written {
    built: BuiltObject,
    runs: Vec<ChunkRun>,
    /// How long its own PUT took.
    took: Duration,
}

/// Why a chunk is not durable.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("the store did not answer in time")]
    TimedOut,
}

impl Uploader {
    /// Keeps the chunk in write-ahead buffers, `is_weak` in one; where that fails, in an object.
    pub(super) async fn keep(
        &self,
        mut batches: Batches,
        origin: ChunkOrigin,
        is_weak: bool,
    ) -> Result<Durable, UploadError> {
        if let Some(journaler) = &self.journaler {
            batches.gather_small();
            match journaler.keep(&batches, is_weak).await {
                Ok(kept) => return Ok(kept.into()),
                Err(error) => {
                    metrics::counter!("alluvium_produce_journal_failures_total").increment(1);
                    tracing::warn!(%error, "a chunk is not in the write-ahead buffer; it goes to an object");
                }
            }
        }
        self.upload(batches, origin, false).await
    }

    /// Writes the chunk. Every attempt bears a name of its own: one that was given up may still
    /// arrive, and is then nobody's. By `origin` a restore knows them for the same chunk.
    ///
    /// A chunk that `may_turn` goes elsewhere when the store fails or hangs.
    pub(super) async fn upload(
        &self,
        mut batches: Batches,
        origin: ChunkOrigin,
        may_turn: bool,
    ) -> Result<Durable, UploadError> {
        let deadline = Instant::now() + PUT_DEADLINE;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        batches.gather_small();
        loop {
            let started = Instant::now();
            let mut created = pin!(self.create(&batches, origin));
            let mut ended = timeout_at(deadline.min(started + SLOW), &mut created).await;
            if ended.is_err() && Instant::now() < deadline {
                self.health.suffered();
                if may_turn && let Some(turned) = self.turn(&batches).await {
                    return Ok(turned);
                }
                ended = timeout_at(deadline, &mut created).await;
            }
            let error = match ended {
                Ok(Ok(Written { built, runs, took })) => {
                    self.health.succeeded(took);
                    metrics::histogram!("alluvium_produce_put_seconds")
                        .record(started.elapsed().as_secs_f64());
                    let (object, bytes) = (built.object, built.bytes);
                    self.recent.insert(object, built.parts, bytes);
                    return Ok(Durable {
                        location: Location::Object { object, bytes },
                        runs,
                        under_way: None,
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(UploadError::TimedOut),
            };
            metrics::counter!("alluvium_produce_put_failures_total").increment(1);
            self.health.suffered();
            if may_turn
                && self.health.is_brown()
                && let Some(turned) = self.turn(&batches).await
            {
                return Ok(turned);
            }
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                return Err(error.into());
            }
            // One failure is the store's everyday life; several are news.
            if backoff.attempts() > 2 {
                tracing::warn!(%error, attempt = backoff.attempts(), "a chunk is not written yet");
            } else {
                tracing::debug!(%error, "writing a chunk failed; trying again");
            }
            sleep(pause).await;
        }
    }

    /// One attempt. A PUT that takes longer than 19 of 20 is made a second time under another name;
    /// the one that loses may be dropped halfway, and is then nobody's.
    async fn create(&self, batches: &Batches, origin: ChunkOrigin) -> Result<Written, BucketError> {
        let put = || async {
            let object = ObjectId(alluvium_types::random::value());
            let (built, runs) = batches.object(object, origin, self.clock.now());
            let started = Instant::now();
            self.bucket
                .create(&key(object), built.parts.clone())
                .await?;
            let took = started.elapsed();
            Ok(Written { built, runs, took })
        };
        self.hedges.first_of(self.hedge_after(batches), put).await
    }

    /// Not at all while the store asks for fewer requests.
    fn hedge_after(&self, batches: &Batches) -> Option<Duration> {
        let bytes = u64::try_from(batches.bytes()).unwrap_or(u64::MAX);
        let usual = self.bucket.put_latency(bytes)?;
        let is_paced = self.bucket.health().rate.is_some();
        (!is_paced).then(|| usual.p95.max(HEDGE_FLOOR))
    }

    /// Makes a chunk durable without the store, if that can be had.
    async fn turn(&self, batches: &Batches) -> Option<Durable> {
        if batches.bytes() <= INLINE_CHUNK_BYTES {
            let (location, runs) = batches.inline();
            return Some(Durable {
                location,
                runs,
                under_way: None,
            });
        }
        let journaler = self.journaler.as_ref()?;
        if !journaler.has_enough() {
            return None;
        }
        match journaler.keep(batches, false).await {
            Ok(kept) => Some(kept.into()),
            Err(error) => {
                tracing::debug!(%error, "a chunk cannot go to write-ahead buffers either");
                None
            }
        }
    }
}
