//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

use kafka_protocol::protocol::StrBytes;

use crate::codes::*;
use crate::support::wait_until;
use crate::table::{Case, case};
use crate::wire::{Client, group, text};
use crate::world::{self, ASSIGNMENT, Member, SUBSCRIPTION, TEAM, World};

pub(super) const KEYS: &[i16] = &[11, 12, 13, 14];

pub(super) fn cases() -> Vec<Case> {
    [
        join_cases(),
        join_refusals(),
        sync_cases(),
        heartbeat_cases(),
        leave_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn join(version: i16, name: &str) -> JoinGroupRequest {
    let mut request = world::join(name);
    if version == 0 {
        // The session's timeout was that of a rebalance, too.
        request.rebalance_timeout_ms = -1;
    }
    request
}

fn is_the_only_member(version: i16, joined: &JoinGroupResponse) {
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (NONE, 1),
        "{joined:?}"
    );
    assert_eq!(joined.leader, joined.member_id);
    assert!(!joined.skip_assignment);
    assert_eq!(joined.protocol_name, Some(text("range")));
    let kind = if version >= 7 {
        Some(text("consumer"))
    } else {
        None
    };
    assert_eq!(joined.protocol_type, kind);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].member_id, joined.member_id);
    assert_eq!(joined.members[0].metadata, SUBSCRIPTION);
}

/// The id of a member that has joined as the only one, given the answer to its first request.
fn known(
    world: &mut World,
    version: i16,
    request: &JoinGroupRequest,
    answer: JoinGroupResponse,
) -> StrBytes {
    if answer.error_code == NONE {
        return answer.member_id;
    }
    let again = request.clone().with_member_id(answer.member_id);
    let joined = world.client.ask(version, &again);
    assert_eq!((joined.error_code, joined.generation_id), (NONE, 1));
    joined.member_id
}

fn state(world: &mut World, name: &str) -> String {
    let request = DescribeGroupsRequest::default().with_groups(vec![group(name)]);
    world.client.ask(0, &request).groups[0]
        .group_state
        .to_string()
}

fn join_cases() -> Vec<Case> {
    vec![
        case(
            "a first member",
            |world, version| {
                let request = join(version, &world.fresh("group"));
                if version >= 8 {
                    request.with_reason(Some(text("new")))
                } else {
                    request
                }
            },
            |world, version, request, answer| {
                let joined = if version >= 4 {
                    assert_eq!(answer.error_code, MEMBER_ID_REQUIRED);
                    assert_eq!(answer.generation_id, -1);
                    assert!(!answer.member_id.is_empty());
                    let again = request.clone().with_member_id(answer.member_id);
                    world.client.ask(version, &again)
                } else {
                    answer
                };
                is_the_only_member(version, &joined);
                assert_eq!(joined.members[0].group_instance_id, None);
            },
        ),
        case(
            "a second member, for which the first joins again",
            |world, version| join(version, &world.fresh("group")),
            |world, version, request, answer| {
                let first = known(world, version, request, answer);
                let mut second = request.clone();
                if version >= 4 {
                    second.member_id = world.client.ask(version, request).member_id;
                }
                let mut other = Client::of(&world.server);
                let correlation = other.request(version, &second);
                let name = request.group_id.as_str();
                wait_until("the rebalance", || {
                    state(world, name) == "PreparingRebalance"
                });
                let beat = heartbeat(&Member {
                    group: name.to_owned(),
                    id: first.to_string(),
                    generation: 1,
                });
                assert_eq!(world.client.ask(0, &beat).error_code, REBALANCE_IN_PROGRESS);
                let again = request.clone().with_member_id(first.clone());
                let leader = world.client.ask(version, &again);
                let follower = other.answer::<JoinGroupRequest>(version, correlation);
                for joined in [&leader, &follower] {
                    assert_eq!((joined.error_code, joined.generation_id), (NONE, 2));
                    assert_eq!(
                        (&joined.leader, &joined.protocol_name),
                        (&first, &Some(text("range")))
                    );
                }
                assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
                assert_ne!(follower.member_id, first);
            },
        ),
        case(
            "a static member, and that member restarted",
            |world, version| {
                let name = world.fresh("group");
                join(version, &name).with_group_instance_id(Some(text("machine")))
            },
            |world, version, request, answer| {
                is_the_only_member(version, &answer);
                assert_eq!(answer.members[0].group_instance_id, Some(text("machine")));
                let again = world.client.ask(version, request);
                assert_eq!(again.error_code, NONE);
                assert_ne!(again.member_id, answer.member_id);
            },
        )
        .since(5),
    ]
}

