//! OffsetCommit: a group, or a client that assigns partitions to itself, notes how far it has read.

use alluvium_agent::groups::{CommitPartition, CommitTopic, Committer};
use alluvium_protocol::message;
use alluvium_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use alluvium_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use alluvium_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, topic_id};
use alluvium_protocol::produce::TopicRef;
use alluvium_types::ErrorCode;
use tracing::warn;

use super::RequestContext;

/// The first version that names topics by id.
const TOPIC_IDS: i16 = 10;

pub(crate) async fn handle(
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let committer = Committer {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        takes_group_not_found: context.version >= 9,
        takes_epochs: context.version >= 9,
    };
    let topics = request
        .topics
        .iter()
        .map(|topic| read(context.version, topic))
        .collect();
    let codes = context.agent.groups.commit(&committer, topics).await;
    if let Some(code) = codes
        .iter()
        .flatten()
        .find(|code| **code != ErrorCode::None)
    {
        let Committer {
            group,
            member_id: member,
            generation,
            ..
        } = &committer;
        let client = &context.client_host;
        warn!(group, member, generation, %code, client, "OffsetCommit refused, at least in part");
    }
    respond(request.topics, &codes)
}

fn read(version: i16, topic: &OffsetCommitRequestTopic) -> CommitTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| CommitPartition {
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition
                .committed_metadata
                .as_deref()
                .unwrap_or("")
                .to_owned(),
        })
        .collect();
    let topic = if version >= TOPIC_IDS {
        TopicRef::Id(topic_id(topic.topic_id))
    } else {
        TopicRef::Name(topic.name.clone())
    };
    CommitTopic { topic, partitions }
}

fn respond(
    topics: Vec<OffsetCommitRequestTopic>,
    codes: &[Vec<ErrorCode>],
) -> OffsetCommitResponse {
    let topics = topics
        .into_iter()
        .zip(codes)
        .map(|(topic, codes)| {
            let partitions = topic.partitions.iter().zip(codes).map(|(partition, code)| {
                message!(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                })
            });
            message!(OffsetCommitResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
            })
        })
        .collect();
    message!(OffsetCommitResponse { topics })
}

#[cfg(test)]
mod tests {
    use alluvium_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
    use alluvium_protocol::messages::uuid;
    use alluvium_protocol::response::encode;
    use alluvium_types::TopicId;

    use super::*;

    #[test]
    fn topics_are_named_by_id_since_version_10_and_answers_repeat_the_name() {
        let id = TopicId([7; 16]);
        let partition = message!(OffsetCommitRequestPartition {
            partition_index: 4,
            committed_offset: 9,
            committed_metadata: None,
        });
        let topic = message!(OffsetCommitRequestTopic {
            name: "t".into(),
            topic_id: uuid(id),
            partitions: vec![partition],
        });
        assert_eq!(read(9, &topic).topic, TopicRef::Name("t".into()));
        let by_id = read(10, &topic);
        assert_eq!(by_id.topic, TopicRef::Id(id));
        assert_eq!(by_id.partitions[0].metadata, "");
        let response = respond(vec![topic], &[vec![ErrorCode::UnknownTopicId]]);
        assert_eq!(response.topics[0].partitions[0].partition_index, 4);
        assert_eq!(response.topics[0].partitions[0].error_code, 100);
        for version in 2..=10 {
            encode(1, version, &response).unwrap();
        }
    }
}
