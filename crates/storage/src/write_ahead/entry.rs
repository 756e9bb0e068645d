//! How chunks lie in the journal.
//!
//! An entry of the journal begins with 28 bytes, little-endian:
//!
//! | byte | length | what |
//! |---|---|---|
//! | 0 | 1 | kind: 1 chunk, 2 mark, 3 trim |
//! | 1 | 3 | zero |
//! | 4 | 4 | length of what is said about the chunk; of a trim, how many names follow |
//! | 8 | 20 | name: agent (`int32`), epoch (`uint64`), number (`uint64`); of a trim, zero |
//!
//! A chunk goes on with what its writer says about it and its bytes, a mark with its bytes, a trim with
//! the names of chunks that are not needed any more, 20 bytes each. The journal's records have
//! checksums, so what is read here is what was written.

use bytes::{BufMut, Bytes, BytesMut};

use alluvium_types::{AgentEpoch, AgentId, ChunkNumber};

use super::ChunkName;

/// Bytes in front of an entry's contents.
pub(super) const HEAD_BYTES: usize = 28;

const NAME_BYTES: usize = 20;

/// Most names of one trim.
pub(super) const TRIM_NAMES: usize = 4096;

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A chunk; where its bytes begin in the entry.
    Chunk { name: ChunkName, at: usize },
    /// What was noted of a chunk later.
    Mark { name: ChunkName, mark: Bytes },
    /// Chunks that are not needed any more.
    Trim(Vec<ChunkName>),
}

/// The start of a chunk's entry.
pub(super) fn chunk(name: ChunkName, about: &[u8]) -> Bytes {
    let mut head = head(1, about.len(), Some(name));
    head.extend_from_slice(about);
    head.freeze()
}

pub(super) fn mark(name: ChunkName, mark: &[u8]) -> Bytes {
    let mut entry = head(2, 0, Some(name));
    entry.extend_from_slice(mark);
    entry.freeze()
}

pub(super) fn trim(names: &[ChunkName]) -> Bytes {
    let mut entry = head(3, names.len(), None);
    for name in names {
        put_name(&mut entry, *name);
    }
    entry.freeze()
}

fn head(kind: u8, length: usize, name: Option<ChunkName>) -> BytesMut {
    let mut head = BytesMut::with_capacity(HEAD_BYTES + length);
    head.put_slice(&[kind, 0, 0, 0]);
    // Bounded where it comes from.
    head.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
    match name {
        Some(name) => put_name(&mut head, name),
        None => head.put_bytes(0, NAME_BYTES),
    }
    head
}

fn put_name(bytes: &mut BytesMut, name: ChunkName) {
    bytes.put_i32_le(name.agent.0);
    bytes.put_u64_le(name.epoch.0);
    bytes.put_u64_le(name.chunk.0);
}

/// Reads an entry; says what is wrong with one that makes no sense.
pub(super) fn parse(entry: &Bytes) -> Result<Entry, &'static str> {
    let Some((head, rest)) = entry.split_at_checked(HEAD_BYTES) else {
        return Err("the entry is too short");
    };
    let length = head
        .get(4..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or("the length cannot be read")?;
    let name = name(head.get(8..).unwrap_or_default()).ok_or("the name cannot be read")?;
    match head.first() {
        Some(1) if length <= rest.len() => Ok(Entry::Chunk {
            name,
            at: HEAD_BYTES + length,
        }),
        Some(2) => Ok(Entry::Mark {
            name,
            mark: Bytes::copy_from_slice(rest),
        }),
        Some(3) if length.checked_mul(NAME_BYTES) == Some(rest.len()) => {
            let names = rest.chunks_exact(NAME_BYTES).filter_map(self::name);
            Ok(Entry::Trim(names.collect()))
        }
        Some(1 | 3) => Err("the length is out of bounds"),
        _ => Err("the entry is of a kind that only a newer release knows"),
    }
}

fn name(bytes: &[u8]) -> Option<ChunkName> {
    let (agent, rest) = bytes.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (chunk, _) = rest.split_first_chunk()?;
    Some(ChunkName {
        agent: AgentId(i32::from_le_bytes(*agent)),
        epoch: AgentEpoch(u64::from_le_bytes(*epoch)),
        chunk: ChunkNumber(u64::from_le_bytes(*chunk)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_written_and_others_are_refused() {
        let name = ChunkName {
            agent: AgentId(-3),
            epoch: AgentEpoch(1 << 40),
            chunk: ChunkNumber(7),
        };
        let mut whole = BytesMut::from(chunk(name, b"about"));
        whole.extend_from_slice(b"bytes");
        let at = HEAD_BYTES + 5;
        assert_eq!(parse(&whole.freeze()), Ok(Entry::Chunk { name, at }));
        let read = parse(&mark(name, b"m"));
        let mark = Bytes::from_static(b"m");
        assert_eq!(read, Ok(Entry::Mark { name, mark }));
        assert_eq!(parse(&trim(&[name, name])), Ok(Entry::Trim(vec![name; 2])));
        assert!(parse(&trim(&[name, name]).slice(..60)).is_err());
        assert!(parse(&chunk(name, b"about").slice(..30)).is_err());
        assert!(parse(&Bytes::from(vec![9; HEAD_BYTES])).is_err());
        assert!(parse(&Bytes::new()).is_err());
    }
}
