use super::*;
use crate::testing::{Cluster, NOW, ORIGIN, claim, create, end, origin, part, register};
use crate::{Command, OffsetCommit, State};
use alluvium_types::AgentId;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn commit(partitions: &[(i32, Offset)]) -> Command {
    commit_as(ORIGIN, partitions)
}

fn commit_as(origin: AgentOrigin, partitions: &[(i32, Offset)]) -> Command {
    let offset = |(index, offset): &(i32, Offset)| OffsetCommit {
        partition: part(*index),
        offset: *offset,
        leader_epoch: 0,
        metadata: "note".to_owned(),
    };
    let offsets = partitions.iter().map(offset).collect();
    Command::CommitOffsets(CommitOffsets {
        origin,
        group: "g".to_owned(),
        offsets,
        at: NOW,
    })
}

fn put(generation: i32) -> Command {
    put_as(ORIGIN, generation)
}

fn put_as(origin: AgentOrigin, generation: i32) -> Command {
    let record = GroupRecord {
        generation,
        ..GroupRecord::default()
    };
    Command::PutGroup(PutGroup {
        origin,
        group: "g".to_owned(),
        record,
    })
}

fn remove_as(origin: AgentOrigin) -> Command {
    Command::RemoveGroup {
        origin,
        group: "g".to_owned(),
    }
}

/// A cluster whose only agent has claimed the group.
fn claimed(partitions: i32) -> Cluster {
    let mut cluster = Cluster::new(partitions);
    assert_eq!(cluster.apply(claim(ORIGIN, "g")), Outcome::Done);
    cluster
}

fn forget(indexes: &[i32]) -> Command {
    let partitions = indexes.iter().map(|index| part(*index)).collect();
    Command::DeleteOffsets {
        group: "g".to_owned(),
        partitions,
    }
}

#[test]
fn offsets_are_kept_until_they_are_replaced() {
    let mut cluster = claimed(2);
    assert_eq!(
        cluster.apply(commit(&[(0, 5), (1, 6), (9, 7)])),
        Outcome::Done
    );
    assert_eq!(cluster.changes, [Change::Groups]);
    cluster.apply(commit(&[(1, 3)]));
    let group = cluster.state.group("g").unwrap();
    let offsets: Vec<_> = group.offsets.values().map(|offset| offset.offset).collect();
    assert_eq!(offsets, [5, 3]);
    let first = &group.offsets[&part(0)];
    assert_eq!((first.metadata.as_str(), first.committed_at), ("note", NOW));
}

#[test]
fn a_commit_for_what_is_gone_makes_no_group() {
    let mut cluster = claimed(1);
    assert_eq!(cluster.apply(commit(&[(4, 5)])), Outcome::Done);
    assert_eq!(
        (cluster.state.groups().count(), cluster.changes.len()),
        (0, 0)
    );
}

#[test]
fn a_group_without_record_goes_with_its_last_offset() {
    let mut cluster = claimed(2);
    assert_eq!(cluster.refused(forget(&[0])), ErrorCode::GroupIdNotFound);
    cluster.apply(commit(&[(0, 5), (1, 6)]));
    assert_eq!(cluster.apply(forget(&[0, 7])), Outcome::Done);
    assert_eq!(cluster.state.group("g").unwrap().offsets.len(), 1);
    cluster.apply(forget(&[1]));
    assert_eq!(cluster.state.group("g"), None);
    cluster.apply(put(1));
    cluster.apply(commit(&[(0, 5)]));
    cluster.apply(forget(&[0]));
    assert!(cluster.state.group("g").unwrap().record.is_some());
}

