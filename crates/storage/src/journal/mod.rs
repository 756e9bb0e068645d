//! An append-only log on the local disk, with group commit.
//!
//! All writes of a journal (entries, truncations, purges and small notes) form one stream, so that
//! what was submitted first is durable first. [`Journal::submit`] only queues: the writes are visible
//! to readers at once. One I/O thread takes everything queued, writes it with one call, syncs once
//! and calls back in order. After an error of the disk it writes no more: what a failed sync left
//! behind is not known, so it is never tried again, and the journal is closed until it is opened anew.
//!
//! - `record`: the framing, and how a torn write is told from damage.
//! - `segment`: the files: preallocated, recycled after a purge. Each begins with the current notes, so
//!   that older ones can go.
//! - `index`: which entries there are and where, 8 bytes each.
//! - `state`: what handles and the I/O thread share; `writer`: the thread's work; `runner`: the thread;
//!   `recover`: opening; `salvage`: opening what is damaged.
//!
//! Memory: the index, `tail_bytes` of entries, and whatever is queued: callers bound what they have
//! submitted and not yet heard of. Entries keep the slices that they were given.

mod index;
mod record;
mod recover;
mod runner;
mod salvage;
mod segment;
mod state;
mod writer;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::disk::Disk;
use record::{Kind, Window};
use runner::Runner;
pub use salvage::Damage;
use state::{Shared, Source};
use writer::Writer;

/// How many notes a journal keeps.
pub const NOTE_SLOTS: usize = 16;

/// Longest value of a note.
pub const NOTE_BYTES: usize = 4 << 10;

type Notes = [Option<Bytes>; NOTE_SLOTS];

/// How a journal lays out its files.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Bytes of one preallocated file; at least one page, at most 4 GiB.
    pub segment_bytes: u64,
    /// Bytes of entries kept in memory for readers of the tail.
    pub tail_bytes: usize,
}

/// One write. Writes take effect in the order in which they are submitted.
#[derive(Debug)]
pub enum Write {
    /// Appends an entry; `index` is one more than the last, or anything above what was purged when
    /// there is none.
    Append {
        /// Its index.
        index: u64,
        /// Its bytes, one after another; at most 1 GiB.
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
        /// Which, below [`NOTE_SLOTS`].
        slot: u8,
        /// At most [`NOTE_BYTES`].
        value: Bytes,
    },
}

/// Called once, when the writes of one submission are durable or have failed; on the journal's I/O
/// thread, so it must be quick, or on the caller's when they are refused at once.
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
    #[error(
        "{path}: damaged at byte {position}: {reason}; restore this file from a copy or rebuild the node from its peers or the bucket"
    )]
    Damaged {
        /// Which file.
        path: String,
        /// Where.
        position: u64,
        /// What was wrong.
        reason: String,
    },
    /// The entry is gone.
    #[error("entry {index} was purged; the first one left is {first}")]
    Purged {
        /// Which was asked for.
        index: u64,
        /// The first one there is.
        first: u64,
    },
    /// The writes make no sense after those before them; none of them took effect.
    #[error("the journal cannot take this: {0}")]
    Refused(String),
    /// The journal has stopped after an earlier error.
    #[error("journal is closed: {0}")]
    Closed(String),
}

impl JournalError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            reason: error.to_string(),
        }
    }

    fn damaged(path: &Path, position: u64, reason: &str) -> Self {
        let path = path.display().to_string();
        Self::Damaged {
            path,
            position,
            reason: reason.to_owned(),
        }
    }
}

/// A journal. Its I/O thread ends when the last handle is dropped or after [`Journal::close`].
#[derive(Clone, Debug)]
pub struct Journal {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    runner: Runner,
}

