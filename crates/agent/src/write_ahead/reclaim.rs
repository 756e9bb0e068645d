//! What was acknowledged with one copy, and lost its offsets when the registration ended.

use std::ops::Range;

use bytes::Bytes;

use alluvium_cluster::Metadata;
use alluvium_metadata::{
    BatchOutcome, BatchStamp, ChunkRun, PartitionSequenced, RunLocation, State,
};
use alluvium_storage::write_ahead::{ChunkName, WriteAheadError};
use alluvium_types::{Offset, TopicPartition};

use super::AgentJournal;

/// Offset of a batch that got none.
const NONE: Offset = -1;

/// A batch to be produced again.
#[derive(Clone, Debug)]
pub(crate) struct Voided {
    pub(crate) partition: TopicPartition,
    pub(crate) bytes: Bytes,
    pub(crate) stamp: BatchStamp,
}

/// What is said of a chunk beside its bytes.
pub(crate) fn about(runs: &[ChunkRun]) -> Vec<u8> {
    // Cannot fail; without it the chunk would not be reclaimed.
    postcard::to_allocvec(runs).unwrap_or_default()
}

/// The mark of a chunk that was sequenced: the offset of each of its batches.
pub(crate) fn mark(sequenced: &[PartitionSequenced]) -> Bytes {
    let batches = sequenced.iter().flat_map(|partition| &partition.batches);
    let offset = |outcome: &BatchOutcome| match outcome {
        BatchOutcome::Appended { base_offset } => *base_offset,
        BatchOutcome::Duplicate { .. } | BatchOutcome::Refused(_) => NONE,
    };
    let offsets: Vec<Offset> = batches.map(offset).collect();
    postcard::to_allocvec(&offsets).unwrap_or_default().into()
}

/// The batches of a chunk that have lost their offsets.
///
/// # Errors
/// The chunk cannot be read.
pub(crate) async fn voided(
    journal: &AgentJournal,
    metadata: &Metadata,
    name: ChunkName,
) -> Result<Vec<Voided>, WriteAheadError> {
    let buffer = journal.buffer();
    let about = buffer.about(name).await?;
    let runs: Vec<ChunkRun> = postcard::from_bytes(&about).unwrap_or_default();
    let mark = buffer.marked(name).unwrap_or_default();
    let offsets: Vec<Offset> = postcard::from_bytes(&mark).unwrap_or_default();
    let lost = metadata.read(|state| lost_batches(state, &runs, &offsets));
    let mut voided = Vec::with_capacity(lost.len());
    for (partition, stamp, range) in lost {
        let bytes = buffer.read(name, range).await?;
        voided.push(Voided {
            partition,
            bytes,
            stamp,
        });
    }
    Ok(voided)
}

type Lost = (TopicPartition, BatchStamp, Range<u64>);

fn lost_batches(state: &State, runs: &[ChunkRun], offsets: &[Offset]) -> Vec<Lost> {
    let mut offsets = offsets.iter().copied();
    let mut lost = Vec::new();
    for run in runs {
        let mut position = run.position;
        for stamp in &run.batches {
            let end = position.saturating_add(u64::from(stamp.bytes));
            let offset = offsets.next().unwrap_or(NONE);
            if offset != NONE && was_lost(state, run.partition, offset) {
                lost.push((run.partition, *stamp, position..end));
            }
            position = end;
        }
    }
    lost
}

/// Whether the record of a voided chunk that had this offset may be nowhere: the gap that it left may
/// have become part of a stretch whose keys were compacted. Below the log start it does not matter any
/// more.
fn was_lost(state: &State, at: TopicPartition, offset: Offset) -> bool {
    let Some(partition) = state.partition(at) else {
        return false;
    };
    let run = partition.runs_from(offset).next();
    let is_empty =
        |location: &RunLocation| matches!(location, RunLocation::Gap | RunLocation::Sparse { .. });
    offset >= partition.log_start()
        && run.is_some_and(|run| run.base_offset <= offset && is_empty(&run.location))
}
