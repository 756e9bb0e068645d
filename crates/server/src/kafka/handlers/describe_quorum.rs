//! DescribeQuorum: the metadata quorum in the words of KRaft (KIP-595, KIP-836, KIP-853).
//!
//! A voter's `replica_id` is its `metadata.node_id`, its directory id holds the whole voter id (see
//! [`super::voters`]). Observers are nodes that catch up, and the agents, by their agent ids.

use alluvium_cluster::{AgentStatus, ClusterStatus, VoterStatus};
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use alluvium_protocol::messages::{
    DescribeQuorumRequest, DescribeQuorumResponse, StrBytes, describe_quorum_request,
};
use alluvium_types::{ErrorCode, Millis};

use super::RequestContext;
use super::voters::{LISTENER, METADATA_TOPIC, directory_of, host_and_port, node_of};

/// What KRaft says of an offset, a time or a leader that is not known.
const UNKNOWN: i64 = -1;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if !is_about_the_quorum(&request) {
        return refused_by_partition(request);
    }
    match context.agent.metadata.status().await {
        Ok(status) => describe(&status, context.agent.clock.now(), context.version),
        Err(error) => {
            tracing::info!(%error, "DescribeQuorum: the quorum did not tell its status");
            failed(ErrorCode::RequestTimedOut, error.to_string())
        }
    }
}

fn is_about_the_quorum(request: &DescribeQuorumRequest) -> bool {
    let [topic] = request.topics.as_slice() else {
        return false;
    };
    let [partition] = topic.partitions.as_slice() else {
        return false;
    };
    &*topic.topic_name == METADATA_TOPIC && partition.partition_index == 0
}

fn refused_by_partition(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let code = ErrorCode::UnknownTopicOrPartition;
    let partition = |asked: &describe_quorum_request::PartitionData| {
        message!(PartitionData {
            partition_index: asked.partition_index,
            error_code: code.code(),
            error_message: Some(format!("only {METADATA_TOPIC} has a quorum").into()),
            leader_id: -1,
        })
    };
    let topics = request.topics.into_iter().map(|topic| {
        message!(TopicData {
            partitions: topic.partitions.iter().map(partition).collect(),
            topic_name: topic.topic_name,
        })
    });
    message!(DescribeQuorumResponse {
        topics: topics.collect(),
        error_message: None,
    })
}

fn failed(code: ErrorCode, reason: String) -> DescribeQuorumResponse {
    message!(DescribeQuorumResponse {
        error_code: code.code(),
        error_message: Some(reason.into()),
    })
}

/// The answer for a status as the leader told it at `now`.
fn describe(status: &ClusterStatus, now: Millis, version: i16) -> DescribeQuorumResponse {
    if status.voters.is_empty() {
        return failed(
            ErrorCode::InvalidRequest,
            "there is no quorum: the metadata of this process is in memory".to_owned(),
        );
    }
    let (voting, learning): (Vec<&VoterStatus>, _) =
        status.voters.iter().partition(|voter| voter.votes);
    // Disks and addresses came with KIP-853; they cannot be written in an older version.
    let tells_disks = version >= 2;
    let replica = |voter: &&VoterStatus| {
        let mut replica = replica_of(voter, status, now);
        if tells_disks {
            replica.replica_directory_id = directory_of(voter.id);
        }
        replica
    };
    let agents = status
        .agents
        .iter()
        .map(|agent| observer_of(agent, status, now));
    let observers = learning.iter().map(replica).chain(agents).collect();
    let mut partition = message!(PartitionData {
        partition_index: 0,
        error_message: None,
        leader_id: status.leader.map_or(-1, node_of),
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: offset(status.committed),
        current_voters: voting.iter().map(replica).collect(),
        observers,
    });
    if status.leader.is_none() {
        partition.error_code = ErrorCode::NotLeaderOrFollower.code();
        partition.error_message = Some("the quorum has no leader now".into());
    }
    let topic = message!(TopicData {
        topic_name: METADATA_TOPIC.into(),
        partitions: vec![partition],
    });
    message!(DescribeQuorumResponse {
        error_message: None,
        topics: vec![topic],
        nodes: if tells_disks {
            nodes(status)
        } else {
            Vec::new()
        },
    })
}

fn replica_of(voter: &VoterStatus, status: &ClusterStatus, now: Millis) -> ReplicaState {
    let contact = voter.contact_millis.map(|ago| before(now, ago));
    // When a voter that lags had everything is not kept.
    let is_caught_up = voter.lag == Some(0) || Some(voter.id) == status.leader;
    message!(ReplicaState {
        replica_id: node_of(voter.id),
        log_end_offset: voter.last_index.map_or(UNKNOWN, offset),
        last_fetch_timestamp: contact.unwrap_or(UNKNOWN),
        last_caught_up_timestamp: contact.filter(|_| is_caught_up).unwrap_or(UNKNOWN),
    })
}