#[test]
fn generations_never_go_back() {
    let mut cluster = claimed(1);
    assert_eq!(cluster.apply(put(4)), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Groups]);
    assert_eq!(cluster.apply(put(4)), Outcome::Done);
    assert_eq!(cluster.refused(put(3)), ErrorCode::IllegalGeneration);
    assert_eq!(
        cluster.apply(Command::DeleteGroup {
            group: "g".to_owned()
        }),
        Outcome::Done
    );
    let again = Command::DeleteGroup {
        group: "g".to_owned(),
    };
    assert_eq!(cluster.refused(again), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_coordinator_that_was_replaced_is_fenced() {
    let mut cluster = claimed(1);
    cluster.apply(register(1));
    assert_eq!(
        cluster.refused(commit(&[(0, 1)])),
        ErrorCode::StaleBrokerEpoch
    );
    assert_eq!(cluster.refused(put(1)), ErrorCode::StaleBrokerEpoch);
}

/// The group's coordinator under some agents, and one of the others.
fn chosen(cluster: &Cluster) -> (AgentOrigin, AgentOrigin) {
    let chosen = cluster.state.coordinator_of("g").unwrap();
    let other = cluster.state.live_agents().find(|agent| agent.id != chosen);
    let of = |id| cluster.state.agent(id).unwrap().origin();
    (of(chosen), of(other.unwrap().id))
}

#[test]
fn only_the_agent_that_is_to_coordinate_may_claim() {
    let mut cluster = Cluster::new(1);
    cluster.apply(register(2));
    let (chosen, other) = chosen(&cluster);
    assert_eq!(
        cluster.refused(claim(other, "g")),
        ErrorCode::NotCoordinator
    );
    assert_eq!(
        cluster.refused(put_as(chosen, 1)),
        ErrorCode::NotCoordinator
    );
    assert_eq!(cluster.apply(claim(chosen, "g")), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Groups]);
    assert_eq!(cluster.apply(claim(chosen, "g")), Outcome::Done);
    assert_eq!(cluster.changes, []);
    assert_eq!(cluster.state.claimed_by("g"), Some(chosen));
    // It holds nothing, so nobody is shown it.
    assert_eq!(
        (cluster.state.group("g"), cluster.state.groups().count()),
        (None, 0)
    );
    assert_eq!(cluster.refused(put_as(other, 1)), ErrorCode::NotCoordinator);
    assert_eq!(cluster.refused(remove_as(other)), ErrorCode::NotCoordinator);
    assert_eq!(
        cluster.refused(remove_as(chosen)),
        ErrorCode::GroupIdNotFound
    );
    assert_eq!(cluster.apply(put_as(chosen, 1)), Outcome::Done);
}

#[test]
fn a_group_goes_on_under_the_next_coordinator() {
    let mut cluster = Cluster::new(1);
    cluster.apply(register(2));
    let (first, second) = chosen(&cluster);
    cluster.apply(claim(first, "g"));
    cluster.apply(put_as(first, 4));
    cluster.apply(commit_as(first, &[(0, 5)]));
    assert_eq!(cluster.apply(end(&[first])), Outcome::Done);
    assert_eq!(cluster.state.coordinator_of("g"), Some(second.agent));
    let late = commit_as(first, &[(0, 9)]);
    assert_eq!(cluster.refused(late), ErrorCode::StaleBrokerEpoch);
    assert_eq!(
        cluster.refused(put_as(second, 5)),
        ErrorCode::NotCoordinator
    );
    assert_eq!(cluster.apply(claim(second, "g")), Outcome::Done);
    let group = cluster.state.group("g").unwrap();
    assert_eq!(group.record.as_ref().unwrap().generation, 4);
    assert_eq!(group.offsets[&part(0)].offset, 5);
    assert_eq!(cluster.apply(put_as(second, 5)), Outcome::Done);
}

#[test]
fn a_claim_away_fences_a_coordinator_that_lives_on() {
    let mut cluster = claimed(1);
    cluster.apply(put(1));
    let taker = (2u128..).find_map(|identity| {
        cluster.apply(register(identity));
        let chosen = cluster.state.coordinator_of("g").unwrap();
        (chosen != ORIGIN.agent).then_some(origin(chosen.0, 1))
    });
    // Until it is claimed away, its coordinator goes on.
    assert_eq!(cluster.apply(put(2)), Outcome::Done);
    cluster.apply(claim(taker.unwrap(), "g"));
    assert_eq!(cluster.refused(put(3)), ErrorCode::NotCoordinator);
    assert_eq!(
        cluster.refused(commit(&[(0, 1)])),
        ErrorCode::NotCoordinator
    );
    assert_eq!(
        cluster.refused(claim(ORIGIN, "g")),
        ErrorCode::NotCoordinator
    );
}

