//! Finds where in a run to begin, by the index in its object's footer.

use alluvium_objects::{INDEX_STRIDE_BYTES, RunEntry};
use alluvium_types::{Millis, Offset, TopicPartition};

use super::chain::Chain;
use super::plan::{Place, PlannedRun};
use super::run_reader::Start;
use super::source::{ObjectRef, ReadError, Source, Way};

use alluvium_protocol::batch::BatchHeader;
use alluvium_types::limits::BATCH_HEADER_BYTES;

/// What is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Offset(Offset),
    /// The first record of this time or later.
    Time(Millis),
}

/// Finds a batch at or before the one that is sought, close to it.
pub(super) async fn seek(
    source: &Source,
    partition: TopicPartition,
    run: &PlannedRun,
    target: Target,
) -> Result<Start, ReadError> {
    let start = Start {
        position: 0,
        base_offset: run.base_offset,
        slack: 0,
    };
    if matches!(target, Target::Offset(offset) if offset <= run.base_offset) {
        return Ok(start);
    }
    let whole = Start {
        slack: run.length,
        ..start
    };
    let Place::Object {
        object,
        position,
        sparse,
    } = run.place
    else {
        return Ok(whole);
    };
    if run.length <= INDEX_STRIDE_BYTES {
        return Ok(whole);
    }
    let place = (object, position, sparse);
    let found = seek_in_object(source, partition, run, place, target).await?;
    Ok(found.unwrap_or(whole))
}

/// By the index in the object's footer; nothing where it does not help.
async fn seek_in_object(
    source: &Source,
    partition: TopicPartition,
    run: &PlannedRun,
    (object, position, sparse): (ObjectRef, u64, bool),
    target: Target,
) -> Result<Option<Start>, ReadError> {
    let footer = source.footer(object).await?;
    let fault = |reason: &str| damaged(object, partition, reason);
    // Runs of the object that lie one behind the other may be one to the metadata.
    let (mut passed, mut base_offset) = (0, run.base_offset);
    loop {
        let entry = footer
            .run_at(partition, position.saturating_add(passed))
            .ok_or_else(|| fault("its footer knows no such run"))?;
        let part = Part {
            entry,
            inside: position
                .saturating_add(passed)
                .saturating_sub(entry.position),
            base_offset,
            length: run.length.saturating_sub(passed),
        };
        let before = match (sparse, entry.base_offset) {
            (true, Some(base)) => {
                u64::try_from(base_offset.saturating_sub(base)).unwrap_or_default()
            }
            (true, None) => return Ok(None),
            (false, _) => records_before(source, object, entry, part.inside).await?,
        };
        let here = entry.length.saturating_sub(part.inside);
        let behind = base_offset.saturating_add_unsigned(entry.records.saturating_sub(before));
        let is_behind = match target {
            Target::Offset(offset) => offset >= behind,
            Target::Time(time) => entry.max_timestamp < time,
        };
        if is_behind && here < part.length {
            passed = passed.saturating_add(here.max(1));
            let next = footer.run_at(partition, position.saturating_add(passed));
            let bears = next.filter(|_| sparse).and_then(|next| next.base_offset);
            base_offset = bears.unwrap_or(behind);
            continue;
        }
        let start = part.seek(target, before, run.end_offset);
        return Ok(start.map(|start| Start {
            position: start.position.saturating_add(passed),
            ..start
        }));
    }
}

/// What one run of an object holds of a run of the metadata.
struct Part<'a> {
    entry: &'a RunEntry,
    /// Bytes of the object's run before it.
    inside: u64,
    base_offset: Offset,
    /// Bytes from here to the end of the metadata's run.
    length: u64,
}

impl Part<'_> {
    /// Where to begin, counted from this part; `before` offsets of the object's run lie before it. The
    /// index counts offsets, those that are missing too. Nothing where it does not help.
    fn seek(&self, target: Target, before: u64, end: Offset) -> Option<Start> {
        let entry = self.entry;
        let found = match target {
            Target::Offset(offset) => {
                let into = u64::try_from(offset.saturating_sub(self.base_offset)).unwrap_or(0);
                entry.seek_record(before.saturating_add(into))
            }
            Target::Time(time) => entry.seek_time(time),
        }?;
        let after = entry
            .index
            .partition_point(|other| other.position <= found.position);
        let next = entry.index.get(after).map(|next| next.position);
        let slack = next.map_or(INDEX_STRIDE_BYTES, |next| {
            next.saturating_sub(found.position)
        });
        if found.position <= self.inside || found.records_before < before {
            return Some(Start {
                position: 0,
                base_offset: self.base_offset,
                slack: slack.max(1),
            });
        }
        let position = found.position - self.inside;
        // What is sought by time begins behind this run: its last batch is as near as any.
        let records = i64::try_from(found.records_before - before).ok()?;
        let base_offset = self.base_offset.saturating_add(records);
        (position < self.length && base_offset < end).then_some(Start {
            position,
            base_offset,
            slack,
        })
    }
}

/// Offsets taken by the batches of the object's run before byte `inside` of it. A run of the
/// metadata begins inside when batches before it were duplicates or refused.
async fn records_before(
    source: &Source,
    object: ObjectRef,
    entry: &RunEntry,
    inside: u64,
) -> Result<u64, ReadError> {
    let fault = |reason: &str| damaged(object, entry.partition, reason);
    let near = entry
        .seek_position(inside)
        .ok_or_else(|| fault("its index is empty"))?;
    if near.position == inside {
        return Ok(near.records_before);
    }
    let range = entry.position + near.position..entry.position + inside;
    let mut chain = Chain::from(source.read(object, range, Way::PLAIN).await?.parts);
    let mut records = near.records_before;
    while chain.len() > 0 {
        let header = chain
            .peek::<BATCH_HEADER_BYTES>()
            .and_then(|bytes| BatchHeader::parse(&bytes).ok())
            .filter(|header| header.bytes <= chain.len())
            .ok_or_else(|| fault("a batch before the run cannot be read"))?;
        records += u64::try_from(i64::from(header.last_offset_delta) + 1).unwrap_or(0);
        chain.skip(header.bytes);
    }
    Ok(records)
}

fn damaged(object: ObjectRef, partition: TopicPartition, reason: &str) -> ReadError {
    let place = format!("object {}", object.object);
    ReadError::Damaged {
        place,
        partition,
        reason: reason.to_owned(),
    }
}
