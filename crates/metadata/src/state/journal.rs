//! Chunks in write-ahead buffers: who has a copy, and which runs lie in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use alluvium_types::{AgentEpoch, AgentId, ChunkNumber, Millis, Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use super::State;
use crate::command::{Change, JournalCopy};
use crate::runs::JournalChunkId;

/// Most copies that are named of a chunk.
pub(crate) const COPIES: usize = 16;

/// Most voided chunks of an agent that are remembered; the oldest are forgotten first. Chunks are
/// unstable for a moment, or for as long as the store is away.
const VOIDED: usize = 1 << 16;

/// A chunk in write-ahead buffers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalChunk {
    /// Who has it.
    pub copies: Vec<JournalCopy>,
    /// Its length in bytes.
    pub bytes: u64,
    /// See [`Location::Journal`](crate::Location::Journal).
    pub stable: bool,
    /// When it was sequenced.
    pub at: Millis,
}

/// The chunks that runs name. One that no run names any more is forgotten at once: its copies may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    chunks: BTreeMap<JournalChunkId, Journaled>,
    /// Those whose runs became gaps. The gaps do not say so: where keys are compacted, settled chunks
    /// leave gaps as well.
    voided: BTreeSet<JournalChunkId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Journaled {
    chunk: JournalChunk,
    /// The runs that lie in it; found in the manifests when a snapshot is read.
    #[serde(skip)]
    runs: Places,
}

/// Runs, by partition and first offset.
pub(crate) type Places = BTreeSet<(TopicPartition, Offset)>;

/// All names of chunks of an agent.
fn names_of(agent: AgentId) -> RangeInclusive<JournalChunkId> {
    let id = |number| JournalChunkId {
        agent,
        epoch: AgentEpoch(number),
        chunk: ChunkNumber(number),
    };
    id(0)..=id(u64::MAX)
}

impl Journal {
    pub(crate) fn get(&self, id: JournalChunkId) -> Option<&JournalChunk> {
        self.chunks.get(&id).map(|known| &known.chunk)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (JournalChunkId, &JournalChunk)> {
        self.chunks.iter().map(|(id, known)| (*id, &known.chunk))
    }

    pub(crate) fn places(
        &self,
        id: JournalChunkId,
    ) -> impl Iterator<Item = (TopicPartition, Offset)> {
        let known = self.chunks.get(&id);
        known
            .into_iter()
            .flat_map(|known| known.runs.iter().copied())
    }

    /// Makes a chunk known; somebody will say which runs lie in it.
    pub(crate) fn insert(&mut self, id: JournalChunkId, chunk: JournalChunk) {
        let runs = Places::new();
        self.chunks.insert(id, Journaled { chunk, runs });
    }

    pub(crate) fn add_run(&mut self, id: JournalChunkId, place: TopicPartition, offset: Offset) {
        if let Some(known) = self.chunks.get_mut(&id) {
            known.runs.insert((place, offset));
        }
    }

    pub(crate) fn remove_run(&mut self, id: JournalChunkId, place: TopicPartition, offset: Offset) {
        if let Some(known) = self.chunks.get_mut(&id) {
            known.runs.remove(&(place, offset));
            if known.runs.is_empty() {
                self.chunks.remove(&id);
            }
        }
    }

    /// Forgets a chunk if no run lies in it.
    pub(crate) fn forget_unnamed(&mut self, id: JournalChunkId) {
        if self
            .chunks
            .get(&id)
            .is_some_and(|known| known.runs.is_empty())
        {
            self.chunks.remove(&id);
        }
    }

    pub(crate) fn was_voided(&self, id: JournalChunkId) -> bool {
        self.voided.contains(&id)
    }

    /// Notes that the unstable chunks of an agent are void. They are all of its last registration,
    /// though their names may bear one before it. Returns their runs, the last one first.
    fn void(&mut self, agent: AgentId) -> Vec<(TopicPartition, Offset)> {
        let chunks = self.chunks.range(names_of(agent));
        let mut runs = Vec::new();
        for (id, known) in chunks.filter(|(_, known)| !known.chunk.stable) {
            self.voided.insert(*id);
            runs.extend(known.runs.iter().copied());
        }
        let known = self.voided.range(names_of(agent)).count();
        for _ in VOIDED..known {
            let oldest = self.voided.range(names_of(agent)).next().copied();
            oldest.map(|id| self.voided.remove(&id));
        }
        runs.sort_unstable();
        runs.reverse();
        runs
    }

    /// An agent will not come back under its id: nobody asks what became of its chunks.
    pub(crate) fn forget_voided(&mut self, agent: AgentId) {
        let names = names_of(agent);
        self.voided.retain(|id| !names.contains(id));
    }

    /// Who is named as having a copy of anything.
    pub(crate) fn holders(&self) -> BTreeSet<AgentId> {
        let copies = self.chunks.values().flat_map(|known| &known.chunk.copies);
        copies.map(|copy| copy.agent).collect()
    }

    /// What the manifests say must be what is known.
    pub(crate) fn check(&self, named: &BTreeMap<JournalChunkId, Places>) -> Result<(), String> {
        for (id, known) in &self.chunks {
            let JournalChunk { copies, .. } = &known.chunk;
            if copies.is_empty() || copies.len() > COPIES {
                return Err(format!("{id:?} has {} copies", copies.len()));
            }
            if known.runs.is_empty() || named.get(id) != Some(&known.runs) {
                return Err(format!("{id:?} is {known:?}, found {:?}", named.get(id)));
            }
        }
        match named.keys().find(|id| !self.chunks.contains_key(id)) {
            Some(id) => Err(format!("{id:?} is named and not known")),
            None => Ok(()),
        }
    }
}

/// An agent's registration is over: what only it may have, and nobody has read, is lost. Its offsets
/// become gaps.
pub(super) fn void(state: &mut State, agent: AgentId, changes: &mut Vec<Change>) {
    let mut high_watermarks: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    // From the end on, so that a producer goes on from the last batch that it has left.
    for (place, offset) in state.journal.void(agent) {
        let Some(partition) = state.any_partition_mut(place) else {
            continue;
        };
        high_watermarks
            .entry(place)
            .or_insert(partition.high_watermark());
        let Some((replaced, forgotten)) = partition.void(offset) else {
            continue;
        };
        state.account(place, &replaced);
        for (due, producer) in forgotten {
            state.expiries.remove(&(due, place, producer));
        }
    }
    for (place, was) in high_watermarks {
        let now = state.partition(place);
        if now.is_some_and(|partition| partition.high_watermark() > was) {
            changes.push(Change::Partition(place));
        }
    }
}

#[cfg(test)]
mod tests;
