//! The frame of every file of the archive. Integers are little-endian.
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | `ALVARCHV` |
//! | 8 | 2 | version, 1 |
//! | 10 | 1 | kind: 0 marker, 1 piece, 2 snapshot |
//! | 11 | 1 | body: 0 as it is, 1 compressed with zstd |
//! | 12 | 4 | history: how often the cluster had been restored |
//! | 16 | 16 | cluster id |
//! | 32 | 16 | term and index of the first entry (8 each) |
//! | 48 | 16 | term and index of the last entry |
//! | 64 | 8 | when it was made, by its maker's clock |
//! | 72 | 8 | length of the body once decompressed |
//! | 80 | 8 | length of the body as it is here |
//! | 88 | n | body |
//! | 88 + n | 4 | CRC-32C of everything before |

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

use alluvium_types::{Millis, TopicId};

const MAGIC: &[u8; 8] = b"ALVARCHV";
const VERSION: u16 = 1;
pub(crate) const HEAD_BYTES: usize = 88;
const CRC_BYTES: usize = 4;
/// Fast, and most of what there is to gain with commands, which repeat themselves.
const ZSTD_LEVEL: i32 = 1;
/// Smaller bodies are left as they are.
const COMPRESSED_ABOVE: usize = 512;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Marker,
    Piece,
    Snapshot,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Restores before it.
    pub(crate) history: u32,
    pub(crate) cluster: TopicId,
    pub(crate) first: Place,
    pub(crate) last: Place,
    /// When it was made.
    pub(crate) at: Millis,
}

/// Why a file of the archive cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{key} is damaged: {reason}")]
    Damaged { key: String, reason: String },
    #[error("{key} was written by a later release (version {version}); use that release")]
    Version { key: String, version: u16 },
}

