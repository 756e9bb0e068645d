//! ShareGroupDescribe: share groups with their members, as tools show them (KIP-932).

use alluvium_agent::shares::{Assignment, ShareMember};
use alluvium_metadata::State;
use alluvium_protocol::message;
use alluvium_protocol::messages::share_group_describe_response::{
    Assignment as WireAssignment, DescribedGroup, Member, TopicPartitions,
};
use alluvium_protocol::messages::{
    ShareGroupDescribeRequest, ShareGroupDescribeResponse, StrBytes, uuid,
};
use tracing::debug;

use super::{RequestContext, authorized_operations};

pub(crate) async fn handle(
    context: &RequestContext,
    request: ShareGroupDescribeRequest,
) -> ShareGroupDescribeResponse {
    let operations = if request.include_authorized_operations {
        authorized_operations::GROUP
    } else {
        authorized_operations::NOT_ASKED
    };
    let _ = context.agent.current().await;
    let groups = request
        .group_ids
        .into_iter()
        .map(|group| describe(context, group, operations));
    message!(ShareGroupDescribeResponse {
        groups: groups.collect()
    })
}

fn describe(context: &RequestContext, group: StrBytes, operations: i32) -> DescribedGroup {
    match context.agent.shares.describe(&group) {
        Ok((epoch, members)) => {
            let state = if members.is_empty() {
                "Empty"
            } else {
                "Stable"
            };
            let members = context
                .agent
                .metadata
                .read(|known| members.iter().map(|it| member(known, it)).collect());
            message!(DescribedGroup {
                group_id: group,
                group_state: state.into(),
                group_epoch: epoch,
                assignment_epoch: epoch,
                assignor_name: "simple".into(),
                members,
                authorized_operations: operations,
            })
        }
        Err(code) => {
            debug!(%group, %code, client = context.client_host, "ShareGroupDescribe refused for a group");
            message!(DescribedGroup {
                error_code: code.code(),
                error_message: Some(format!("{}: share group {group}", code.name()).into()),
                group_id: group,
                group_state: "Dead".into(),
                authorized_operations: authorized_operations::NOT_ASKED,
            })
        }
    }
}

fn member(state: &State, member: &ShareMember) -> Member {
    let subscribed = member.subscribed.iter().map(|topic| topic.as_str().into());
    message!(Member {
        member_id: member.member.as_str().into(),
        rack_id: member.rack.as_deref().map(Into::into),
        member_epoch: member.epoch,
        client_id: member.client_id.as_str().into(),
        client_host: member.client_host.as_str().into(),
        subscribed_topic_names: subscribed.collect(),
        assignment: assignment(state, &member.assignment),
    })
}

fn assignment(state: &State, assignment: &Assignment) -> WireAssignment {
    let topics = assignment.iter().filter_map(|(topic, partitions)| {
        let name = state.topic(*topic)?.name.as_str();
        Some(message!(TopicPartitions {
            topic_id: uuid(*topic),
            topic_name: name.into(),
            partitions: partitions.clone(),
        }))
    });
    message!(WireAssignment {
        topic_partitions: topics.collect()
    })
}
