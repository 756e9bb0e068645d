//! OffsetFetch: how far groups have read; where an open transaction holds an offset back, those who ask for
//! stable ones are told to ask again (KIP-447).

use alluvium_agent::groups::{FetchTopic, FetchedTopic};
use alluvium_protocol::message;
use alluvium_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use alluvium_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use alluvium_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, topic_id, uuid};
use alluvium_protocol::produce::TopicRef;
use alluvium_types::{ErrorCode, TopicPartition};
use tracing::warn;

use super::RequestContext;

/// The first version that asks for several groups at once.
const BATCHED: i16 = 8;

/// The first version that says which member asks (KIP-848).
const MEMBERS: i16 = 9;

/// The first version that names topics by id.
const TOPIC_IDS: i16 = 10;

type Fetched = Result<Vec<FetchedTopic>, ErrorCode>;

pub(crate) async fn handle(
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version < BATCHED {
        let fetched = fetch(
            context,
            &request.group_id,
            None,
            read_single(request.topics.as_deref()),
            request.require_stable,
        )
        .await;
        return respond_single(context.version, request.topics.unwrap_or_default(), fetched);
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let topics = read(context.version, group.topics.as_deref());
        let member = group.member_id.as_deref().unwrap_or_default();
        let reader = (context.version >= MEMBERS).then_some((member, group.member_epoch));
        let stable = request.require_stable;
        let fetched = fetch(context, &group.group_id, reader, topics, stable).await;
        groups.push(respond(group, fetched));
    }
    message!(OffsetFetchResponse { groups })
}

async fn fetch(
    context: &RequestContext,
    group: &str,
    reader: Option<(&str, i32)>,
    topics: Option<Vec<FetchTopic>>,
    require_stable: bool,
) -> Fetched {
    let mut fetched = context
        .agent
        .groups
        .fetch_offsets(
            group,
            reader.filter(|reader| *reader != ("", -1)),
            topics.as_deref(),
        )
        .await;
    if let Ok(topics) = &mut fetched
        && require_stable
    {
        hide_unstable(context, group, topics);
    }
    if let Err(code) = fetched {
        warn!(group, %code, client = context.client_host, "OffsetFetch refused");
    }
    fetched
}

/// An older view would show less: the offsets were read from one that was up to date.
fn hide_unstable(context: &RequestContext, group: &str, topics: &mut [FetchedTopic]) {
    context.agent.metadata.read(|state| {
        let Some(group) = state.group(group).filter(|group| group.has_pending()) else {
            return;
        };
        for topic in topics {
            for found in &mut topic.partitions {
                if group.is_unstable(TopicPartition::new(topic.id, found.partition)) {
                    found.offset = -1;
                    found.leader_epoch = -1;
                    found.metadata.clear();
                    found.code = ErrorCode::UnstableOffsetCommit;
                }
            }
        }
    });
}

fn read_single(topics: Option<&[OffsetFetchRequestTopic]>) -> Option<Vec<FetchTopic>> {
    let read = |topic: &OffsetFetchRequestTopic| FetchTopic {
        topic: TopicRef::Name(topic.name.clone()),
        partitions: topic.partition_indexes.clone(),
    };
    topics.map(|topics| topics.iter().map(read).collect())
}

fn read(version: i16, topics: Option<&[OffsetFetchRequestTopics]>) -> Option<Vec<FetchTopic>> {
    let read = |topic: &OffsetFetchRequestTopics| FetchTopic {
        topic: if version >= TOPIC_IDS {
            TopicRef::Id(topic_id(topic.topic_id))
        } else {
            TopicRef::Name(topic.name.clone())
        },
        partitions: topic.partition_indexes.clone(),
    };
    topics.map(|topics| topics.iter().map(read).collect())
}

