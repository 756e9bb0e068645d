//! WriteTxnMarkers: an administrator ends a transaction that its producer left open (KIP-664). It ends as
//! a whole, in all its partitions, for there is no other end here.

use std::collections::BTreeMap;

use alluvium_metadata::{EndedBy, ProducerEpoch, State};
use alluvium_protocol::message;
use alluvium_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use alluvium_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use alluvium_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use alluvium_types::{ErrorCode, TopicPartition};
use tracing::{info, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let is_current = context.agent.current().await.is_ok();
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(end(context, marker, is_current).await);
    }
    message!(WriteTxnMarkersResponse { markers })
}

/// What a marker means in one partition.
enum Meaning {
    /// The transaction of this id is open there.
    Ends(String),
    /// There is nothing to end: it is ended, or never was.
    Nothing,
    Wrong(ErrorCode),
}

fn meaning(state: &State, producer: ProducerEpoch, place: Option<TopicPartition>) -> Meaning {
    let Some(partition) = place.and_then(|place| state.partition(place)) else {
        return Meaning::Wrong(ErrorCode::UnknownTopicOrPartition);
    };
    let mut known = partition.producer_states();
    if let Some((_, known)) = known.find(|(id, _)| *id == producer.id)
        && known.epoch() > producer.epoch
    {
        return Meaning::Wrong(ErrorCode::InvalidProducerEpoch);
    }
    if partition.open_transaction(producer.id).is_none() {
        return Meaning::Nothing;
    }
    let mut open = state.open_transactions();
    match open.find(|(_, known)| known.producer.id == producer.id) {
        Some((id, known)) if known.producer == producer => Meaning::Ends(id.to_owned()),
        Some(_) => Meaning::Wrong(ErrorCode::InvalidProducerEpoch),
        None => Meaning::Nothing,
    }
}

async fn end(
    context: &RequestContext,
    marker: WritableTxnMarker,
    is_current: bool,
) -> WritableTxnMarkerResult {
    let producer = ProducerEpoch {
        id: marker.producer_id,
        epoch: marker.producer_epoch,
    };
    let mut ended: BTreeMap<String, ErrorCode> = BTreeMap::new();
    let mut topics = Vec::with_capacity(marker.topics.len());
    for topic in marker.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let meaning = context.agent.metadata.read(|state| {
                let id = state.topic_by_name(&topic.name).map(|topic| topic.id);
                let place = id.map(|id| TopicPartition::new(id, index));
                meaning(state, producer, place)
            });
            let code = match meaning {
                _ if !is_current => ErrorCode::CoordinatorNotAvailable,
                Meaning::Wrong(code) => code,
                Meaning::Nothing => ErrorCode::None,
                Meaning::Ends(id) => match ended.get(&id) {
                    Some(code) => *code,
                    None => {
                        let code =
                            end_whole(context, &id, producer, marker.transaction_result).await;
                        ended.insert(id, code);
                        code
                    }
                },
            };
            partitions.push(message!(WritableTxnMarkerPartitionResult {
                partition_index: index,
                error_code: code.code(),
            }));
        }
        topics.push(message!(WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions,
        }));
    }
    message!(WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics,
    })
}

async fn end_whole(
    context: &RequestContext,
    id: &str,
    producer: ProducerEpoch,
    commit: bool,
) -> ErrorCode {
    let client = &context.client_host;
    let done = context
        .agent
        .transactions
        .end(id, producer, commit, EndedBy::Server)
        .await;
    match done {
        Ok(_) => {
            info!(
                id,
                producer = producer.id,
                commit,
                client,
                "a transaction is ended by hand"
            );
            ErrorCode::None
        }
        // It was ended by its producer a moment ago.
        Err(ErrorCode::InvalidTxnState) => ErrorCode::None,
        Err(ErrorCode::ProducerFenced) => ErrorCode::InvalidProducerEpoch,
        Err(code) => {
            warn!(id, producer = producer.id, %code, client, "WriteTxnMarkers refused");
            code
        }
    }
}
