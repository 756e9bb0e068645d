//! Which agent clients are sent to for a partition. Any agent takes any partition: the name in a
//! metadata answer is a hint that keeps a partition's readers of one zone at one cache.

use std::cmp::Reverse;

use alluvium_metadata::{State, rendezvous};
use alluvium_types::{AgentId, PartitionIndex, TopicId};

/// The agents to choose from.
#[derive(Clone, Debug)]
pub struct Placement {
    agents: Vec<Candidate>,
    /// How many zones there are; agents without one are a zone of their own.
    zones: usize,
}

#[derive(Clone, Debug)]
struct Candidate {
    agent: AgentId,
    zone: Option<String>,
    /// Its zone's number, below [`Placement::zones`].
    zone_index: usize,
}

impl Placement {
    /// The live agents: neither those that drain nor those that have ended.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self::among(
            state
                .live_agents()
                .map(|agent| (agent.id, agent.zone.clone())),
        )
    }

    fn among(agents: impl Iterator<Item = (AgentId, Option<String>)>) -> Self {
        let agents: Vec<_> = agents.collect();
        let mut zones: Vec<&Option<String>> = agents.iter().map(|(_, zone)| zone).collect();
        zones.sort_unstable();
        zones.dedup();
        let candidates = agents.iter().map(|(agent, zone)| Candidate {
            agent: *agent,
            zone: zone.clone(),
            zone_index: zones.binary_search(&zone).unwrap_or(0),
        });
        Self {
            agents: candidates.collect(),
            zones: zones.len(),
        }
    }

    /// The agents to show as replicas of a partition, at most `factor` of them, none twice; none at
    /// all when no agent is live.
    ///
    /// In each zone there is one first agent for a partition, chosen by rendezvous hashing, the same
    /// for all clients: an agent that comes or goes moves only its own share of its own zone. The
    /// first of the client's zone leads the list; without one, the first of all zones does. The
    /// first ones of the other zones follow, then the second ones, so that the list reaches as many
    /// zones as it can: consumers that tell their `client.rack` are sent on within it.
    #[must_use]
    pub fn replicas(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
        factor: i16,
        zone: Option<&str>,
    ) -> Vec<AgentId> {
        let wanted = usize::try_from(factor).unwrap_or(0).max(1);
        if let [only] = self.agents.as_slice() {
            return vec![only.agent];
        }
        let key = rendezvous::partition_key(topic, partition);
        let mut by_weight: Vec<_> = self
            .agents
            .iter()
            .map(|known| (Reverse(rendezvous::weight(key, known.agent)), known))
            .collect();
        by_weight.sort_unstable_by_key(|(weight, known)| (*weight, known.agent));
        let mut taken = vec![0u32; self.zones];
        let mut ranked: Vec<_> = by_weight
            .into_iter()
            .map(|(weight, known)| {
                let mut rank = 0;
                if let Some(taken) = taken.get_mut(known.zone_index) {
                    rank = *taken;
                    *taken += 1;
                }
                let is_near = zone.is_some() && known.zone.as_deref() == zone;
                (rank, !is_near, weight, known.agent)
            })
            .collect();
        ranked.sort_unstable();
        ranked
            .into_iter()
            .take(wanted)
            .map(|(_, _, _, agent)| agent)
            .collect()
    }

    /// The agent of the client's zone that a consumer should fetch a partition from (KIP-392), among
    /// the `replicas` that it was told of. None when there is none in that zone.
    #[must_use]
    pub fn nearest(&self, replicas: &[AgentId], zone: &str) -> Option<AgentId> {
        let is_near = |agent: &&AgentId| {
            let mut known = self.agents.iter();
            known.any(|known| known.agent == **agent && known.zone.as_deref() == Some(zone))
        };
        replicas.iter().find(is_near).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use alluvium_metadata::{AgentOrigin, Command, Outcome, RegisterAgent};
    use proptest::prelude::*;

    use super::*;

    const TOPIC: TopicId = TopicId([7; 16]);

    /// Agents with ids from 1 on in these zones.
    fn placement(zones: &[&str]) -> Placement {
        let homes = zones.iter().map(|zone| Some((*zone).to_owned()));
        Placement::among((1..).map(AgentId).zip(homes))
    }

    fn leader(placement: &Placement, partition: i32, zone: Option<&str>) -> AgentId {
        placement.replicas(TOPIC, partition, 1, zone)[0]
    }

    #[test]
    fn one_agent_stands_for_everything_and_none_for_nothing() {
        assert_eq!(
            placement(&["a"]).replicas(TOPIC, 5, 3, Some("b")),
            [AgentId(1)]
        );
        assert_eq!(placement(&[]).replicas(TOPIC, 5, 3, None), []);
    }

    #[test]
    fn replicas_are_distinct_stable_and_begin_in_the_clients_zone() {
        let placement = placement(&["a", "a", "b", "b", "c"]);
        for partition in 0..100 {
            let replicas = placement.replicas(TOPIC, partition, 3, Some("b"));
            assert_eq!(replicas, placement.replicas(TOPIC, partition, 3, Some("b")));
            let distinct: BTreeSet<_> = replicas.iter().collect();
            assert_eq!(distinct.len(), 3);
            assert!([3, 4].contains(&replicas[0].0));
            // One of each zone, and all clients of a zone are told the same one.
            assert_eq!(placement.nearest(&replicas, "c"), Some(AgentId(5)));
            for other in [None, Some("a"), Some("c"), Some("nowhere")] {
                let told = placement.replicas(TOPIC, partition, 3, other);
                assert_eq!(placement.nearest(&told, "b"), Some(replicas[0]));
            }
            assert_eq!(placement.nearest(&replicas, "nowhere"), None);
        }
    }

    #[test]
    fn an_agent_that_drains_or_has_ended_is_not_named() {
        let mut state = State::new();
        let mut register = |identity| {
            let command = Command::RegisterAgent(RegisterAgent {
                identity,
                host: "h".to_owned(),
                port: 9092,
                zone: None,
                at: 1,
                cluster_id: TopicId([9; 16]),
            });
            match state.apply(command, &mut Vec::new()) {
                Outcome::AgentRegistered(origin) => origin,
                other => panic!("{other:?}"),
            }
        };
        let origins: Vec<AgentOrigin> = (1..=3).map(&mut register).collect();
        let named = |state: &State| Placement::of(state).replicas(TOPIC, 0, 9, None).len();
        assert_eq!(named(&state), 3);
        let origin = origins[0];
        state.apply(Command::DrainAgent { origin }, &mut Vec::new());
        assert_eq!(named(&state), 2);
        let agents = origins[1..].to_vec();
        state.apply(Command::EndAgents { agents, at: 2 }, &mut Vec::new());
        assert_eq!(named(&state), 0);
    }

    #[test]
    fn partitions_are_shared_fairly_within_a_zone() {
        let placement = placement(&["a", "b", "a", "b", "a", "a"]);
        let mut shares: BTreeMap<AgentId, i32> = BTreeMap::new();
        for partition in 0..4000 {
            *shares
                .entry(leader(&placement, partition, Some("a")))
                .or_default() += 1;
        }
        assert_eq!(shares.len(), 4);
        for share in shares.values() {
            assert!((850..1150).contains(share), "{shares:?}");
        }
    }

    fn zones() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..8)
    }

    proptest! {
        #[test]
        fn an_agent_that_comes_moves_only_its_own_share_of_its_own_zone(
            before in zones(),
            home in prop::sample::select(vec!["a", "b", "c"]),
            client in prop::sample::select(vec![None, Some("a"), Some("b"), Some("d")]),
        ) {
            let mut after = before.clone();
            after.push(home);
            let comer = AgentId(i32::try_from(after.len()).unwrap());
            let in_zone = before.iter().filter(|zone| Some(**zone) == client).count();
            let (old, new) = (placement(&before), placement(&after));
            let mut moved = 0;
            for partition in 0..300 {
                let (was, is) = (leader(&old, partition, client), leader(&new, partition, client));
                if was != is {
                    prop_assert_eq!(is, comer);
                    moved += 1;
                }
            }
            let is_near = client == Some(home);
            if in_zone > 0 && !is_near {
                prop_assert_eq!(moved, 0, "an agent elsewhere is no one's of this zone");
            } else if in_zone == 0 && is_near {
                prop_assert_eq!(moved, 300, "at last one nearby");
            } else {
                let rivals = if in_zone > 0 { in_zone } else { before.len() };
                let fair = 300 / (i32::try_from(rivals).unwrap() + 1);
                prop_assert!((fair / 2 - 5..fair * 2).contains(&moved), "{} of {}", moved, fair);
            }
        }
    }
}
