//! Members that start again, and coordinators that do.

use super::*;

fn static_member(instance: &str, skip: bool) -> JoinGroup {
    JoinGroup {
        takes_skip_assignment: skip,
        ..request("", Some(instance))
    }
}

/// A stable group of two static members; the first leads.
fn static_pair(bench: &mut Bench) -> [Joined; 2] {
    let first = now(&mut bench.send_join(static_member("a", true))).unwrap();
    let mut second = bench.send_join(static_member("b", true));
    let first = now(&mut bench.send_join(JoinGroup {
        member_id: first.member_id,
        ..static_member("a", true)
    }))
    .unwrap();
    let second = now(&mut second).unwrap();
    bench.sync_all(&first, &[first.member_id.clone(), second.member_id.clone()]);
    [first, second]
}

#[test]
fn a_static_member_that_restarts_goes_on_without_a_rebalance() {
    let mut bench = Bench::new();
    let [_, old] = static_pair(&mut bench);
    let mut answer = bench.send_join(static_member("b", true));
    assert!(waits(&mut answer), "its new id must be durable first");
    bench.write();
    let new = now(&mut answer).unwrap();
    assert_eq!((new.generation, bench.state()), (old.generation, "Stable"));
    assert_ne!(new.member_id, old.member_id);
    // It gets what its former self had.
    let share = now(&mut bench.sync(&new.member_id, new.generation, &[]))
        .unwrap()
        .assignment;
    assert_eq!(share, old.member_id.as_bytes());

    // Its former self, should it still live, is fenced.
    let stale = Heartbeat {
        group: "g".into(),
        generation: old.generation,
        member_id: old.member_id.clone(),
        instance_id: Some("b".into()),
    };
    let code = bench.coordinator.heartbeat(bench.now, &stale);
    assert_eq!(code, Err(ErrorCode::FencedInstanceId));
    let rejoin = JoinGroup {
        member_id: old.member_id,
        ..static_member("b", true)
    };
    let refused = now(&mut bench.send_join(rejoin)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FencedInstanceId);
}

#[test]
fn a_static_leader_that_restarts_does_not_assign_again() {
    for skip in [true, false] {
        let mut bench = Bench::new();
        let [old, _] = static_pair(&mut bench);
        let mut answer = bench.send_join(static_member("a", skip));
        bench.write();
        let new = now(&mut answer).unwrap();
        assert_eq!(new.skip_assignment, skip);
        if skip {
            assert_eq!(
                (new.leader.as_str(), new.members.len()),
                (new.member_id.as_str(), 2)
            );
        } else {
            // A client that cannot be told is made to believe that somebody else leads.
            assert_eq!((new.leader, new.members.len()), (old.member_id, 0));
        }
        // In the next generation it leads like any other.
        let mut other = bench.join("");
        let id = now(&mut other).unwrap_err().member_id;
        let _newcomer = bench.join(&id);
        let [a, b] = ["a", "b"].map(|instance| {
            let member_id = bench.group().instances[instance].to_string();
            bench.send_join(JoinGroup {
                member_id,
                ..static_member(instance, skip)
            })
        });
        let answers = [a, b].map(|mut answer| now(&mut answer).unwrap());
        assert_eq!(
            (answers[0].leader.as_str(), answers[0].members.len()),
            (new.member_id.as_str(), 3)
        );
    }
}

