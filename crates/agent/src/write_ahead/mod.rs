//! This agent's write-ahead buffer: its own chunks, and copies of those of others.
//!
//! A chunk of its own comes here before it is sequenced (`produce::journal`), and goes when the state
//! does not name it any more (`keep`): it was settled, or never sequenced. What was sequenced with fewer
//! copies than the cluster asks for, and lost its place because the registration ended, is produced
//! again under the new one (`reclaim`), at new offsets: nobody has read it. Such a chunk bears a mark
//! with its offsets, durable before its producers are answered; one without was acknowledged to nobody
//! and is dropped.
//!
//! What is produced again may be stored twice when the agent dies in the middle of that, as it may when
//! a producer without idempotence sends again.

pub(crate) mod keep;
mod keeper;
mod kept;
pub(crate) mod reclaim;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use alluvium_metadata::{AgentOrigin, JournalChunkId, JournalCopy};
use alluvium_storage::write_ahead::{ChunkName, WriteAhead, WriteAheadError};
use alluvium_types::{AgentId, ChunkNumber};

pub(crate) use keeper::Keeper;
pub(crate) use kept::KeptCopies;

/// The write-ahead buffer of an agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AgentJournal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    buffer: WriteAhead,
    last: AtomicU64,
    /// Own chunks of which it is not known yet whether they are sequenced.
    under_way: Mutex<BTreeSet<ChunkName>>,
    /// Copies for others: whether the state has named them, and since when they are known here.
    copies: Mutex<BTreeMap<ChunkName, Copied>>,
    /// There is an unstable chunk to be settled.
    unstable: Notify,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    pub(crate) was_named: bool,
    pub(crate) since: Instant,
}

/// An own chunk of which it is not known yet whether it is sequenced. While this lives, the chunk stays.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) chunk: JournalChunkId,
    journal: AgentJournal,
    outlives: bool,
}

impl UnderWay {
    /// The chunk is on its way until this process has ended.
    pub(crate) const fn outlive(&mut self) {
        self.outlives = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.outlives {
            self.journal.under_way().remove(&name_of(self.chunk));
        }
    }
}

/// The buffer's name of a chunk.
pub(crate) const fn name_of(chunk: JournalChunkId) -> ChunkName {
    let JournalChunkId {
        agent,
        epoch,
        chunk,
    } = chunk;
    ChunkName {
        agent,
        epoch,
        chunk,
    }
}

/// The state's name of a chunk.
pub(crate) const fn id_of(name: ChunkName) -> JournalChunkId {
    let ChunkName {
        agent,
        epoch,
        chunk,
    } = name;
    JournalChunkId {
        agent,
        epoch,
        chunk,
    }
}

impl AgentJournal {
    /// Over a buffer that was opened.
    #[must_use]
    pub fn new(buffer: WriteAhead) -> Self {
        Self {
            shared: Arc::new(Shared {
                buffer,
                last: AtomicU64::new(0),
                under_way: Mutex::default(),
                copies: Mutex::default(),
                unstable: Notify::new(),
            }),
        }
    }

    /// A range of a chunk that is here: own, or a copy. Out of memory where it is one of the newest.
    ///
    /// # Errors
    /// It is not here (any more), damaged, or shorter.
    pub async fn read(
        &self,
        chunk: JournalChunkId,
        range: Range<u64>,
    ) -> Result<Bytes, WriteAheadError> {
        self.shared.buffer.read(name_of(chunk), range).await
    }

    /// Whether a chunk is here.
    #[must_use]
    pub fn holds(&self, chunk: JournalChunkId) -> bool {
        self.shared.buffer.contains(name_of(chunk))
    }

    /// How this buffer is named in [`JournalCopy`].
    #[must_use]
    pub fn copy_of(&self, agent: AgentId) -> JournalCopy {
        JournalCopy {
            agent,
            journal: self.shared.buffer.incarnation(),
        }
    }

    /// Bytes on disk that wait to be settled.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.buffer.used()
    }

    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.shared.buffer.has_room(bytes)
    }

    pub(crate) fn buffer(&self) -> &WriteAhead {
        &self.shared.buffer
    }

    /// A name for the next own chunk.
    pub(crate) fn begin(&self, origin: AgentOrigin) -> UnderWay {
        // Epochs are never given twice, so counting may begin anew with the process.
        let number = self.shared.last.fetch_add(1, Ordering::Relaxed) + 1;
        let chunk = JournalChunkId {
            agent: origin.agent,
            epoch: origin.epoch,
            chunk: ChunkNumber(number),
        };
        self.under_way().insert(name_of(chunk));
        UnderWay {
            chunk,
            journal: self.clone(),
            outlives: false,
        }
    }

    /// Says that an unstable chunk was sequenced.
    pub(crate) fn unstable_sequenced(&self) {
        self.shared.unstable.notify_one();
    }

    /// Resolves when an unstable chunk was sequenced.
    pub(crate) async fn unstable(&self) {
        self.shared.unstable.notified().await;
    }

    pub(crate) fn under_way(&self) -> MutexGuard<'_, BTreeSet<ChunkName>> {
        let under_way = self.shared.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn copies(&self) -> MutexGuard<'_, BTreeMap<ChunkName, Copied>> {
        let copies = self.shared.copies.lock();
        copies.unwrap_or_else(PoisonError::into_inner)
    }
}