fn observer_of(agent: &AgentStatus, status: &ClusterStatus, now: Millis) -> ReplicaState {
    let contact = agent.renewed_millis.map(|ago| before(now, ago));
    let end = agent
        .view_lag
        .map(|lag| offset(status.committed.saturating_sub(lag)));
    message!(ReplicaState {
        replica_id: agent.id.0,
        log_end_offset: end.unwrap_or(UNKNOWN),
        last_fetch_timestamp: contact.unwrap_or(UNKNOWN),
        last_caught_up_timestamp: contact
            .filter(|_| agent.view_lag == Some(0))
            .unwrap_or(UNKNOWN),
    })
}

/// Where the voters listen. Kafka keys this list by the node's number.
fn nodes(status: &ClusterStatus) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(status.voters.len());
    for voter in &status.voters {
        let node_id = node_of(voter.id);
        let Some((host, port)) = host_and_port(&voter.address) else {
            continue;
        };
        if nodes.iter().any(|node| node.node_id == node_id) {
            continue;
        }
        let listener = message!(Listener {
            name: LISTENER.into(),
            host: StrBytes::from(host),
            port,
        });
        nodes.push(message!(Node {
            node_id,
            listeners: vec![listener],
        }));
    }
    nodes
}

/// The offset after an entry: KRaft counts ends.
fn offset(index: u64) -> i64 {
    i64::try_from(index).map_or(i64::MAX, |index| index.saturating_add(1))
}

fn before(now: Millis, ago: u64) -> i64 {
    now.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use alluvium_cluster::{AgentCondition, VoterId};
    use alluvium_types::AgentId;

    use super::*;

    fn voter(id: VoterId, votes: bool, lag: u64) -> VoterStatus {
        VoterStatus {
            id,
            address: format!("m{}:9094", id.node()),
            votes,
            last_index: Some(100 - lag),
            lag: Some(lag),
            contact_millis: Some(20),
            reachable: true,
        }
    }

    #[test]
    fn a_status_is_told_in_the_words_of_kraft() {
        let leader = VoterId::new(7, 1);
        let status = ClusterStatus {
            leader: Some(leader),
            term: 5,
            committed: 99,
            voters: vec![
                VoterStatus {
                    contact_millis: Some(0),
                    ..voter(leader, true, 0)
                },
                voter(VoterId::new(8, 2), true, 3),
                voter(VoterId::new(9, 3), false, 60),
            ],
            agents: vec![AgentStatus {
                id: AgentId(4),
                host: "a".to_owned(),
                port: 9092,
                zone: None,
                condition: AgentCondition::Live,
                renewed_millis: Some(100),
                view_lag: Some(0),
            }],
            ..ClusterStatus::default()
        };
        for version in 0..=2 {
            let answer = describe(&status, 1_000_000, version);
            alluvium_protocol::response::encode(1, version, &answer).unwrap();
        }
        let answer = describe(&status, 1_000_000, 2);
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(
            (
                partition.leader_id,
                partition.leader_epoch,
                partition.high_watermark
            ),
            (1, 5, 100)
        );
        let told = |replica: &ReplicaState| {
            (
                replica.replica_id,
                replica.log_end_offset,
                replica.last_fetch_timestamp,
                replica.last_caught_up_timestamp,
            )
        };
        let voters: Vec<_> = partition.current_voters.iter().map(told).collect();
        assert_eq!(
            voters,
            [(1, 101, 1_000_000, 1_000_000), (2, 98, 999_980, -1)]
        );
        let observers: Vec<_> = partition.observers.iter().map(told).collect();
        assert_eq!(
            observers,
            [(3, 41, 999_980, -1), (4, 100, 999_900, 999_900)]
        );
        assert_eq!(
            partition.current_voters[0].replica_directory_id,
            directory_of(leader)
        );
        let listener = &answer.nodes[1].listeners[0];
        assert_eq!((&*listener.host, listener.port), ("m2", 9094));
    }

    #[test]
    fn without_a_leader_the_partition_says_so() {
        let status = ClusterStatus {
            voters: vec![voter(VoterId::new(7, 1), true, 0)],
            ..ClusterStatus::default()
        };
        let answer = describe(&status, 0, 2);
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower.code());
        assert_eq!(partition.leader_id, -1);
        let none = describe(&ClusterStatus::default(), 0, 2);
        assert_eq!(none.error_code, ErrorCode::InvalidRequest.code());
    }
}
