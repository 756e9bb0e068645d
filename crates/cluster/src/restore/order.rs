//! In which order chunks are sequenced anew.
//!
//! The true order is lost. What is known: an agent seals its chunks one after another and numbers
//! them, and says when by its clock. So an agent's chunks stay in the order of their numbers, and
//! between agents the clock decides, then the object's id. A producer that speaks to one agent, as
//! Kafka's do, thereby keeps the order of its records; an idempotent one keeps it in any case, by its
//! sequences.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use alluvium_types::{AgentEpoch, AgentId, Millis, ObjectId};

use super::objects::Chunk;

/// Whose chunks follow one another: a registration of an agent's, or an object that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Agent(AgentId, AgentEpoch),
    Unknown(ObjectId),
}

/// Puts them in order, each chunk once, whatever the number of attempts to write it.
pub(super) fn order(chunks: Vec<Chunk>) -> Vec<Chunk> {
    let mut lanes: BTreeMap<Lane, VecDeque<Chunk>> = BTreeMap::new();
    for chunk in chunks {
        lanes.entry(lane(&chunk)).or_default().push_back(chunk);
    }
    for chunks in lanes.values_mut() {
        let chunks = chunks.make_contiguous();
        chunks.sort_by_key(|chunk| (seal(chunk), chunk.created_at, chunk.object));
    }
    let mut heads: BinaryHeap<Reverse<(Millis, Lane)>> = BinaryHeap::new();
    let push = |heads: &mut BinaryHeap<_>, lane: Lane, chunks: &VecDeque<Chunk>| {
        heads.extend(
            chunks
                .front()
                .map(|chunk| Reverse((chunk.sealed_at(), lane))),
        );
    };
    for (lane, chunks) in &lanes {
        push(&mut heads, *lane, chunks);
    }
    let mut ordered: Vec<Chunk> = Vec::new();
    while let Some(Reverse((_, lane))) = heads.pop() {
        let Some(chunks) = lanes.get_mut(&lane) else {
            continue;
        };
        if let Some(chunk) = chunks.pop_front() {
            while chunks
                .front()
                .is_some_and(|next| chunk.origin.is_some() && next.origin == chunk.origin)
            {
                chunks.pop_front();
            }
            ordered.push(chunk);
        }
        push(&mut heads, lane, chunks);
    }
    ordered
}

fn lane(chunk: &Chunk) -> Lane {
    chunk.origin.map_or(Lane::Unknown(chunk.object), |origin| {
        Lane::Agent(origin.agent, origin.epoch)
    })
}

fn seal(chunk: &Chunk) -> u64 {
    chunk.origin.map_or(0, |origin| origin.seal)
}
