//! The files of a journal.
//!
//! `<sequence>.segment` holds records, `<sequence>.spare` is an old segment that waits for reuse,
//! `<sequence>.new` is one being made. A segment begins with 64 bytes, little-endian:
//!
//! | byte | length | what |
//! |---|---|---|
//! | 0 | 8 | `ALVJRNL1` |
//! | 8 | 4 | CRC32C of bytes 12..64 |
//! | 12 | 4 | sequence number; one more than that of the segment before |
//! | 16 | 8 | generation, random |
//! | 24 | 8 | capacity: bytes of the file |
//! | 32 | 8 | generation of the segment before, or zero |
//! | 40 | 8 | where the segment before ended, or zero |
//! | 48 | 8 | where the records end that were written before the segment got its name |
//! | 56 | 8 | zero |
//!
//! The records that a segment begins with repeat the last purge and the current notes: with them durable
//! before the segment is there, older segments are needed for their entries only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};

use super::record::{Batch, Kind, long, record_bytes, short};
use super::{JournalError, Notes};
use crate::disk::{Disk, DiskFile};

/// Bytes in front of the first record.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 64;

/// Fresh segments are filled with zeros this far ahead of the records, so that a sync writes data only.
pub(super) const ZERO_STEP: u64 = 1 << 20;

/// Segments are whole pages.
const PAGE: u64 = 4096;

const MAGIC: &[u8; 8] = b"ALVJRNL1";

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) generation: u64,
    /// Bytes of the file.
    pub(super) capacity: u64,
    pub(super) previous: Previous,
    /// Where the records end that were written before the segment got its name.
    pub(super) kept_end: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

/// The segment before, as a segment's header names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Previous {
    pub(super) generation: u64,
    pub(super) end: u64,
}

/// What must outlive older segments.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) purged: Option<u64>,
    pub(super) notes: Notes,
}

impl Kept {
    fn bytes(&self) -> u64 {
        let notes = self
            .notes
            .iter()
            .flatten()
            .map(|note| record_bytes(note.len()));
        notes.sum::<u64>() + record_bytes(0)
    }

    fn write(&self, batch: &mut Batch) {
        if let Some(purged) = self.purged {
            batch.push(Kind::Purge, 0, purged, &[]);
        }
        for (slot, note) in (0_u8..).zip(&self.notes) {
            if let Some(value) = note {
                batch.push(Kind::Note, slot, 0, std::slice::from_ref(value));
            }
        }
    }
}

/// What a file of the journal's folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment(u32),
    Spare,
    Unfinished,
    Foreign,
}

impl FileKind {
    pub(super) fn of(path: &Path) -> Self {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some((stem, kind)) = name.split_once('.') else {
            return Self::Foreign;
        };
        match (stem.parse(), kind) {
            (Ok(sequence), "segment") => Self::Segment(sequence),
            (Ok(_), "spare") => Self::Spare,
            (Ok(_), "new") => Self::Unfinished,
            _ => Self::Foreign,
        }
    }
}

/// Makes, recycles and removes segments in one folder.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    /// An old segment of the usual size that waits for reuse.
    pub(super) spare: Option<PathBuf>,
}

impl Segments {
    /// Makes the next segment, durable under its name when it returns, with room for `needed` bytes
    /// of records. The second value says how far it holds no holes.
    pub(super) fn make(
        &mut self,
        sequence: u32,
        previous: Previous,
        kept: &Kept,
        needed: u64,
    ) -> Result<(Segment, u64), JournalError> {
        let whole = (SEGMENT_HEADER_BYTES + kept.bytes() + needed).next_multiple_of(PAGE);
        let capacity = self.segment_bytes.max(whole);
        let generation = alluvium_types::random::value::<u64>().max(1);
        let mut batch = Batch::new(generation, SEGMENT_HEADER_BYTES);
        kept.write(&mut batch);
        let (_, kept_end, records) = batch.finish();
        let mut first = vec![header(sequence, generation, capacity, previous, kept_end)];
        first.extend(records);

        let path = self.path(sequence, "segment");
        let spare = if capacity == self.segment_bytes {
            self.spare.take()
        } else {
            None
        };
        let recycled = spare.is_some();
        let made = spare.unwrap_or_else(|| self.path(sequence, "new"));
        let fill = || {
            let file = if recycled {
                self.disk.open(&made)?
            } else {
                self.disk.create_new(&made)?
            };
            let mut zeroed = capacity;
            if !recycled {
                zeroed = (kept_end + ZERO_STEP).min(capacity);
                file.set_len(capacity)?;
                write_zeros(file.as_ref(), kept_end, zeroed)?;
            }
            file.write_at(&first, 0)?;
            file.sync()?;
            self.disk.rename(&made, &path)?;
            self.disk.sync_dir(&self.dir)?;
            Ok((file, zeroed))
        };
        let (file, zeroed) = fill().map_err(|error| JournalError::io(&path, &error))?;
        let segment = Segment {
            sequence,
            generation,
            capacity,
            previous,
            kept_end,
            path,
            file,
        };
        Ok((segment, zeroed))
    }