#[test]
fn each_restarted_static_member_waits_for_the_write_that_holds_it() {
    let mut bench = Bench::new();
    static_pair(&mut bench);
    let mut first = bench.send_join(static_member("a", true));
    let origin = AgentOrigin {
        agent: AgentId(1),
        epoch: AgentEpoch(1),
    };
    let (_, done) = bench.coordinator.take_writes(bench.now, origin, 0, 100);
    let mut second = bench.send_join(static_member("b", true));
    for done in done {
        bench.coordinator.finish(bench.now, done, Ok(()));
    }
    assert!(waits(&mut second), "its new id is not durable yet");
    bench.write();
    assert!(now(&mut first).is_ok() && now(&mut second).is_ok());
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn a_static_member_that_leaves_for_a_moment_is_kept_for_its_session() {
    let mut bench = Bench::new();
    let [first, second] = static_pair(&mut bench);
    let mut rejoin = bench.send_join(JoinGroup {
        member_id: first.member_id.clone(),
        ..static_member("a", true)
    });
    assert!(waits(&mut rejoin));
    bench.advance(SESSION.into());
    // The silent one is out, by its session, not by the rebalance.
    let joined = now(&mut rejoin).unwrap();
    assert_eq!(joined.members.len(), 1);
    assert_eq!(
        bench.heartbeat(&second.member_id, joined.generation),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut bench = Bench::new();
    static_pair(&mut bench);
    let leaver = |instance: &str| Leaver {
        instance_id: Some(instance.to_owned()),
        ..Leaver::default()
    };
    let codes = bench
        .coordinator
        .leave(0, "g", &[leaver("b"), leaver("x")])
        .unwrap();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(bench.group().members.len(), 1);
}

#[test]
fn running_members_go_on_after_the_coordinator_restarts() {
    let mut bench = Bench::new();
    let ids = bench.stable(3);
    let generation = bench.group().generation;
    bench.advance(5_000);
    bench.restart();
    assert_eq!(
        (bench.state(), bench.group().generation),
        ("Stable", generation)
    );
    // Sessions are fresh: downtime is not silence.
    bench.advance(9_000);
    for id in &ids {
        assert_eq!(bench.heartbeat(id, generation), ErrorCode::None);
        let share = now(&mut bench.sync(id, generation, &[]))
            .unwrap()
            .assignment;
        assert_eq!(share, id.as_bytes());
    }
    let mut commit = bench.commit(&ids[1], generation, 3);
    bench.write();
    assert_eq!(now(&mut commit), ErrorCode::None);
    assert_eq!(bench.state(), "Stable");
    let description = bench.coordinator.describe("g").unwrap();
    assert_eq!(description.members.len(), 3);
    assert_eq!(description.protocol, "range");
    assert_eq!(description.members[0].protocols[0].1, "sub range");
}

#[test]
fn generations_go_on_counting_over_an_empty_group_and_a_restart() {
    let mut bench = Bench::new();
    let ids = bench.stable(1);
    bench.leave(&ids[0]);
    bench.write();
    assert_eq!(
        bench.quorum.groups["g"]
            .classic
            .as_ref()
            .unwrap()
            .generation,
        2
    );
    bench.restart();
    assert_eq!(bench.state(), "-");
    let (_, mut answer) = bench.newcomer();
    assert_eq!(now(&mut answer).unwrap().generation, 3);
}

#[test]
fn an_empty_group_that_cannot_be_written_is_tried_again() {
    let mut bench = Bench::new();
    let ids = bench.stable(1);
    bench.leave(&ids[0]);
    bench.write_with(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(bench.state(), "Empty");
    assert!(!bench.coordinator.has_writes(), "not at once");
    bench.advance(1_000);
    bench.write();
    assert_eq!(bench.state(), "-");
    assert_eq!(
        bench.quorum.groups["g"]
            .classic
            .as_ref()
            .unwrap()
            .members
            .len(),
        0
    );
}

#[test]
fn a_coordinator_that_is_none_any_more_lets_go_of_the_group() {
    let mut bench = Bench::new();
    let ids = bench.stable(2);
    let generation = bench.group().generation;
    let mut first = bench.commit(&ids[0], generation, 1);
    let origin = AgentOrigin {
        agent: AgentId(1),
        epoch: AgentEpoch(1),
    };
    let (_, done) = bench.coordinator.take_writes(bench.now, origin, 0, 100);
    // Under way is one commit; queued, another; and somebody waits for the next generation.
    let mut second = bench.commit(&ids[1], generation, 2);
    let mut joining = bench.join(&ids[0]);
    assert!(waits(&mut joining));
    for done in done {
        let refused = Err(ErrorCode::NotCoordinator);
        bench.coordinator.finish(bench.now, done, refused);
    }
    assert_eq!(now(&mut first), ErrorCode::NotCoordinator);
    assert_eq!(now(&mut second), ErrorCode::NotCoordinator);
    let refused = now(&mut joining).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotCoordinator);
    assert_eq!(bench.state(), "-");
    assert!(!bench.coordinator.has_writes());
    assert_eq!(
        (bench.coordinator.timers().len(), bench.coordinator.bytes()),
        (0, 0)
    );
}
