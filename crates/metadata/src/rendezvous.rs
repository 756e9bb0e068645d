//! Rendezvous hashing: every process finds the same agent for a thing, without a table, and an agent
//! that comes or goes moves only its own share. Integers only; the numbers are the same in every
//! process and release.

use std::cmp::Reverse;

use alluvium_types::{AgentId, PartitionIndex, TopicId};

/// What stands for a partition in [`weight`].
#[must_use]
pub fn partition_key(topic: TopicId, partition: PartitionIndex) -> u64 {
    let index = u64::from(partition.cast_unsigned());
    [u64_of(&topic.0, 0), u64_of(&topic.0, 8), index]
        .into_iter()
        .fold(0, |hash, word| mix(hash ^ word))
}

/// What stands for a group in [`weight`].
#[must_use]
pub fn group_key(group: &str) -> u64 {
    let bytes = group.as_bytes();
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    (0..bytes.len())
        .step_by(8)
        .fold(mix(length), |hash, at| mix(hash ^ u64_of(bytes, at)))
}

/// An agent's weight for a key; the heaviest agent is the one.
#[must_use]
pub fn weight(key: u64, agent: AgentId) -> u64 {
    mix(key ^ u64::from(agent.0.cast_unsigned()))
}

/// The heaviest of some agents for a key; of two that weigh the same, the one with the lower id.
pub fn first(key: u64, agents: impl Iterator<Item = AgentId>) -> Option<AgentId> {
    agents.max_by_key(|agent| (weight(key, *agent), Reverse(*agent)))
}

/// Up to eight bytes from `at` on, big-endian, filled up with zeros.
fn u64_of(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_be_bytes(word)
}

/// The finisher of SplitMix64.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(count: i32) -> impl Iterator<Item = AgentId> {
        (1..=count).map(AgentId)
    }

    /// Placement must not differ between releases that work side by side.
    #[test]
    fn the_numbers_are_as_ever() {
        let keys = [
            partition_key(TopicId([7; 16]), 3),
            group_key(""),
            group_key("group"),
            group_key("a-longer-group-name"),
        ];
        let chosen = keys.map(|key| (key, first(key, agents(5)).unwrap().0));
        let expected = [
            (7_209_602_085_212_550_094, 2),
            (16_294_208_416_658_607_535, 2),
            (2_472_292_280_667_693_123, 4),
            (15_553_649_972_480_483_685, 2),
        ];
        assert_eq!(chosen, expected);
    }

    #[test]
    fn nobody_is_chosen_of_nobody_and_order_does_not_matter() {
        assert_eq!(first(1, agents(0)), None);
        for key in 0..100 {
            let mut turned: Vec<_> = agents(7).collect();
            turned.reverse();
            assert_eq!(first(key, agents(7)), first(key, turned.into_iter()));
        }
    }

    #[test]
    fn an_agent_that_comes_takes_a_fair_share_and_nothing_else_moves() {
        let names: Vec<String> = (0..4000).map(|n| format!("group-{n}")).collect();
        for count in 1..6 {
            let mut moved = 0;
            for name in &names {
                let key = group_key(name);
                let (before, after) = (first(key, agents(count)), first(key, agents(count + 1)));
                if before != after {
                    assert_eq!(after, Some(AgentId(count + 1)));
                    moved += 1;
                }
            }
            let fair = 4000 / (count + 1);
            assert!(
                (fair * 8 / 10..fair * 12 / 10).contains(&moved),
                "{moved} of {fair}"
            );
        }
    }
}
