//! ShareFetch: a member of a share group acknowledges records and acquires others (KIP-932).

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_agent::shares::{ShareFetch, ShareFetched, SharedRecords};
use alluvium_metadata::{AcknowledgeKind, Acknowledgements};
use alluvium_protocol::message;
use alluvium_protocol::messages::share_fetch_request::AcknowledgementBatch;
use alluvium_protocol::messages::share_fetch_response::{
    AcquiredRecords, LeaderIdAndEpoch, PartitionData, ShareFetchableTopicResponse,
};
use alluvium_protocol::messages::{
    ShareFetchRequest, ShareFetchResponse, StrBytes, topic_id, uuid,
};
use alluvium_types::{ErrorCode, TopicId, TopicPartition};
use tracing::debug;

use super::RequestContext;

/// Longest wait that a client gets; an empty answer only makes it ask again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Most bytes of an answer, about.
const MOST_BYTES: usize = 50 << 20;

/// Most records that a member acquires at once.
const MOST_RECORDS: u32 = 10_000;

pub(crate) async fn handle(
    context: &RequestContext,
    request: ShareFetchRequest,
) -> ShareFetchResponse {
    let client = &context.client_host;
    let group = request.group_id.clone().unwrap_or_default();
    let member = request.member_id.clone().unwrap_or_default();
    let asked = match read(&request) {
        Ok(asked) => asked,
        Err(code) => {
            debug!(%group, %member, client, "ShareFetch refused: an acknowledgement of no known type");
            return refused(code);
        }
    };
    if asked
        .added
        .iter()
        .any(|(place, _)| !is_known(context, *place))
    {
        let _ = context.agent.catch_up().await;
    }
    match context
        .agent
        .shares
        .fetch(&context.agent.fetch, &asked)
        .await
    {
        Ok(fetched) => answer(context, &asked, fetched),
        Err(code) => {
            debug!(%group, %member, %code, client, "ShareFetch refused");
            refused(code)
        }
    }
}

fn is_known(context: &RequestContext, place: TopicPartition) -> bool {
    context
        .agent
        .metadata
        .read(|state| state.partition(place).is_some())
}

fn refused(code: ErrorCode) -> ShareFetchResponse {
    message!(ShareFetchResponse {
        error_code: code.code()
    })
}

fn read(request: &ShareFetchRequest) -> Result<ShareFetch, ErrorCode> {
    let positive = |number: i32| usize::try_from(number).unwrap_or(0);
    let most_bytes = positive(request.max_bytes).min(MOST_BYTES);
    let mut added = Vec::new();
    let mut acknowledged = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = TopicPartition::new(topic_id(topic.topic_id), partition.partition_index);
            added.push((place, most_bytes));
            if !partition.acknowledgement_batches.is_empty() {
                let batches = partition.acknowledgement_batches.iter().map(batch);
                acknowledged.push((place, batches.collect::<Result<_, _>>()?));
            }
        }
    }
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let id = topic_id(topic.topic_id);
        topic
            .partitions
            .iter()
            .map(move |index| TopicPartition::new(id, *index))
    });
    let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let max_records = u32::try_from(request.max_records).unwrap_or(0);
    Ok(ShareFetch {
        group: text(request.group_id.as_ref()),
        member: text(request.member_id.as_ref()),
        session_epoch: request.share_session_epoch,
        max_wait: Duration::from_millis(wait).min(LONGEST_WAIT),
        max_bytes: most_bytes,
        // Who only renews its locks wants nothing else (KIP-1222).
        max_records: if request.is_renew_ack {
            0
        } else {
            max_records.clamp(1, MOST_RECORDS)
        },
        added,
        forgotten: forgotten.collect(),
        acknowledged,
    })
}

