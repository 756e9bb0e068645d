//! What a journal finds on disk when it is opened.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{Index, Location};
use super::record::{ALIGN, Kind, Record, WINDOW_BYTES, Window};
use super::salvage::{self, Damage, End};
use super::segment::{
    FileKind, Kept, Previous, SEGMENT_HEADER_BYTES, Segment, Segments, segment_bytes, write_zeros,
};
use super::{JournalError, NOTE_SLOTS, Notes};
use crate::disk::{Disk, create_dir_durable};

/// A journal's state as its files tell it.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Segments,
    /// Oldest first; the last one is written to.
    pub(super) live: VecDeque<Arc<Segment>>,
    /// Where the next record goes.
    pub(super) position: u64,
    /// How far the last segment has no holes.
    pub(super) zeroed: u64,
    pub(super) index: Index,
    pub(super) notes: Notes,
}

/// Reads the folder, makes it when it is missing, and cuts a torn end. Damage before it is an error,
/// unless there is a list to note it in: then it is left out and the rest is taken.
pub(super) fn recover(
    disk: Arc<dyn Disk>,
    dir: &Path,
    asked_bytes: u64,
    mut damages: Option<&mut Vec<Damage>>,
) -> Result<Recovered, JournalError> {
    create_dir_durable(disk.as_ref(), dir).map_err(|error| JournalError::io(dir, &error))?;
    let mut segments = Segments {
        disk,
        dir: dir.to_path_buf(),
        segment_bytes: segment_bytes(asked_bytes),
        spare: None,
    };
    let (mut live, mut greatest) = open_segments(&mut segments, damages.as_deref_mut())?;
    let mut index = Index::default();
    let mut notes: Notes = std::array::from_fn(|_| None);
    let mut position = SEGMENT_HEADER_BYTES;
    let mut zeroed = 0;
    if live.is_empty() {
        let kept = Kept {
            purged: None,
            notes: notes.clone(),
        };
        let sequence = std::mem::take(&mut greatest).saturating_add(1);
        let (segment, filled) = segments.make(sequence, Previous::default(), &kept, 0)?;
        zeroed = filled;
        position = segment.kept_end;
        live.push_back(Arc::new(segment));
    } else {
        for (segment, next) in live.iter().zip(live.iter().skip(1)) {
            let end = Some(next.previous.end);
            match (check_chain(segment, next), damages.as_deref_mut()) {
                (Ok(()), None) => _ = replay(segment, end, &mut index, &mut notes)?,
                (Ok(()), Some(damages)) => {
                    let end = End::At(next.previous.end);
                    salvage::replay(segment, end, &mut index, &mut notes, damages)?;
                }
                (Err(error), None) => return Err(error),
                (Err(_), Some(damages)) => {
                    salvage::replay(segment, End::Unknown, &mut index, &mut notes, damages)?;
                }
            }
        }
        if let Some(last) = live.back() {
            position = match damages {
                None => replay(last, None, &mut index, &mut notes)?,
                Some(damages) => salvage::replay(last, End::Torn, &mut index, &mut notes, damages)?,
            };
            cut_torn_end(last, position)?;
        }
    }
    let oldest = index.oldest_segment();
    while live.len() > 1
        && live
            .front()
            .is_some_and(|s| oldest.is_none_or(|o| s.sequence < o))
    {
        if let Some(segment) = live.pop_front() {
            segments.retire(&segment)?;
        }
    }
    Ok(Recovered {
        segments,
        live,
        position,
        zeroed: zeroed.max(position),
        index,
        notes,
    })
}

