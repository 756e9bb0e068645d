//! The metadata quorum and the cluster, as Kafka's protocol describes them.

use std::time::Duration;

use alluvium_protocol::message;
use alluvium_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use alluvium_protocol::messages::describe_quorum_response::ReplicaState;
use alluvium_protocol::messages::{
    AddRaftVoterRequest, DescribeClusterRequest, DescribeQuorumRequest, RemoveRaftVoterRequest,
    StrBytes, Uuid, add_raft_voter_request,
};

use crate::client::{Client, Target};
use crate::error::ClientError;

/// KRaft's name for the log of the metadata, and for the listener of a node that keeps it.
const METADATA_TOPIC: &str = "__cluster_metadata";
const LISTENER: &str = "CONTROLLER";

/// A cluster and its brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Its id.
    pub id: String,
    /// The broker that is named as controller.
    pub controller: i32,
    /// The brokers (agents), fenced ones too where the server tells of them.
    pub brokers: Vec<BrokerInfo>,
}

/// A broker as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: i32,
    /// What clients connect to, `host:port`.
    pub address: String,
    /// Its availability zone.
    pub rack: Option<String>,
    /// Not to be used by clients (KIP-1073).
    pub fenced: bool,
}

/// The quorum that keeps the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumInfo {
    /// Number of the node that leads.
    pub leader: i32,
    /// Its term.
    pub term: i32,
    /// The offset up to which the log is committed.
    pub high_watermark: i64,
    /// Those that vote.
    pub voters: Vec<ReplicaInfo>,
    /// Those that only follow the log.
    pub observers: Vec<ReplicaInfo>,
}

/// Who follows the log of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaInfo {
    /// Its number.
    pub id: i32,
    /// The id of its disk.
    pub directory: [u8; 16],
    /// Where it listens, `host:port`, where the server tells.
    pub address: Option<String>,
    /// The end of its log, as far as the leader knows.
    pub log_end: Option<i64>,
    /// When the leader last heard of it, in milliseconds since 1970.
    pub heard_of: Option<i64>,
}

impl Client {
    /// Describes the cluster.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn describe_cluster(&self) -> Result<ClusterInfo, ClientError> {
        // A field that an older version lacks may not be set.
        let ask = message!(DescribeClusterRequest {
            include_fenced_brokers: true
        });
        let answer = match self.call(&Target::Any, &ask).await {
            Err(ClientError::Broken { .. }) => {
                self.call(&Target::Any, &DescribeClusterRequest::default())
                    .await?
            }
            answer => answer?,
        };
        let reason = answer.error_message.as_deref();
        ClientError::check("the cluster", answer.error_code, reason)?;
        let brokers = answer.brokers.iter().map(|broker| BrokerInfo {
            id: broker.broker_id,
            address: format!("{}:{}", broker.host, broker.port),
            rack: broker.rack.as_ref().map(ToString::to_string),
            fenced: broker.is_fenced,
        });
        Ok(ClusterInfo {
            id: answer.cluster_id.to_string(),
            controller: answer.controller_id,
            brokers: brokers.collect(),
        })
    }

    /// Describes the metadata quorum.
    ///
    /// # Errors
    /// See [`ClientError`]; there may be no leader now.
    pub async fn describe_quorum(&self) -> Result<QuorumInfo, ClientError> {
        const SUBJECT: &str = "the metadata quorum";
        let topic = message!(TopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![message!(PartitionData { partition_index: 0 })],
        });
        let ask = message!(DescribeQuorumRequest {
            topics: vec![topic]
        });
        let answer = self.call(&Target::Any, &ask).await?;
        ClientError::check(SUBJECT, answer.error_code, answer.error_message.as_deref())?;
        let partition = answer
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let Some(partition) = partition else {
            let silent = Some("the server does not mention it");
            return Err(ClientError::refused(SUBJECT, 3, silent));
        };
        let reason = partition.error_message.as_deref();
        ClientError::check(SUBJECT, partition.error_code, reason)?;
        let address_of = |id: i32| {
            let node = answer.nodes.iter().find(|node| node.node_id == id)?;
            let listener = node.listeners.first()?;
            Some(if listener.host.contains(':') {
                format!("[{}]:{}", listener.host, listener.port)
            } else {
                format!("{}:{}", listener.host, listener.port)
            })
        };
        let known = |number: i64| Some(number).filter(|number| *number >= 0);
        let replica = |state: &ReplicaState, address: Option<String>| ReplicaInfo {
            id: state.replica_id,
            directory: state.replica_directory_id.to_bytes(),
            address,
            log_end: known(state.log_end_offset),
            heard_of: known(state.last_fetch_timestamp),
        };
        let voters = partition.current_voters.iter();
        Ok(QuorumInfo {
            leader: partition.leader_id,
            term: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: voters
                .map(|state| replica(state, address_of(state.replica_id)))
                .collect(),
            observers: partition
                .observers
                .iter()
                .map(|state| replica(state, None))
                .collect(),
        })
    }

    /// Takes a node into the metadata quorum, and waits until it has caught up and votes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_voter(
        &self,
        id: i32,
        directory: [u8; 16],
        (host, port): (&str, u16),
        within: Duration,
    ) -> Result<(), ClientError> {
        let listener = message!(add_raft_voter_request::Listener {
            name: LISTENER.into(),
            host: StrBytes::from(host),
            port,
        });
        let ask = message!(AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: i32::try_from(within.as_millis()).unwrap_or(i32::MAX),
            voter_id: id,
            voter_directory_id: Uuid::from_bytes(directory),
            listeners: vec![listener],
            ack_when_committed: true,
        });
        let answer = self.call(&Target::Any, &ask).await?;
        let reason = answer.error_message.as_deref();
        ClientError::check(&format!("node {id}"), answer.error_code, reason)
    }

    /// Lets a node leave the metadata quorum.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_voter(&self, id: i32, directory: [u8; 16]) -> Result<(), ClientError> {
        let ask = message!(RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: id,
            voter_directory_id: Uuid::from_bytes(directory),
        });
        let answer = self.call(&Target::Any, &ask).await?;
        let reason = answer.error_message.as_deref();
        ClientError::check(&format!("node {id}"), answer.error_code, reason)
    }
}
