//! The write-ahead buffer: chunks that are durable on the local disk until they are in the bucket.
//!
//! A [`WriteAhead`] keeps chunks by name in a [`Journal`]: appended and synced in groups, read by
//! ranges, trimmed one by one in any order. Beside its bytes a chunk has what its writer says about it,
//! and a mark that can be set later. What is trimmed frees room when nothing older is left; then the
//! journal recycles its files. When it is opened again, everything that was durable and not trimmed is
//! there: a torn end is cut, and a damaged piece is reported while the rest goes on.
//!
//! A buffer draws an incarnation when it is made, so that a disk that was lost, and came back empty, is
//! not taken for the one that held a chunk.
//!
//! Memory: some dozens of bytes a chunk, its mark, and the newest chunks up to `tail_bytes`.

mod entry;
mod index;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use alluvium_types::{AgentEpoch, AgentId, ChunkNumber};

use crate::blocking::{Blocked, blocking};
use crate::disk::Disk;
use crate::journal::{Damage, Journal, JournalError, JournalOptions, Write};
use entry::{Entry, HEAD_BYTES, TRIM_NAMES};
use index::{Index, Slot};

/// The journal's note that holds the incarnation.
const INCARNATION: u8 = 0;

/// Most bytes that may be said about a chunk.
const ABOUT_BYTES: usize = 16 << 20;

/// Read at once while opening.
const REPLAY_BYTES: usize = 4 << 20;

/// A chunk's name: who wrote it under which registration, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkName {
    /// Who wrote it.
    pub agent: AgentId,
    /// Under which registration.
    pub epoch: AgentEpoch,
    /// Counted under that registration.
    pub chunk: ChunkNumber,
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            agent,
            epoch,
            chunk,
        } = self;
        write!(f, "chunk {} of agent {agent} (epoch {})", chunk.0, epoch.0)
    }
}

/// How large a buffer is.
#[derive(Clone, Copy, Debug)]
pub struct WriteAheadOptions {
    /// Most bytes on disk, at least 16 MiB.
    pub bytes: u64,
    /// Bytes of the newest chunks that stay in memory.
    pub tail_bytes: usize,
}

/// Why a chunk is not kept, or cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteAheadError {
    /// The disk or the journal on it.
    #[error("write-ahead buffer: {0}")]
    Journal(#[from] JournalError),
    /// Work on the disk did not end.
    #[error("write-ahead buffer: {0}")]
    Blocked(#[from] Blocked),
    /// No room until older chunks are trimmed.
    #[error(
        "the write-ahead buffer is full: {used} of {bytes} bytes wait to be settled (journal.bytes)"
    )]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes there may be.
        bytes: u64,
    },
    /// There is another chunk of this name.
    #[error("{0} is in the write-ahead buffer already")]
    Known(ChunkName),
    /// It was never here, or was trimmed.
    #[error("{0} is not in this write-ahead buffer")]
    NotHere(ChunkName),
    /// It was here, and its piece of the disk is damaged.
    #[error("{0} is lost: its piece of the write-ahead buffer is damaged")]
    Lost(ChunkName),
    /// The range ends behind the chunk.
    #[error("{name} has {bytes} bytes; asked for {range:?}")]
    OutOfRange {
        /// Which.
        name: ChunkName,
        /// Its length.
        bytes: u64,
        /// What was asked for.
        range: Range<u64>,
    },
}

/// A write-ahead buffer. Cheap to clone; its I/O thread ends with the last handle.
#[derive(Clone, Debug)]
pub struct WriteAhead {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    incarnation: u128,
    /// Most bytes between the oldest chunk and the newest.
    most: u64,
    damages: Vec<Damage>,
    /// Also orders what is submitted to the journal.
    index: Mutex<Index>,
}

