//! DescribeGroups: groups with their members, as tools show them.

use alluvium_agent::groups::{GroupDescription, GroupState};
use alluvium_metadata::GroupMember;
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use alluvium_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, StrBytes};
use alluvium_types::ErrorCode;
use tracing::debug;

use super::{RequestContext, authorized_operations};

/// Groups for which room is made beforehand.
const GROUPS: usize = 1000;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let asked = request.include_authorized_operations && context.version >= 3;
    let operations = if asked {
        authorized_operations::GROUP
    } else {
        authorized_operations::NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.groups.len().min(GROUPS));
    for group in request.groups {
        let client = &context.client_host;
        groups.push(match context.agent.groups.describe(&group).await {
            Ok(description) => {
                if description.is_none() {
                    debug!(%group, client, "DescribeGroups: there is no such group");
                }
                describe(context.version, group, operations, description)
            }
            Err(code) => {
                debug!(%group, %code, client, "DescribeGroups refused for a group");
                message!(DescribedGroup {
                    error_code: code.code(),
                    group_id: group,
                    authorized_operations: authorized_operations::NOT_ASKED,
                })
            }
        });
    }
    message!(DescribeGroupsResponse { groups })
}

fn describe(
    version: i16,
    group: StrBytes,
    operations: i32,
    description: Option<GroupDescription>,
) -> DescribedGroup {
    let Some(description) = description else {
        // Before version 6 a group that is not there was shown as a dead one.
        let (code, message) = if version >= 6 {
            let text = format!("Group {group} not found.");
            (ErrorCode::GroupIdNotFound, Some(text.into()))
        } else {
            (ErrorCode::None, None)
        };
        return message!(DescribedGroup {
            error_code: code.code(),
            error_message: message,
            group_id: group,
            group_state: GroupState::Dead.name().into(),
            authorized_operations: operations,
        });
    };
    message!(DescribedGroup {
        group_id: group,
        group_state: description.state.name().into(),
        protocol_type: description.protocol_type.into(),
        protocol_data: description.protocol.into(),
        members: description.members.into_iter().map(member).collect(),
        authorized_operations: operations,
    })
}

fn member(member: GroupMember) -> DescribedGroupMember {
    let metadata = member
        .protocols
        .into_iter()
        .next()
        .map(|(_, metadata)| metadata);
    message!(DescribedGroupMember {
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Into::into),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        member_metadata: metadata.unwrap_or_default(),
        member_assignment: member.assignment,
    })
}

#[cfg(test)]
mod tests {
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn an_unknown_group_is_dead_or_not_found_depending_on_the_version() {
        for version in 0..=6 {
            let group = describe(version, "g".into(), authorized_operations::NOT_ASKED, None);
            let code = if version >= 6 {
                ErrorCode::GroupIdNotFound
            } else {
                ErrorCode::None
            };
            assert_eq!(group.error_code, code.code());
            assert_eq!(group.group_state.as_str(), "Dead");
            encode(
                1,
                version,
                &message!(DescribeGroupsResponse {
                    groups: vec![group]
                }),
            )
            .unwrap();
        }
    }

    #[test]
    fn a_group_can_be_written_in_every_version() {
        let description = GroupDescription {
            state: GroupState::Stable,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![GroupMember {
                member_id: "m".into(),
                ..GroupMember::default()
            }],
        };
        for version in 0..=6 {
            let operations = if version >= 3 {
                authorized_operations::GROUP
            } else {
                authorized_operations::NOT_ASKED
            };
            let group = describe(version, "g".into(), operations, Some(description.clone()));
            encode(
                1,
                version,
                &message!(DescribeGroupsResponse {
                    groups: vec![group]
                }),
            )
            .unwrap();
        }
    }
}