pub(super) fn text(text: Option<&StrBytes>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn batch(batch: &AcknowledgementBatch) -> Result<Acknowledgements, ErrorCode> {
    acknowledgements(
        batch.first_offset,
        batch.last_offset,
        &batch.acknowledge_types,
    )
}

/// Acknowledgements as the wire has them.
pub(super) fn acknowledgements(
    first: i64,
    last: i64,
    types: &[i8],
) -> Result<Acknowledgements, ErrorCode> {
    let kinds = types.iter().map(|kind| match kind {
        0 => Ok(AcknowledgeKind::Gap),
        1 => Ok(AcknowledgeKind::Accept),
        2 => Ok(AcknowledgeKind::Release),
        3 => Ok(AcknowledgeKind::Reject),
        4 => Ok(AcknowledgeKind::Renew),
        _ => Err(ErrorCode::InvalidRequest),
    });
    Ok(Acknowledgements {
        first,
        last,
        kinds: kinds.collect::<Result<_, _>>()?,
    })
}

fn answer(
    context: &RequestContext,
    asked: &ShareFetch,
    fetched: ShareFetched,
) -> ShareFetchResponse {
    let ShareFetched {
        lock,
        mut partitions,
    } = fetched;
    for (place, _) in &asked.added {
        if !is_known(context, *place) {
            let unknown = partitions.entry(*place).or_default();
            unknown.error = Some(ErrorCode::UnknownTopicOrPartition);
        }
    }
    let mut topics: BTreeMap<TopicId, Vec<PartitionData>> = BTreeMap::new();
    let leader = context.agent.id().0;
    for (place, records) in partitions {
        let of_topic = topics.entry(place.topic).or_default();
        of_topic.push(partition(place.partition, records, leader));
    }
    let responses = topics.into_iter().map(|(topic, partitions)| {
        message!(ShareFetchableTopicResponse {
            topic_id: uuid(topic),
            partitions
        })
    });
    message!(ShareFetchResponse {
        acquisition_lock_timeout_ms: lock,
        responses: responses.collect(),
    })
}

fn partition(index: i32, records: SharedRecords, leader: i32) -> PartitionData {
    let code = |code: Option<ErrorCode>| code.unwrap_or(ErrorCode::None).code();
    let acquired = records.acquired.iter().map(|acquired| {
        message!(AcquiredRecords {
            first_offset: acquired.first,
            last_offset: acquired.last,
            delivery_count: i16::try_from(acquired.deliveries).unwrap_or(i16::MAX),
        })
    });
    message!(PartitionData {
        partition_index: index,
        error_code: code(records.error),
        acknowledge_error_code: code(records.acknowledged),
        current_leader: message!(LeaderIdAndEpoch {
            leader_id: leader,
            leader_epoch: 0
        }),
        acquired_records: acquired.collect(),
        records: records.records,
    })
}

#[cfg(test)]
mod tests {
    use alluvium_metadata::Acquired;
    use alluvium_protocol::response::encode;
    use bytes::Bytes;

    use super::*;

    #[test]
    fn acknowledgements_are_read_by_their_numbers_and_the_answer_fits_every_version() {
        let read = acknowledgements(3, 4, &[1, 4]).unwrap();
        assert_eq!(
            read.kinds,
            [AcknowledgeKind::Accept, AcknowledgeKind::Renew]
        );
        assert_eq!(acknowledgements(3, 4, &[5]), Err(ErrorCode::InvalidRequest));
        let records = SharedRecords {
            error: None,
            acknowledged: Some(ErrorCode::InvalidRecordState),
            records: Bytes::from_static(b"batch"),
            acquired: vec![Acquired {
                first: 3,
                last: 9,
                deliveries: 2,
            }],
        };
        let data = partition(1, records, 5);
        assert_eq!((data.error_code, data.acknowledge_error_code), (0, 121));
        for version in 1..=2 {
            let topic = message!(ShareFetchableTopicResponse {
                partitions: vec![data.clone()]
            });
            let answer = message!(ShareFetchResponse {
                responses: vec![topic]
            });
            encode(1, version, &answer).unwrap();
        }
    }
}
