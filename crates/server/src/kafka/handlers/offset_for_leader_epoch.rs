//! OffsetForLeaderEpoch: where an epoch ends, by which clients notice truncation (KIP-320).

use alluvium_metadata::State;
use alluvium_protocol::message;
use alluvium_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use alluvium_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use alluvium_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use alluvium_types::{ErrorCode, Offset, TopicPartition};

use super::RequestContext;
use super::leader_epoch::{self, LEADER_EPOCH};

/// The only epoch ends at the high watermark; others are not known.
pub(crate) async fn handle(
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = context.agent.metadata.read(|state| {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter();
            let partitions = partitions
                .map(|asked| answer(state, &topic.topic, asked))
                .collect();
            message!(OffsetForLeaderTopicResult {
                topic: topic.topic,
                partitions
            })
        });
        topics.collect()
    });
    message!(OffsetForLeaderEpochResponse { topics })
}

fn answer(state: &State, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let (error, leader_epoch, end_offset) = match end_of(state, topic, asked) {
        Ok(Some(end)) => (ErrorCode::None, LEADER_EPOCH, end),
        Ok(None) => (ErrorCode::None, -1, -1),
        Err(error) => (error, -1, -1),
    };
    message!(EpochEndOffset {
        error_code: error.code(),
        partition: asked.partition,
        leader_epoch,
        end_offset,
    })
}

fn end_of(
    state: &State,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<Offset>, ErrorCode> {
    let partition = state
        .topic_by_name(topic)
        .and_then(|topic| state.partition(TopicPartition::new(topic.id, asked.partition)))
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    leader_epoch::check(asked.current_leader_epoch)?;
    Ok((asked.leader_epoch == LEADER_EPOCH).then(|| partition.high_watermark()))
}
