//! Consumer groups of the newer protocol: ConsumerGroupHeartbeat, ConsumerGroupDescribe (KIP-848).

use alluvium_protocol::message;
use alluvium_protocol::messages as own;
use own::consumer_group_heartbeat_request::TopicPartitions;

use crate::codes::*;
use crate::table::{Case, newest};
use crate::world::{READERS, TOPIC, World};

pub(super) const KEYS: &[i16] = &[68, 69];

type Beat = own::ConsumerGroupHeartbeatRequest;
type Told = own::ConsumerGroupHeartbeatResponse;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = lives();
    cases.extend(refusals());
    cases.extend(static_members());
    cases.extend(expressions());
    cases.push(describe());
    cases
}

fn beat(group: &str, member: &str, epoch: i32) -> Beat {
    message!(Beat {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        topic_partitions: None,
    })
}

fn join(group: &str, member: &str) -> Beat {
    let mut beat = beat(group, member, 0);
    beat.rebalance_timeout_ms = 30_000;
    beat.subscribed_topic_names = Some(vec![TOPIC.into()]);
    beat.topic_partitions = Some(Vec::new());
    beat
}

fn told(world: &mut World, beat: &Beat) -> Told {
    world.client.ask_own(1, beat)
}

/// Joins, and leaves again when the case is over.
fn joined(world: &mut World, group: &str, member: &str) -> Told {
    let answer = told(world, &join(group, member));
    assert_eq!(answer.error_code, NONE, "{:?}", answer.error_message);
    answer
}

fn leave(world: &mut World, group: &str, member: &str) {
    let answer = told(world, &beat(group, member, -1));
    assert_eq!((answer.error_code, answer.member_epoch), (NONE, -1));
}

fn lives() -> Vec<Case> {
    vec![
        newest(
            "a member joins, gives a sign of life and leaves",
            0,
            |_| join("modern", "m"),
            |world, answer: Told| {
                assert_eq!(answer.error_code, NONE);
                assert!(answer.member_epoch > 0 && answer.heartbeat_interval_ms > 0);
                assert_eq!(answer.member_id.as_deref(), Some("m"));
                let assigned = answer.assignment.unwrap().topic_partitions;
                assert_eq!(assigned.len(), 1);
                assert_eq!(assigned[0].partitions, [0, 1, 2]);
                assert_eq!(assigned[0].topic_id.to_bytes(), *world.topic_id.as_bytes());
                let quiet = told(world, &beat("modern", "m", answer.member_epoch));
                assert_eq!((quiet.error_code, quiet.assignment.is_none()), (NONE, true));
                leave(world, "modern", "m");
            },
        ),
        newest(
            "an epoch of before is fenced",
            0,
            |world| {
                joined(world, "fenced", "m");
                beat("fenced", "m", 99)
            },
            |world, answer: Told| {
                assert_eq!(answer.error_code, FENCED_MEMBER_EPOCH);
                leave(world, "fenced", "m");
            },
        ),
    ]
}

