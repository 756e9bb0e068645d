//! One file per API. A handler takes the decoded request and returns the answer; it never fails:
//! what goes wrong is an error code in the answer and one log line.
//!
//! Every cold-path handler has the form
//! `pub(crate) async fn handle(context: &RequestContext, request: XRequest) -> XResponse`.

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod add_raft_voter;
pub(crate) mod alter_client_quotas;
pub(crate) mod alter_configs;
pub(crate) mod alter_partition_reassignments;
pub(crate) mod alter_replica_log_dirs;
pub(crate) mod alter_share_group_offsets;
pub(crate) mod api_versions;
pub(crate) mod authorized_operations;
pub(crate) mod client_quota_entity;
mod config_resource;
pub(crate) mod consumer_group_describe;
pub(crate) mod consumer_group_heartbeat;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_share_group_offsets;
pub(crate) mod delete_topics;
pub(crate) mod describe_client_quotas;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_producers;
pub(crate) mod describe_quorum;
pub(crate) mod describe_share_group_offsets;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_transactions;
pub(crate) mod elect_leaders;
pub(crate) mod end_txn;
mod fencing;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
mod hints;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leader_epoch;
pub(crate) mod leave_group;
pub(crate) mod list_config_resources;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod list_partition_reassignments;
pub(crate) mod list_transactions;
pub(crate) mod metadata;
mod nearer;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod refusal;
pub(crate) mod remove_raft_voter;
pub(crate) mod share_acknowledge;
pub(crate) mod share_fetch;
pub(crate) mod share_group_describe;
pub(crate) mod share_group_heartbeat;
pub(crate) mod sync_group;
pub(crate) mod txn_offset_commit;
pub(crate) mod unregister_broker;
pub(crate) mod update_features;
mod voters;
pub(crate) mod write_txn_markers;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use alluvium_agent::Agent;

/// What a handler knows besides the request.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// The agent that serves.
    pub(crate) agent: Arc<Agent>,
    /// What the client calls itself; empty when it does not say.
    pub(crate) client_id: String,
    /// The client's address without the port, as Kafka's tools show it: `/127.0.0.1`.
    pub(crate) client_host: String,
    /// Version of the API that the request is in.
    pub(crate) version: i16,
}
