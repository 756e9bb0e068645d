//! ConsumerGroupHeartbeat: members of a consumer group come, live and go (KIP-848).

use alluvium_agent::groups::{ConsumerHeartbeat, drawn_member_id};
use alluvium_metadata::Partitions;
use alluvium_protocol::message;
use alluvium_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use alluvium_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, topic_id, uuid,
};
use alluvium_types::ErrorCode;
use tracing::debug;

use super::RequestContext;

/// The last version in which the coordinator draws a newcomer's id.
const DRAWS_IDS: i16 = 0;

pub(crate) async fn handle(
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let member = request.member_id.to_string();
    let is_new = member.is_empty() && request.member_epoch == 0;
    let member_id = if is_new && context.version == DRAWS_IDS {
        drawn_member_id()
    } else {
        member
    };
    let owned = request.topic_partitions.map(|topics| {
        let topics = topics
            .into_iter()
            .filter(|topic| !topic.partitions.is_empty());
        let topics = topics.map(|it| (topic_id(it.topic_id), it.partitions.into_iter().collect()));
        topics.collect::<Partitions>()
    });
    let names = request.subscribed_topic_names;
    let text = |text: Option<_>| text.as_ref().map(ToString::to_string);
    let beat = ConsumerHeartbeat {
        group: request.group_id.to_string(),
        member_id,
        epoch: request.member_epoch,
        instance_id: text(request.instance_id),
        rack: text(request.rack_id),
        rebalance_timeout: Some(request.rebalance_timeout_ms).filter(|timeout| *timeout >= 0),
        topics: names.map(|names| names.iter().map(ToString::to_string).collect()),
        pattern: text(request.subscribed_topic_regex),
        assignor: text(request.server_assignor),
        owned,
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
    };
    let (group, member) = (beat.group.clone(), beat.member_id.clone());
    if context.agent.shares.has_members(&group) {
        return refused(
            ErrorCode::GroupIdNotFound,
            "This is a share group.".to_owned(),
        );
    }
    match context.agent.groups.consumer_heartbeat(beat).await {
        Ok(told) => message!(ConsumerGroupHeartbeatResponse {
            member_id: Some(told.member_id.into()),
            member_epoch: told.epoch,
            heartbeat_interval_ms: told.interval,
            assignment: told.assignment.as_ref().map(assignment),
        }),
        Err(error) => {
            let (code, client) = (error.code, &context.client_host);
            debug!(group, member, %code, client, "ConsumerGroupHeartbeat refused");
            refused(code, error.message)
        }
    }
}

fn refused(code: ErrorCode, why: String) -> ConsumerGroupHeartbeatResponse {
    message!(ConsumerGroupHeartbeatResponse {
        error_code: code.code(),
        error_message: Some(why.into()),
    })
}

fn assignment(assignment: &Partitions) -> Assignment {
    let topics = assignment.iter().map(|(topic, partitions)| {
        message!(TopicPartitions {
            topic_id: uuid(*topic),
            partitions: partitions.iter().copied().collect(),
        })
    });
    message!(Assignment {
        topic_partitions: topics.collect()
    })
}

#[cfg(test)]
mod tests {
    use alluvium_protocol::response::encode;
    use alluvium_types::TopicId;

    use super::*;

    #[test]
    fn answers_fit_every_version() {
        for version in 0..=1 {
            let told = message!(ConsumerGroupHeartbeatResponse {
                member_id: Some("m".into()),
                assignment: Some(assignment(&[(TopicId([1; 16]), [3, 4].into())].into())),
            });
            encode(1, version, &told).unwrap();
            encode(
                1,
                version,
                &refused(ErrorCode::FencedMemberEpoch, "why".to_owned()),
            )
            .unwrap();
        }
    }
}
