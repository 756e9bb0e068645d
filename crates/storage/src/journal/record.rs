//! How one write lies in a segment.
//!
//! A record begins at a multiple of 8 bytes. Integers are little-endian.
//!
//! | byte | length | what |
//! |---|---|---|
//! | 0 | 4 | CRC32C of bytes 4..32 and the payload |
//! | 4 | 4 | payload length |
//! | 8 | 8 | generation of the segment: a random number, so that neither a recycled segment's old bytes nor a payload made to look like a record is taken for one |
//! | 16 | 8 | index of the entry (append), last one to keep (truncate), last one to forget (purge) |
//! | 24 | 4 | where the disk write that this record was part of began, in units of 8 bytes |
//! | 28 | 1 | kind: 1 append, 2 truncate, 3 purge, 4 note |
//! | 29 | 1 | slot of a note |
//! | 30 | 2 | zero |
//! | 32 | | payload, then zeros up to a multiple of 8 |
//!
//! A disk write starts only after the one before was synced. A valid record whose write began after
//! some byte therefore proves that this byte had been durable: that is how recovery tells damage
//! from a torn end, even where the disk reordered the sectors of the last write.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use crate::disk::DiskFile;

/// Bytes in front of a payload.
pub(super) const HEADER_BYTES: usize = 32;

/// Records begin at multiples of this.
pub(super) const ALIGN: u64 = 8;

/// Longest payload.
pub(super) const PAYLOAD_BYTES: usize = 1 << 30;

/// Payload parts below this size are copied next to their header; larger ones are written in place.
const COPIED_BYTES: usize = 4 << 10;

/// Most that is read ahead when records are read one after another.
pub(super) const WINDOW_BYTES: usize = 256 << 10;

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Append = 1,
    Truncate = 2,
    Purge = 3,
    Note = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Append),
            2 => Some(Self::Truncate),
            3 => Some(Self::Purge),
            4 => Some(Self::Note),
            _ => None,
        }
    }
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) slot: u8,
    pub(super) index: u64,
    /// Where the disk write that it was part of began.
    pub(super) batch: u64,
    /// Where the next record begins.
    pub(super) end: u64,
    pub(super) payload: Bytes,
}

/// Bytes a record takes, padding included.
pub(super) const fn record_bytes(payload: usize) -> u64 {
    ((HEADER_BYTES + payload) as u64).next_multiple_of(ALIGN)
}

/// Records of one disk write, ready for a vectored write.
#[derive(Debug)]
pub(super) struct Batch {
    generation: u64,
    start: u64,
    position: u64,
    copied: BytesMut,
    parts: Vec<Bytes>,
}

impl Batch {
    /// A write that begins at `start` of a segment.
    pub(super) fn new(generation: u64, start: u64) -> Self {
        Self {
            generation,
            start,
            position: start,
            copied: BytesMut::new(),
            parts: Vec::new(),
        }
    }

    /// Adds a record and returns its position.
    pub(super) fn push(&mut self, kind: Kind, slot: u8, index: u64, payload: &[Bytes]) -> u64 {
        let position = self.position;
        let length: usize = payload.iter().map(Bytes::len).sum();
        let mut header = [0; HEADER_BYTES];
        // Both fit: payload length and segment size are checked where they enter.
        let length32 = u32::try_from(length).unwrap_or(u32::MAX);
        let batch = u32::try_from(self.start / ALIGN).unwrap_or(u32::MAX);
        header[4..8].copy_from_slice(&length32.to_le_bytes());
        header[8..16].copy_from_slice(&self.generation.to_le_bytes());
        header[16..24].copy_from_slice(&index.to_le_bytes());
        header[24..28].copy_from_slice(&batch.to_le_bytes());
        header[28] = kind as u8;
        header[29] = slot;
        let crc = checksum(&header, payload.iter().map(Bytes::as_ref));
        header[0..4].copy_from_slice(&crc.to_le_bytes());
        self.copied.put_slice(&header);
        for part in payload {
            if part.len() < COPIED_BYTES {
                self.copied.put_slice(part);
            } else {
                self.flush_copied();
                self.parts.push(part.clone());
            }
        }
        self.position += record_bytes(length);
        let padding = (HEADER_BYTES + length).next_multiple_of(8) - HEADER_BYTES - length;
        self.copied.put_bytes(0, padding);
        position
    }

