//! Where bytes come from: recent chunks, else the cache over the bucket, or the write-ahead buffers
//! that hold a chunk which is in no object yet.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use alluvium_metadata::JournalChunkId;
use alluvium_objects::{Footer, FormatError, TRAILER_BYTES, key};
use alluvium_storage::bucket::BucketError;
use alluvium_storage::cache::{Cache, Lane, Want};
use alluvium_types::hash::HashMap;
use alluvium_types::{AgentId, ObjectId, TopicPartition};

use super::Recent;
use super::readers::Readers;
use super::recent::Written;
use super::zone::Company;
use crate::peers::READ_BYTES;

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
    #[error("the metadata names chunk {chunk:?}, but not who has it")]
    UnknownChunk { chunk: JournalChunkId },
    #[error(
        "chunk {chunk:?}, bytes {range:?}: no write-ahead buffer gives them now ({reasons}); they can \
         be read again when one of these agents is back"
    )]
    NoCopy {
        chunk: JournalChunkId,
        range: Range<u64>,
        reasons: String,
    },
}

/// An object as the metadata names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectRef {
    pub(super) object: ObjectId,
    /// Its whole length.
    pub(super) bytes: u64,
}

/// A chunk in write-ahead buffers as the metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkRef {
    pub(super) chunk: JournalChunkId,
    /// Its whole length.
    pub(super) bytes: u64,
    /// Who has it.
    pub(super) copies: Vec<AgentId>,
}

/// How bytes of an object are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) lane: Lane,
    /// Up to where what is fetched may reach, as a position in the object.
    pub(super) extend_to: u64,
}

impl Way {
    /// Just the bytes asked for.
    pub(super) const PLAIN: Self = Self {
        lane: Lane::Hot,
        extend_to: 0,
    };
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
    readers: Readers,
    company: OnceLock<Company>,
}

impl Source {
    pub(super) fn new(recent: Recent, cache: Cache) -> Self {
        Self {
            recent,
            readers: Readers::new(cache.scan_capacity()),
            cache,
            footers: Mutex::new(Footers::default()),
            company: OnceLock::new(),
        }
    }

    pub(super) const fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(super) const fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Who else has bytes. Only the first call counts.
    pub(super) fn join(&self, company: Company) {
        let _ = self.company.set(company);
    }

    pub(super) const fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Reads from an object.
    pub(super) async fn read(
        &self,
        object: ObjectRef,
        range: Range<u64>,
        way: Way,
    ) -> Result<Piece, ReadError> {
        if range.start >= range.end {
            return Ok(Piece {
                parts: Vec::new(),
                trusted: true,
            });
        }
        if let Some(parts) = self.recent.read(Written::Object(object.object), &range) {
            return Ok(Piece {
                parts,
                trusted: true,
            });
        }
        let want = Want {
            key: &key(object.object),
            object_bytes: object.bytes,
            extend_to: way.extend_to.max(range.end),
            range,
            lane: way.lane,
        };
        let parts = self.cache.read_as(want).await?;
        Ok(Piece {
            parts,
            trusted: false,
        })
    }

    /// Reads from an object in the store, whatever the cache holds of it.
    pub(super) async fn read_afresh(
        &self,
        object: ObjectRef,
        range: Range<u64>,
    ) -> Result<Piece, ReadError> {
        let key = key(object.object);
        let parts = self.cache.read_afresh(&key, object.bytes, range).await?;
        Ok(Piece {
            parts,
            trusted: false,
        })
    }

    /// Has the cache fetch what will soon be read, if it is not at hand.
    pub(super) fn ahead(&self, object: ObjectRef, range: Range<u64>) {
        if self
            .recent
            .read(Written::Object(object.object), &range)
            .is_none()
        {
            self.cache.ahead(&key(object.object), object.bytes, range);
        }
    }

