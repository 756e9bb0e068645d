//! Which agent clients are sent to for a partition. Any agent takes any partition: the name in a
//! metadata answer is a hint that keeps a partition's readers of one zone at one cache.

use std::cmp::Reverse;

use alluvium_metadata::State;
use alluvium_types::{AgentId, PartitionIndex, TopicId};

/// The agents to choose from.
#[derive(Clone, Debug)]
pub struct Placement {
    agents: Vec<(AgentId, Option<String>)>,
}

impl Placement {
    /// All registered agents.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self {
            agents: state
                .agents()
                .map(|agent| (agent.id, agent.zone.clone()))
                .collect(),
        }
    }

    /// The agents to show as replicas of a partition: the one that clients in `zone` should use
    /// first, at most `factor` of them, none twice. Chosen by rendezvous hashing, so that an agent
    /// that comes or goes moves only its own share.
    #[must_use]
    pub fn replicas(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
        factor: i16,
        zone: Option<&str>,
    ) -> Vec<AgentId> {
        let wanted = usize::try_from(factor).unwrap_or(0).max(1);
        if let [(only, _)] = self.agents.as_slice() {
            return vec![*only];
        }
        let mut ranked: Vec<_> = self
            .agents
            .iter()
            .map(|(agent, home)| {
                let near = zone.is_some() && home.as_deref() == zone;
                (Reverse((near, weight(topic, partition, *agent))), *agent)
            })
            .collect();
        ranked.sort_unstable();
        ranked
            .into_iter()
            .take(wanted)
            .map(|(_, agent)| agent)
            .collect()
    }
}

/// An agent's weight for a partition: the same in every process and release.
fn weight(topic: TopicId, partition: PartitionIndex, agent: AgentId) -> u64 {
    let id = u128::from_be_bytes(topic.0);
    let halves = [(id >> 64) & u128::from(u64::MAX), id & u128::from(u64::MAX)];
    let words = [
        u64::try_from(halves[0]).unwrap_or(0),
        u64::try_from(halves[1]).unwrap_or(0),
        u64::from(partition.cast_unsigned()),
        u64::from(agent.0.cast_unsigned()),
    ];
    words.into_iter().fold(0, |hash, word| mix(hash ^ word))
}

/// The finisher of SplitMix64.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(zones: &[&str]) -> Placement {
        let agents = (1..)
            .map(AgentId)
            .zip(zones.iter().map(|zone| Some((*zone).to_owned())));
        Placement {
            agents: agents.collect(),
        }
    }

    const TOPIC: TopicId = TopicId([7; 16]);

    #[test]
    fn one_agent_stands_for_everything() {
        assert_eq!(
            placement(&["a"]).replicas(TOPIC, 5, 3, Some("b")),
            [AgentId(1)]
        );
    }

    #[test]
    fn replicas_are_distinct_stable_and_begin_in_the_clients_zone() {
        let placement = placement(&["a", "a", "b", "b", "c"]);
        for partition in 0..100 {
            let replicas = placement.replicas(TOPIC, partition, 3, Some("b"));
            assert_eq!(replicas, placement.replicas(TOPIC, partition, 3, Some("b")));
            let mut distinct = replicas.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 3);
            assert!([3, 4].contains(&replicas[0].0));
        }
    }

    #[test]
    fn an_agent_that_leaves_moves_only_its_own_partitions() {
        let all = placement(&["a", "a", "a", "a"]);
        let mut fewer = all.clone();
        fewer.agents.pop();
        let mut moved = 0;
        for partition in 0..400 {
            let before = all.replicas(TOPIC, partition, 1, None);
            if before == [AgentId(4)] {
                moved += 1;
            } else {
                assert_eq!(before, fewer.replicas(TOPIC, partition, 1, None));
            }
        }
        assert!(
            (50..150).contains(&moved),
            "a fair share of 400 is 100, not {moved}"
        );
    }
}
