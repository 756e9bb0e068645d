//! A quorum from the bucket, when all metadata disks are gone.
//!
//! 1. [`history`]: which history of the cluster, and its newest usable snapshot.
//! 2. [`replay`]: the pieces of the log behind it, up to the first gap.
//! 3. [`objects`]: all data objects of the bucket. One that the state names is where it belongs. One
//!    that it does not name, and that was written about when the archive ends or later, holds records
//!    whose commands are in the lost tail of the log.
//! 4. [`elsewhere`]: less those whose batches the log has in another place.
//! 5. [`resequence`]: what is left is given offsets anew.
//! 6. [`found`]: the marker of a new history is created, which fences the old quorum and every other
//!    restore; then its first snapshot is written to the bucket, and the same to the new voter's disk.
//!
//! [`archived`] does the first two alone, for who only wants to look.
//!
//! What is lost: records that were acknowledged inside the log (small chunks) less than an archive
//! interval before the end and had not been settled to an object; and commands of that time (topics,
//! commits). Everything is said in the [`RestoreReport`].

mod archived;
mod elsewhere;
mod found;
mod history;
mod objects;
mod order;
mod replay;
mod report;
mod resequence;

#[cfg(test)]
mod node_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_storage::disk::Disk;
use alluvium_types::{Clock, Millis, TopicId};

use crate::archive::marker::{Marker, MarkerError};
use crate::view::Current;

pub use archived::{ArchivedState, is_archive_key, read_archive};
pub use report::{LostRun, PartitionOffsets, RefusedBatches, Replayed, Resequenced, RestoreReport};

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct RestoreConfig {
    /// The bucket that holds the cluster.
    pub bucket: Bucket,
    /// The metadata folder to be; must be empty or not there.
    pub dir: PathBuf,
    /// The disk it is on.
    pub disk: Arc<dyn Disk>,
    /// The new voter's `metadata.node_id`.
    pub node: u32,
    /// Its cluster address; empty for a process of its own.
    pub address: String,
    /// The moment to go back to; the newest state when there is none.
    pub at: Option<Millis>,
    /// Only say what would be kept: nothing is written anywhere.
    pub plan: bool,
    /// Stamps the new history.
    pub clock: Arc<dyn Clock>,
}

/// How far a restore is, for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreStep {
    /// Pieces of the log were replayed.
    Pieces {
        /// So many,
        done: u64,
        /// of so many.
        all: u64,
    },
    /// Objects were listed so far.
    Listed(u64),
    /// Objects that the state does not name were read.
    Objects {
        /// So many,
        done: u64,
        /// of so many.
        all: u64,
    },
    /// The new quorum is being written.
    Writing,
}

/// Is told how far a restore is.
pub(crate) type Watcher<'a> = &'a (dyn Fn(RestoreStep) + Send + Sync);

/// Why a restore was not made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store's.
    #[error("{0}")]
    Bucket(#[from] BucketError),
    /// What is in the bucket cannot be used. Says which file and what to do.
    #[error("{0}")]
    Archive(String),
    /// The folder cannot be used.
    #[error("{0}")]
    Folder(String),
    /// Another restore of this cluster has begun.
    #[error("{0}")]
    Raced(String),
}

impl From<MarkerError> for RestoreError {
    fn from(error: MarkerError) -> Self {
        match error {
            MarkerError::Bucket(error) => Self::Bucket(error),
            other => Self::Archive(other.to_string()),
        }
    }
}

/// Where a restore stands between its steps.
struct Restoring {
    cluster: TopicId,
    /// The history that is restored.
    from: u32,
    /// The history that begins.
    history: u32,
    current: Current,
    /// The archive's last moment.
    last_at: Millis,
}

/// Restores a cluster. When it returns, a server that starts on the folder leads a quorum of one.
///
/// # Errors
/// See [`RestoreError`]. Before the marker is created nothing has changed anywhere; an error after it
/// leaves the old quorum fenced, and the restore is to be run again.
pub async fn restore(
    config: &RestoreConfig,
    watch: Watcher<'_>,
) -> Result<RestoreReport, RestoreError> {
    if !config.plan {
        found::refuse_used(config).await?;
    }
    let bucket = &config.bucket;
    let markers = Marker::all(bucket).await?;
    let base = history::choose(bucket, &markers, config.at).await?;
    let newest = markers.last().map_or(0, |marker| marker.history);
    let (cluster, from) = (base.marker.cluster, base.marker.history);
    let (current, replayed) = replay::replay(bucket, base, config.at, watch).await?;
    let mut restoring = Restoring {
        cluster,
        from,
        history: newest.saturating_add(1),
        current,
        last_at: replayed.until,
    };
    let found = objects::find(bucket, &restoring, config.at, watch).await?;
    let now = config.clock.now();
    let lost = found.missing_runs(&restoring.current.state);
    let (damaged, passed_over) = (found.damaged, found.passed_over);
    let taken = order::order(found.chunks);
    let resequenced = resequence::resequence(&mut restoring, found.settled, taken);
    restoring
        .current
        .state
        .mark_restored(restoring.history, now);
    restoring
        .current
        .state
        .check()
        .map_err(|reason| RestoreError::Archive(format!(
            "the restored state does not hold together ({reason}); restore to an earlier moment with \
             --at"
        )))?;
    let voter = if config.plan {
        None
    } else {
        watch(RestoreStep::Writing);
        Some(found::found(config, &mut restoring, now).await?)
    };
    Ok(report::report(
        config,
        &restoring,
        voter,
        report::Findings {
            replayed,
            resequenced,
            lost,
            damaged,
            passed_over,
        },
    ))
}
