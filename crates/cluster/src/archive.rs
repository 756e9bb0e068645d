//! The archive: log and snapshots in the bucket, from which a burned cluster is rebuilt.
//!
//! The leader writes what was committed since the last time as one *piece* every interval (one
//! second), and a *snapshot* now and then. Nothing waits for it: an acknowledgement means a quorum of
//! disks, the bucket follows. So the bucket lacks at most what the last interval brought, unless the
//! store was away.
//!
//! Everything lies below `quorum/` ([`keys`]), in files of one frame ([`file`]) that are created
//! conditionally and never overwritten. A *history* is what one cluster did between two restores; its
//! number, the count of restores before it, is in every key. A marker per history is created before
//! the history begins: a leader that finds the marker of a later one than its own is fenced, and a
//! leader whose key is taken finds there what another leader of the same history archived, reads it
//! and goes on behind it.
//!
//! - [`archiver`]: what a leader does in a round. [`task`]: when, and what becomes of errors.
//! - [`source`]: the log as the archiver sees it. [`progress`]: how far it is, for people.
//! - [`listing`]: what is in the bucket. [`retention`]: what need not be there any more.
//!
//! Metrics: `alluvium_archive_pieces_total`, `alluvium_archive_snapshots_total`,
//! `alluvium_archive_bytes_total`, `alluvium_archive_failures_total`,
//! `alluvium_archive_removed_total`, `alluvium_archive_next_index`, `alluvium_archive_behind_seconds`.

mod archiver;
mod claim;
pub(crate) mod file;
pub(crate) mod keys;
pub(crate) mod listing;
pub(crate) mod marker;
pub(crate) mod piece;
mod progress;
mod retention;
pub(crate) mod snapshot;
mod source;
mod task;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use alluvium_storage::bucket::Bucket;

pub(crate) use claim::refuse_claimed;
pub(crate) use progress::ArchiveProgress;
pub(crate) use source::VoterSource;
pub(crate) use task::ArchiveTask;

/// How a voter archives while it leads.
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    /// Where to; the bucket that the cluster's objects are in.
    pub bucket: Bucket,
    /// Between two looks for what was committed. What a burned cluster may lose of inline records.
    pub interval: Duration,
    /// How far back a restore to a moment reaches.
    pub retention: Duration,
}

impl ArchiveConfig {
    /// Every second, kept for seven days.
    #[must_use]
    pub const fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            interval: Duration::from_secs(1),
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
