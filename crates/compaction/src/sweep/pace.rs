//! So many deletions a second, over both loops.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_metadata::State;
use alluvium_objects::key;
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::ObjectId;
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

use super::Trouble;

/// Deletions under way at once.
const AT_ONCE: usize = 8;

/// Hands out moments to delete at. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    step: Duration,
    next: Arc<Mutex<Option<Instant>>>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            step: Duration::from_secs(1) / per_second.max(1),
            next: Arc::default(),
        }
    }

    async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + self.step);
            turn
        };
        sleep_until(turn).await;
    }

    /// Deletes objects, in no certain order. Those that are gone now, and why not all are.
    pub(super) async fn delete(
        &self,
        bucket: &Bucket,
        objects: Vec<(ObjectId, u64)>,
        kind: &'static str,
    ) -> (Vec<ObjectId>, Result<(), Trouble>) {
        let deletions = objects.into_iter().map(|(object, bytes)| async move {
            self.turn().await;
            (object, bytes, bucket.delete(&key(object)).await)
        });
        let mut deletions = stream::iter(deletions).buffer_unordered(AT_ONCE);
        let (mut gone, mut trouble) = (Vec::new(), Ok(()));
        while let Some((object, bytes, deleted)) = deletions.next().await {
            match deleted {
                Ok(()) => {
                    metrics::counter!("alluvium_sweep_deleted_total", "kind" => kind).increment(1);
                    metrics::counter!("alluvium_sweep_deleted_bytes_total", "kind" => kind)
                        .increment(bytes);
                    gone.push(object);
                }
                // Others can be deleted all the same, and this one is tried again in the next round.
                Err(error @ BucketError::Denied { .. }) => {
                    metrics::counter!("alluvium_sweep_failures_total").increment(1);
                    tracing::warn!(%error, "the sweeper may not delete an object; allow it to");
                }
                Err(error) => trouble = Err(error.into()),
            }
        }
        (gone, trouble)
    }
}

/// Whether a manifest names an object or named it, and it is not forgotten yet.
pub(super) fn is_known(state: &State, object: ObjectId) -> bool {
    state.object_bytes(object).is_some()
}
