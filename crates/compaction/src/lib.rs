//! Keeps the bucket small and the log what its policy says. Runs in every agent.
//!
//! - [`merge`]: object compaction. Small objects become large ones in which a partition's bytes lie
//!   together.
//! - [`clean`]: log compaction. Of each key the newest record stays.
//! - [`retention`]: old or too many bytes go; log starts rise.
//! - [`sweep`]: deletes what no manifest names any more, and what none ever named.
//! - [`fsck`]: whether manifests and bucket agree.
//!
//! Nobody hands out the work. What there is to do follows from the metadata's state, and who does it
//! from rendezvous hashing over the live agents ([`ownership`]): every agent comes to the same answer.
//! Where two do the same for a moment, because one's view lags, the quorum takes the first and leaves
//! the second as it is: each command names what it replaces.

mod birth;
pub mod clean;
mod config;
pub mod fsck;
pub mod merge;
pub mod ownership;
pub mod policy;
pub mod retention;
pub mod sweep;

#[cfg(test)]
mod shelf;
#[cfg(test)]
mod testing;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_cluster::Metadata;
use alluvium_metadata::AgentOrigin;
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::Clock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use config::CompactionConfig;
pub use policy::{Policies, TopicPolicy};

/// Who this agent is. Implemented by the agent's registration.
pub trait Owner: Debug + Send + Sync + 'static {
    /// The registration to act under; none while the lease is not valid.
    fn origin(&self) -> Option<AgentOrigin>;
}

/// What every kind of work here needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// This agent.
    pub owner: Arc<dyn Owner>,
    /// The cluster's metadata.
    pub metadata: Metadata,
    /// The bucket.
    pub bucket: Bucket,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// What topics want.
    pub policies: Arc<dyn Policies>,
}

/// Whether bytes are not there, rather than not to be had now. A store denies what is missing to
/// whoever may not list it.
const fn is_missing(error: &BucketError) -> bool {
    matches!(
        error,
        BucketError::NotFound { .. } | BucketError::Denied { .. }
    )
}

/// The tasks of an agent that look after the bucket.
#[derive(Debug)]
pub struct Compaction {
    stop: CancellationToken,
    tasks: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
}

impl Compaction {
    /// Starts them.
    #[must_use]
    pub fn start(config: CompactionConfig, context: Context) -> Self {
        let stop = CancellationToken::new();
        let tasks = vec![
            (
                "merges objects",
                tokio::spawn(merge::run(context.clone(), config.clone(), stop.clone())),
            ),
            (
                "cleans logs",
                tokio::spawn(clean::run(context.clone(), config.clone(), stop.clone())),
            ),
            (
                "raises log starts",
                tokio::spawn(retention::run(
                    context.clone(),
                    config.clone(),
                    stop.clone(),
                )),
            ),
            (
                "sweeps the bucket",
                tokio::spawn(sweep::run(context, config, stop.clone())),
            ),
        ];
        Self {
            stop,
            tasks: Mutex::new(tasks),
        }
    }

    /// Stops them. What is under way is dropped: at worst an object stays that no run names.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for (task, handle) in tasks {
            if let Err(error) = handle.await {
                tracing::error!(%error, task, "a task did not stop cleanly");
            }
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.stop.cancel();
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, handle) in tasks.drain(..) {
            handle.abort();
        }
    }
}