    /// Where it begins, where it ends and its bytes.
    pub(super) fn finish(mut self) -> (u64, u64, Vec<Bytes>) {
        self.flush_copied();
        (self.start, self.position, self.parts)
    }

    /// Where the next record would begin.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    fn flush_copied(&mut self) {
        if !self.copied.is_empty() {
            self.parts.push(self.copied.split().freeze());
        }
    }
}

fn checksum<'a>(header: &[u8], payload: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&header[4..]);
    payload.for_each(|part| digest.update(part));
    u32::try_from(digest.finalize()).unwrap_or_default()
}

/// Reads a segment's records through a buffer.
#[derive(Debug)]
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    capacity: u64,
    ahead: usize,
    start: u64,
    bytes: Bytes,
}

/// Bytes that are no record: why.
pub(super) type NoRecord = &'static str;

impl<'a> Window<'a> {
    /// Over a segment of `capacity` bytes, reading up to `ahead` bytes more than asked for.
    pub(super) fn new(file: &'a dyn DiskFile, capacity: u64, ahead: usize) -> Self {
        Self {
            file,
            capacity,
            ahead: ahead.min(WINDOW_BYTES),
            start: 0,
            bytes: Bytes::new(),
        }
    }

    /// `length` bytes at `position`, or fewer where the file ends.
    pub(super) fn get(&mut self, position: u64, length: usize) -> io::Result<Bytes> {
        let inside = |start: u64, held: usize| {
            let skip = usize::try_from(position.checked_sub(start)?).ok()?;
            (held.checked_sub(skip)? >= length).then_some(skip)
        };
        if inside(self.start, self.bytes.len()).is_none() {
            self.bytes = self.file.read_at(position, length.max(self.ahead))?;
            self.start = position;
        }
        let skip = inside(self.start, self.bytes.len()).unwrap_or(0);
        Ok(self.bytes.slice(skip..self.bytes.len().min(skip + length)))
    }

    /// The record at `position`, checked, or why there is none.
    pub(super) fn record(
        &mut self,
        position: u64,
        generation: u64,
    ) -> io::Result<Result<Record, NoRecord>> {
        let room = self.capacity.saturating_sub(position);
        if room < HEADER_BYTES as u64 {
            return Ok(Err("the segment ends"));
        }
        let header = self.get(position, HEADER_BYTES)?;
        if header.len() < HEADER_BYTES {
            return Ok(Err("the file ends"));
        }
        if long(&header, 8) != generation {
            return Ok(Err("no record of this segment"));
        }
        let Ok(length) = usize::try_from(short(&header, 4)) else {
            return Ok(Err("the length is out of bounds"));
        };
        if record_bytes(length) > room {
            return Ok(Err("the length runs past the segment's end"));
        }
        let whole = self.get(position, HEADER_BYTES + length)?;
        if whole.len() < HEADER_BYTES + length {
            return Ok(Err("the file ends"));
        }
        let payload = whole.slice(HEADER_BYTES..);
        if checksum(&header, std::iter::once(payload.as_ref())) != short(&header, 0) {
            return Ok(Err("the checksum does not match"));
        }
        let Some(kind) = Kind::from_byte(header[28]) else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "record of kind {}, which only a newer release knows",
                    header[28]
                ),
            ));
        };
        let batch = u64::from(short(&header, 24)) * ALIGN;
        let end = position + record_bytes(length);
        Ok(Ok(Record {
            kind,
            slot: header[29],
            index: long(&header, 16),
            batch,
            end,
            payload,
        }))
    }
}

/// The little-endian `u32` at `at`; the caller has checked the length.
pub(super) fn short(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// The little-endian `u64` at `at`; the caller has checked the length.
pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}
