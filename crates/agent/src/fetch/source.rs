//! Where the bytes of objects come from: recent chunks, else the cache over the bucket.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use alluvium_objects::{Footer, FormatError, TRAILER_BYTES, key};
use alluvium_storage::bucket::BucketError;
use alluvium_storage::cache::Cache;
use alluvium_types::hash::HashMap;
use alluvium_types::{ObjectId, TopicPartition};

use super::Recent;

/// Footers kept in memory, in bytes.
const FOOTER_BYTES: usize = 16 << 20;

/// Read with the trailer at first: most footers are shorter.
const TAIL_BYTES: u64 = 64 << 10;

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("object {object}: {error}")]
    Format {
        object: ObjectId,
        error: FormatError,
    },
    #[error("{place}, partition {partition:?}: {reason}")]
    Damaged {
        place: String,
        partition: TopicPartition,
        reason: String,
    },
    #[error("the metadata names object {object}, but not its length")]
    UnknownObject { object: ObjectId },
}

/// An object as the metadata names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectRef {
    pub(super) object: ObjectId,
    /// Its whole length.
    pub(super) bytes: u64,
}

/// Some bytes of an object.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) parts: Vec<Bytes>,
    /// They were checked when they came in from their producer and never left this process.
    pub(super) trusted: bool,
}

/// The objects' bytes and footers.
#[derive(Debug)]
pub(super) struct Source {
    recent: Recent,
    cache: Cache,
    footers: Mutex<Footers>,
}

impl Source {
    pub(super) fn new(recent: Recent, cache: Cache) -> Self {
        Self {
            recent,
            cache,
            footers: Mutex::new(Footers::default()),
        }
    }

    pub(super) const fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(super) async fn read(
        &self,
        ObjectRef { object, bytes }: ObjectRef,
        range: Range<u64>,
    ) -> Result<Piece, ReadError> {
        if range.start >= range.end {
            return Ok(Piece {
                parts: Vec::new(),
                trusted: true,
            });
        }
        if let Some(parts) = self.recent.read(object, &range) {
            return Ok(Piece {
                parts,
                trusted: true,
            });
        }
        let parts = self.cache.read(&key(object), bytes, range).await?;
        Ok(Piece {
            parts,
            trusted: false,
        })
    }

    /// An object's footer; read once, by one, for as long as it is kept.
    pub(super) async fn footer(&self, object: ObjectRef) -> Result<Arc<Footer>, ReadError> {
        let cell = self.footers().cell(object.object);
        let footer = cell.get_or_try_init(|| self.read_footer(object)).await;
        match footer {
            Ok(footer) => {
                self.footers().loaded(object.object, footer.memory_bytes());
                Ok(Arc::clone(footer))
            }
            Err(error) => {
                self.footers().failed(object.object);
                Err(error)
            }
        }
    }

    fn footers(&self) -> std::sync::MutexGuard<'_, Footers> {
        self.footers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_footer(&self, object: ObjectRef) -> Result<Arc<Footer>, ReadError> {
        let format = |error| ReadError::Format {
            object: object.object,
            error,
        };
        let mut tail = self.tail(object, TAIL_BYTES).await?;
        let trailer_at = tail
            .len()
            .checked_sub(TRAILER_BYTES as usize)
            .ok_or_else(|| format(FormatError::Short("trailer")))?;
        let wanted = Footer::tail_bytes(&tail[trailer_at..], object.bytes).map_err(format)?;
        if wanted > tail.len() as u64 {
            tail = self.tail(object, wanted).await?;
        }
        Footer::parse(&tail, object.bytes)
            .map(Arc::new)
            .map_err(format)
    }

    async fn tail(&self, object: ObjectRef, bytes: u64) -> Result<Vec<u8>, ReadError> {
        let range = object.bytes.saturating_sub(bytes)..object.bytes;
        Ok(self.read(object, range).await?.parts.concat())
    }
}

/// Footers by object, the oldest making room for the newest.
#[derive(Debug, Default)]
struct Footers {
    by_object: HashMap<ObjectId, Held>,
    oldest_first: VecDeque<ObjectId>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Held {
    cell: Arc<OnceCell<Arc<Footer>>>,
    /// 0 until it was read.
    bytes: usize,
}

impl Footers {
    fn cell(&mut self, object: ObjectId) -> Arc<OnceCell<Arc<Footer>>> {
        Arc::clone(&self.by_object.entry(object).or_default().cell)
    }

    fn loaded(&mut self, object: ObjectId, bytes: usize) {
        let bytes = bytes + size_of::<(ObjectId, Held, ObjectId)>() * 2;
        let Some(held) = self
            .by_object
            .get_mut(&object)
            .filter(|held| held.bytes == 0)
        else {
            return;
        };
        held.bytes = bytes;
        self.bytes += bytes;
        self.oldest_first.push_back(object);
        while self.bytes > FOOTER_BYTES {
            let Some(oldest) = self.oldest_first.pop_front() else {
                return;
            };
            if let Some(held) = self.by_object.remove(&oldest) {
                self.bytes -= held.bytes;
            }
        }
    }

    /// Makes room for another attempt.
    fn failed(&mut self, object: ObjectId) {
        if self
            .by_object
            .get(&object)
            .is_some_and(|held| held.bytes == 0)
        {
            self.by_object.remove(&object);
        }
    }
}
