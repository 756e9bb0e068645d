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
                journal: agent.journal?,
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
        Standing::Live | Standing::Draining => agent.peer.as_deref(),
        Standing::Ended { .. } => None,
    }
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

#[cfg(test)]
mod tests {
    use alluvium_metadata::{AgentOrigin, AnnounceAgent, Command, Outcome, RegisterAgent};
    use alluvium_types::TopicId;

    use super::*;

    fn apply(state: &mut State, command: Command) -> Outcome {
        let outcome = state.apply(command, &mut Vec::new());
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        outcome
    }

    fn register(state: &mut State, identity: u128, zone: Option<&str>) -> AgentOrigin {
        let register = RegisterAgent {
            identity,
            host: "h".to_owned(),
            port: 9092,
            zone: zone.map(ToOwned::to_owned),
            at: 1,
            cluster_id: TopicId([9; 16]),
        };
        match apply(state, Command::RegisterAgent(register)) {
            Outcome::AgentRegistered(origin) => origin,
            other => panic!("{other:?}"),
        }
    }

    fn announce(state: &mut State, origin: AgentOrigin, peer: bool, journal: Option<u128>) {
        let peer = peer.then(|| format!("a{}:9094", origin.agent));
        let announce = AnnounceAgent {
            origin,
            peer,
            journal,
        };
        apply(state, Command::AnnounceAgent(announce));
    }

    /// Agents 1, 2, ... in these zones, all announced, with journals 101, 102, ...
    fn cluster(zones: &[Option<&str>]) -> (State, Vec<AgentOrigin>) {
        let mut state = State::new();
        let mut origins = Vec::new();
        for (identity, zone) in (1..).zip(zones) {
            let origin = register(&mut state, identity, *zone);
            announce(&mut state, origin, true, Some(100 + identity));
            origins.push(origin);
        }
        (state, origins)
    }

    fn peers(state: &State, me: i32) -> Vec<i32> {
        let zone = state.agent(AgentId(me)).and_then(|me| me.zone.as_deref());
        let peers = journal_peers(state, AgentId(me), zone);
        for copy in &peers {
            let number = u128::try_from(copy.agent.0).unwrap();
            assert_eq!(copy.journal, 100 + number);
        }
        let mut peers: Vec<_> = peers.into_iter().map(|copy| copy.agent.0).collect();
        peers.sort_unstable();
        peers
    }

    #[test]
    fn copies_lie_in_other_zones_with_live_agents_that_have_a_buffer() {
        let zones = [Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), None];
        let (mut state, origins) = cluster(&zones);
        assert_eq!(peers(&state, 1), [3, 4, 5, 6]);
        assert_eq!(peers(&state, 5), [1, 2, 3, 4, 6]);
        assert_eq!(peers(&state, 6), [1, 2, 3, 4, 5]);
        announce(&mut state, origins[2], false, Some(103));
        announce(&mut state, origins[4], true, None);
        assert_eq!(peers(&state, 1), [4, 6]);
        let drain = Command::DrainAgent { origin: origins[5] };
        apply(&mut state, drain);
        assert_eq!(peers(&state, 1), [4]);
        let agents = vec![origins[3]];
        apply(&mut state, Command::EndAgents { agents, at: 9 });
        assert_eq!(peers(&state, 1), [0; 0]);
        // Registered again, it has to announce again.
        let again = register(&mut state, 4, Some("b"));
        assert_eq!(peers(&state, 1), [0; 0]);
        announce(&mut state, again, true, Some(104));
        assert_eq!(peers(&state, 1), [4]);
    }

    #[test]
    fn without_zones_every_other_agent_keeps_copies_and_agents_choose_differently() {
        let (state, _) = cluster(&[None; 9]);
        let mut first: Vec<_> = (1..=9)
            .map(|me| journal_peers(&state, AgentId(me), None)[0].agent.0)
            .collect();
        assert!((1..=9).zip(&first).all(|(me, first)| me != *first));
        first.sort_unstable();
        first.dedup();
        assert!(first.len() > 3, "{first:?}");
    }

    #[test]
    fn blocks_are_spread_over_the_agents_of_a_zone_and_stay_where_they_are() {
        let zones = [Some("a"), Some("a"), Some("b"), Some("a"), None];
        let (mut state, origins) = cluster(&zones);
        let owners = |state: &State| -> Vec<AgentId> {
            let blocks =
                (0..3000u64).map(|block| (ObjectId(u128::from(block / 100) << 77), block % 100));
            blocks
                .map(|(object, block)| block_owner(state, Some("a"), object, block).unwrap())
                .collect()
        };
        let before = owners(&state);
        for agent in [1, 2, 4] {
            let share = before.iter().filter(|owner| owner.0 == agent).count();
            assert!((850..1150).contains(&share), "agent {agent} has {share}");
        }
        let agents = vec![origins[1]];
        apply(&mut state, Command::EndAgents { agents, at: 9 });
        for (before, after) in before.iter().zip(owners(&state)) {
            assert!(*before == after || before.0 == 2);
        }
        assert_eq!(block_owner(&state, Some("x"), ObjectId(1), 0), None);
        assert_eq!(block_owner(&state, None, ObjectId(1), 0), Some(AgentId(5)));
    }
}
