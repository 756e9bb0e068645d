//! Opening a journal of which something is damaged: what is damaged is left out and told, and the rest
//! is taken. For what is worth having in part; a Raft log is not.

use std::path::Path;

use super::JournalError;
use super::Notes;
use super::index::{Index, Location};
use super::record::{ALIGN, HEADER_BYTES, Kind, Record, WINDOW_BYTES, Window, long};
use super::recover::{apply, records_behind};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::disk::Disk;

/// A piece of a journal that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub path: String,
    /// First byte.
    pub position: u64,
    /// How many bytes.
    pub bytes: u64,
    /// What is wrong.
    pub reason: String,
}

/// Where a segment's records should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The segment behind it says so.
    At(u64),
    /// The segment behind it is gone.
    Unknown,
    /// It is the last: where the last write was torn.
    Torn,
}

/// Applies a segment's records in order, over damaged pieces, and returns where they end.
pub(super) fn replay(
    segment: &Segment,
    end: End,
    index: &mut Index,
    notes: &mut Notes,
    damages: &mut Vec<Damage>,
) -> Result<u64, JournalError> {
    let mut window = Window::new(segment.file.as_ref(), segment.capacity, WINDOW_BYTES);
    let mut position = SEGMENT_HEADER_BYTES;
    let mut batch = position;
    while end != End::At(position) {
        let read = window.record(position, segment.generation);
        let read = read.map_err(|error| JournalError::io(&segment.path, &error))?;
        let reason = match read {
            Ok(record) if record.batch == position || record.batch == batch => {
                batch = record.batch;
                take(segment, &record, position, (index, notes), damages);
                position = record.end;
                continue;
            }
            Ok(_) => "the record is not part of the write before it",
            Err(reason) => reason,
        };
        // Behind what should be the end nothing counts; where nobody says, a later write proves that
        // this is no torn end.
        let next = match end {
            End::At(end) => next_record(segment, position)?.filter(|(start, _)| *start < end),
            End::Unknown if was_record(segment, position, &mut window)? => {
                next_record(segment, position)?
            }
            End::Torn if is_proven(segment, position)? => next_record(segment, position)?,
            End::Unknown | End::Torn => break,
        };
        let last = match end {
            End::At(end) => end,
            End::Unknown => segment.capacity,
            End::Torn => position,
        };
        let goes_on = next.as_ref().map_or(last, |(start, _)| *start);
        let bytes = goes_on.saturating_sub(position);
        damages.push(damage(&segment.path, position, bytes, reason.to_owned()));
        let Some((start, record)) = next else {
            return Ok(last);
        };
        batch = record.batch;
        position = start;
        if record.batch > start {
            // Cannot be; without this the loop would not end.
            position = record.end;
        }
    }
    Ok(position)
}

/// Applies a record; entries that are missing before it are counted as lost.
fn take(
    segment: &Segment,
    record: &Record,
    position: u64,
    (index, notes): (&mut Index, &mut Notes),
    damages: &mut Vec<Damage>,
) {
    let location = Location::new(segment.sequence, position);
    let mut applied = Ok(0);
    if record.kind == Kind::Append {
        applied = index.lose_to(record.index);
    }
    let applied = applied.and_then(|_| apply(record, location, index, notes));
    if let Err(reason) = applied {
        let bytes = record.end.saturating_sub(position);
        damages.push(damage(&segment.path, position, bytes, reason));
    }
}

/// The first valid record behind a damaged one.
fn next_record(segment: &Segment, position: u64) -> Result<Option<(u64, Record)>, JournalError> {
    let mut found = None;
    records_behind(segment, position.saturating_add(ALIGN), |start, record| {
        found = Some((start, record));
        false
    })?;
    Ok(found)
}

/// Whether what lies at `position` looks like a record, or there is one behind it.
fn was_record(
    segment: &Segment,
    position: u64,
    window: &mut Window<'_>,
) -> Result<bool, JournalError> {
    let failed = |error| JournalError::io(&segment.path, &error);
    let head = window.get(position, HEADER_BYTES).map_err(failed)?;
    let is_one = head.len() == HEADER_BYTES && long(&head, 8) == segment.generation;
    Ok(is_one || next_record(segment, position)?.is_some())
}

/// Whether a later write says that the bytes at `position` were durable once.
fn is_proven(segment: &Segment, position: u64) -> Result<bool, JournalError> {
    let mut is_proven = position < segment.kept_end;
    records_behind(segment, position, |_, record| {
        is_proven |= record.batch > position;
        !is_proven
    })?;
    Ok(is_proven)
}

/// Moves a file out of the way that is no segment any more, for people to look at.
pub(super) fn set_aside(
    disk: &dyn Disk,
    path: &Path,
    reason: String,
) -> Result<Damage, JournalError> {
    let failed = |error: std::io::Error| JournalError::io(path, &error);
    let bytes = disk
        .open(path)
        .and_then(|file| file.len())
        .map_err(failed)?;
    let aside = path.with_extension("damaged");
    disk.rename(path, &aside).map_err(failed)?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir).map_err(failed)?;
    }
    Ok(damage(&aside, 0, bytes, reason))
}

fn damage(path: &Path, position: u64, bytes: u64, reason: String) -> Damage {
    Damage {
        path: path.display().to_string(),
        position,
        bytes,
        reason,
    }
}
