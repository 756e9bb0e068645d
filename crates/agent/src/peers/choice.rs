//! Which other agent is asked for what. Everybody computes it from the state, so that all agree
//! without a table; rendezvous hashing moves only the share of an agent that comes or goes.

use std::cmp::Reverse;

use alluvium_metadata::{Agent, JournalCopy, Standing, State, rendezvous};
use alluvium_types::{AgentId, ObjectId};

/// Who may keep copies of `me`'s chunks, the first choice first: live agents that others reach, that
/// have a write-ahead buffer, and that do not fail together with `me`.
///
/// `zone` is `me`'s own. An agent without a zone is a zone of its own: where no zones are configured,
/// all others qualify; where they are, only those of other zones and those without one do.
#[must_use]
pub fn journal_peers(state: &State, me: AgentId, zone: Option<&str>) -> Vec<JournalCopy> {
    let key = rendezvous::group_key(&format!("journal of {me}"));
    let mut peers: Vec<_> = state
        .live_agents()
        .filter(|agent| agent.id != me && peer_address(agent).is_some())
        .filter(|agent| zone.is_none() || agent.zone.as_deref() != zone)
        .filter_map(|agent| {
            Some(JournalCopy {
                agent: agent.id,
                journal: journal_of(agent)?,
            })
        })
        .collect();
    peers.sort_by_key(|copy| (Reverse(rendezvous::weight(key, copy.agent)), copy.agent));
    peers
}

/// The agent of a zone through which the others of this zone read a block of an object (`block` is its
/// number), so that the store is asked once for it. May be the asking agent itself; none when no agent
/// of the zone can be reached by others.
///
/// `zone` is the asking agent's own; agents without one share as if they were of one zone.
#[must_use]
pub fn block_owner(
    state: &State,
    zone: Option<&str>,
    object: ObjectId,
    block: u64,
) -> Option<AgentId> {
    let of_zone = state
        .live_agents()
        .filter(|agent| agent.zone.as_deref() == zone && peer_address(agent).is_some())
        .map(|agent| agent.id);
    rendezvous::first(block_key(object, block), of_zone)
}

/// Where others reach an agent, if they can: while it lives or drains.
#[must_use]
pub fn peer_address(agent: &Agent) -> Option<&str> {
    match agent.standing {
        Standing::Live | Standing::Draining => None,
        Standing::Ended { .. } => None,
    }
}

/// Which write-ahead buffer an agent announced.
const fn journal_of(agent: &Agent) -> Option<u128> {
    let _ = agent;
    None
}

/// Object ids are random bits; the block's number is spread over all of them first.
fn block_key(object: ObjectId, block: u64) -> u64 {
    let id = object.0;
    let [low, high] = [id, id >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)));
    low.unwrap_or(0).rotate_left(17)
        ^ high.unwrap_or(0)
        ^ block
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
}