impl FileError {
    pub(crate) fn damaged(key: &str, reason: impl ToString) -> Self {
        Self::Damaged {
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Marker => 0,
            Self::Piece => 1,
            Self::Snapshot => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Marker => "marker",
            Self::Piece => "piece of the log",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A file's bytes. Costs time with the body's length.
pub(crate) fn encode(head: &Head, body: &[u8]) -> io::Result<Bytes> {
    let packed = if body.len() > COMPRESSED_ABOVE {
        Some(zstd::bulk::compress(body, ZSTD_LEVEL)?).filter(|packed| packed.len() < body.len())
    } else {
        None
    };
    let stored = packed.as_deref().unwrap_or(body);
    let mut out = BytesMut::with_capacity(HEAD_BYTES + stored.len() + CRC_BYTES);
    out.put_slice(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u8(head.kind.code());
    out.put_u8(u8::from(packed.is_some()));
    out.put_u32_le(head.history);
    out.put_slice(&head.cluster.0);
    for place in [head.first, head.last] {
        out.put_u64_le(place.term);
        out.put_u64_le(place.index);
    }
    out.put_i64_le(head.at);
    out.put_u64_le(body.len() as u64);
    out.put_u64_le(stored.len() as u64);
    out.put_slice(stored);
    let sum = crc(&out);
    out.put_u32_le(sum);
    Ok(out.freeze())
}

/// Reads only what a file says of itself, from its first bytes. Nothing is proven by it.
pub(crate) fn decode_head(key: &str, bytes: &[u8], kind: Kind) -> Result<Head, FileError> {
    let damaged = |reason: &str| FileError::damaged(key, reason);
    let mut fields = bytes
        .get(..HEAD_BYTES)
        .ok_or_else(|| damaged("it is cut short"))?;
    let mut magic = [0; 8];
    fields.copy_to_slice(&mut magic);
    if magic != *MAGIC {
        return Err(damaged("it does not begin as a file of an archive does"));
    }
    let version = fields.get_u16_le();
    if version != VERSION {
        return Err(FileError::Version {
            key: key.to_owned(),
            version,
        });
    }
    if fields.get_u8() != kind.code() {
        return Err(FileError::damaged(
            key,
            format!("it is not a {}", kind.name()),
        ));
    }
    fields.advance(1);
    let history = fields.get_u32_le();
    let mut cluster = [0; 16];
    fields.copy_to_slice(&mut cluster);
    let mut place = || Place {
        term: fields.get_u64_le(),
        index: fields.get_u64_le(),
    };
    let (first, last) = (place(), place());
    Ok(Head {
        kind,
        history,
        cluster: TopicId(cluster),
        first,
        last,
        at: fields.get_i64_le(),
    })
}

/// Reads a whole file.
pub(crate) fn decode(key: &str, bytes: &Bytes, kind: Kind) -> Result<(Head, Bytes), FileError> {
    let damaged = |reason: &str| FileError::damaged(key, reason);
    let head = decode_head(key, bytes, kind)?;
    let end = bytes
        .len()
        .checked_sub(CRC_BYTES)
        .filter(|end| *end >= HEAD_BYTES)
        .ok_or_else(|| damaged("it is cut short"))?;
    if bytes.slice(end..).get_u32_le() != crc(&bytes[..end]) {
        return Err(damaged("its checksum does not match"));
    }
    let mut lengths = &bytes[72..HEAD_BYTES];
    let (raw, stored) = (lengths.get_u64_le(), lengths.get_u64_le());
    let body = bytes.slice(HEAD_BYTES..end);
    if body.len() as u64 != stored {
        return Err(damaged("its lengths do not add up"));
    }
    let body = match bytes[11] {
        0 => body,
        1 => unpack(&body, raw).map_err(|error| FileError::damaged(key, error))?,
        other => {
            return Err(FileError::damaged(
                key,
                format!("compression {other} is not known"),
            ));
        }
    };
    if body.len() as u64 != raw {
        return Err(damaged("its lengths do not add up"));
    }
    Ok((head, body))
}

/// Grows with what comes out, not with what the length claims.
fn unpack(packed: &[u8], raw: u64) -> io::Result<Bytes> {
    let mut out = Vec::new();
    zstd::stream::read::Decoder::new(packed)?
        .take(raw.saturating_add(1))
        .read_to_end(&mut out)?;
    Ok(out.into())
}

fn crc(bytes: &[u8]) -> u32 {
    // A 32-bit sum fills the low half.
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            kind: Kind::Piece,
            history: 3,
            cluster: TopicId([7; 16]),
            first: Place { term: 2, index: 10 },
            last: Place { term: 5, index: 19 },
            at: 1_700_000_000_123,
        }
    }

    #[test]
    fn files_are_read_as_written_and_damage_is_named() {
        for body in [vec![], vec![1, 2, 3], vec![9; 100_000]] {
            let file = encode(&head(), &body).unwrap();
            assert!(file.len() < 2_000, "repetition is compressed");
            let (read, content) = decode("k", &file, Kind::Piece).unwrap();
            assert_eq!((read, content), (head(), Bytes::from(body)));
            for at in 0..file.len() {
                let mut damaged = file.to_vec();
                damaged[at] ^= 1;
                let error = decode("k", &damaged.into(), Kind::Piece).unwrap_err();
                assert!(error.to_string().starts_with("k "), "{error}");
                assert!(decode("k", &file.slice(..at), Kind::Piece).is_err());
            }
        }
        let file = encode(&head(), b"x").unwrap();
        let error = decode("k", &file, Kind::Snapshot).unwrap_err();
        assert!(error.to_string().contains("not a snapshot"), "{error}");
    }

    #[test]
    fn a_small_file_cannot_ask_for_much_memory() {
        let mut file = encode(&head(), &vec![0; 4 << 20]).unwrap().to_vec();
        // It claims less than it holds; what is unpacked stops there.
        file[72..80].copy_from_slice(&100u64.to_le_bytes());
        let end = file.len() - 4;
        let sum = crc(&file[..end]).to_le_bytes();
        file[end..].copy_from_slice(&sum);
        assert!(decode("k", &file.into(), Kind::Piece).is_err());
    }
}
