//! DescribeShareGroupOffsets: where share groups stand (KIP-932, KIP-1226 for the lag).

use std::collections::BTreeMap;

use alluvium_agent::shares::ShareOffset;
use alluvium_metadata::State;
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use alluvium_protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use alluvium_protocol::messages::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, uuid,
};
use alluvium_types::{ErrorCode, TopicPartition};
use tracing::debug;

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    let is_fresh = context.agent.current().await.is_ok();
    let groups = request.groups.into_iter();
    message!(DescribeShareGroupOffsetsResponse {
        groups: groups
            .map(|group| describe(context, group, is_fresh))
            .collect()
    })
}

fn describe(
    context: &RequestContext,
    asked: DescribeShareGroupOffsetsRequestGroup,
    is_fresh: bool,
) -> DescribeShareGroupOffsetsResponseGroup {
    let mut unknown: Vec<(String, Vec<i32>)> = Vec::new();
    let topics = &asked.topics;
    let offsets = context
        .agent
        .shares
        .offsets(&asked.group_id, |state, known| match topics {
            None => known.keys().copied().collect(),
            Some(topics) => {
                let mut places = Vec::new();
                for topic in topics {
                    match state.topic_by_name(&topic.topic_name) {
                        Some(found) => {
                            let indexes = topic.partitions.iter();
                            places
                                .extend(indexes.map(|index| TopicPartition::new(found.id, *index)));
                        }
                        None => {
                            unknown.push((topic.topic_name.to_string(), topic.partitions.clone()))
                        }
                    }
                }
                places
            }
        });
    let offsets = offsets.and_then(|offsets| match is_fresh {
        true => Ok(offsets),
        false => Err(ErrorCode::CoordinatorNotAvailable),
    });
    match offsets {
        Ok(offsets) => {
            let mut topics = context
                .agent
                .metadata
                .read(|state| by_topic(state, offsets));
            topics.extend(unknown.into_iter().map(|(name, indexes)| {
                let code = ErrorCode::UnknownTopicOrPartition.code();
                let partitions = indexes.into_iter().map(|index| {
                    message!(DescribeShareGroupOffsetsResponsePartition {
                        partition_index: index,
                        start_offset: -1,
                        error_code: code,
                    })
                });
                message!(DescribeShareGroupOffsetsResponseTopic {
                    topic_name: name.into(),
                    partitions: partitions.collect(),
                })
            }));
            message!(DescribeShareGroupOffsetsResponseGroup {
                group_id: asked.group_id,
                topics
            })
        }
        Err(code) => {
            let group = &asked.group_id;
            debug!(%group, %code, client = context.client_host, "DescribeShareGroupOffsets refused for a group");
            message!(DescribeShareGroupOffsetsResponseGroup {
                error_message: Some(code.name().into()),
                error_code: code.code(),
                group_id: asked.group_id,
            })
        }
    }
}

fn by_topic(
    state: &State,
    offsets: Vec<(TopicPartition, ShareOffset)>,
) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (place, offset) in offsets {
        let is_there = state.partition(place).is_some();
        let code = if is_there {
            ErrorCode::None
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
        let partition = message!(DescribeShareGroupOffsetsResponsePartition {
            partition_index: place.partition,
            start_offset: offset.start,
            lag: offset.lag,
            error_code: code.code(),
        });
        topics.entry(place.topic).or_default().push(partition);
    }
    let named = topics.into_iter().filter_map(|(topic, partitions)| {
        Some(message!(DescribeShareGroupOffsetsResponseTopic {
            topic_name: state.topic(topic)?.name.as_str().into(),
            topic_id: uuid(topic),
            partitions,
        }))
    });
    named.collect()
}
