//! ConsumerGroupDescribe: consumer groups of the newer protocol with their members, as tools show them
//! (KIP-848).

use alluvium_agent::groups::ConsumerDescription;
use alluvium_metadata::{ConsumerMember, Partitions, State};
use alluvium_protocol::message;
use alluvium_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use alluvium_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, StrBytes, uuid,
};
use alluvium_types::ErrorCode;
use tracing::debug;

use super::{RequestContext, authorized_operations};

/// Groups for which room is made beforehand.
const GROUPS: usize = 1000;

/// How members are marked that speak the classic protocol, and those that speak the newer one.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

pub(crate) async fn handle(
    context: &RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = if request.include_authorized_operations {
        authorized_operations::GROUP
    } else {
        authorized_operations::NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.group_ids.len().min(GROUPS));
    for group in request.group_ids {
        let described = if group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            let described = context.agent.groups.describe_consumers(&group).await;
            described.and_then(|known| known.ok_or(ErrorCode::GroupIdNotFound))
        };
        groups.push(match described {
            Ok(description) => context
                .agent
                .metadata
                .read(|state| describe(state, group, operations, description)),
            Err(code) => {
                let client = &context.client_host;
                debug!(%group, %code, client, "ConsumerGroupDescribe refused for a group");
                refused(group, code)
            }
        });
    }
    message!(ConsumerGroupDescribeResponse { groups })
}

fn refused(group: StrBytes, code: ErrorCode) -> DescribedGroup {
    let why = match code {
        ErrorCode::GroupIdNotFound => format!("Group {group} is not a consumer group."),
        other => format!("{}: group {group}", other.name()),
    };
    message!(DescribedGroup {
        error_code: code.code(),
        error_message: Some(why.into()),
        group_id: group,
        authorized_operations: authorized_operations::NOT_ASKED,
    })
}

fn describe(
    state: &State,
    group: StrBytes,
    operations: i32,
    description: ConsumerDescription,
) -> DescribedGroup {
    let members = description.members.iter();
    message!(DescribedGroup {
        group_id: group,
        group_state: description.state.name().into(),
        group_epoch: description.epoch,
        assignment_epoch: description.target_epoch,
        assignor_name: description.assignor.into(),
        members: members
            .map(|(it, target)| member(state, it, target))
            .collect(),
        authorized_operations: operations,
    })
}

fn member(state: &State, member: &ConsumerMember, target: &Partitions) -> Member {
    let topics = member.topics.iter().map(|topic| topic.as_str().into());
    message!(Member {
        member_id: member.member_id.as_str().into(),
        instance_id: member.instance_id.as_deref().map(Into::into),
        rack_id: member.rack.as_deref().map(Into::into),
        member_epoch: member.epoch,
        client_id: member.client_id.as_str().into(),
        client_host: member.client_host.as_str().into(),
        subscribed_topic_names: topics.collect(),
        subscribed_topic_regex: member.pattern.as_deref().map(Into::into),
        assignment: assignment(state, &member.assigned),
        target_assignment: assignment(state, target),
        member_type: if member.classic.is_some() {
            CLASSIC
        } else {
            CONSUMER
        },
    })
}

fn assignment(state: &State, assignment: &Partitions) -> Assignment {
    let topics = assignment.iter().filter_map(|(topic, partitions)| {
        let name = state.topic(*topic)?.name.as_str();
        Some(message!(TopicPartitions {
            topic_id: uuid(*topic),
            topic_name: name.into(),
            partitions: partitions.iter().copied().collect(),
        }))
    });
    message!(Assignment {
        topic_partitions: topics.collect()
    })
}

#[cfg(test)]
mod tests {
    use alluvium_agent::groups::GroupState;
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn a_group_fits_every_version() {
        let it = ConsumerMember {
            member_id: "m".to_owned(),
            topics: ["t".to_owned()].into(),
            ..ConsumerMember::default()
        };
        for version in 0..=1 {
            let description = ConsumerDescription {
                state: GroupState::Reconciling,
                epoch: 3,
                target_epoch: 2,
                assignor: "uniform",
                members: vec![(it.clone(), Partitions::new())],
            };
            let known = describe(
                &State::new(),
                "g".into(),
                authorized_operations::NOT_ASKED,
                description,
            );
            assert_eq!(known.group_state.as_str(), "Reconciling");
            let missing = refused("g".into(), ErrorCode::GroupIdNotFound);
            let groups = vec![known, missing];
            encode(
                1,
                version,
                &message!(ConsumerGroupDescribeResponse { groups }),
            )
            .unwrap();
        }
    }
}
