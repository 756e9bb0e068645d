//! The state as bytes.
//!
//! # Commands and outcomes
//!
//! A [`Command`](crate::Command) is written with [postcard](https://postcard.jamesmunns.com) 1
//! wherever it is written: unsigned integers are LEB128 varints, signed ones zigzag varints (`u8`
//! and `i8` one byte), an `Option` is a byte 0 or 1 and the value, text, bytes and lists are a
//! varint count and the elements, a map is a list of pairs, arrays and structs are their fields in
//! order without names or counts, an enum is its variant's number as a varint, from 0 in the order
//! of declaration, and the variant's fields. There is no version inside: new variants are added at
//! the end, and a variant's fields never change. The same holds for [`Outcome`](crate::Outcome).
//!
//! # Snapshot, version 4
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic, `ALVSTATE` |
//! | 8 | 2 | version, little-endian: 4 |
//! | 10 | 8 | length of the body, little-endian |
//! | 18 | n | body |
//! | 18 + n | 4 | CRC-32C of all bytes before it, little-endian |
//!
//! Nothing follows. The body is postcard, these fields in this order:
//! 1. cluster id, an option of 16 bytes;
//! 2. how often the cluster was restored from its bucket;
//! 3. the rules by which commands are judged, 0 to 3;
//! 4. cluster configs, a map of text to text;
//! 5. the last agent id that was given;
//! 6. agents, a map by id: the agent (id, epoch, identity, host, port, zone, time of registration,
//!    standing: 0 live, 1 draining, 2 ended and when, options of the address for other agents and of
//!    the incarnation of its write-ahead buffer), the chunks of this epoch, the chunks of the
//!    epoch before. Chunks are the number of the last one and the answers to the last ones, oldest
//!    first, each an encoded `Outcome` as bytes;
//! 7. how many claims on groups were accepted;
//! 8. topics, a map by id: id, name, configs, replication factor, partitions, time of creation, the
//!    next producer id at that time (0 unless a topic of this name had been deleted). A
//!    partition is its log start, next offset, runs (base offset, end offset, greatest timestamp,
//!    length, location: 0 object id and position, 1 the bytes, 2 a chunk in write-ahead buffers, which
//!    is an agent id, epoch and number, and the position in it, 3 object id and position where batches
//!    bear their own offsets, 4 nothing), an option of its producers: a map
//!    by producer id and an option of the greatest id that was ever forgotten. A producer is its
//!    epoch, how many of the five batches that follow are in use, five times (first sequence, last
//!    sequence, base offset), records appended in this epoch (at most 2^30), time of the last append,
//!    time at which to look whether it has expired. Last come the offset below which each key is
//!    there once; a map of producer id to the first offset of its open transaction; and the
//!    transactions that were aborted (producer id, first offset, offset of the marker, and the offset
//!    at which those begin at the earliest that were aborted later), by marker;
//! 9. groups, a map by id: an option of the record, the offsets, a map by topic id and partition, an
//!    option of the coordinator (agent id and epoch), the number of its claim, and a map by producer id
//!    of the offsets that its open transaction will commit, each a map as the one before, and a map by
//!    topic id and partition of what a share group has there: the first offset that is not done with,
//!    stretches of offsets (one past the last, 0 free, 1 acquired by a member until a time, 2 done,
//!    number of deliveries), and how many records were given up;
//! 10. live objects, a map of object id to length and level; dead objects, a map of object id to
//!     length and the time of death;
//! 11. the next producer id;
//! 12. how many topics were deleted, and the names of the last ones that no topic has again (10,000
//!     at most), a map of name to the number of its deletion;
//! 13. the clock: the greatest time that a command bore;
//! 14. chunks in write-ahead buffers, a map of agent id, epoch and number to the copies (a list of
//!     agent id and incarnation), length, whether it is stable, time at which it was sequenced;
//!     and a set of those (agent id, epoch and number) that were void with their registration, the
//!     last 65,536 of each agent;
//! 15. topics that were deleted and not purged yet, as in 8;
//! 16. transactional ids, a map of text to the producer (id and epoch), an option of the producer before
//!     its epoch was raised, timeout in milliseconds, status (0 empty, 1 ongoing, 2 committed, 3
//!     aborted), partitions, groups, time at which the transaction began or the id was last used;
//! 17. configs of groups, a map of text to a map of text to text;
//! 18. configs of client metrics subscriptions, as in 17.
//!
//! Version 3 has no fields 16 to 18, groups without the last map, partitions without the last two fields.
//!
//! Version 2, of release 0.2, lacks the same, and has no fields 13 to 15; agents without the two options at the end;
//! partitions without the last offset; objects with a length only.
//!
//! Version 1, of release 0.1, lacks the same, and has no fields 2, 3, 5, 7 and 12; agents without standing and without
//! chunks of the epoch before; topics without the last number; producers without the last option;
//! groups without coordinator and claim.
//!
//! Maps and sets are in the order of their keys, so equal states have equal bytes. Whatever can be
//! counted from these fields is counted when they are read, and the whole is checked.

