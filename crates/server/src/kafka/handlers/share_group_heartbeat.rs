//! ShareGroupHeartbeat: members of a share group come, live and go (KIP-932).

use alluvium_agent::shares::{Assignment, ShareHeartbeat};
use alluvium_protocol::message;
use alluvium_protocol::messages::share_group_heartbeat_response::{
    Assignment as WireAssignment, TopicPartitions,
};
use alluvium_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, uuid};
use tracing::debug;

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    let topics = request.subscribed_topic_names.map(|topics| {
        let topics = topics.iter().map(ToString::to_string);
        topics.collect()
    });
    let beat = ShareHeartbeat {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        epoch: request.member_epoch,
        subscribed: topics,
        rack: request.rack_id.as_ref().map(ToString::to_string),
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
    };
    let shares = &context.agent.shares;
    match shares.heartbeat(&context.agent.fetch, beat).await {
        Ok(told) => message!(ShareGroupHeartbeatResponse {
            member_id: Some(request.member_id),
            member_epoch: told.epoch,
            heartbeat_interval_ms: shares.heartbeat_interval(&request.group_id),
            assignment: told.assignment.as_ref().map(assignment),
        }),
        Err(code) => {
            let (group, member) = (&request.group_id, &request.member_id);
            debug!(%group, %member, %code, client = context.client_host, "ShareGroupHeartbeat refused");
            message!(ShareGroupHeartbeatResponse {
                error_code: code.code(),
                error_message: Some(code.name().into()),
                heartbeat_interval_ms: shares.heartbeat_interval(&request.group_id),
            })
        }
    }
}

fn assignment(assignment: &Assignment) -> WireAssignment {
    let topics = assignment.iter().map(|(topic, partitions)| {
        message!(TopicPartitions {
            topic_id: uuid(*topic),
            partitions: partitions.clone()
        })
    });
    message!(WireAssignment {
        topic_partitions: topics.collect()
    })
}
