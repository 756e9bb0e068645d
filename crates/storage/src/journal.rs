//! An append-only log on the local disk, with group commit.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;

/// How a journal lays out its files.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Bytes of one preallocated file.
    pub segment_bytes: u64,
    /// Bytes of entries kept in memory for readers of the tail.
    pub tail_bytes: usize,
}

/// One write. Writes take effect in the order in which they are submitted.
#[derive(Debug)]
pub enum Write {
    /// Appends an entry; `index` is one more than the last, or anything when there is none.
    Append {
        /// Its index.
        index: u64,
        /// Its bytes, one after another.
        payload: Vec<Bytes>,
    },
    /// Removes all entries after `index`.
    TruncateAfter {
        /// The last one to keep.
        index: u64,
    },
    /// Forgets all entries up to and with `index`; their files are recycled.
    PurgeTo {
        /// The last one to forget.
        index: u64,
    },
    /// Keeps a small value under a number, replacing the last; survives every purge.
    Note {
        /// Which, below 16.
        slot: u8,
        /// At most 4 KiB.
        value: Bytes,
    },
}

/// Called once, when the writes of one submission are durable or have failed.
pub type OnDurable = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// Why a journal cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk's error.
    #[error("{path}: {reason}")]
    Io {
        /// Which file.
        path: String,
        /// In the system's words.
        reason: String,
    },
    /// Bytes that were acknowledged are damaged: not at the torn end, but before valid records.
    #[error("{path}: damaged at byte {position}: {reason}; restore this file from a copy or rebuild the node from its peers or the bucket")]
    Damaged {
        /// Which file.
        path: String,
        /// Where.
        position: u64,
        /// What was wrong.
        reason: String,
    },
    /// The journal has stopped after an earlier error.
    #[error("journal is closed: {0}")]
    Closed(String),
}

/// A journal. Its I/O thread ends when the last handle is dropped or after [`Journal::close`].
#[derive(Clone, Debug)]
pub struct Journal {}

impl Journal {
    /// Opens the journal in `dir`, making it when there is none. A torn end is cut; damage before
    /// it is an error.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        let _ = (disk, dir, options);
        todo!()
    }

    /// Queues writes. They are visible to readers when this returns and durable when `on_durable`
    /// is called.
    pub fn submit(&self, writes: Vec<Write>, on_durable: OnDurable) {
        let _ = (writes, on_durable);
        todo!()
    }

    /// The entries there are: first index to one past the last.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        todo!()
    }

    /// Entries of `range`, in order, stopping after about `max_bytes` (at least one). Blocks on disk
    /// when they are no longer in memory.
    ///
    /// # Errors
    /// See [`JournalError`]; also when the range was purged.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, JournalError> {
        let _ = (range, max_bytes);
        todo!()
    }

    /// A note's value.
    #[must_use]
    pub fn note(&self, slot: u8) -> Option<Bytes> {
        let _ = slot;
        todo!()
    }

    /// Writes out what is queued and stops.
    pub fn close(&self) {
        todo!()
    }
}