impl WriteAhead {
    /// Opens the buffer in `dir`, making it when there is none. Damage is logged and told by
    /// [`Self::damages`]; it ends nothing.
    ///
    /// Takes as long as reading what was not trimmed. The caller sees to it that no other process has
    /// the folder.
    ///
    /// # Errors
    /// The disk's.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WriteAheadOptions,
    ) -> Result<Self, WriteAheadError> {
        // The files that are written to and recycled come on top of what is kept.
        let bytes = options.bytes.max(16 << 20);
        let segment_bytes = (bytes / 16).min(64 << 20);
        let journal_options = JournalOptions {
            segment_bytes,
            tail_bytes: options.tail_bytes,
        };
        let path: PathBuf = dir.to_path_buf();
        let opened = blocking(move || {
            let (journal, damages) = Journal::salvage(disk, &path, journal_options)?;
            let index = replay(&journal)?;
            Ok::<_, JournalError>((journal, damages, index))
        });
        let (journal, damages, index) = opened.await??;
        for damage in &damages {
            tracing::error!(
                file = damage.path,
                position = damage.position,
                bytes = damage.bytes,
                reason = damage.reason,
                "a piece of the write-ahead buffer is damaged and left out; what lay there is lost here"
            );
        }
        if index.lost() > 0 {
            tracing::error!(
                chunks = index.lost(),
                "entries of the write-ahead buffer are lost: chunks that other copies hold are read there, \
                 acks=1 records among them are gone"
            );
        }
        let incarnation = incarnation(&journal).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                journal,
                incarnation,
                most: bytes.saturating_sub(2 * segment_bytes),
                damages,
                index: Mutex::new(index),
            }),
        })
    }

    /// Drawn when the buffer was made.
    #[must_use]
    pub fn incarnation(&self) -> u128 {
        self.inner.incarnation
    }

    /// What was found damaged when the buffer was opened.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.inner.damages
    }

    /// Keeps a chunk, durable when this returns. `about` is what the writer wants to know of it later,
    /// at most 16 MiB. Dropping the future does not take it back.
    ///
    /// # Errors
    /// See [`WriteAheadError`]. After an error of the disk nothing is kept until the buffer is opened
    /// anew.
    pub async fn append(
        &self,
        name: ChunkName,
        about: &[u8],
        parts: Vec<Bytes>,
    ) -> Result<(), WriteAheadError> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if about.len() > ABOUT_BYTES {
            let reason = format!("{name} has {} bytes about it", about.len());
            return Err(JournalError::Refused(reason).into());
        }
        let head = entry::chunk(name, about);
        let at = head.len();
        let mut payload = Vec::with_capacity(parts.len() + 1);
        payload.push(head);
        payload.extend(parts);
        let durable = {
            let mut index = self.lock();
            if index.get(name).is_some() {
                return Err(WriteAheadError::Known(name));
            }
            let (used, entry) = (index.used(), bytes.saturating_add(at as u64));
            if used.saturating_add(entry) > self.inner.most {
                let bytes = self.inner.most;
                return Err(WriteAheadError::Full { used, bytes });
            }
            let number = index.insert(name, at, bytes);
            self.submit(vec![Write::Append {
                index: number,
                payload,
            }])
        };
        self.show_used();
        let durable = await_durable(durable).await;
        if durable.is_err() {
            self.lock().remove(name);
        }
        durable
    }

    /// Notes something of a chunk, durable when this returns, replacing what was noted before.
    ///
    /// # Errors
    /// See [`WriteAheadError`].
    pub async fn mark(&self, name: ChunkName, mark: Bytes) -> Result<(), WriteAheadError> {
        let durable = {
            let mut index = self.lock();
            let payload = vec![entry::mark(name, &mark)];
            let bytes = payload.iter().map(|part| part.len() as u64).sum();
            if !index.mark(name, mark) {
                return Err(WriteAheadError::NotHere(name));
            }
            let number = index.count(bytes);
            self.submit(vec![Write::Append {
                index: number,
                payload,
            }])
        };
        await_durable(durable).await
    }

    /// What was noted of a chunk.
    #[must_use]
    pub fn marked(&self, name: ChunkName) -> Option<Bytes> {
        self.lock().get(name)?.mark.clone()
    }

    /// A range of a chunk's bytes. From disk, the whole chunk is read and its checksum checked.
    ///
    /// # Errors
    /// See [`WriteAheadError`].
    pub async fn read(&self, name: ChunkName, range: Range<u64>) -> Result<Bytes, WriteAheadError> {
        let slot = self.slot(name)?;
        if range.start > range.end || range.end > slot.bytes {
            let bytes = slot.bytes;
            return Err(WriteAheadError::OutOfRange { name, bytes, range });
        }
        let place = |offset: u64| {
            usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .saturating_add(slot.at)
        };
        let (begin, end) = (place(range.start), place(range.end));
        self.piece(name, &slot, begin..end).await
    }

    /// What the writer of a chunk said about it.
    ///
    /// # Errors
    /// See [`WriteAheadError`].
    pub async fn about(&self, name: ChunkName) -> Result<Bytes, WriteAheadError> {
        let slot = self.slot(name)?;
        self.piece(name, &slot, HEAD_BYTES..slot.at).await
    }

    /// Chunks that are not needed any more. Those that are not here are passed over. Durable soon
    /// after: one that comes back after a crash is trimmed again.
    pub fn trim(&self, names: &[ChunkName]) {
        for names in names.chunks(TRIM_NAMES) {
            let mut index = self.lock();
            let removed: Vec<_> = names
                .iter()
                .copied()
                .filter(|name| index.remove(*name))
                .collect();
            if removed.is_empty() {
                continue;
            }
            let payload = vec![entry::trim(&removed)];
            let bytes = payload.iter().map(|part| part.len() as u64).sum();
            let mut writes = vec![Write::Append {
                index: index.count(bytes),
                payload,
            }];
            writes.extend(index.purge().map(|last| Write::PurgeTo { index: last }));
            // Whoever waits for it hears of an error of the disk.
            drop(self.submit(writes));
        }
        self.show_used();
    }

    /// Whether a chunk is here.
    #[must_use]
    pub fn contains(&self, name: ChunkName) -> bool {
        self.lock().get(name).is_some()
    }

    /// The chunks that are here, in order.
    #[must_use]
    pub fn names(&self) -> Vec<ChunkName> {
        self.lock().names().collect()
    }

    /// Bytes between the oldest chunk and the newest.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Whether there is room for a chunk of so many bytes.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.inner.most
    }

    /// Writes out what is queued and stops. Blocks until that is done.
    pub fn close(&self) {
        self.inner.journal.close();
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.inner
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, name: ChunkName) -> Result<Slot, WriteAheadError> {
        let slot = self.lock().get(name).cloned();
        slot.ok_or(WriteAheadError::NotHere(name))
    }

    async fn piece(
        &self,
        name: ChunkName,
        slot: &Slot,
        piece: Range<usize>,
    ) -> Result<Bytes, WriteAheadError> {
        let length = piece.len();
        if let Some(bytes) = self.inner.journal.peek_piece(slot.index, piece.clone()) {
            return Ok(bytes);
        }
        let (journal, index) = (self.inner.journal.clone(), slot.index);
        let read = blocking(move || journal.read_piece(index, piece)).await?;
        match read {
            Ok(Some(bytes)) if bytes.len() == length => Ok(bytes),
            Ok(_) if !self.contains(name) => Err(WriteAheadError::NotHere(name)),
            Ok(_) => Err(WriteAheadError::Lost(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Queues writes; the index is locked, so they keep its order.
    fn submit(&self, writes: Vec<Write>) -> Durable {
        submit(&self.inner.journal, writes)
    }

    fn show_used(&self) {
        // Exact up to 2^53.
        #[allow(clippy::cast_precision_loss)]
        let used = self.used() as f64;
        metrics::gauge!("alluvium_write_ahead_bytes").set(used);
    }
}

type Durable = oneshot::Receiver<Result<(), JournalError>>;

fn submit(journal: &Journal, writes: Vec<Write>) -> Durable {
    let (sender, durable) = oneshot::channel();
    // An error says that nobody waits.
    let on_durable = move |result| _ = sender.send(result);
    journal.submit(writes, Box::new(on_durable));
    durable
}

async fn await_durable(durable: Durable) -> Result<(), WriteAheadError> {
    let ended = || JournalError::Closed("its I/O thread has ended".to_owned());
    durable.await.unwrap_or_else(|_| Err(ended()))?;
    Ok(())
}

/// The incarnation that was drawn when the journal was made, drawn now if there is none.
async fn incarnation(journal: &Journal) -> Result<u128, WriteAheadError> {
    let noted = journal.note(INCARNATION);
    if let Some(known) = noted.as_deref().and_then(|note| note.try_into().ok()) {
        return Ok(u128::from_le_bytes(known));
    }
    let drawn: u128 = alluvium_types::random::value();
    let value = Bytes::copy_from_slice(&drawn.to_le_bytes());
    let slot = INCARNATION;
    await_durable(submit(journal, vec![Write::Note { slot, value }])).await?;
    Ok(drawn)
}

/// What a journal holds.
fn replay(journal: &Journal) -> Result<Index, JournalError> {
    let range = journal.range();
    let mut found = Index::new(range.start);
    let mut next = range.start;
    while next < range.end {
        let entries = journal.read(next..range.end, REPLAY_BYTES)?;
        if entries.is_empty() {
            found.lose();
            next += 1;
        }
        for (number, payload) in entries {
            next = number + 1;
            match entry::parse(&payload) {
                Ok(Entry::Chunk { name, at }) => {
                    found.skip_to(number);
                    _ = found.insert(name, at, payload.len().saturating_sub(at) as u64);
                }
                Ok(Entry::Mark { name, mark }) => _ = found.mark(name, mark),
                Ok(Entry::Trim(names)) => {
                    names.iter().for_each(|name| _ = found.remove(*name));
                }
                Err(reason) => {
                    tracing::error!(entry = number, reason, "an entry of the write-ahead buffer");
                    found.lose();
                }
            }
        }
    }
    found.skip_to(range.end.max(1));
    Ok(found)
}

#[cfg(test)]
mod tests;
