//! Who belongs to a group, and who may speak for it.

use super::*;

#[test]
fn a_newcomer_is_given_an_id_and_must_come_back_with_it() {
    let mut bench = Bench::new();
    let refused = now(&mut bench.join("")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::MemberIdRequired);
    assert!(refused.member_id.starts_with("client-"));
    // The id is kept for a session only.
    bench.advance(SESSION.into());
    let late = now(&mut bench.join(&refused.member_id)).unwrap_err();
    assert_eq!(late.code, ErrorCode::UnknownMemberId);
    assert_eq!(bench.state(), "-");
    assert_eq!(
        (bench.coordinator.timers().len(), bench.coordinator.bytes()),
        (0, 0)
    );
}

#[test]
fn an_old_client_is_a_member_at_once() {
    let mut bench = Bench::new();
    let old = JoinGroup {
        takes_member_id: false,
        ..request("", None)
    };
    let joined = now(&mut bench.send_join(old)).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (1, 1));
    assert_eq!(joined.leader, joined.member_id);
}

#[test]
fn wrong_generations_and_strangers_are_told_so() {
    let mut bench = Bench::new();
    let ids = bench.stable(1);
    assert_eq!(bench.heartbeat(&ids[0], 1), ErrorCode::None);
    assert_eq!(bench.heartbeat(&ids[0], 0), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat("nobody", 1), ErrorCode::UnknownMemberId);
    assert_eq!(
        now(&mut bench.sync(&ids[0], 2, &[])),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(
        now(&mut bench.sync("nobody", 1, &[])),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(bench.leave("nobody"), ErrorCode::UnknownMemberId);
    assert_eq!(
        now(&mut bench.join("nobody")).unwrap_err().code,
        ErrorCode::UnknownMemberId
    );
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn commits_are_fenced_by_member_and_generation() {
    let mut bench = Bench::new();
    let ids = bench.stable(1);
    assert_eq!(
        now(&mut bench.commit(&ids[0], 0, 5)),
        ErrorCode::IllegalGeneration
    );
    assert_eq!(
        now(&mut bench.commit("nobody", 1, 5)),
        ErrorCode::UnknownMemberId
    );
    // Clients outside of the group keep their hands off while it has members.
    assert_eq!(
        now(&mut bench.commit("", -1, 5)),
        ErrorCode::UnknownMemberId
    );
    let mut good = bench.commit(&ids[0], 1, 5);
    assert!(waits(&mut good), "answered before it is durable");
    bench.write();
    assert_eq!(now(&mut good), ErrorCode::None);
}

#[test]
fn a_commit_of_the_last_generation_is_applied_before_the_next_one_is_written() {
    let mut bench = Bench::new();
    let ids = bench.stable(1);
    let mut commit = bench.commit(&ids[0], 1, 77);
    let joined = now(&mut bench.join(&ids[0])).unwrap();
    let mut sync = bench.sync(&ids[0], joined.generation, &[(&ids[0], "new")]);
    bench.write();
    assert_eq!(now(&mut commit), ErrorCode::None);
    assert!(now(&mut sync).is_ok());
    assert_eq!(bench.quorum.log, ["record 1", "commit 77", "record 2"]);
}

#[test]
fn a_client_without_a_group_commits_to_an_empty_one() {
    let mut bench = Bench::new();
    let mut commit = bench.commit("", -1, 9);
    bench.write();
    assert_eq!(now(&mut commit), ErrorCode::None);
    // A member of a group that nobody knows, and of one that has only offsets.
    assert_eq!(
        now(&mut bench.commit("m", 3, 9)),
        ErrorCode::UnknownMemberId
    );
    bench.quorum.groups.clear();
    assert_eq!(
        now(&mut bench.commit("m", 3, 9)),
        ErrorCode::GroupIdNotFound
    );
}

#[test]
fn members_must_share_a_protocol() {
    let mut bench = Bench::new();
    let one = JoinGroup {
        protocols: protocols(&["sticky", "range"]),
        takes_member_id: false,
        ..request("", None)
    };
    let first = now(&mut bench.send_join(one.clone())).unwrap();
    assert_eq!(first.protocol.as_deref(), Some("sticky"));
    let other = JoinGroup {
        protocols: protocols(&["other"]),
        ..one.clone()
    };
    let code = now(&mut bench.send_join(other)).unwrap_err().code;
    assert_eq!(code, ErrorCode::InconsistentGroupProtocol);
    let connect = JoinGroup {
        protocol_type: "connect".into(),
        ..one.clone()
    };
    let code = now(&mut bench.send_join(connect)).unwrap_err().code;
    assert_eq!(code, ErrorCode::InconsistentGroupProtocol);
    let none = JoinGroup {
        protocols: Vec::new(),
        group: "h".into(),
        ..one.clone()
    };
    let code = now(&mut bench.send_join(none)).unwrap_err().code;
    assert_eq!(code, ErrorCode::InconsistentGroupProtocol);

    // One who knows "range" alone decides for all.
    let narrow = JoinGroup {
        protocols: protocols(&["range"]),
        ..one.clone()
    };
    let mut second = bench.send_join(narrow);
    let again = JoinGroup {
        member_id: first.member_id.clone(),
        ..one
    };
    let joined = now(&mut bench.send_join(again)).unwrap();
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members[0].metadata, "sub range");
    assert!(now(&mut second).unwrap().members.is_empty());
    let code = {
        let (waiter, mut answer) = Waiter::new();
        let sync = SyncGroup {
            group: "g".into(),
            generation: 2,
            member_id: first.member_id,
            protocol_type: Some("consumer".into()),
            protocol: Some("sticky".into()),
            ..SyncGroup::default()
        };
        bench.coordinator.sync(0, sync, waiter, &bench.quorum);
        now(&mut answer)
    };
    assert_eq!(code, Err(ErrorCode::InconsistentGroupProtocol));
}

#[test]
fn requests_beyond_the_limits_are_refused() {
    let mut bench = Bench::with(Settings {
        initial_delay: 0,
        max_size: 1,
        ..Settings::default()
    });
    let mut code = |request: JoinGroup| now(&mut bench.send_join(request)).unwrap_err().code;
    let short = JoinGroup {
        session_timeout: 5_999,
        ..request("", None)
    };
    assert_eq!(code(short), ErrorCode::InvalidSessionTimeout);
    let long = JoinGroup {
        session_timeout: 1_800_001,
        ..request("", None)
    };
    assert_eq!(code(long), ErrorCode::InvalidSessionTimeout);
    let nameless = JoinGroup {
        group: String::new(),
        ..request("", None)
    };
    assert_eq!(code(nameless), ErrorCode::InvalidGroupId);
    let large = vec![("range".to_owned(), Bytes::from(vec![0; 1 << 20]))];
    assert_eq!(
        code(JoinGroup {
            protocols: large,
            ..request("", None)
        }),
        ErrorCode::InvalidRequest
    );

    let ids = bench.stable(1);
    let full = now(&mut bench.join("")).unwrap_err().code;
    assert_eq!(full, ErrorCode::GroupMaxSizeReached);
    assert_eq!(bench.heartbeat(&ids[0], 1), ErrorCode::None);
}

#[test]
fn only_an_empty_group_is_deleted_and_then_it_starts_anew() {
    let mut bench = Bench::new();
    assert_eq!(now(&mut bench.delete()), ErrorCode::GroupIdNotFound);
    let ids = bench.stable(1);
    assert_eq!(now(&mut bench.delete()), ErrorCode::NonEmptyGroup);
    assert_eq!(bench.leave(&ids[0]), ErrorCode::None);
    bench.write();
    assert_eq!(bench.state(), "-", "an empty group is not held in memory");

    let mut deleted = bench.delete();
    assert_eq!(bench.state(), "Dead");
    let refused = now(&mut bench.join("")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(
        now(&mut bench.commit("", -1, 1)),
        ErrorCode::CoordinatorNotAvailable
    );
    bench.write();
    assert_eq!(now(&mut deleted), ErrorCode::None);
    assert!(bench.quorum.groups.is_empty());
    bench.stable(1);
    assert_eq!(bench.group().generation, 1);
}

#[test]
fn a_shutdown_answers_whoever_waits() {
    let mut bench = Bench::new();
    let ids = bench.stable(2);
    let mut join = bench.join(&ids[0]);
    assert!(waits(&mut join));
    bench.coordinator.close(bench.now);
    assert_eq!(
        now(&mut join).unwrap_err().code,
        ErrorCode::CoordinatorNotAvailable
    );
    assert_eq!(
        bench.heartbeat(&ids[0], 2),
        ErrorCode::CoordinatorNotAvailable
    );
    assert_eq!(
        now(&mut bench.join("")).unwrap_err().code,
        ErrorCode::CoordinatorNotAvailable
    );
}
