//! Which agent does what.
//!
//! Rendezvous hashing over the live agents. Each process asks its own view of the metadata, so two may
//! take themselves for the owner for a moment while agents come and go, and for another moment nobody
//! may: whatever is done here must bear both.

use alluvium_metadata::{State, rendezvous};
use alluvium_types::{AgentId, PartitionIndex, TopicId};

/// So many neighbouring partitions of a topic have one owner: what lies in one object mostly has one
/// owner then, and an agent asks once for all of them.
pub const GROUP_PARTITIONS: PartitionIndex = 64;

/// The group of a partition; a group holds the partitions from its number times
/// [`GROUP_PARTITIONS`] on.
#[must_use]
pub const fn group_of(partition: PartitionIndex) -> PartitionIndex {
    partition.div_euclid(GROUP_PARTITIONS)
}

/// Who looks after a partition and its whole group. None when no agent is live.
#[must_use]
pub fn owner_of_partitions(
    state: &State,
    topic: TopicId,
    partition: PartitionIndex,
) -> Option<AgentId> {
    let key = rendezvous::partition_key(topic, group_of(partition));
    owner(state, key)
}

/// Who does a thing that is done once in the cluster. None when no agent is live.
#[must_use]
pub fn owner_of(state: &State, name: &str) -> Option<AgentId> {
    owner(state, rendezvous::group_key(name))
}

/// Whether `agent` looks after a partition and its whole group.
#[must_use]
pub fn owns_partitions(
    state: &State,
    agent: AgentId,
    topic: TopicId,
    partition: PartitionIndex,
) -> bool {
    owner_of_partitions(state, topic, partition) == Some(agent)
}

/// Whether `agent` does a thing that is done once in the cluster.
#[must_use]
pub fn owns(state: &State, agent: AgentId, name: &str) -> bool {
    owner_of(state, name) == Some(agent)
}

fn owner(state: &State, key: u64) -> Option<AgentId> {
    rendezvous::first(key, state.live_agents().map(|agent| agent.id))
}

#[cfg(test)]
mod tests {
    use alluvium_metadata::{AgentOrigin, Command, Outcome, RegisterAgent};

    use super::*;

    fn agents(count: u32) -> (State, Vec<AgentOrigin>) {
        let mut state = State::new();
        let mut origins = Vec::new();
        for identity in 0..count {
            let register = Command::RegisterAgent(RegisterAgent {
                identity: u128::from(identity),
                host: "localhost".to_owned(),
                port: 9092,
                zone: None,
                at: 0,
                cluster_id: TopicId([1; 16]),
            });
            match state.apply(register, &mut Vec::new()) {
                Outcome::AgentRegistered(origin) => origins.push(origin),
                other => panic!("not registered: {other:?}"),
            }
        }
        (state, origins)
    }

    #[test]
    fn every_group_has_one_owner_and_neighbours_share_it() {
        let (state, origins) = agents(5);
        let mut shares = vec![0; origins.len()];
        for topic in 0..40 {
            let topic = TopicId([topic; 16]);
            for group in 0..25 {
                let first = group * GROUP_PARTITIONS;
                let owners: Vec<_> = (0..origins.len())
                    .filter(|at| owns_partitions(&state, origins[*at].agent, topic, first))
                    .collect();
                assert_eq!(owners.len(), 1);
                shares[owners[0]] += 1;
                let last = first + GROUP_PARTITIONS - 1;
                let agent = origins[owners[0]].agent;
                assert!(owns_partitions(&state, agent, topic, last));
            }
        }
        assert!(
            shares.iter().all(|share| (150..250).contains(share)),
            "{shares:?}"
        );
    }

    #[test]
    fn who_is_not_live_owns_nothing() {
        let (mut state, origins) = agents(2);
        let owner = owner_of(&state, "sweep").unwrap();
        let end = Command::EndAgents {
            agents: origins.into_iter().filter(|it| it.agent == owner).collect(),
            at: 1,
        };
        state.apply(end, &mut Vec::new());
        assert!(!owns(&state, owner, "sweep"));
        assert!(owner_of(&state, "sweep").is_some());
        let (empty, _) = agents(0);
        assert_eq!(owner_of(&empty, "sweep"), None);
    }
}