/// Opens the segments, in order. Also returns the greatest sequence number that a file bears.
fn open_segments(
    segments: &mut Segments,
    mut damages: Option<&mut Vec<Damage>>,
) -> Result<(VecDeque<Arc<Segment>>, u32), JournalError> {
    let disk = Arc::clone(&segments.disk);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error: std::io::Error| JournalError::io(&path, &error)
    };
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    let mut useless = Vec::new();
    for entry in disk.list(&segments.dir).map_err(failed(&segments.dir))? {
        match FileKind::of(&entry.path) {
            FileKind::Segment(sequence) => found.push((sequence, entry.path)),
            FileKind::Unfinished => useless.push(entry.path),
            FileKind::Foreign => {}
            FileKind::Spare => {
                let file = disk.open(&entry.path).map_err(failed(&entry.path))?;
                let length = file.len().map_err(failed(&entry.path))?;
                if segments.spare.is_none() && length == segments.segment_bytes {
                    segments.spare = Some(entry.path);
                } else {
                    useless.push(entry.path);
                }
            }
        }
    }
    for path in useless {
        disk.remove_file(&path).map_err(failed(&path))?;
    }
    found.sort();
    let greatest = found.last().map_or(0, |(sequence, _)| *sequence);
    let mut live = VecDeque::with_capacity(found.len());
    for (sequence, path) in found {
        match (
            Segment::open(disk.as_ref(), &path, sequence),
            damages.as_deref_mut(),
        ) {
            (Ok(segment), _) => live.push_back(Arc::new(segment)),
            (Err(JournalError::Damaged { reason, .. }), Some(damages)) => {
                damages.push(salvage::set_aside(disk.as_ref(), &path, reason)?);
            }
            (Err(error), _) => return Err(error),
        }
    }
    if live.back().is_some_and(|last| last.sequence < greatest) {
        // Nothing may be written behind what was set aside under the number that follows.
        live.extend(continued(segments, &live, greatest)?);
    }
    Ok((live, greatest))
}

/// An empty segment behind all others.
fn continued(
    segments: &mut Segments,
    live: &VecDeque<Arc<Segment>>,
    greatest: u32,
) -> Result<Option<Arc<Segment>>, JournalError> {
    if live.is_empty() {
        return Ok(None);
    }
    let kept = Kept {
        purged: None,
        notes: std::array::from_fn(|_| None),
    };
    let sequence = greatest.saturating_add(1);
    let (segment, _) = segments.make(sequence, Previous::default(), &kept, 0)?;
    Ok(Some(Arc::new(segment)))
}

/// A segment and the one after it must name each other.
fn check_chain(segment: &Segment, next: &Segment) -> Result<(), JournalError> {
    if segment.sequence.checked_add(1) != Some(next.sequence) {
        let reason = format!(
            "segment {} comes after segment {}",
            next.sequence, segment.sequence
        );
        return Err(JournalError::damaged(&next.path, 12, &reason));
    }
    if next.previous.generation != segment.generation {
        let reason = format!("it does not follow the segment {}", segment.path.display());
        return Err(JournalError::damaged(&next.path, 32, &reason));
    }
    Ok(())
}

/// Applies a segment's records in order and returns where they end. In a segment that is not the
/// last, they must end at `end`.
fn replay(
    segment: &Segment,
    end: Option<u64>,
    index: &mut Index,
    notes: &mut Notes,
) -> Result<u64, JournalError> {
    let mut window = Window::new(segment.file.as_ref(), segment.capacity, WINDOW_BYTES);
    let mut position = SEGMENT_HEADER_BYTES;
    let mut batch = position;
    while end != Some(position) {
        let read = window.record(position, segment.generation);
        let read = read.map_err(|error| JournalError::io(&segment.path, &error))?;
        let fits = |record: &Record| record.batch == position || record.batch == batch;
        let record = match (read, end) {
            (Ok(record), _) if fits(&record) => record,
            (Ok(_), None) | (Err(_), None) => break,
            (Ok(_), Some(_)) => {
                let reason = "the record is not part of the write before it";
                return Err(JournalError::damaged(&segment.path, position, reason));
            }
            (Err(reason), Some(_)) => {
                return Err(JournalError::damaged(&segment.path, position, reason));
            }
        };
        batch = record.batch;
        apply(
            &record,
            Location::new(segment.sequence, position),
            index,
            notes,
        )
        .map_err(|reason| JournalError::damaged(&segment.path, position, &reason))?;
        position = record.end;
    }
    if position < segment.kept_end {
        let reason = "a record is damaged that was durable before the segment was used";
        return Err(JournalError::damaged(&segment.path, position, reason));
    }
    Ok(position)
}

