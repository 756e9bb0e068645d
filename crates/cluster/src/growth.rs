//! How much log has been written since the last snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// An amount of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSize {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// Counts what is appended and wakes the snapshotter when it is time.
#[derive(Debug)]
pub(crate) struct LogGrowth {
    entries: AtomicU64,
    bytes: AtomicU64,
    limit: LogSize,
    due: Notify,
}

impl LogGrowth {
    pub(crate) fn new(limit: LogSize) -> Self {
        Self {
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            limit,
            due: Notify::new(),
        }
    }

    pub(crate) fn add(&self, size: LogSize) {
        self.entries.fetch_add(size.entries, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(size.bytes, Ordering::Relaxed);
        metrics::gauge!("alluvium_metadata_log_bytes_since_snapshot")
            .set(lossy(bytes + size.bytes));
        if self.is_due() {
            self.due.notify_one();
        }
    }

    pub(crate) fn size(&self) -> LogSize {
        LogSize {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// A snapshot holds `size` of what was counted.
    pub(crate) fn settle(&self, size: LogSize) {
        self.entries.fetch_sub(size.entries, Ordering::Relaxed);
        let bytes = self.bytes.fetch_sub(size.bytes, Ordering::Relaxed);
        metrics::gauge!("alluvium_metadata_log_bytes_since_snapshot")
            .set(lossy(bytes.saturating_sub(size.bytes)));
    }

    pub(crate) fn is_due(&self) -> bool {
        self.reached(1)
    }

    /// An eighth of the limit: replaying it would be felt at the next start.
    pub(crate) fn is_noticeable(&self) -> bool {
        self.reached(8)
    }

    fn reached(&self, part: u64) -> bool {
        let size = self.size();
        size.bytes >= (self.limit.bytes / part).max(1)
            || size.entries >= (self.limit.entries / part).max(1)
    }

    /// Resolves when a snapshot is due.
    pub(crate) async fn wait_due(&self) {
        while !self.is_due() {
            self.due.notified().await;
        }
    }
}

/// For a gauge, where the last bits do not matter.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn lossy(value: u64) -> f64 {
    value as f64
}
