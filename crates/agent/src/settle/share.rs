//! Who settles what, and how soon.
//!
//! Inline runs are settled by one of the live agents, by rendezvous hashing over partitions. A chunk in
//! write-ahead buffers is settled by who wrote it while that one lives and has its disk, else by the
//! first holder of a copy of which that is true. Two may think so for a moment: a run moves once, and the
//! other's object is an orphan.

use alluvium_metadata::{JournalChunk, JournalChunkId, JournalCopy, State, rendezvous};
use alluvium_types::{AgentId, TopicPartition};

/// How soon a chunk is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Readers wait for it, or a copy was lost.
    Now,
    /// When there is enough for a large object.
    Later,
}

/// Whether an agent is the one to settle a partition's inline runs. The last agent of all settles
/// everything.
pub(super) fn is_share(state: &State, agent: AgentId, at: TopicPartition) -> bool {
    let key = rendezvous::partition_key(at.topic, at.partition);
    let live = state.live_agents().map(|agent| agent.id);
    rendezvous::first(key, live).is_none_or(|first| first == agent)
}

/// Whether a copy is where it was written: its agent is registered, and announced no other buffer.
fn is_there(state: &State, copy: &JournalCopy) -> bool {
    state.agent(copy.agent).is_some_and(|agent| {
        agent.ended_at().is_none() && agent.journal.is_none_or(|journal| journal == copy.journal)
    })
}

/// How soon agent `me` settles a chunk; not at all when that is for another to do.
pub(super) fn urgency(
    state: &State,
    me: AgentId,
    id: JournalChunkId,
    chunk: &JournalChunk,
) -> Option<Urgency> {
    let mut there: Vec<_> = chunk
        .copies
        .iter()
        .filter(|copy| is_there(state, copy))
        .map(|copy| copy.agent)
        .collect();
    // Who wrote it has it in memory.
    there.sort_by_key(|agent| *agent != id.agent);
    if there.first() != Some(&me) {
        return None;
    }
    if !chunk.stable || there.len() < chunk.copies.len() {
        return Some(Urgency::Now);
    }
    Some(Urgency::Later)
}