impl Journal {
    /// Opens the journal in `dir`, making it when there is none. A torn end is cut; damage before
    /// it is an error.
    ///
    /// Takes as long as reading what was not purged. The caller sees to it that no other process has
    /// the folder.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        Self::open_with(disk, dir, options, None)
    }

    /// As [`Self::open`], but damage before the torn end is left out and returned, and the rest is
    /// there: reads end before an entry that was lost, and begin again behind it.
    ///
    /// # Errors
    /// The disk's.
    pub fn salvage(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<(Self, Vec<Damage>), JournalError> {
        let mut damages = Vec::new();
        let journal = Self::open_with(disk, dir, options, Some(&mut damages))?;
        Ok((journal, damages))
    }

    fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
        damages: Option<&mut Vec<Damage>>,
    ) -> Result<Self, JournalError> {
        let mut recovered = recover::recover(disk, dir, options.segment_bytes, damages)?;
        let index = std::mem::take(&mut recovered.index);
        let purged = index.bounds().purged();
        let (notes, live) = (recovered.notes.clone(), recovered.live.clone());
        let shared = Arc::new(Shared::new(index, notes, live, options.tail_bytes));
        let writer = Writer::new(Arc::clone(&shared), recovered, purged)
            .ok_or_else(|| JournalError::damaged(dir, 0, "there is no segment"))?;
        let runner = Runner::start(&shared, writer, dir)?;
        Ok(Self {
            handle: Arc::new(Handle { shared, runner }),
        })
    }

    /// Queues writes. They are visible to readers when this returns and durable when `on_durable`
    /// is called. When one of them is refused, none takes effect.
    pub fn submit(&self, writes: Vec<Write>, on_durable: OnDurable) {
        self.handle.shared.submit(writes, on_durable);
    }

    /// The entries there are: first index to one past the last.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.handle.shared.lock().range()
    }

    /// Entries of `range`, in order, stopping after about `max_bytes` (at least one) and at the last
    /// one there is. Blocks on disk when they are no longer in memory.
    ///
    /// # Errors
    /// See [`JournalError`]; [`JournalError::Purged`] when the range begins before the first entry.
    pub fn read(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, JournalError> {
        let plan = self.handle.shared.lock().plan(range, max_bytes)?;
        let mut entries = Vec::with_capacity(plan.len());
        let mut bytes = 0;
        let mut rest = plan.as_slice();
        while let Some(((index, source), after)) = rest.split_first() {
            match source {
                Source::Memory(payload) => {
                    let payload = join(payload);
                    bytes += payload.len();
                    entries.push((*index, payload));
                    rest = after;
                }
                Source::Disk(segment, _) => {
                    let same = rest.iter().take_while(|(_, source)| {
                        matches!(source, Source::Disk(other, _) if Arc::ptr_eq(other, segment))
                    });
                    let (run, after) = rest.split_at(same.count());
                    bytes += self.read_run(segment, run, max_bytes - bytes, &mut entries)?;
                    rest = after;
                }
            }
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(entries)
    }

    /// A piece of one of the newest entries, if it is in memory. Does not block.
    #[must_use]
    pub fn peek_piece(&self, index: u64, piece: Range<usize>) -> Option<Bytes> {
        let end = index.checked_add(1)?;
        let plan = self.handle.shared.lock().plan(index..end, 1).ok()?;
        match plan.first()? {
            (_, Source::Memory(payload)) => Some(piece_of(payload, piece)),
            (_, Source::Disk(..)) => None,
        }
    }

    /// A piece of one entry: none when there is no such entry (it was purged, or lost), and shorter
    /// where the entry ends. From disk, the whole entry is read and checked. Blocks.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn read_piece(
        &self,
        index: u64,
        piece: Range<usize>,
    ) -> Result<Option<Bytes>, JournalError> {
        let end = index.saturating_add(1);
        let plan = self.handle.shared.lock().plan(index..end, 1);
        let plan = match plan {
            Err(JournalError::Purged { .. }) => return Ok(None),
            plan => plan?,
        };
        let mut entries = Vec::new();
        match plan.first() {
            None => return Ok(None),
            Some((_, Source::Memory(payload))) => return Ok(Some(piece_of(payload, piece))),
            Some((_, Source::Disk(segment, _))) => {
                self.read_run(segment, &plan, usize::MAX, &mut entries)?;
            }
        }
        let payload = entries.pop().map(|(_, payload)| payload);
        Ok(payload.map(|payload| piece_of(&[payload], piece)))
    }

    /// Entries of one segment, from disk.
    fn read_run(
        &self,
        segment: &segment::Segment,
        run: &[(u64, Source)],
        max_bytes: usize,
        entries: &mut Vec<(u64, Bytes)>,
    ) -> Result<usize, JournalError> {
        let position = |entry: Option<&(u64, Source)>| match entry {
            Some((_, Source::Disk(_, position))) => *position,
            _ => 0,
        };
        let span = position(run.last()).saturating_sub(position(run.first()));
        let ahead = usize::try_from(span)
            .unwrap_or(usize::MAX)
            .saturating_add(4 << 10);
        let mut window = Window::new(segment.file.as_ref(), segment.capacity, ahead);
        let mut bytes = 0;
        for (index, source) in run {
            let Source::Disk(_, position) = source else {
                break;
            };
            let read = window.record(*position, segment.generation);
            let record = match read.map_err(|error| JournalError::io(&segment.path, &error))? {
                Ok(record) if record.kind == Kind::Append && record.index == *index => record,
                other => {
                    // Purged and recycled while it was being read?
                    let first = self.range().start;
                    if *index < first {
                        return Err(JournalError::Purged {
                            index: *index,
                            first,
                        });
                    }
                    let reason = other.err().unwrap_or("another record than expected");
                    return Err(JournalError::damaged(&segment.path, *position, reason));
                }
            };
            bytes += record.payload.len();
            entries.push((*index, record.payload));
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(bytes)
    }

    /// A note's value.
    #[must_use]
    pub fn note(&self, slot: u8) -> Option<Bytes> {
        self.handle
            .shared
            .lock()
            .notes
            .get(usize::from(slot))
            .cloned()
            .flatten()
    }

    /// Writes out what is queued and stops; later writes fail. Blocks until that is done, unless it is
    /// called from `on_durable`.
    pub fn close(&self) {
        self.handle.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.close("it was closed");
        self.runner.join();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// A piece of what the parts make together; copied only where it crosses them.
fn piece_of(parts: &[Bytes], piece: Range<usize>) -> Bytes {
    let mut begin = 0;
    let mut pieces = Vec::new();
    for part in parts {
        let end = begin + part.len();
        let (from, to) = (piece.start.max(begin), piece.end.min(end));
        if from < to {
            pieces.push(part.slice(from - begin..to - begin));
        }
        begin = end;
    }
    join(&pieces)
}

fn join(parts: &[Bytes]) -> Bytes {
    match parts {
        [] => Bytes::new(),
        [only] => only.clone(),
        many => {
            let mut joined = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
            many.iter().for_each(|part| joined.extend_from_slice(part));
            joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests;
