use super::*;
use crate::testing::{Cluster, NOW, register};
use crate::{Change, Command};
use alluvium_types::TopicId;

#[test]
fn an_identity_keeps_its_id_and_gets_a_new_epoch() {
    let mut cluster = Cluster::new(1);
    let origin = |agent, epoch| {
        Outcome::AgentRegistered(AgentOrigin {
            agent: AgentId(agent),
            epoch: AgentEpoch(epoch),
        })
    };
    assert_eq!(cluster.apply(register(70)), origin(2, 1));
    assert_eq!(cluster.changes, [Change::Agents]);
    assert_eq!(cluster.apply(register(1)), origin(1, 2));
    assert_eq!(cluster.apply(register(5)), origin(3, 1));
    assert_eq!(cluster.apply(register(70)), origin(2, 2));
    let agents: Vec<_> = cluster
        .state
        .agents()
        .map(|agent| (agent.id.0, agent.epoch.0))
        .collect();
    assert_eq!(agents, [(1, 2), (2, 2), (3, 1)]);
}

#[test]
fn the_first_agent_names_the_cluster() {
    let mut state = State::default();
    assert_eq!(state.cluster_id(), None);
    state.apply(register(1), &mut Vec::new());
    let other = RegisterAgent {
        identity: 2,
        host: String::new(),
        port: 0,
        zone: None,
        at: NOW,
        cluster_id: TopicId([1; 16]),
    };
    state.apply(Command::RegisterAgent(other), &mut Vec::new());
    assert_eq!(state.cluster_id(), Some(TopicId([9; 16])));
}

#[test]
fn producer_ids_are_given_once() {
    let mut cluster = Cluster::new(1);
    let allocate = |count| Command::AllocateProducerIds { count };
    assert_eq!(cluster.apply(allocate(1000)), Outcome::ProducerIds(0));
    assert_eq!(cluster.apply(allocate(0)), Outcome::ProducerIds(1000));
    assert_eq!(
        cluster.apply(allocate(u32::MAX)),
        Outcome::ProducerIds(1000)
    );
    cluster.state.next_producer_id = ProducerId::MAX - 1;
    assert_eq!(cluster.refused(allocate(2)), ErrorCode::UnknownServerError);
    assert_eq!(
        cluster.apply(allocate(1)),
        Outcome::ProducerIds(ProducerId::MAX - 1)
    );
}
