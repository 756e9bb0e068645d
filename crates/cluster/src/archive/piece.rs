//! A piece of the log: entries in a row, each as it lies in the log.
//!
//! The body is the entries, one after another: length (4 bytes, little-endian), then the entry as
//! `raft/codec.rs` writes it.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use alluvium_types::{Millis, TopicId};

use super::file::{self, FileError, Head, Kind, Place};
use crate::raft::entry_position;

/// Bytes of entries in one piece, about: the entry that passes it is the last.
pub(crate) const PIECE_BYTES: usize = 8 << 20;
/// No piece holds as many entries: each has an envelope of 26 bytes.
pub(crate) const MOST_ENTRIES: u64 = 1 << 20;

/// Entries in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) head: Head,
    pub(crate) entries: Vec<Bytes>,
}

impl Piece {
    /// A piece of at least one entry.
    pub(crate) fn new(
        (history, cluster): (u32, TopicId),
        entries: Vec<Bytes>,
        at: Millis,
    ) -> io::Result<Self> {
        let place = |entry: Option<&Bytes>| {
            let entry = entry.ok_or_else(|| io::Error::other("a piece without entries"))?;
            let position = entry_position(entry)?;
            Ok::<_, io::Error>(Place {
                term: position.term,
                index: position.index,
            })
        };
        let head = Head {
            kind: Kind::Piece,
            history,
            cluster,
            first: place(entries.first())?,
            last: place(entries.last())?,
            at,
        };
        Ok(Self { head, entries })
    }

    pub(crate) fn encode(&self) -> io::Result<Bytes> {
        let length = self.entries.iter().map(|entry| entry.len() + 4).sum();
        let mut body = BytesMut::with_capacity(length);
        for entry in &self.entries {
            body.put_u32_le(u32::try_from(entry.len()).map_err(io::Error::other)?);
            body.put_slice(entry);
        }
        file::encode(&self.head, &body)
    }

    pub(crate) fn decode(key: &str, bytes: &Bytes) -> Result<Self, FileError> {
        let (head, mut body) = file::decode(key, bytes, Kind::Piece)?;
        let mut entries = Vec::new();
        while !body.is_empty() {
            let length = (body.len() >= 4)
                .then(|| body.get_u32_le())
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| *length <= body.len())
                .ok_or_else(|| FileError::damaged(key, "an entry is cut short"))?;
            entries.push(body.split_to(length));
        }
        let piece = Self { head, entries };
        piece
            .check()
            .map_err(|reason| FileError::damaged(key, reason))?;
        Ok(piece)
    }

    /// Whether the entries are those that the head names, without a hole.
    fn check(&self) -> Result<(), String> {
        let (first, last) = (self.head.first, self.head.last);
        let count = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        if count == 0 || last.index.checked_sub(first.index) != count.checked_sub(1) {
            return Err(format!(
                "it holds {count} entries, not {} to {}",
                first.index, last.index
            ));
        }
        let mut term = first.term;
        for (entry, index) in self.entries.iter().zip(first.index..) {
            let position = entry_position(entry).map_err(|error| error.to_string())?;
            if position.index != index || position.term < term {
                return Err(format!(
                    "where entry {index} should be lies entry {} of term {}",
                    position.index, position.term
                ));
            }
            term = position.term;
        }
        if term != last.term {
            return Err(format!("it ends with term {term}, not {}", last.term));
        }
        Ok(())
    }

    /// Index of the first entry after it.
    pub(crate) const fn next_index(&self) -> u64 {
        self.head.last.index.saturating_add(1)
    }
}