#[test]
fn an_agent_that_drains_may_write_and_not_claim() {
    let mut cluster = claimed(1);
    cluster.apply(Command::DrainAgent { origin: ORIGIN });
    assert_eq!(cluster.state.coordinator_of("g"), None);
    assert_eq!(cluster.apply(put(1)), Outcome::Done);
    assert_eq!(cluster.apply(commit(&[(0, 3)])), Outcome::Done);
    assert_eq!(
        cluster.refused(claim(ORIGIN, "h")),
        ErrorCode::NotCoordinator
    );
}

#[test]
fn a_deleted_group_stays_with_its_coordinator() {
    let mut cluster = claimed(1);
    cluster.apply(put(3));
    assert_eq!(cluster.apply(remove_as(ORIGIN)), Outcome::Done);
    assert_eq!(cluster.state.group("g"), None);
    // Whoever joins next begins anew.
    assert_eq!(cluster.apply(put(0)), Outcome::Done);
    let offsets = Command::RemoveOffsets {
        origin: ORIGIN,
        group: "g".to_owned(),
        partitions: vec![part(0)],
    };
    cluster.apply(commit(&[(0, 3)]));
    assert_eq!(cluster.apply(offsets), Outcome::Done);
    assert_eq!(cluster.state.group("g").unwrap().offsets.len(), 0);
}

#[test]
fn a_deleted_topic_leaves_claims_alone() {
    let mut cluster = claimed(1);
    cluster.apply(commit(&[(0, 3)]));
    cluster.apply(Command::DeleteTopic {
        topic: crate::testing::TOPIC,
    });
    assert_eq!(cluster.state.group("g"), None);
    assert_eq!(cluster.state.claimed_by("g"), Some(ORIGIN));
    cluster.apply(create("again", TopicId([3; 16]), 1));
    assert_eq!(cluster.apply(put(1)), Outcome::Done);
}

#[test]
fn claims_without_anything_behind_them_are_bounded_and_end_with_their_agent() {
    let mut cluster = claimed(1);
    cluster.apply(claim(ORIGIN, "kept"));
    cluster.apply(put(1));
    let mut state = cluster.state.clone();
    for number in 0..IDLE_GROUPS {
        state.apply(claim(ORIGIN, &format!("{number}")), &mut Vec::new());
    }
    assert_eq!(state.idle_groups.len(), IDLE_GROUPS);
    assert_eq!(state.claimed_by("kept"), None, "the oldest went");
    assert_eq!(state.claimed_by("g"), Some(ORIGIN), "it holds something");
    state.check().unwrap();
    state.apply(end(&[ORIGIN]), &mut Vec::new());
    assert_eq!((state.idle_groups.len(), state.groups.len()), (0, 1));
    state.check().unwrap();

    cluster.apply(register(1));
    assert_eq!(cluster.state.claimed_by("kept"), None);
    assert_eq!(cluster.refused(put(1)), ErrorCode::StaleBrokerEpoch);
    assert_eq!(
        cluster.refused(put_as(origin(1, 2), 1)),
        ErrorCode::NotCoordinator
    );
    cluster.apply(claim(origin(1, 2), "g"));
    assert_eq!(cluster.apply(put_as(origin(1, 2), 1)), Outcome::Done);
}

/// Logs of release 0.1 know no claims, and what they committed must be there.
#[test]
fn before_the_first_claim_of_all_groups_are_written_as_in_release_0_1() {
    let mut cluster = Cluster::of_0_1(1);
    assert_eq!(cluster.apply(put(1)), Outcome::Done);
    assert_eq!(cluster.apply(commit(&[(0, 3)])), Outcome::Done);
    cluster.apply(claim(ORIGIN, "other"));
    assert_eq!(cluster.refused(put(2)), ErrorCode::NotCoordinator);
    cluster.apply(claim(ORIGIN, "g"));
    assert_eq!(cluster.state.group("g").unwrap().offsets.len(), 1);
    assert_eq!(cluster.apply(put(2)), Outcome::Done);
}

