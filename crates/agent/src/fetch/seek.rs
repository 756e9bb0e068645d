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
    let footer = source.footer(object).await?;
    let fault = |reason: &str| damaged(object, partition, reason);
    let entry = footer
        .run_at(partition, position)
        .ok_or_else(|| fault("its footer knows no such run"))?;
    let inside = position - entry.position;
    if entry.length - inside < run.length {
        return Err(fault("its run is shorter than the metadata says"));
    }
    if sparse {
        return Ok(seek_sparse(run, entry, inside, target).unwrap_or(whole));
    }
    let before = records_before(source, object, entry, inside).await?;
    let found = match target {
        Target::Offset(offset) => {
            let into_run = u64::try_from(offset.saturating_sub(run.base_offset)).unwrap_or(0);
            entry.seek_record(before.saturating_add(into_run))
        }
        Target::Time(time) => entry.seek_time(time),
    };
    let Some(found) = found else { return Ok(whole) };
    let after = entry
        .index
        .partition_point(|other| other.position <= found.position);
    let next = entry.index.get(after).map(|next| next.position);
    let slack = next.map_or(INDEX_STRIDE_BYTES, |next| {
        next.saturating_sub(found.position)
    });
    if found.position <= inside || found.records_before < before {
        return Ok(Start {
            slack: slack.max(1),
            ..start
        });
    }
    let records = i64::try_from(found.records_before - before).unwrap_or(i64::MAX);
    let found_at = found.position - inside;
    if found_at >= run.length {
        // What is sought by time begins behind this run: its last batch is as near as any.
        return Ok(whole);
    }
    Ok(Start {
        position: found_at,
        base_offset: run.base_offset.saturating_add(records),
        slack,
    })
}

/// In a run whose batches bear their own offsets the index counts offsets, those that are missing too,
/// from the first of the object's run on. Nothing where the index does not help.
fn seek_sparse(run: &PlannedRun, entry: &RunEntry, inside: u64, target: Target) -> Option<Start> {
    let base = entry.base_offset?;
    let found = match target {
        Target::Offset(offset) => {
            entry.seek_record(u64::try_from(offset.saturating_sub(base)).ok()?)?
        }
        Target::Time(time) => entry.seek_time(time)?,
    };
    let position = found.position.checked_sub(inside)?;
    if position >= run.length {
        return None;
    }
    // What lies between two places of the index begins no earlier than the first of them ends.
    let records = i64::try_from(found.records_before).ok()?;
    Some(Start {
        position,
        base_offset: base.saturating_add(records).max(run.base_offset),
        slack: INDEX_STRIDE_BYTES,
    })
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