    /// Reads from a chunk in write-ahead buffers: this agent's own first, unless what that gave was no
    /// good, then those of the others that have it.
    pub(super) async fn read_chunk(
        &self,
        chunk: &ChunkRef,
        range: Range<u64>,
        is_own_good: bool,
    ) -> Result<Piece, ReadError> {
        let piece = |parts, trusted| Ok(Piece { parts, trusted });
        if range.start >= range.end {
            return piece(Vec::new(), true);
        }
        if let Some(parts) = self.recent.read(Written::Journal(chunk.chunk), &range) {
            return piece(parts, true);
        }
        let mut reasons = Vec::new();
        let Some(company) = self.company.get() else {
            reasons
                .push("this agent has no write-ahead buffer and knows no other agent".to_owned());
            return Err(no_copy(chunk, range, &reasons));
        };
        for is_second in [false, true] {
            if is_own_good != is_second
                && let Some(copies) = &company.copies
            {
                match copies.read(chunk.chunk, range.clone()).await {
                    Ok(parts) if is_whole(&parts, &range) => return piece(parts, false),
                    Ok(_) => reasons.push("own copy: too short".to_owned()),
                    Err(reason) => reasons.push(format!("own copy: {reason}")),
                }
            }
            if is_own_good == is_second {
                for peer in &chunk.copies {
                    if *peer == company.registration.id() {
                        continue;
                    }
                    match read_from(company, *peer, chunk.chunk, &range).await {
                        Ok(parts) => return piece(parts, false),
                        Err(reason) => reasons.push(reason),
                    }
                }
            }
        }
        Err(no_copy(chunk, range, &reasons))
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
        match self.parse_footer(object, false).await {
            Err(ReadError::Format { error, .. }) => {
                tracing::warn!(object = %object.object, %error,
                    "a footer cannot be read; it is fetched again");
                self.parse_footer(object, true).await
            }
            read => read,
        }
    }

    async fn parse_footer(
        &self,
        object: ObjectRef,
        is_afresh: bool,
    ) -> Result<Arc<Footer>, ReadError> {
        let format = |error| ReadError::Format {
            object: object.object,
            error,
        };
        let mut tail = self.tail(object, TAIL_BYTES, is_afresh).await?;
        let trailer_at = tail
            .len()
            .checked_sub(TRAILER_BYTES as usize)
            .ok_or_else(|| format(FormatError::Short("trailer")))?;
        let wanted = Footer::tail_bytes(&tail[trailer_at..], object.bytes).map_err(format)?;
        if wanted > tail.len() as u64 {
            tail = self.tail(object, wanted, is_afresh).await?;
        }
        Footer::parse(&tail, object.bytes)
            .map(Arc::new)
            .map_err(format)
    }

    async fn tail(
        &self,
        object: ObjectRef,
        bytes: u64,
        is_afresh: bool,
    ) -> Result<Vec<u8>, ReadError> {
        let range = object.bytes.saturating_sub(bytes)..object.bytes;
        let piece = if is_afresh {
            self.read_afresh(object, range).await?
        } else {
            self.read(object, range, Way::PLAIN).await?
        };
        Ok(piece.parts.concat())
    }
}

fn no_copy(chunk: &ChunkRef, range: Range<u64>, reasons: &[String]) -> ReadError {
    ReadError::NoCopy {
        chunk: chunk.chunk,
        range,
        reasons: reasons.join("; "),
    }
}

fn is_whole(parts: &[Bytes], range: &Range<u64>) -> bool {
    parts.iter().map(|part| part.len() as u64).sum::<u64>() == range.end - range.start
}

/// Reads a peer's copy of a chunk, in as many requests as it takes.
async fn read_from(
    company: &Company,
    peer: AgentId,
    chunk: JournalChunkId,
    range: &Range<u64>,
) -> Result<Vec<Bytes>, String> {
    let mut parts = Vec::new();
    let mut from = range.start;
    while from < range.end {
        let piece = from..range.end.min(from.saturating_add(READ_BYTES));
        let read = company.peers.read_chunk(peer, chunk, piece.clone()).await;
        let bytes = read.map_err(|error| error.to_string())?;
        if bytes.len() as u64 != piece.end - piece.start {
            return Err(format!(
                "agent {peer} gave {} bytes of {piece:?}",
                bytes.len()
            ));
        }
        parts.push(bytes);
        from = piece.end;
    }
    Ok(parts)
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