fn join_refusals() -> Vec<Case> {
    let refused = |name, build: fn(JoinGroupRequest) -> JoinGroupRequest, code: i16| {
        case(
            name,
            move |_, version| build(join(version, TEAM)),
            move |_, version, _, answer: JoinGroupResponse| {
                assert_eq!((answer.error_code, answer.generation_id), (code, -1));
                // No name is an empty one, before it could be null.
                assert_eq!(answer.protocol_name.is_none(), version >= 7);
                assert!(answer.members.is_empty());
            },
        )
    };
    vec![
        refused(
            "no group",
            |join| join.with_group_id(group("")),
            INVALID_GROUP_ID,
        ),
        refused(
            "an unknown member",
            |join| join.with_member_id(text("stranger")),
            UNKNOWN_MEMBER_ID,
        ),
        refused(
            "an unknown member of an unknown group",
            |join| {
                join.with_group_id(group("no-group"))
                    .with_member_id(text("stranger"))
            },
            UNKNOWN_MEMBER_ID,
        ),
        refused(
            "a session that is too short",
            |join| join.with_session_timeout_ms(10),
            INVALID_SESSION_TIMEOUT,
        ),
        refused(
            "a session that is too long",
            |join| join.with_session_timeout_ms(i32::MAX),
            INVALID_SESSION_TIMEOUT,
        ),
        refused(
            "another type of group",
            |join| join.with_protocol_type(text("connect")),
            INCONSISTENT_GROUP_PROTOCOL,
        ),
        refused(
            "no protocol",
            |join| join.with_protocols(vec![]),
            INCONSISTENT_GROUP_PROTOCOL,
        ),
        refused(
            "a protocol that the others lack",
            |mut join| {
                join.protocols[0].name = text("other");
                join
            },
            INCONSISTENT_GROUP_PROTOCOL,
        ),
    ]
}

fn sync(version: i16, member: &Member) -> SyncGroupRequest {
    let request = world::sync(member);
    if version < 5 {
        return request;
    }
    request
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
}

fn sync_cases() -> Vec<Case> {
    let refused = |name, build: fn(SyncGroupRequest) -> SyncGroupRequest, code: i16| {
        case(
            name,
            move |world, version| build(sync(version, &world.member)),
            move |_, _, _, answer: SyncGroupResponse| {
                assert_eq!(answer.error_code, code);
                assert!(answer.assignment.is_empty());
            },
        )
    };
    vec![
        case(
            "the leader brings what it assigned",
            |world, version| {
                let name = world.fresh("group");
                let joined = world.join_twice(3, &world::join(&name));
                let generation = joined.generation_id;
                let member = Member {
                    group: name,
                    id: joined.member_id.to_string(),
                    generation,
                };
                let assignment = SyncGroupRequestAssignment::default()
                    .with_member_id(joined.member_id)
                    .with_assignment(ASSIGNMENT.into());
                sync(version, &member).with_assignments(vec![assignment])
            },
            |world, version, request, answer| {
                assert_eq!(
                    (answer.error_code, &answer.assignment[..]),
                    (NONE, ASSIGNMENT)
                );
                let name = |name: &str| if version >= 5 { Some(text(name)) } else { None };
                assert_eq!(answer.protocol_type, name("consumer"));
                assert_eq!(answer.protocol_name, name("range"));
                // Asked again, it is told the same.
                let again = world
                    .client
                    .ask(version, &request.clone().with_assignments(vec![]));
                assert_eq!(again, answer);
            },
        ),
        refused(
            "no group",
            |sync| sync.with_group_id(group("")),
            INVALID_GROUP_ID,
        ),
        refused(
            "an unknown group",
            |sync| sync.with_group_id(group("no-group")),
            UNKNOWN_MEMBER_ID,
        ),
        refused(
            "an unknown member",
            |sync| sync.with_member_id(text("no")),
            UNKNOWN_MEMBER_ID,
        ),
        refused(
            "an old generation",
            |sync| sync.with_generation_id(0),
            ILLEGAL_GENERATION,
        ),
        refused(
            "another protocol",
            |sync| sync.with_protocol_name(Some(text("other"))),
            INCONSISTENT_GROUP_PROTOCOL,
        )
        .since(5),
        refused(
            "no protocol",
            |sync| sync.with_protocol_name(None),
            INCONSISTENT_GROUP_PROTOCOL,
        )
        .since(5),
    ]
}

