//! DescribeGroups, ListGroups, DeleteGroups.

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest};

use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::{CLIENT, group, text};
use crate::world::{ASSIGNMENT, READERS, SUBSCRIPTION, TEAM, World};

pub(super) const KEYS: &[i16] = &[15, 16, 42];

pub(super) fn cases() -> Vec<Case> {
    [describe_cases(), list_cases(), delete_cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn describe(names: &[&str]) -> DescribeGroupsRequest {
    DescribeGroupsRequest::default().with_groups(names.iter().map(|name| group(name)).collect())
}

fn is_the_team(world: &World, version: i16, found: &DescribedGroup) {
    assert_eq!((found.error_code, found.group_id.as_str()), (NONE, TEAM));
    assert_eq!(found.group_state.as_str(), "Stable");
    assert_eq!(found.protocol_type.as_str(), "consumer");
    assert_eq!(found.protocol_data.as_str(), "range");
    assert_eq!(found.members.len(), 1);
    let member = &found.members[0];
    assert_eq!(member.member_id.as_str(), world.member.id);
    assert_eq!(member.client_id.as_str(), CLIENT);
    assert_eq!(member.client_host.as_str(), "/127.0.0.1");
    assert_eq!(
        (&member.member_metadata[..], &member.member_assignment[..]),
        (SUBSCRIPTION, ASSIGNMENT)
    );
    assert_eq!(member.group_instance_id, None, "version {version}");
}

fn describe_cases() -> Vec<Case> {
    vec![
        case(
            "with a member, without, and not there",
            |_, _| describe(&[TEAM, READERS, "no-group"]),
            |world, version, _, answer| {
                is_the_team(world, version, &answer.groups[0]);
                let readers = &answer.groups[1];
                assert_eq!(
                    (readers.error_code, readers.group_state.as_str()),
                    (NONE, "Empty")
                );
                assert!(readers.members.is_empty());
                let missing = &answer.groups[2];
                assert_eq!(missing.group_state.as_str(), "Dead");
                let code = if version >= 6 {
                    GROUP_ID_NOT_FOUND
                } else {
                    NONE
                };
                assert_eq!(missing.error_code, code);
                assert_eq!(missing.error_message.is_some(), version >= 6);
                assert!(
                    answer
                        .groups
                        .iter()
                        .all(|one| one.authorized_operations == i32::MIN)
                );
            },
        ),
        case(
            "with what may be done",
            |_, _| describe(&[TEAM, "no-group"]).with_include_authorized_operations(true),
            |world, version, _, answer| {
                is_the_team(world, version, &answer.groups[0]);
                assert!(answer.groups[0].authorized_operations > 0);
            },
        )
        .since(3),
        case(
            "nothing at all",
            |_, _| describe(&[]),
            |_, _, _, answer| assert!(answer.groups.is_empty()),
        ),
    ]
}

fn list_cases() -> Vec<Case> {
    let listing =
        |name, build: fn() -> ListGroupsRequest, since: i16, expected: &'static [&str]| {
            case(
                name,
                move |_, _| build(),
                move |_, version, _, answer: kafka_protocol::messages::ListGroupsResponse| {
                    assert_eq!(answer.error_code, NONE);
                    let mut found: Vec<_> = answer
                        .groups
                        .iter()
                        .map(|group| group.group_id.as_str())
                        .collect();
                    found.sort_unstable();
                    // Other cases make groups, too.
                    found.retain(|name| [READERS, TEAM].contains(name));
                    assert_eq!(found, expected);
                    for group in &answer.groups {
                        let (state, kind) = match group.group_id.as_str() {
                            READERS => ("Empty", ""),
                            TEAM => ("Stable", "consumer"),
                            _ => continue,
                        };
                        assert_eq!(group.protocol_type.as_str(), kind);
                        assert_eq!(
                            group.group_state.as_str(),
                            if version >= 4 { state } else { "" }
                        );
                        assert_eq!(
                            group.group_type.as_str(),
                            if version >= 5 { "classic" } else { "" }
                        );
                    }
                },
            )
            .since(since)
        };
    let all = ListGroupsRequest::default;
    vec![
        listing("all", all, 0, &[READERS, TEAM]),
        listing(
            "by state",
            || ListGroupsRequest::default().with_states_filter(vec![text("stable")]),
            4,
            &[TEAM],
        ),
        listing(
            "by a state that there is not",
            || ListGroupsRequest::default().with_states_filter(vec![text("lost")]),
            4,
            &[],
        ),
        listing(
            "by type",
            || ListGroupsRequest::default().with_types_filter(vec![text("Classic")]),
            5,
            &[READERS, TEAM],
        ),
        listing(
            "by another type",
            || ListGroupsRequest::default().with_types_filter(vec![text("consumer")]),
            5,
            &[],
        ),
    ]
}

fn delete_cases() -> Vec<Case> {
    vec![
        case(
            "empty, with a member, and not there",
            |world, _| {
                let name = world.fresh("group");
                world.commit(&name, 3);
                let names = [&name, TEAM, "no-group"].map(group);
                DeleteGroupsRequest::default().with_groups_names(names.to_vec())
            },
            |world, _, request, answer| {
                let codes = answer.results.iter().map(|found| found.error_code);
                let expected = [NONE, NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
                assert_eq!(answer.results[0].group_id, request.groups_names[0]);
                let found = world
                    .client
                    .ask(6, &describe(&[request.groups_names[0].as_str()]));
                assert_eq!(found.groups[0].error_code, GROUP_ID_NOT_FOUND);
            },
        ),
        case(
            "nothing at all",
            |_, _| DeleteGroupsRequest::default(),
            |_, _, _, answer| assert!(answer.results.is_empty()),
        ),
    ]
}