/// One thing that happens to three agents and two groups.
#[derive(Clone, Copy, Debug)]
enum Step {
    Register(usize),
    Drain(usize, u64),
    End(usize, u64),
    Claim(usize, u64, usize),
    Put(usize, u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    // How many epochs back the command is from.
    let back = || prop_oneof![4 => Just(0u64), 1 => 1u64..3];
    let agent = || 0usize..3;
    prop_oneof![
        2 => agent().prop_map(Step::Register),
        1 => (agent(), back()).prop_map(|(agent, back)| Step::Drain(agent, back)),
        1 => (agent(), back()).prop_map(|(agent, back)| Step::End(agent, back)),
        5 => (agent(), back(), 0usize..2).prop_map(|(a, back, g)| Step::Claim(a, back, g)),
        8 => (agent(), back(), 0usize..2).prop_map(|(a, back, g)| Step::Put(a, back, g)),
    ]
}

/// Agents and claims written down naively.
#[derive(Default)]
struct Model {
    epochs: [u64; 3],
    current: BTreeSet<usize>,
    live: BTreeSet<usize>,
    claims: [Option<(usize, u64)>; 2],
}

impl Model {
    fn is_current(&self, agent: usize, epoch: u64) -> bool {
        self.current.contains(&agent) && self.epochs[agent] == epoch
    }

    /// Whether a write of a group is taken.
    fn may_put(&self, agent: usize, epoch: u64, group: usize) -> bool {
        self.is_current(agent, epoch) && self.claims[group] == Some((agent, epoch))
    }
}

proptest! {
    #[test]
    fn groups_have_one_writer_at_a_time(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = State::new();
        let mut ids = [None::<AgentId>; 3];
        let mut model = Model::default();
        let names = ["g", "h"];
        for step in steps {
            let origin = |agent: usize, back: u64| {
                let epoch = model.epochs[agent].saturating_sub(back);
                (epoch, origin(ids[agent].map_or(99, |id| id.0), epoch))
            };
            let mut apply = |command| state.apply(command, &mut Vec::new());
            match step {
                Step::Register(agent) => {
                    let outcome = apply(register(u128::try_from(agent).unwrap()));
                    let Outcome::AgentRegistered(origin) = outcome else { panic!("{outcome:?}") };
                    prop_assert!(ids[agent].is_none_or(|id| id == origin.agent));
                    ids[agent] = Some(origin.agent);
                    model.epochs[agent] += 1;
                    prop_assert_eq!(origin.epoch.0, model.epochs[agent]);
                    model.current.insert(agent);
                    model.live.insert(agent);
                }
                Step::Drain(agent, back) => {
                    let (epoch, origin) = origin(agent, back);
                    let done = apply(Command::DrainAgent { origin }) == Outcome::Done;
                    prop_assert_eq!(done, model.is_current(agent, epoch));
                    if done {
                        model.live.remove(&agent);
                    }
                }
                Step::End(agent, back) => {
                    let (epoch, origin) = origin(agent, back);
                    apply(end(&[origin]));
                    if model.is_current(agent, epoch) {
                        model.current.remove(&agent);
                        model.live.remove(&agent);
                    }
                }
                Step::Claim(agent, back, group) => {
                    let (epoch, origin) = origin(agent, back);
                    let done = apply(claim(origin, names[group])) == Outcome::Done;
                    let is_chosen = state.coordinator_of(names[group]) == ids[agent];
                    let expected =
                        model.is_current(agent, epoch) && model.live.contains(&agent) && is_chosen;
                    prop_assert_eq!(done, expected);
                    if done {
                        model.claims[group] = Some((agent, epoch));
                    }
                }
                Step::Put(agent, back, group) => {
                    let (epoch, origin) = origin(agent, back);
                    let put = Command::PutGroup(PutGroup {
                        origin,
                        group: names[group].to_owned(),
                        record: GroupRecord::default(),
                    });
                    let done = apply(put) == Outcome::Done;
                    prop_assert_eq!(done, model.may_put(agent, epoch, group));
                }
            }
            if let Err(error) = state.check() {
                panic!("{error}");
            }
            let live: BTreeSet<_> = state.live_agents().map(|agent| agent.id).collect();
            let expected = model.live.iter().filter_map(|agent| ids[*agent]).collect();
            prop_assert_eq!(live, expected);
        }
    }
}
