//! From an API key to its handler.

use std::time::Duration;

use alluvium_protocol::api;
use alluvium_protocol::messages::KafkaResponse;
use alluvium_protocol::request::{Request, RequestError};
use alluvium_protocol::response::{self, EncodeError};
use futures::future::BoxFuture;

use super::connection::Session;
use super::handlers::{self, RequestContext};
use super::reader::FrameError;
use super::writer::Answer;

/// Why a request costs its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Request(#[from] RequestError),
    #[error("unknown API key {0}")]
    UnknownKey(i16),
    #[error("{name} (API key {key}) is not supported")]
    UnservedKey { key: i16, name: &'static str },
    #[error("{name} version {version} is not supported, only {min} to {max}")]
    UnservedVersion {
        name: &'static str,
        version: i16,
        min: i16,
        max: i16,
    },
    /// With acks=0 there is no answer that could carry the error; Kafka closes, too.
    #[error("records of a Produce with acks=0 were refused: {0}")]
    Unanswered(String),
    #[error("{0}")]
    Encode(#[from] EncodeError),
}

type Handler =
    for<'a> fn(&'a RequestContext, &'a Request) -> BoxFuture<'a, Result<Answer, Rejection>>;

/// A handler of the cold path: the whole body decoded, the whole answer encoded.
macro_rules! cold {
    ($module:ident) => {
        |context, request| {
            Box::pin(async move {
                let message = request.decode()?;
                let answer = handlers::$module::handle(context, message).await;
                encode(request, &answer)
            })
        }
    };
}

/// The cold path by API key.
const COLD: &[(i16, &str, Handler)] = &[
    (2, "ListOffsets", cold!(list_offsets)),
    (3, "Metadata", cold!(metadata)),
    (8, "OffsetCommit", cold!(offset_commit)),
    (9, "OffsetFetch", cold!(offset_fetch)),
    (10, "FindCoordinator", cold!(find_coordinator)),
    (11, "JoinGroup", cold!(join_group)),
    (12, "Heartbeat", cold!(heartbeat)),
    (13, "LeaveGroup", cold!(leave_group)),
    (14, "SyncGroup", cold!(sync_group)),
    (15, "DescribeGroups", cold!(describe_groups)),
    (16, "ListGroups", cold!(list_groups)),
    (19, "CreateTopics", cold!(create_topics)),
    (20, "DeleteTopics", cold!(delete_topics)),
    (21, "DeleteRecords", cold!(delete_records)),
    (22, "InitProducerId", cold!(init_producer_id)),
    (23, "OffsetForLeaderEpoch", cold!(offset_for_leader_epoch)),
    (24, "AddPartitionsToTxn", cold!(add_partitions_to_txn)),
    (25, "AddOffsetsToTxn", cold!(add_offsets_to_txn)),
    (26, "EndTxn", cold!(end_txn)),
    (27, "WriteTxnMarkers", cold!(write_txn_markers)),
    (28, "TxnOffsetCommit", cold!(txn_offset_commit)),
    (32, "DescribeConfigs", cold!(describe_configs)),
    (33, "AlterConfigs", cold!(alter_configs)),
    (34, "AlterReplicaLogDirs", cold!(alter_replica_log_dirs)),
    (35, "DescribeLogDirs", cold!(describe_log_dirs)),
    (37, "CreatePartitions", cold!(create_partitions)),
    (42, "DeleteGroups", cold!(delete_groups)),
    (43, "ElectLeaders", cold!(elect_leaders)),
    (
        44,
        "IncrementalAlterConfigs",
        cold!(incremental_alter_configs),
    ),
    (
        45,
        "AlterPartitionReassignments",
        cold!(alter_partition_reassignments),
    ),
    (
        46,
        "ListPartitionReassignments",
        cold!(list_partition_reassignments),
    ),
    (47, "OffsetDelete", cold!(offset_delete)),
    (48, "DescribeClientQuotas", cold!(describe_client_quotas)),
    (49, "AlterClientQuotas", cold!(alter_client_quotas)),
    (55, "DescribeQuorum", cold!(describe_quorum)),
    (57, "UpdateFeatures", cold!(update_features)),
    (60, "DescribeCluster", cold!(describe_cluster)),
    (61, "DescribeProducers", cold!(describe_producers)),
    (64, "UnregisterBroker", cold!(unregister_broker)),
    (65, "DescribeTransactions", cold!(describe_transactions)),
    (66, "ListTransactions", cold!(list_transactions)),
    (74, "ListConfigResources", cold!(list_config_resources)),
    (
        68,
        "ConsumerGroupHeartbeat",
        cold!(consumer_group_heartbeat),
    ),
    (69, "ConsumerGroupDescribe", cold!(consumer_group_describe)),
    (
        75,
        "DescribeTopicPartitions",
        cold!(describe_topic_partitions),
    ),
    (76, "ShareGroupHeartbeat", cold!(share_group_heartbeat)),
    (77, "ShareGroupDescribe", cold!(share_group_describe)),
    (78, "ShareFetch", cold!(share_fetch)),
    (79, "ShareAcknowledge", cold!(share_acknowledge)),
    (80, "AddRaftVoter", cold!(add_raft_voter)),
    (81, "RemoveRaftVoter", cold!(remove_raft_voter)),
    (
        90,
        "DescribeShareGroupOffsets",
        cold!(describe_share_group_offsets),
    ),
    (
        91,
        "AlterShareGroupOffsets",
        cold!(alter_share_group_offsets),
    ),
    (
        92,
        "DeleteShareGroupOffsets",
        cold!(delete_share_group_offsets),
    ),
];

/// Requests that may change topics or producers: a Produce behind one of them waits for it. Metadata
/// is one, for it may create topics.
const BARRIERS: &[i16] = &[3, 19, 20, 21, 22, 24, 26, 33, 37, 44];

/// Requests of administrators about what they may have made or altered through another agent a moment
/// ago.
const OF_ADMINISTRATORS: &[i16] = &[20, 21, 32, 33, 37, 44, 48, 74];

/// How long they wait for the view to be brought up to date; then it is taken as it is.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Whether a Produce that comes after it must wait for this request.
pub(crate) fn is_barrier(key: i16) -> bool {
    BARRIERS.contains(&key)
}

/// Refuses what no handler is there for. ApiVersions passes in any version (KIP-511).
pub(crate) fn check_served(request: &Request) -> Result<(), Rejection> {
    let Request {
        api_key: key,
        api_version: version,
        ..
    } = *request;
    match (api::served(key), api::name(key)) {
        (Some(served), _) if served.serves(version) || key == api::API_VERSIONS => Ok(()),
        (Some(served), _) => Err(Rejection::UnservedVersion {
            name: served.name,
            version,
            min: served.min,
            max: served.max,
        }),
        (None, Some(name)) => Err(Rejection::UnservedKey { key, name }),
        (None, None) => Err(Rejection::UnknownKey(key)),
    }
}

/// Carries out any request but Produce.
pub(crate) async fn answer(session: &Session, request: &Request) -> Result<Answer, Rejection> {
    match request.api_key {
        api::FETCH => Box::pin(handlers::fetch::answer(session, request)).await,
        api::API_VERSIONS => handlers::api_versions::answer(request),
        key => match COLD.iter().find(|(served, ..)| *served == key) {
            Some((_, _, handler)) => {
                let context = session.context(request);
                if OF_ADMINISTRATORS.contains(&key) {
                    let _ = tokio::time::timeout(CATCH_UP, context.agent.current()).await;
                }
                handler(&context, request).await
            }
            None => Err(Rejection::UnknownKey(key)),
        },
    }
}

fn encode<M: KafkaResponse>(request: &Request, message: &M) -> Result<Answer, Rejection> {
    let frame = response::encode(request.correlation_id, request.api_version, message)?;
    Ok(frame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_api_has_a_handler() {
        let hot = [(api::PRODUCE, "Produce"), (api::FETCH, "Fetch")];
        let mut dispatched: Vec<_> = COLD.iter().map(|(key, name, _)| (*key, *name)).collect();
        dispatched.extend(hot);
        dispatched.push((api::API_VERSIONS, "ApiVersions"));
        dispatched.sort_unstable();
        let served: Vec<_> = api::SERVED.iter().map(|api| (api.key, api.name)).collect();
        assert_eq!(dispatched, served);
        assert!(BARRIERS.iter().all(|key| api::served(*key).is_some()));
    }
}
