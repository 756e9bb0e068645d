use super::*;
use crate::testing::{Cluster, NOW, ORIGIN, batch, end, object, origin, register, run};
use crate::{Change, Command, Sequence};
use alluvium_types::{ChunkNumber, TopicId};

#[test]
fn an_identity_keeps_its_id_and_gets_a_new_epoch() {
    let mut cluster = Cluster::new(1);
    let origin = |agent, epoch| Outcome::AgentRegistered(origin(agent, epoch));
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

fn standings(state: &State) -> Vec<(i32, Standing)> {
    let agents = state.agents();
    agents.map(|agent| (agent.id.0, agent.standing)).collect()
}

fn drain(origin: AgentOrigin) -> Command {
    Command::DrainAgent { origin }
}

fn chunk(origin: AgentOrigin, number: u64) -> Command {
    Command::Sequence(Sequence {
        origin,
        chunk: ChunkNumber(number),
        location: object(1),
        runs: vec![run(0, 0, &[batch(1)])],
        sealed_at: NOW,
        at: NOW,
    })
}

#[test]
fn a_cluster_is_formed_once() {
    let mut cluster = Cluster::new(1);
    let form = |byte| Command::FormCluster {
        id: TopicId([byte; 16]),
    };
    assert_eq!(cluster.apply(form(9)), Outcome::Done);
    assert_eq!(cluster.refused(form(8)), ErrorCode::InconsistentClusterId);
    let mut state = State::default();
    assert_eq!(state.apply(form(8), &mut Vec::new()), Outcome::Done);
    state.apply(register(1), &mut Vec::new());
    assert_eq!(state.cluster_id(), Some(TopicId([8; 16])));
    state.check().unwrap();
}

#[test]
fn an_agent_drains_and_ends_and_comes_again() {
    let mut cluster = Cluster::new(1);
    cluster.apply(register(2));
    let other = (2, Standing::Live);
    assert_eq!(cluster.apply(drain(ORIGIN)), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Agents]);
    assert_eq!(standings(&cluster.state), [(1, Standing::Draining), other]);
    assert_eq!(cluster.apply(drain(ORIGIN)), Outcome::Done);
    assert_eq!(cluster.changes, []);
    let live: Vec<_> = cluster
        .state
        .live_agents()
        .map(|agent| agent.id.0)
        .collect();
    assert_eq!(live, [2]);
    // What it has under way is taken.
    cluster.append(&[batch(1)]);

    assert_eq!(cluster.apply(end(&[ORIGIN])), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Agents]);
    let ended = (1, Standing::Ended { at: NOW });
    assert_eq!(standings(&cluster.state), [ended, other]);
    assert_eq!(cluster.apply(end(&[ORIGIN])), Outcome::Done);
    assert_eq!(cluster.changes, []);
    assert_eq!(cluster.refused(drain(ORIGIN)), ErrorCode::StaleBrokerEpoch);
    assert_eq!(
        cluster.refused(chunk(ORIGIN, 2)),
        ErrorCode::StaleBrokerEpoch
    );
    assert_eq!(
        cluster.apply(register(1)),
        Outcome::AgentRegistered(origin(1, 2))
    );
    assert_eq!(standings(&cluster.state), [(1, Standing::Live), other]);
}

#[test]
fn an_end_that_comes_after_a_new_registration_ends_nothing() {
    let mut cluster = Cluster::new(1);
    cluster.apply(register(1));
    assert_eq!(cluster.apply(end(&[ORIGIN, origin(7, 1)])), Outcome::Done);
    assert_eq!(cluster.changes, []);
    assert_eq!(standings(&cluster.state), [(1, Standing::Live)]);
}

#[test]
fn chunks_are_answered_as_then_after_the_registration_is_over() {
    let mut cluster = Cluster::new(1);
    let answer = cluster.apply(chunk(ORIGIN, 1));
    cluster.apply(end(&[ORIGIN]));
    assert_eq!(cluster.apply(chunk(ORIGIN, 1)), answer);
    let unknown = ErrorCode::StaleBrokerEpoch;
    assert_eq!(cluster.refused(chunk(ORIGIN, 2)), unknown);
    assert_eq!(cluster.refused(chunk(ORIGIN, 3)), unknown);
    cluster.apply(register(1));
    assert_eq!(cluster.apply(chunk(ORIGIN, 1)), answer);
    assert_eq!(cluster.refused(chunk(ORIGIN, 2)), unknown);
    assert_eq!(cluster.refused(chunk(origin(1, 3), 1)), unknown);
    // Two registrations later nothing is known, and that is said.
    cluster.apply(register(1));
    assert_eq!(cluster.refused(chunk(ORIGIN, 1)), ErrorCode::InvalidRequest);
    assert_eq!(cluster.partition(0).next_offset(), 1);
}