fn heartbeat(member: &Member) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group(&member.group))
        .with_generation_id(member.generation)
        .with_member_id(text(&member.id))
}

fn heartbeat_cases() -> Vec<Case> {
    let answered = |name, build: fn(HeartbeatRequest) -> HeartbeatRequest, code: i16| {
        case(
            name,
            move |world, _| build(heartbeat(&world.member)),
            move |_, _, _, answer: HeartbeatResponse| assert_eq!(answer.error_code, code),
        )
    };
    vec![
        answered("a sign of life", |beat| beat, NONE),
        answered(
            "an old generation",
            |beat| beat.with_generation_id(0),
            ILLEGAL_GENERATION,
        ),
        answered(
            "an unknown member",
            |beat| beat.with_member_id(text("no")),
            UNKNOWN_MEMBER_ID,
        ),
        answered(
            "an unknown group",
            |beat| beat.with_group_id(group("none")),
            UNKNOWN_MEMBER_ID,
        ),
        answered(
            "no group",
            |beat| beat.with_group_id(group("")),
            INVALID_GROUP_ID,
        ),
        case(
            "a static member that was replaced",
            |world, _| {
                let name = world.fresh("group");
                let former = world.join_as(&name, Some("machine"));
                let request = world::join(&name).with_group_instance_id(Some(text("machine")));
                assert_eq!(world.client.ask(5, &request).error_code, NONE);
                heartbeat(&former).with_group_instance_id(Some(text("machine")))
            },
            |_, _, _, answer| assert_eq!(answer.error_code, FENCED_INSTANCE_ID),
        )
        .since(3),
    ]
}

/// Before version 3 one member left, and spoke for itself.
fn leave(version: i16, name: &str, members: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group(name));
    if version < 3 {
        return request.with_member_id(text(members[0].0));
    }
    let members = members.iter().map(|(member, instance)| {
        let reason = if version >= 5 {
            Some(text("done"))
        } else {
            None
        };
        MemberIdentity::default()
            .with_member_id(text(member))
            .with_group_instance_id(instance.map(text))
            .with_reason(reason)
    });
    request.with_members(members.collect())
}

/// The code of the first member, wherever the version says it.
fn left(version: i16, answer: &LeaveGroupResponse) -> i16 {
    if version < 3 {
        return answer.error_code;
    }
    assert_eq!(answer.error_code, NONE);
    answer.members[0].error_code
}

fn leave_cases() -> Vec<Case> {
    vec![
        case(
            "a member",
            |world, version| {
                let name = world.fresh("group");
                let member = world.join(&name);
                leave(version, &name, &[(&member.id, None)])
            },
            |world, version, request, answer| {
                assert_eq!(left(version, &answer), NONE);
                let again = world.client.ask(version, request);
                assert_eq!(left(version, &again), UNKNOWN_MEMBER_ID);
            },
        ),
        case(
            "a stranger",
            |_, version| leave(version, TEAM, &[("stranger", None)]),
            |_, version, _, answer| assert_eq!(left(version, &answer), UNKNOWN_MEMBER_ID),
        ),
        case(
            "an unknown group",
            |_, version| leave(version, "no-group", &[("stranger", None)]),
            |_, version, _, answer| assert_eq!(left(version, &answer), UNKNOWN_MEMBER_ID),
        ),
        case(
            "no group",
            |_, version| leave(version, "", &[("stranger", None)]),
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_GROUP_ID),
        ),
        case(
            "a static member by its name, and one that is not there",
            |world, version| {
                let name = world.fresh("group");
                world.join_as(&name, Some("machine"));
                leave(
                    version,
                    &name,
                    &[("", Some("machine")), ("", Some("other"))],
                )
            },
            |_, _, _, answer| {
                let code = |member: &MemberResponse| member.error_code;
                let codes: Vec<_> = answer.members.iter().map(code).collect();
                assert_eq!(
                    (answer.error_code, codes),
                    (NONE, vec![NONE, UNKNOWN_MEMBER_ID])
                );
                assert_eq!(answer.members[0].group_instance_id, Some(text("machine")));
            },
        )
        .since(3),
    ]
}
