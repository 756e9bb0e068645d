//! Replaying the log behind a snapshot.

use futures::{StreamExt, stream};

use alluvium_metadata::Command;
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::Millis;

use super::history::Base;
use super::report::Replayed;
use super::{RestoreError, RestoreStep, Watcher};
use crate::archive::file::FileError;
use crate::archive::listing::Listed;
use crate::archive::piece::Piece;
use crate::raft::entry_command;
use crate::view::Current;

/// Pieces read ahead.
const READ_AHEAD: usize = 4;

/// Why a replay goes no further.
enum End {
    /// The moment asked for was reached.
    Moment,
    /// Said to the person.
    Trouble(String),
}

struct Replay {
    current: Current,
    replayed: Replayed,
    at: Option<Millis>,
}

/// Applies what the pieces hold, up to `at`, or to the first gap or damage.
pub(super) async fn replay(
    bucket: &Bucket,
    base: Base,
    at: Option<Millis>,
    watch: Watcher<'_>,
) -> Result<(Current, Replayed), RestoreError> {
    let covered = base.current.checkpoint.next_index();
    // The piece that begins last at or before the snapshot's end may reach beyond it.
    let from = base
        .pieces
        .partition_point(|piece| piece.number <= covered)
        .saturating_sub(1);
    let pieces: Vec<Listed> = base.pieces.into_iter().skip(from).collect();
    let all = u64::try_from(pieces.len()).unwrap_or(u64::MAX);
    let mut replay = Replay {
        replayed: Replayed {
            snapshot: base.snapshot_at.map(|_| covered),
            pieces: 0,
            entries: 0,
            next_index: covered,
            until: base.snapshot_at.unwrap_or(base.marker.at),
            ended_early: None,
            damaged: base.damaged,
        },
        current: base.current,
        at,
    };
    let reads = pieces.into_iter().map(|listed| async move {
        let bytes = bucket.read(&listed.key, 0..listed.bytes).await?;
        Ok::<_, BucketError>((listed, bytes))
    });
    let mut reads = stream::iter(reads).buffered(READ_AHEAD);
    let mut done = 0;
    while let Some(read) = reads.next().await {
        let (listed, bytes) = read?;
        done += 1;
        let piece = match Piece::decode(&listed.key, &bytes) {
            Ok(piece) if piece.head.first.index == listed.number => Ok(piece),
            Ok(_) => Err(FileError::damaged(
                &listed.key,
                "it is not what its key says",
            )),
            Err(error @ FileError::Version { .. }) => {
                return Err(RestoreError::Archive(error.to_string()));
            }
            Err(error) => Err(error),
        };
        let belongs = |piece: &Piece| {
            (piece.head.history, piece.head.cluster) == (base.marker.history, base.marker.cluster)
        };
        let end = match piece {
            Ok(piece) if belongs(&piece) => replay.piece(&listed.key, piece),
            Ok(_) => Some(End::Trouble(format!(
                "{} is of another cluster or history",
                listed.key
            ))),
            // It overlaps with what is there already; should that not be all of it, there is a gap.
            Err(error) if listed.number < replay.current.checkpoint.next_index() => {
                replay.replayed.damaged.push(error.to_string());
                None
            }
            Err(error) => Some(End::Trouble(error.to_string())),
        };
        watch(RestoreStep::Pieces { done, all });
        match end {
            None => {}
            Some(End::Moment) => break,
            Some(End::Trouble(reason)) => {
                let unread = all - done;
                replay.replayed.ended_early = Some(format!(
                    "{reason}. What the log held from entry {} on is not restored; {unread} later \
                     pieces of it are not used",
                    replay.current.checkpoint.next_index()
                ));
                break;
            }
        }
    }
    replay.replayed.next_index = replay.current.checkpoint.next_index();
    Ok((replay.current, replay.replayed))
}

impl Replay {
    fn piece(&mut self, key: &str, piece: Piece) -> Option<End> {
        let next = self.current.checkpoint.next_index();
        if piece.head.first.index > next {
            return Some(End::Trouble(format!(
                "the archive has a gap: entries {next} to {} are missing before {key}",
                piece.head.first.index - 1
            )));
        }
        let made_at = piece.head.at;
        let is_late = self.at.is_some_and(|at| made_at > at);
        let known = usize::try_from(next - piece.head.first.index).unwrap_or(usize::MAX);
        let mut changes = Vec::new();
        for entry in piece.entries.into_iter().skip(known) {
            let (position, command) = match entry_command(entry) {
                Ok(entry) => entry,
                Err(error) => return Some(End::Trouble(format!("{key}: {error}"))),
            };
            let time = command.as_ref().and_then(time_of);
            if is_late && time.zip(self.at).is_some_and(|(time, at)| time > at) {
                return Some(End::Moment);
            }
            if let Some(command) = command {
                self.current.state.apply(command, &mut changes);
                changes.clear();
            }
            self.current.checkpoint.last = Some(position);
            self.replayed.entries += 1;
        }
        self.replayed.pieces += 1;
        self.replayed.until = self.at.map_or(made_at, |at| made_at.min(at));
        is_late.then_some(End::Moment)
    }
}

/// When a command was made, where it says so.
const fn time_of(command: &Command) -> Option<Millis> {
    match command {
        Command::Sequence(command) => Some(command.at),
        Command::RegisterAgent(command) => Some(command.at),
        Command::CreateTopic(command) => Some(command.at),
        Command::CommitOffsets(command) => Some(command.at),
        Command::EndAgents { at, .. } => Some(*at),
        _ => None,
    }
}
