//! The fixed parts of an object: header and trailer.

use bytes::{BufMut, Bytes, BytesMut};

use alluvium_types::{AgentEpoch, AgentId, Millis, ObjectId};

use crate::error::FormatError;
use crate::fields::{Fields, crc32c};

/// Length of the header at the start of every object.
pub const HEADER_BYTES: u64 = 40;

/// Length of the trailer at the end of every object.
pub const TRAILER_BYTES: u64 = 24;

/// A run's index has an entry for about every so many bytes.
pub const INDEX_STRIDE_BYTES: u64 = 64 << 10;

pub(crate) const HEADER_MAGIC: [u8; 8] = *b"ALVMOBJ\x01";
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"ALVMEND\x01";

/// The newest version of the format. An object is written in the oldest one that can say what it
/// says: 1, or 2 when it names its [`ChunkOrigin`].
pub(crate) const VERSION: u16 = 2;

/// The first version, in which a footer ends with its runs.
pub(crate) const WITHOUT_ORIGIN: u16 = 1;

/// Which chunk an object holds, so that it can be sequenced by who finds it with no metadata at
/// hand. Every attempt to write the same chunk bears another object id and the same origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkOrigin {
    /// Whose chunk.
    pub agent: AgentId,
    /// Under which registration it was sealed.
    pub epoch: AgentEpoch,
    /// Counts the chunks that this agent sealed under this registration, in order. Not the chunk
    /// number, which is given later.
    pub seal: u64,
    /// When it was sealed, by the agent's clock.
    pub sealed_at: Millis,
}

/// How an object came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A flushed chunk: its batches had no offsets yet when it was written.
    Chunk,
    /// Sequenced batches, gathered.
    Settled,
    /// Batches of other objects, which those held before.
    Compacted,
}

impl Level {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Chunk => 0,
            Self::Settled => 1,
            Self::Compacted => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Chunk),
            1 => Some(Self::Settled),
            2 => Some(Self::Compacted),
            _ => None,
        }
    }
}

/// What an object says of itself at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the format.
    pub version: u16,
    /// How it came to be.
    pub level: Level,
    /// Its name.
    pub object: ObjectId,
    /// When it was written, by its writer's clock.
    pub created_at: Millis,
}

impl Header {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES as usize);
        out.put_slice(&HEADER_MAGIC);
        out.put_u16(self.version);
        out.put_u8(self.level.code());
        out.put_u8(0);
        out.put_u128(self.object.0);
        out.put_i64(self.created_at);
        let crc = crc32c(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Reads the first [`HEADER_BYTES`] of an object.
    ///
    /// # Errors
    /// Not an object of ours, damaged, or of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::new(bytes, "header");
        if fields.array::<8>()? != HEADER_MAGIC {
            return Err(FormatError::NotAnObject);
        }
        let version = fields.u16()?;
        let level = fields.u8()?;
        fields.u8()?;
        let object = ObjectId(fields.u128()?);
        let created_at = fields.i64()?;
        let covered = bytes.get(..36).unwrap_or_default();
        if fields.u32()? != crc32c(covered) {
            return Err(FormatError::Checksum("header"));
        }
        if version > VERSION {
            return Err(FormatError::Version {
                found: version,
                newest: VERSION,
            });
        }
        let level = Level::from_code(level).ok_or(FormatError::Damaged {
            part: "header",
            reason: "unknown level",
        })?;
        Ok(Self {
            version,
            level,
            object,
            created_at,
        })
    }
}