#[test]
fn forgotten_agents_take_their_identity_and_leave_their_id() {
    let mut cluster = Cluster::new(1);
    cluster.apply(register(2));
    cluster.apply(end(&[origin(2, 1)]));
    let forget = |ended_before| Command::ForgetAgents { ended_before };
    assert_eq!(cluster.apply(forget(NOW)), Outcome::Done);
    assert_eq!(
        (cluster.changes.len(), cluster.state.agents().count()),
        (0, 2)
    );
    assert_eq!(cluster.apply(forget(NOW + 1)), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Agents]);
    assert_eq!(standings(&cluster.state), [(1, Standing::Live)]);
    assert_eq!(
        cluster.refused(chunk(origin(2, 1), 1)),
        ErrorCode::BrokerIdNotRegistered
    );
    assert_eq!(
        cluster.apply(register(2)),
        Outcome::AgentRegistered(origin(3, 1))
    );
    // All may go: the cluster keeps its name.
    cluster.apply(end(&[ORIGIN, origin(3, 1)]));
    cluster.apply(forget(Millis::MAX));
    assert_eq!(cluster.state.agents().count(), 0);
    assert_eq!(cluster.state.cluster_id(), Some(TopicId([9; 16])));
    assert_eq!(
        cluster.apply(register(1)),
        Outcome::AgentRegistered(origin(4, 1))
    );
}

#[test]
fn ended_agents_are_bounded_in_number_and_in_bytes() {
    let mut state = State::new();
    let mut apply = |command| state.apply(command, &mut Vec::new());
    for identity in 0..2 * ENDED_AGENTS {
        let outcome = apply(register(u128::try_from(identity).unwrap()));
        let Outcome::AgentRegistered(origin) = outcome else {
            panic!("{outcome:?}")
        };
        let at = NOW + Millis::from(origin.agent.0);
        apply(Command::EndAgents {
            agents: vec![origin],
            at,
        });
    }
    assert_eq!(state.agents().count(), ENDED_AGENTS);
    assert_eq!(state.agents().next().unwrap().id.0, 1001);
    let large = Outcome::Refused(refusal(ErrorCode::None, "x".repeat(3 << 20)));
    let origins: Vec<_> = state.agents().map(Agent::origin).take(20).collect();
    for origin in &origins {
        state.remember(*origin, &large);
    }
    bound_ended(&mut state);
    let bytes = |state: &State| -> usize {
        let known = state.agents.values();
        known.map(|known| known.chunks.bytes()).sum()
    };
    assert!(
        (9 << 20..=ENDED_BYTES).contains(&bytes(&state)),
        "{}",
        bytes(&state)
    );
    assert!(
        state
            .answered(origins[19], ChunkNumber(1))
            .unwrap()
            .is_some()
    );
    let oldest = state.answered(origins[0], ChunkNumber(1)).unwrap_err();
    assert_eq!(oldest.code, ErrorCode::InvalidRequest);
    state.check().unwrap();
}

#[test]
fn a_restored_state_gives_nothing_a_second_time() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[batch(1)]);
    cluster.apply(Command::AllocateProducerIds { count: 1000 });
    let mut state = cluster.state;
    state.mark_restored(1, NOW + 5);
    state.check().unwrap();
    assert_eq!(state.restores(), 1);
    assert_eq!(
        (state.live_agents().count(), state.agents().count()),
        (0, 1)
    );
    let mut apply = |command| state.apply(command, &mut Vec::new());
    // The agent may have registered again in the commands that are missing.
    for epoch in 1..4 {
        let late = apply(chunk(origin(1, epoch), 2));
        assert!(matches!(late, Outcome::Refused(_)), "{late:?}");
    }
    let Outcome::AgentRegistered(again) = apply(register(1)) else {
        panic!("not registered")
    };
    assert!(again.agent == ORIGIN.agent && again.epoch.0 > 1000);
    let Outcome::AgentRegistered(other) = apply(register(2)) else {
        panic!("not registered")
    };
    assert!(other.agent.0 > 1000);
    let ids = apply(Command::AllocateProducerIds { count: 1 });
    assert!(matches!(ids, Outcome::ProducerIds(first) if first > 1 << 32));
    let snapshot = state.to_snapshot();
    assert_eq!(State::from_snapshot(&snapshot).unwrap().restores(), 1);
}
