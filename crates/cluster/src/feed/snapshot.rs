//! A state as bytes, for observers that are too far behind for entries.
//!
//! There is one at a time, however many ask: those who come while it can still be followed by entries
//! share it, and it is dropped when nobody has read of it for a while. A subscriber holds none of it,
//! so one that stalls costs nothing.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use alluvium_storage::blocking;

use crate::view::{Current, View};

/// How long one is kept that nobody reads.
const IDLE: Duration = Duration::from_secs(5);

/// The one snapshot that is being sent.
#[derive(Debug)]
pub(crate) struct SharedSnapshot {
    view: Arc<View>,
    kept: Arc<Mutex<Option<Kept>>>,
    /// Whoever holds it writes one; the others wait for that.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Kept {
    next_index: u64,
    bytes: Bytes,
    read_at: Instant,
}

/// Which snapshot, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotInfo {
    /// In it lies every entry below.
    pub(crate) next_index: u64,
    /// Length in bytes.
    pub(crate) bytes: usize,
}

impl SharedSnapshot {
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self {
            view,
            kept: Arc::default(),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    /// One that covers everything below `next_index`, made if there is none.
    pub(crate) async fn covering(&self, next_index: u64) -> Result<SnapshotInfo, String> {
        let _writing = self.writing.lock().await;
        if let Some(info) = self.info().filter(|info| info.next_index >= next_index) {
            return Ok(info);
        }
        let view = Arc::clone(&self.view);
        let written = blocking(move || {
            let current = view.read(Current::clone);
            (current.checkpoint.next_index(), current.state.to_snapshot())
        });
        let (covers, bytes) = written.await.map_err(|error| error.to_string())?;
        let info = SnapshotInfo {
            next_index: covers,
            bytes: bytes.len(),
        };
        let fresh = lock(&self.kept)
            .replace(Kept {
                next_index: covers,
                bytes,
                read_at: Instant::now(),
            })
            .is_none();
        if fresh {
            // It ends when it has dropped the snapshot, or the node is gone.
            tokio::spawn(drop_when_idle(Arc::downgrade(&self.kept)));
        }
        Ok(info)
    }

    /// Bytes of a snapshot; `None` when it is no longer there.
    pub(crate) fn read(&self, snapshot: SnapshotInfo, at: usize, length: usize) -> Option<Bytes> {
        let mut kept = lock(&self.kept);
        let kept = kept
            .as_mut()
            .filter(|kept| kept.next_index == snapshot.next_index)?;
        kept.read_at = Instant::now();
        let end = at.saturating_add(length).min(kept.bytes.len());
        (at <= end).then(|| kept.bytes.slice(at..end))
    }

    fn info(&self) -> Option<SnapshotInfo> {
        lock(&self.kept).as_mut().map(|kept| {
            kept.read_at = Instant::now();
            SnapshotInfo {
                next_index: kept.next_index,
                bytes: kept.bytes.len(),
            }
        })
    }
}

async fn drop_when_idle(kept: Weak<Mutex<Option<Kept>>>) {
    loop {
        sleep(IDLE).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = lock(&kept);
        if kept.as_ref().is_none_or(|it| it.read_at.elapsed() >= IDLE) {
            *kept = None;
            return;
        }
    }
}

fn lock(kept: &Mutex<Option<Kept>>) -> std::sync::MutexGuard<'_, Option<Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
