//! How generations follow one another.

use super::*;

#[test]
fn three_share_then_one_leaves_and_one_falls_silent() {
    let mut bench = Bench::new();
    let ids = bench.stable(3);
    let generation = bench.group().generation;

    assert_eq!(bench.leave(&ids[2]), ErrorCode::None);
    assert_eq!(
        bench.heartbeat(&ids[0], generation),
        ErrorCode::RebalanceInProgress
    );
    let mut answers: Vec<_> = ids[..2].iter().map(|id| bench.join(id)).collect();
    let joined = now(&mut answers[0]).unwrap();
    assert_eq!(
        (joined.generation, joined.members.len()),
        (generation + 1, 2)
    );
    assert!(now(&mut answers[1]).is_ok());
    bench.sync_all(&joined, &ids[..2]);

    // One goes on with its heartbeats, the other does not.
    bench.advance(6_000);
    assert_eq!(bench.heartbeat(&ids[0], joined.generation), ErrorCode::None);
    bench.advance(6_000);
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(
        bench.heartbeat(&ids[1], joined.generation),
        ErrorCode::UnknownMemberId
    );
    let joined = now(&mut bench.join(&ids[0])).unwrap();
    assert_eq!(
        (joined.generation, joined.members.len()),
        (generation + 2, 1)
    );
    bench.sync_all(&joined, &ids[..1]);
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut bench = Bench::new();
    let ids = bench.stable(2);
    let mut leader = bench.join(&ids[0]);
    for _ in 0..8 {
        assert!(waits(&mut leader));
        bench.advance(7_500);
        // It lives, but does not join.
        bench.heartbeat(&ids[1], 2);
    }
    let joined = now(&mut leader).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
    assert_eq!(bench.heartbeat(&ids[1], 3), ErrorCode::UnknownMemberId);
    bench.sync_all(&joined, &ids[..1]);
}

