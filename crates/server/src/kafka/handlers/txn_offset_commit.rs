//! TxnOffsetCommit: offsets that a transaction commits (KIP-98, KIP-447; from version 5 on the group joins the
//! transaction by this, KIP-890).

use alluvium_agent::groups::{CommitPartition, CommitTopic, Committer, InTransactionOf};
use alluvium_metadata::ProducerEpoch;
use alluvium_protocol::message;
use alluvium_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use alluvium_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use alluvium_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use alluvium_protocol::produce::TopicRef;
use alluvium_types::ErrorCode;
use tracing::debug;

use super::RequestContext;
use super::fencing::shown;

/// The first version in which the group need not have been added before.
const JOINS: i16 = 5;

pub(crate) async fn handle(
    context: &RequestContext,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let committer = Committer {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        takes_group_not_found: false,
        takes_epochs: true,
    };
    let transaction = InTransactionOf {
        transactional_id: request.transactional_id.to_string(),
        producer: ProducerEpoch {
            id: request.producer_id,
            epoch: request.producer_epoch,
        },
        joins: context.version >= JOINS,
    };
    let topics = request.topics.iter().map(read).collect();
    let groups = &context.agent.groups;
    let codes = groups.commit_with(&committer, topics, transaction).await;
    let refused = |code: &&ErrorCode| **code != ErrorCode::None;
    if let Some(code) = codes.iter().flatten().find(refused) {
        let (group, client) = (&committer.group, &context.client_host);
        debug!(group, %code, client, "TxnOffsetCommit refused, at least in part");
    }
    respond(request.topics, &codes)
}

fn read(topic: &TxnOffsetCommitRequestTopic) -> CommitTopic {
    let partitions = topic.partitions.iter().map(|partition| CommitPartition {
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition
            .committed_metadata
            .as_deref()
            .unwrap_or("")
            .to_owned(),
    });
    CommitTopic {
        topic: TopicRef::Name(topic.name.clone()),
        partitions: partitions.collect(),
    }
}

fn respond(
    topics: Vec<TxnOffsetCommitRequestTopic>,
    codes: &[Vec<ErrorCode>],
) -> TxnOffsetCommitResponse {
    let topics = topics.into_iter().zip(codes).map(|(topic, codes)| {
        let partitions = topic.partitions.iter().zip(codes).map(|(partition, code)| {
            message!(TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                // No version of this API knows PRODUCER_FENCED.
                error_code: shown(*code, false).code(),
            })
        });
        message!(TxnOffsetCommitResponseTopic {
            partitions: partitions.collect(),
            name: topic.name,
        })
    });
    message!(TxnOffsetCommitResponse {
        topics: topics.collect()
    })
}
