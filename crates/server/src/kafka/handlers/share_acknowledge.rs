//! ShareAcknowledge: a member of a share group says what became of records (KIP-932).

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_agent::shares::ShareFetch;
use alluvium_protocol::message;
use alluvium_protocol::messages::share_acknowledge_response::{
    PartitionData, ShareAcknowledgeTopicResponse,
};
use alluvium_protocol::messages::{
    ShareAcknowledgeRequest, ShareAcknowledgeResponse, topic_id, uuid,
};
use alluvium_types::{ErrorCode, TopicId, TopicPartition};
use tracing::debug;

use super::RequestContext;
use super::share_fetch::{acknowledgements, text};

pub(crate) async fn handle(
    context: &RequestContext,
    request: ShareAcknowledgeRequest,
) -> ShareAcknowledgeResponse {
    let noted = match read(&request) {
        Ok(asked) => context.agent.shares.acknowledge(&asked).await,
        Err(code) => Err(code),
    };
    match noted {
        Ok(codes) => answer(codes),
        Err(code) => {
            let (group, member) = (
                text(request.group_id.as_ref()),
                text(request.member_id.as_ref()),
            );
            debug!(group, member, %code, client = context.client_host, "ShareAcknowledge refused");
            message!(ShareAcknowledgeResponse {
                error_code: code.code()
            })
        }
    }
}

fn read(request: &ShareAcknowledgeRequest) -> Result<ShareFetch, ErrorCode> {
    let mut acknowledged = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = TopicPartition::new(topic_id(topic.topic_id), partition.partition_index);
            let batches = partition.acknowledgement_batches.iter().map(|batch| {
                acknowledgements(
                    batch.first_offset,
                    batch.last_offset,
                    &batch.acknowledge_types,
                )
            });
            acknowledged.push((place, batches.collect::<Result<_, _>>()?));
        }
    }
    Ok(ShareFetch {
        group: text(request.group_id.as_ref()),
        member: text(request.member_id.as_ref()),
        session_epoch: request.share_session_epoch,
        max_wait: Duration::ZERO,
        max_bytes: 0,
        max_records: 0,
        added: Vec::new(),
        forgotten: Vec::new(),
        acknowledged,
    })
}

fn answer(codes: Vec<(TopicPartition, ErrorCode)>) -> ShareAcknowledgeResponse {
    let mut topics: BTreeMap<TopicId, Vec<PartitionData>> = BTreeMap::new();
    for (place, code) in codes {
        let data = message!(PartitionData {
            partition_index: place.partition,
            error_code: code.code(),
        });
        topics.entry(place.topic).or_default().push(data);
    }
    let responses = topics.into_iter().map(|(topic, partitions)| {
        message!(ShareAcknowledgeTopicResponse {
            topic_id: uuid(topic),
            partitions
        })
    });
    message!(ShareAcknowledgeResponse {
        responses: responses.collect()
    })
}
