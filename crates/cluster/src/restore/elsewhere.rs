//! Chunks whose batches the log has elsewhere than in the object.
//!
//! An agent whose store fails or hangs puts a chunk into the log or into write-ahead buffers instead
//! of the object that it had begun to write, and the object may be there all the same. Nothing names
//! it; its batches have been sequenced, or refused. The state does not remember that, the log of the
//! last minutes does.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};

use alluvium_metadata::{BatchStamp, Command, Location, Sequence};
use alluvium_protocol::batch::BatchHeader;
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{AgentId, Millis};

use super::objects::{Chunk, LEEWAY};
use super::{RestoreError, Restoring};
use crate::archive::piece::Piece;
use crate::archive::{keys, listing};
use crate::raft::entry_command;

/// Pieces read ahead.
const READ_AHEAD: usize = 4;

/// Who sealed a chunk, and when.
type Seal = (AgentId, Millis);

/// Takes out the chunks that a command of the restored log had sequenced or refused.
pub(super) async fn take_out(
    bucket: &Bucket,
    restoring: &Restoring,
    chunks: &mut Vec<Chunk>,
) -> Result<(), RestoreError> {
    let mut wanted: BTreeMap<Seal, Vec<usize>> = BTreeMap::new();
    for (at, chunk) in chunks.iter().enumerate() {
        if let Some(origin) = chunk.origin {
            let seal = (origin.agent, origin.sealed_at);
            wanted.entry(seal).or_default().push(at);
        }
    }
    let Some(oldest) = wanted.keys().map(|(_, sealed_at)| *sealed_at).min() else {
        return Ok(());
    };
    let mut is_there = vec![false; chunks.len()];
    let pieces = listing::list(bucket, &keys::pieces(restoring.from), None).await?;
    let reads = pieces.into_iter().rev().map(|listed| async move {
        let bytes = bucket.read(&listed.key, 0..listed.bytes).await;
        (listed, bytes)
    });
    let mut reads = stream::iter(reads).buffered(READ_AHEAD);
    while let Some((listed, bytes)) = reads.next().await {
        let bytes = match bytes {
            // Of long ago, and removed meanwhile.
            Err(BucketError::NotFound { .. }) => break,
            bytes => bytes?,
        };
        // The replay has said what is damaged.
        let Ok(piece) = Piece::decode(&listed.key, &bytes) else {
            continue;
        };
        // Clocks differ.
        let is_early = piece.head.at < oldest.saturating_sub(LEEWAY);
        for command in commands(restoring, piece) {
            let seal = (command.origin.agent, command.sealed_at);
            for at in wanted.get(&seal).into_iter().flatten() {
                if chunks.get(*at).is_some_and(|chunk| is_of(&command, chunk)) {
                    is_there[*at] = true;
                }
            }
        }
        if is_early {
            break;
        }
    }
    let mut is_there = is_there.into_iter();
    chunks.retain(|_| !is_there.next().unwrap_or(false));
    Ok(())
}

/// The chunks of a piece, as far as the state was restored.
fn commands(restoring: &Restoring, piece: Piece) -> impl Iterator<Item = Sequence> {
    let end = restoring.current.checkpoint.next_index();
    piece
        .entries
        .into_iter()
        .map_while(move |entry| {
            let (position, command) = entry_command(entry).ok()?;
            (position.index < end).then_some(command)
        })
        .filter_map(|command| match command {
            Some(Command::Sequence(command)) => Some(command),
            _ => None,
        })
}

/// Whether a command is about the very batches of a chunk: as many of the same sizes and times, and
/// with the same checksums where the command has the bytes.
fn is_of(command: &Sequence, chunk: &Chunk) -> bool {
    let mut found = chunk.batches.iter();
    for run in &command.runs {
        let mut position = run.position;
        for stamp in &run.batches {
            let is_it = found.next().is_some_and(|batch| {
                batch.partition == run.partition
                    && shape(&batch.stamp) == shape(stamp)
                    && crc(command, position).is_none_or(|crc| crc == batch.crc)
            });
            if !is_it {
                return false;
            }
            position = position.saturating_add(u64::from(stamp.bytes));
        }
    }
    found.next().is_none()
}

fn shape(stamp: &BatchStamp) -> (u32, u32, Millis) {
    (stamp.bytes, stamp.records, stamp.max_timestamp)
}

/// The checksum of a batch that lies in the command itself.
fn crc(command: &Sequence, position: u64) -> Option<u32> {
    let Location::Inline(bytes) = &command.location else {
        return None;
    };
    let position = usize::try_from(position).ok()?;
    let batch = BatchHeader::parse(bytes.get(position..)?).ok()?;
    Some(batch.crc)
}
