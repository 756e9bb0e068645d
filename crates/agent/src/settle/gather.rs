//! What one round of settling takes.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use alluvium_metadata::{JournalChunkId, JournalCopy, RunLocation, State};
use alluvium_types::hash::HashMap;
use alluvium_types::{AgentId, Offset, TopicPartition};

use super::share::{Urgency, is_share, urgency};

/// Most bytes of one settled object.
pub(super) const OBJECT_BYTES: u64 = 64 << 20;

/// Most runs of one settled object: its command stays well below a MiB.
const OBJECT_RUNS: usize = 8192;

/// A chunk that is read for a round.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    pub(super) id: JournalChunkId,
    pub(super) bytes: u64,
    pub(super) copies: Vec<JournalCopy>,
}

/// Where a run's bytes are before.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Inline(Bytes),
    Journal(JournalChunkId, Range<u64>),
}

/// A run that waits.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) partition: TopicPartition,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) source: Source,
}

/// What a round takes, by partition and offset, and the chunks that it lies in.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) pieces: Vec<Piece>,
    pub(super) chunks: Vec<Needed>,
    bytes: u64,
}

impl Gathered {
    fn has_room(&self, bytes: u64) -> bool {
        let is_full =
            self.bytes.saturating_add(bytes) > OBJECT_BYTES || self.pieces.len() >= OBJECT_RUNS;
        !is_full || self.pieces.is_empty()
    }

    /// Takes whole chunks, the oldest first: each is read once.
    pub(super) fn journals(
        &mut self,
        state: &State,
        me: AgentId,
        wanted: Urgency,
        without: &BTreeSet<JournalChunkId>,
    ) {
        for (id, chunk) in state.journal_chunks() {
            if urgency(state, me, id, chunk) != Some(wanted) || without.contains(&id) {
                continue;
            }
            if !self.has_room(chunk.bytes) {
                return;
            }
            let before = self.pieces.len();
            for (partition, offset) in state.journal_places(id) {
                let run = state
                    .partition(partition)
                    .and_then(|partition| partition.runs_from(offset).next());
                let Some(run) = run.filter(|run| run.base_offset == offset) else {
                    continue;
                };
                let RunLocation::Journal { chunk, position } = run.location else {
                    continue;
                };
                let source = Source::Journal(chunk, position..position.saturating_add(run.length));
                self.add(
                    partition,
                    run.base_offset..run.end_offset,
                    run.length,
                    source,
                );
            }
            // Runs of deleted topics are nobody's.
            if self.pieces.len() > before {
                self.chunks.push(Needed {
                    id,
                    bytes: chunk.bytes,
                    copies: chunk.copies.clone(),
                });
            }
        }
    }

    /// Takes what is inline and this agent's share. `settled_to`: below these offsets nothing is inline
    /// any more.
    pub(super) fn inline(
        &mut self,
        state: &State,
        me: AgentId,
        settled_to: &HashMap<TopicPartition, Offset>,
    ) {
        for at in state.inline_partitions() {
            if !is_share(state, me, at) {
                continue;
            }
            let Some(partition) = state.partition(at) else {
                continue;
            };
            let from = settled_to.get(&at).copied().unwrap_or(0);
            for run in partition.runs_from(from) {
                let RunLocation::Inline(bytes) = &run.location else {
                    continue;
                };
                if !self.has_room(run.length) {
                    return;
                }
                let source = Source::Inline(bytes.clone());
                self.add(at, run.base_offset..run.end_offset, run.length, source);
            }
        }
    }

    /// Where what was inline ends in each partition. Chunks in write-ahead buffers say nothing of what is
    /// inline before them.
    pub(super) fn inline_to(&self) -> HashMap<TopicPartition, Offset> {
        let inline = |piece: &&Piece| matches!(piece.source, Source::Inline(_));
        let mut ends = HashMap::default();
        for piece in self.pieces.iter().filter(inline) {
            let end = ends.entry(piece.partition).or_insert(piece.end_offset);
            *end = piece.end_offset.max(*end);
        }
        ends
    }

    fn add(
        &mut self,
        partition: TopicPartition,
        offsets: Range<Offset>,
        length: u64,
        source: Source,
    ) {
        self.bytes = self.bytes.saturating_add(length);
        self.pieces.push(Piece {
            partition,
            base_offset: offsets.start,
            end_offset: offsets.end,
            source,
        });
    }

    /// Puts the pieces in order.
    pub(super) fn sort(&mut self) {
        self.pieces
            .sort_by_key(|piece| (piece.partition, piece.base_offset));
    }
}

/// Bytes that wait for `me`, later or now: in write-ahead buffers.
pub(super) fn journal_bytes(state: &State, me: AgentId, wanted: Urgency) -> u64 {
    if state.journal_bytes() == 0 {
        return 0;
    }
    state
        .journal_chunks()
        .filter(|(id, chunk)| urgency(state, me, *id, chunk) == Some(wanted))
        .fold(0, |sum, (_, chunk)| sum.saturating_add(chunk.bytes))
}

#[cfg(test)]
mod tests {
    use alluvium_types::{AgentEpoch, ChunkNumber, TopicId};

    use super::*;

    #[test]
    fn chunks_in_write_ahead_buffers_say_nothing_of_what_is_inline_before_them() {
        let at = |partition| TopicPartition::new(TopicId([1; 16]), partition);
        let chunk = JournalChunkId {
            agent: AgentId(1),
            epoch: AgentEpoch(1),
            chunk: ChunkNumber(1),
        };
        let mut gathered = Gathered::default();
        let inline = || Source::Inline(Bytes::from_static(b"1234"));
        gathered.add(at(0), 0..5, 4, inline());
        gathered.add(at(0), 5..9, 4, inline());
        gathered.add(at(0), 9..100, 4, Source::Journal(chunk, 0..4));
        gathered.add(at(1), 50..60, 4, Source::Journal(chunk, 4..8));
        assert_eq!(gathered.inline_to(), HashMap::from_iter([(at(0), 9)]));
    }
}