mod v1;
mod v2;
mod v3;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use serde::de::DeserializeOwned;

use crate::state::{State, StoredState};

const MAGIC: [u8; 8] = *b"ALVSTATE";
const VERSION: u16 = 4;
const HEADER_BYTES: usize = 18;
const CRC_BYTES: usize = 4;

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot, cut short, or changed.
    #[error("metadata snapshot is damaged: {0}")]
    Damaged(String),
    /// Written by a later release.
    #[error("metadata snapshot has version {found}, this release reads up to {newest}")]
    Version {
        /// Its version.
        found: u16,
        /// The newest that can be read.
        newest: u16,
    },
}

impl State {
    /// The state as bytes: versioned, checksummed.
    #[must_use]
    pub fn to_snapshot(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        // Plain data into a vector: encoding cannot fail. Were it to, the empty bytes would be
        // refused by whoever reads them.
        let mut bytes = postcard::to_extend(self, bytes).unwrap_or_default();
        let body = u64::try_from(bytes.len().saturating_sub(HEADER_BYTES)).unwrap_or(u64::MAX);
        if let Some(length) = bytes.get_mut(10..HEADER_BYTES) {
            length.copy_from_slice(&body.to_le_bytes());
        }
        let crc = crc(&bytes);
        bytes.extend_from_slice(&crc);
        Bytes::from(bytes)
    }

    /// Reads [`Self::to_snapshot`]'s bytes.
    ///
    /// # Errors
    /// They are damaged or of a version from the future.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: &str| SnapshotError::Damaged(what.to_owned());
        let (magic, rest) = bytes
            .split_first_chunk()
            .ok_or_else(|| damaged("it is shorter than its header"))?;
        if *magic != MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        let (version, rest) = rest
            .split_first_chunk()
            .ok_or_else(|| damaged("it is shorter than its header"))?;
        let version = u16::from_le_bytes(*version);
        if version == 0 {
            return Err(damaged("it has version 0"));
        }
        if version > VERSION {
            return Err(SnapshotError::Version {
                found: version,
                newest: VERSION,
            });
        }
        let (length, rest) = rest
            .split_first_chunk()
            .ok_or_else(|| damaged("it is shorter than its header"))?;
        let (body, stored) = rest
            .split_last_chunk::<CRC_BYTES>()
            .ok_or_else(|| damaged("it is cut short"))?;
        if u64::try_from(body.len()).ok() != Some(u64::from_le_bytes(*length)) {
            return Err(SnapshotError::Damaged(format!(
                "it has {} bytes of state and announces {}",
                body.len(),
                u64::from_le_bytes(*length)
            )));
        }
        let checked = bytes.get(..bytes.len() - CRC_BYTES).unwrap_or_default();
        if crc(checked) != *stored {
            return Err(damaged("its checksum does not match"));
        }
        let stored = match version {
            1 => whole::<v1::StoredState>(body)?.into(),
            2 => whole::<v2::StoredState>(body)?.into(),
            3 => whole::<v3::StoredState>(body)?.into(),
            _ => whole::<StoredState>(body)?,
        };
        Self::try_from(stored).map_err(SnapshotError::Damaged)
    }
}

/// Reads a body to its last byte.
fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, SnapshotError> {
    match postcard::take_from_bytes(body) {
        Ok((stored, [])) => Ok(stored),
        Ok((_, rest)) => Err(SnapshotError::Damaged(format!(
            "{} bytes follow the state",
            rest.len()
        ))),
        Err(error) => Err(SnapshotError::Damaged(format!(
            "its state cannot be read: {error}"
        ))),
    }
}

fn crc(bytes: &[u8]) -> [u8; CRC_BYTES] {
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).unwrap_or(0).to_le_bytes()
}

#[cfg(test)]
mod tests;