fn refusals() -> Vec<Case> {
    let refused = |name, request: fn() -> Beat, code| {
        newest(
            name,
            0,
            move |_| request(),
            move |_, answer: Told| {
                assert_eq!(answer.error_code, code, "{:?}", answer.error_message);
                assert!(answer.error_message.is_some_and(|text| !text.is_empty()));
                assert!(answer.assignment.is_none());
            },
        )
    };
    vec![
        refused("without a group id", || join("", "m"), INVALID_REQUEST),
        refused(
            "a group that is not there",
            || beat("never", "m", 5),
            GROUP_ID_NOT_FOUND,
        ),
        refused(
            "an epoch that there is not",
            || beat("modern", "m", -3),
            INVALID_REQUEST,
        ),
        refused(
            "without a rebalance timeout",
            || {
                let mut beat = join("modern", "m");
                beat.rebalance_timeout_ms = -1;
                beat
            },
            INVALID_REQUEST,
        ),
        refused(
            "without topics",
            || {
                let mut beat = join("modern", "m");
                beat.subscribed_topic_names = None;
                beat
            },
            INVALID_REQUEST,
        ),
        refused(
            "a newcomer that has partitions",
            || {
                let mut beat = join("modern", "m");
                beat.topic_partitions = Some(vec![message!(TopicPartitions {
                    partitions: vec![1],
                })]);
                beat
            },
            INVALID_REQUEST,
        ),
        refused(
            "an empty static id",
            || {
                let mut beat = join("modern", "m");
                beat.instance_id = Some("".into());
                beat
            },
            INVALID_REQUEST,
        ),
        refused(
            "a while's leave of one that is not static",
            || beat("modern", "m", -2),
            INVALID_REQUEST,
        ),
        refused(
            "an assignor that nobody has",
            || {
                let mut beat = join("modern", "m");
                beat.server_assignor = Some("best".into());
                beat
            },
            UNSUPPORTED_ASSIGNOR,
        ),
        refused(
            "a group of the classic protocol that has a member",
            || beat(READERS, "m", 1),
            GROUP_ID_NOT_FOUND,
        ),
        newest(
            "without a member id",
            1,
            |_| join("modern", ""),
            |_, answer: Told| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
        newest(
            "who never joined is not known",
            0,
            |world| {
                joined(world, "known", "other");
                beat("known", "m", 1)
            },
            |world, answer: Told| {
                assert_eq!(answer.error_code, UNKNOWN_MEMBER_ID);
                leave(world, "known", "other");
            },
        ),
    ]
}

fn static_members() -> Vec<Case> {
    fn with_instance(mut beat: Beat) -> Beat {
        beat.instance_id = Some("one".into());
        beat
    }
    vec![newest(
        "a static member comes back under another id, once it has gone",
        0,
        |world| {
            let first = told(world, &with_instance(join("static", "first")));
            assert_eq!(first.error_code, NONE);
            let too_early = told(world, &with_instance(join("static", "second")));
            assert_eq!(too_early.error_code, UNRELEASED_INSTANCE_ID);
            let away = told(world, &with_instance(beat("static", "first", -2)));
            assert_eq!((away.error_code, away.member_epoch), (NONE, -2));
            with_instance(join("static", "second"))
        },
        |world, answer: Told| {
            assert_eq!(answer.error_code, NONE);
            assert_eq!(
                answer.assignment.unwrap().topic_partitions[0].partitions,
                [0, 1, 2]
            );
            let fenced = told(world, &with_instance(beat("static", "first", 1)));
            assert_eq!(fenced.error_code, FENCED_INSTANCE_ID);
            leave(world, "static", "second");
        },
    )]
}

fn expressions() -> Vec<Case> {
    fn with_pattern(pattern: &str) -> Beat {
        let mut beat = join("patterns", "m");
        beat.subscribed_topic_names = None;
        beat.subscribed_topic_regex = Some(pattern.into());
        beat
    }
    vec![
        newest(
            "topics by an expression",
            1,
            |_| with_pattern(&format!("{TOPIC}|nothing.*")),
            |world, answer: Told| {
                assert_eq!(answer.error_code, NONE);
                let assigned = answer.assignment.unwrap().topic_partitions;
                assert_eq!(assigned[0].partitions, [0, 1, 2]);
                leave(world, "patterns", "m");
            },
        ),
        newest(
            "an expression that is none",
            1,
            |_| with_pattern("a("),
            |_, answer: Told| assert_eq!(answer.error_code, INVALID_REGULAR_EXPRESSION),
        ),
    ]
}

fn describe() -> Case {
    newest(
        "a group of the newer protocol, one of the classic, none, and one without a name",
        0,
        |world| {
            joined(world, "shown", "m");
            message!(own::ConsumerGroupDescribeRequest {
                group_ids: vec!["shown".into(), READERS.into(), "none".into(), "".into()],
                include_authorized_operations: true,
            })
        },
        |world, answer: own::ConsumerGroupDescribeResponse| {
            let codes: Vec<_> = answer.groups.iter().map(|group| group.error_code).collect();
            let missing = GROUP_ID_NOT_FOUND;
            assert_eq!(codes, [NONE, missing, missing, INVALID_GROUP_ID]);
            let group = &answer.groups[0];
            assert_eq!(
                (&*group.group_state, &*group.assignor_name),
                ("Stable", "uniform")
            );
            assert_eq!(group.group_epoch, group.assignment_epoch);
            let member = &group.members[0];
            assert_eq!(&*member.member_id, "m");
            assert_eq!(member.subscribed_topic_names, [TOPIC.into()]);
            let assigned = &member.assignment.topic_partitions[0];
            assert_eq!(&*assigned.topic_name, TOPIC);
            assert_eq!(assigned.partitions, [0, 1, 2]);
            assert_eq!(member.assignment, member.target_assignment);
            leave(world, "shown", "m");
        },
    )
}
