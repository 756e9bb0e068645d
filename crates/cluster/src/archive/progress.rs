//! How far the archive is, for people.

use std::sync::{Arc, Mutex, PoisonError};

use alluvium_types::Millis;

use crate::growth::lossy;
use crate::status::{ArchiveStatus, ArchiveTrouble};

/// Written by the archiver, read by who is asked how the cluster does. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArchiveProgress {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next_index: Option<u64>,
    /// When something was first seen that is not in the bucket yet.
    waiting_since: Option<Millis>,
    error: Option<ArchiveTrouble>,
}

impl ArchiveProgress {
    /// How it stands at `now`. As long as this node has not found the archive's end, or does not lead,
    /// nothing is known to be in the bucket: who waits for the archive must go on waiting.
    pub(crate) fn status(&self, now: Millis) -> ArchiveStatus {
        let inner = self.lock();
        ArchiveStatus {
            next_index: inner.next_index.unwrap_or(0),
            behind_millis: inner
                .waiting_since
                .and_then(|since| u64::try_from(now.saturating_sub(since)).ok())
                .unwrap_or(0),
            error: inner.error,
        }
    }

    /// Everything below `next_index` is there, of all below `committed`.
    pub(super) fn reached(&self, next_index: u64, committed: u64, now: Millis) {
        let mut inner = self.lock();
        let moved = inner.next_index.is_none_or(|before| before < next_index);
        inner.next_index = Some(next_index);
        inner.waiting_since = match inner.waiting_since {
            _ if next_index >= committed => None,
            Some(since) if !moved => Some(since),
            _ => Some(now),
        };
        let behind = inner
            .waiting_since
            .map_or(0, |since| now.saturating_sub(since));
        metrics::gauge!("alluvium_archive_next_index").set(lossy(next_index));
        metrics::gauge!("alluvium_archive_behind_seconds")
            .set(lossy(u64::try_from(behind).unwrap_or(0)) / 1000.0);
    }

    pub(super) fn trouble(&self, error: Option<ArchiveTrouble>) {
        self.lock().error = error;
    }

    /// This node does not lead.
    pub(super) fn idle(&self) {
        *self.lock() = Inner::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