#[test]
fn a_leader_that_never_assigns_is_replaced() {
    let mut bench = Bench::new();
    let ids = bench.stable(2);
    let mut answers: Vec<_> = ids.iter().map(|id| bench.join(id)).collect();
    assert!(answers.iter_mut().all(|answer| now(answer).is_ok()));
    let mut sync = bench.sync(&ids[1], 3, &[]);
    for _ in 0..8 {
        assert!(waits(&mut sync));
        bench.heartbeat(&ids[0], 3);
        bench.advance(7_500);
    }
    assert_eq!(now(&mut sync), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(bench.heartbeat(&ids[0], 3), ErrorCode::UnknownMemberId);
    let joined = now(&mut bench.join(&ids[1])).unwrap();
    assert_eq!(joined.leader, ids[1]);
    bench.sync_all(&joined, &ids[1..]);
}

#[test]
fn a_leader_that_dies_before_it_assigns_is_replaced() {
    let mut bench = Bench::new();
    let ids = bench.stable(2);
    let mut answers: Vec<_> = ids.iter().map(|id| bench.join(id)).collect();
    assert!(answers.iter_mut().all(|answer| now(answer).is_ok()));
    let mut sync = bench.sync(&ids[1], 3, &[]);
    // The follower waits, which counts as life; the leader's session ends.
    bench.advance(SESSION.into());
    assert_eq!(now(&mut sync), Err(ErrorCode::RebalanceInProgress));
    let joined = now(&mut bench.join(&ids[1])).unwrap();
    bench.sync_all(&joined, &ids[1..]);
}

#[test]
fn the_first_generation_waits_for_members_that_start_together() {
    let delay = 3_000;
    let mut bench = Bench::with(Settings {
        initial_delay: delay,
        ..Settings::default()
    });
    let (_, mut one) = bench.newcomer();
    bench.advance(2_000);
    let (_, mut two) = bench.newcomer();
    bench.advance(1_000);
    assert!(waits(&mut one), "a newcomer extends the wait");
    bench.advance(delay);
    let (one, two) = (now(&mut one).unwrap(), now(&mut two).unwrap());
    assert_eq!((one.generation, two.generation), (1, 1));
    assert_eq!(one.members.len() + two.members.len(), 2);
}

#[test]
fn nobody_is_told_its_share_before_it_is_durable() {
    let mut bench = Bench::new();
    let (id, mut answer) = bench.newcomer();
    let generation = now(&mut answer).unwrap().generation;
    let mut sync = bench.sync(&id, generation, &[(&id, "all")]);
    assert!(waits(&mut sync));
    assert_eq!(bench.state(), "CompletingRebalance");
    assert_eq!(
        now(&mut bench.commit(&id, generation, 1)),
        ErrorCode::RebalanceInProgress
    );
    bench.write();
    assert_eq!(now(&mut sync).unwrap().assignment, "all");
    let record = bench.quorum.groups["g"].classic.clone().unwrap();
    assert_eq!((record.generation, record.members.len()), (generation, 1));
    assert_eq!(record.members[0].assignment, "all");
}

#[test]
fn an_assignment_that_cannot_be_written_means_another_rebalance() {
    let mut bench = Bench::new();
    let (id, mut answer) = bench.newcomer();
    let generation = now(&mut answer).unwrap().generation;
    let mut sync = bench.sync(&id, generation, &[(&id, "all")]);
    bench.write_with(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(now(&mut sync), Err(ErrorCode::CoordinatorNotAvailable));
    let joined = now(&mut bench.join(&id)).unwrap();
    assert_eq!(joined.generation, generation + 1);
    bench.sync_all(&joined, &[id]);
}

#[test]
fn a_late_write_of_a_past_generation_decides_nothing() {
    let mut bench = Bench::new();
    let ids = bench.stable(1);
    let joined = now(&mut bench.join(&ids[0])).unwrap();
    let mut old = bench.sync(&ids[0], joined.generation, &[(&ids[0], "old")]);
    let origin = AgentOrigin {
        agent: AgentId(1),
        epoch: AgentEpoch(1),
    };
    let (_, done) = bench.coordinator.take_writes(bench.now, origin, 0, 100);
    // While it is being written the leader wants another rebalance.
    let again = JoinGroup {
        protocols: protocols(&["range", "new"]),
        ..request(&ids[0], None)
    };
    let joined = now(&mut bench.send_join(again)).unwrap();
    assert_eq!(now(&mut old), Err(ErrorCode::RebalanceInProgress));
    let mut new = bench.sync(&ids[0], joined.generation, &[(&ids[0], "new")]);
    for done in done {
        bench.coordinator.finish(bench.now, done, Ok(()));
    }
    assert!(waits(&mut new));
    bench.write();
    assert_eq!(now(&mut new).unwrap().assignment, "new");
}

#[test]
fn a_newcomer_whose_connection_is_lost_gets_nothing() {
    let mut bench = Bench::new();
    let ids = bench.stable(1);
    let (lost, answer) = bench.newcomer();
    drop(answer);
    let joined = now(&mut bench.join(&ids[0])).unwrap();
    assert_eq!(joined.members.len(), 1);
    assert_eq!(
        bench.heartbeat(&lost, joined.generation),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn a_follower_with_nothing_new_is_answered_without_a_rebalance() {
    let mut bench = Bench::new();
    let ids = bench.stable(2);
    let answer = now(&mut bench.join(&ids[1])).unwrap();
    assert_eq!(
        (answer.generation, answer.leader.as_str()),
        (2, ids[0].as_str())
    );
    assert_eq!(bench.state(), "Stable");
    assert_eq!(
        now(&mut bench.sync(&ids[1], 2, &[])).unwrap().assignment,
        ids[1].as_bytes()
    );
}

#[test]
fn a_member_that_joins_twice_is_answered_once() {
    let mut bench = Bench::new();
    let ids = bench.stable(2);
    let mut first = bench.join(&ids[0]);
    let mut second = bench.join(&ids[0]);
    assert_eq!(
        now(&mut first).unwrap_err().code,
        ErrorCode::RebalanceInProgress
    );
    let mut other = bench.join(&ids[1]);
    assert!(now(&mut second).is_ok() && now(&mut other).is_ok());
}