fn respond(group: OffsetFetchRequestGroup, fetched: Fetched) -> OffsetFetchResponseGroup {
    let topics = match fetched {
        Ok(topics) => topics,
        Err(code) => {
            return message!(OffsetFetchResponseGroup {
                group_id: group.group_id,
                error_code: code.code(),
            });
        }
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|found| {
            message!(OffsetFetchResponsePartitions {
                partition_index: found.partition,
                committed_offset: found.offset,
                committed_leader_epoch: found.leader_epoch,
                metadata: Some(found.metadata.into()),
                error_code: found.code.code(),
            })
        });
        message!(OffsetFetchResponseTopics {
            name: topic.name.into(),
            topic_id: uuid(topic.id),
            partitions: partitions.collect(),
        })
    });
    message!(OffsetFetchResponseGroup {
        group_id: group.group_id,
        topics: topics.collect()
    })
}

/// Version 1 has no error code of its own: it is told with every partition.
fn respond_single(
    version: i16,
    asked: Vec<OffsetFetchRequestTopic>,
    fetched: Fetched,
) -> OffsetFetchResponse {
    let topics = match fetched {
        Ok(topics) => topics.into_iter().map(single_topic).collect(),
        Err(code) if version >= 2 => {
            return message!(OffsetFetchResponse {
                error_code: code.code()
            });
        }
        Err(code) => asked
            .into_iter()
            .map(|topic| failed_topic(topic, code))
            .collect(),
    };
    message!(OffsetFetchResponse { topics })
}

fn single_topic(topic: FetchedTopic) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|found| {
        message!(OffsetFetchResponsePartition {
            partition_index: found.partition,
            committed_offset: found.offset,
            committed_leader_epoch: found.leader_epoch,
            metadata: Some(found.metadata.into()),
            error_code: found.code.code(),
        })
    });
    message!(OffsetFetchResponseTopic {
        name: topic.name.into(),
        partitions: partitions.collect(),
    })
}

fn failed_topic(topic: OffsetFetchRequestTopic, code: ErrorCode) -> OffsetFetchResponseTopic {
    let partitions = topic.partition_indexes.into_iter().map(|partition| {
        message!(OffsetFetchResponsePartition {
            partition_index: partition,
            committed_offset: -1,
            error_code: code.code(),
        })
    });
    message!(OffsetFetchResponseTopic {
        name: topic.name,
        partitions: partitions.collect()
    })
}

#[cfg(test)]
mod tests {
    use alluvium_agent::groups::FetchedOffset;
    use alluvium_protocol::response::encode;
    use alluvium_types::TopicId;

    use super::*;

    fn fetched() -> FetchedTopic {
        let offset = FetchedOffset {
            partition: 2,
            offset: 40,
            leader_epoch: -1,
            metadata: "note".into(),
            code: ErrorCode::None,
        };
        FetchedTopic {
            name: "t".into(),
            id: TopicId([1; 16]),
            partitions: vec![offset],
        }
    }

    #[test]
    fn every_answer_can_be_written_in_every_version() {
        let asked = message!(OffsetFetchRequestTopic {
            name: "t".into(),
            partition_indexes: vec![2],
        });
        for version in 1..BATCHED {
            let found = respond_single(version, vec![asked.clone()], Ok(vec![fetched()]));
            assert_eq!(found.topics[0].partitions[0].committed_offset, 40);
            encode(1, version, &found).unwrap();
            let code = ErrorCode::CoordinatorNotAvailable;
            let failed = respond_single(version, vec![asked.clone()], Err(code));
            assert_eq!(failed.topics.len(), usize::from(version == 1));
            encode(1, version, &failed).unwrap();
        }
        for version in BATCHED..=TOPIC_IDS {
            for fetched in [Ok(vec![fetched()]), Err(ErrorCode::CoordinatorNotAvailable)] {
                let group = message!(OffsetFetchRequestGroup {
                    group_id: "g".into()
                });
                let response = message!(OffsetFetchResponse {
                    groups: vec![respond(group, fetched)]
                });
                encode(1, version, &response).unwrap();
            }
        }
    }
}
