//! Makes a chunk durable in an object, trying until a deadline.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep, timeout_at};

use alluvium_metadata::{ChunkRun, Location};
use alluvium_objects::{ChunkOrigin, key};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{Clock, ObjectId};

use crate::backoff::Backoff;
use crate::fetch::Recent;

use super::chunk::Batches;

/// How long a chunk may try to get into the bucket. Kafka's clients wait 30 seconds for an answer.
pub(super) const PUT_DEADLINE: Duration = Duration::from_secs(25);

/// What uploads need.
#[derive(Clone, Debug)]
pub(super) struct Uploader {
    pub(super) bucket: Bucket,
    pub(super) recent: Recent,
    pub(super) clock: Arc<dyn Clock>,
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
    /// Writes the chunk. Every attempt bears a name of its own: one that was given up may still
    /// arrive, and is then nobody's. By `origin` a restore knows them for the same chunk.
    pub(super) async fn upload(
        &self,
        mut batches: Batches,
        origin: ChunkOrigin,
    ) -> Result<(Location, Vec<ChunkRun>), UploadError> {
        let deadline = Instant::now() + PUT_DEADLINE;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        batches.gather_small();
        loop {
            let object = ObjectId(alluvium_types::random::value());
            let (built, runs) = batches.object(object, origin, self.clock.now());
            let started = Instant::now();
            let name = key(object);
            let created = self.bucket.create(&name, built.parts.clone());
            let error = match timeout_at(deadline, created).await {
                Ok(Ok(())) => {
                    metrics::histogram!("alluvium_produce_put_seconds")
                        .record(started.elapsed().as_secs_f64());
                    self.recent.insert(object, built.parts, built.bytes);
                    return Ok((
                        Location::Object {
                            object,
                            bytes: built.bytes,
                        },
                        runs,
                    ));
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(UploadError::TimedOut),
            };
            metrics::counter!("alluvium_produce_put_failures_total").increment(1);
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
}