pub(super) fn apply(
    record: &Record,
    location: Location,
    index: &mut Index,
    notes: &mut Notes,
) -> Result<(), String> {
    match record.kind {
        Kind::Append => index.append(record.index, location)?,
        Kind::Truncate => index.truncate_after(record.index),
        Kind::Purge => index.purge_to(record.index),
        Kind::Note => match notes.get_mut(usize::from(record.slot)) {
            // Copied, so that it does not hold on to the read buffer.
            Some(note) => *note = Some(Bytes::copy_from_slice(&record.payload)),
            None => return Err(format!("note {} of {NOTE_SLOTS}", record.slot)),
        },
    }
    Ok(())
}

/// Looks at what lies behind the last record. Records of a later write mean that bytes which had been
/// synced are damaged. Whole records of the torn write are erased: later appends could otherwise end
/// exactly where one of them begins and bring it back.
fn cut_torn_end(segment: &Segment, position: u64) -> Result<(), JournalError> {
    let failed = |error| JournalError::io(&segment.path, &error);
    let file = segment.file.as_ref();
    let mut torn_end = None;
    let mut later = None;
    records_behind(segment, position, |start, record| {
        if record.batch > position {
            later = Some(start);
            return false;
        }
        torn_end = torn_end.max(Some(record.end));
        true
    })?;
    if let Some(start) = later {
        let reason = format!("no valid record, but there is a later one at byte {start}");
        return Err(JournalError::damaged(&segment.path, position, &reason));
    }
    if let Some(end) = torn_end {
        tracing::info!(
            file = %segment.path.display(), position, bytes = end - position,
            "cut the torn end of the journal: a write that was never acknowledged"
        );
        write_zeros(file, position, end).map_err(failed)?;
    }
    // What was read may be in the machine's memory only, left there by a write whose sync failed:
    // whoever opens the journal takes it for durable.
    file.sync().map_err(failed)
}

/// Shows every valid record that begins at or behind `position`, in order, until `visit` says no.
pub(super) fn records_behind(
    segment: &Segment,
    position: u64,
    mut visit: impl FnMut(u64, Record) -> bool,
) -> Result<(), JournalError> {
    let failed = |error| JournalError::io(&segment.path, &error);
    let file = segment.file.as_ref();
    let mut window = Window::new(file, segment.capacity, 0);
    let mut at = position;
    while at < segment.capacity {
        let chunk = file.read_at(at, WINDOW_BYTES).map_err(failed)?;
        for generation_at in find(&chunk, segment.generation) {
            let Some(start) = (at + generation_at).checked_sub(ALIGN) else {
                continue;
            };
            if start < position {
                continue;
            }
            let Ok(record) = window.record(start, segment.generation).map_err(failed)? else {
                continue;
            };
            if !visit(start, record) {
                return Ok(());
            }
        }
        if chunk.len() < WINDOW_BYTES {
            break;
        }
        at += chunk.len() as u64;
    }
    Ok(())
}

/// Aligned positions in `chunk` where `generation` is written.
fn find(chunk: &[u8], generation: u64) -> Vec<u64> {
    const PAGE: usize = 4096;
    static ZEROS: [u8; PAGE] = [0; PAGE];
    let wanted = generation.to_le_bytes();
    let mut found = Vec::new();
    for (number, page) in chunk.chunks(PAGE).enumerate() {
        if page == &ZEROS[..page.len()] {
            continue;
        }
        let matches = page
            .chunks_exact(8)
            .enumerate()
            .filter(|(_, word)| *word == wanted);
        found.extend(matches.map(|(word, _)| (number * PAGE + word * 8) as u64));
    }
    found
}