    /// Keeps a segment for reuse, or removes it. Its name is gone for good when this returns: were
    /// several removed at once, a crash could bring back an older one and leave a gap.
    pub(super) fn retire(&mut self, segment: &Segment) -> Result<(), JournalError> {
        let spare = self.path(segment.sequence, "spare");
        let keep = self.spare.is_none() && segment.capacity == self.segment_bytes;
        let moved = if keep {
            self.disk.rename(&segment.path, &spare)
        } else {
            self.disk.remove_file(&segment.path)
        };
        let done = moved.and_then(|()| self.disk.sync_dir(&self.dir));
        done.map_err(|error| JournalError::io(&segment.path, &error))?;
        if keep {
            self.spare = Some(spare);
        }
        Ok(())
    }

    fn path(&self, sequence: u32, kind: &str) -> PathBuf {
        self.dir.join(format!("{sequence:010}.{kind}"))
    }
}

impl Segment {
    /// Opens a segment and checks its header.
    pub(super) fn open(disk: &dyn Disk, path: &Path, sequence: u32) -> Result<Self, JournalError> {
        let read = || {
            let file = disk.open(path)?;
            let header = file.read_at(0, 64)?;
            let length = file.len()?;
            Ok((file, header, length))
        };
        let (file, header, length) = read().map_err(|error| JournalError::io(path, &error))?;
        let damaged = |position: u64, reason: &str| JournalError::damaged(path, position, reason);
        if header.len() < 64 || &header[..8] != MAGIC {
            return Err(damaged(0, "not a journal segment"));
        }
        if crc32c(&header[12..]) != short(&header, 8) {
            return Err(damaged(8, "the segment header's checksum does not match"));
        }
        if short(&header, 12) != sequence {
            return Err(damaged(
                12,
                "the file's name and its sequence number differ",
            ));
        }
        let capacity = long(&header, 24);
        if length < capacity {
            return Err(damaged(length, "the file was cut short"));
        }
        let previous = Previous {
            generation: long(&header, 32),
            end: long(&header, 40),
        };
        let (generation, kept_end) = (long(&header, 16), long(&header, 48));
        let path = path.to_path_buf();
        Ok(Self {
            sequence,
            generation,
            capacity,
            previous,
            kept_end,
            path,
            file,
        })
    }
}

/// Bytes of a segment that may hold `asked` bytes: whole pages, within what an index can name.
pub(super) fn segment_bytes(asked: u64) -> u64 {
    asked.clamp(PAGE, 4 << 30).next_multiple_of(PAGE)
}

/// Fills `start..end` with zeros.
pub(super) fn write_zeros(file: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut left = end.saturating_sub(start);
    let mut parts = Vec::new();
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        parts.push(Bytes::from_static(&ZEROS[..part]));
        left -= part as u64;
    }
    file.write_at(&parts, start)
}

fn header(
    sequence: u32,
    generation: u64,
    capacity: u64,
    previous: Previous,
    kept_end: u64,
) -> Bytes {
    let mut header = vec![0; 64];
    header[..8].copy_from_slice(MAGIC);
    header[12..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..24].copy_from_slice(&generation.to_le_bytes());
    header[24..32].copy_from_slice(&capacity.to_le_bytes());
    header[32..40].copy_from_slice(&previous.generation.to_le_bytes());
    header[40..48].copy_from_slice(&previous.end.to_le_bytes());
    header[48..56].copy_from_slice(&kept_end.to_le_bytes());
    let crc = crc32c(&header[12..]);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header.into()
}

fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).unwrap_or_default()
}
