//! Which agents clients are told of, in a cluster of several.

use alluvium_metadata::{AgentOrigin, Command, Outcome, RegisterAgent};
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_topic_partitions_request::TopicRequest;
use alluvium_protocol::messages::{
    DescribeClusterRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest,
    MetadataRequest, MetadataResponse, StrBytes,
};

use super::*;
use crate::kafka::handlers::{
    describe_cluster, describe_topic_partitions, find_coordinator, metadata,
};

const PARTITIONS: i32 = 60;

/// Another agent of the cluster, which only its registration shows.
async fn neighbour(agent: &Agent, identity: u128, zone: &str) -> AgentOrigin {
    let command = Command::RegisterAgent(RegisterAgent {
        identity,
        host: format!("broker-{identity}.test"),
        port: 9092,
        zone: Some(zone.to_owned()),
        at: NOW,
        cluster_id: TopicId::ZERO,
    });
    match agent.metadata.propose(command).await.unwrap().outcome {
        Outcome::AgentRegistered(origin) => origin,
        other => panic!("{other:?}"),
    }
}

async fn propose(agent: &Agent, command: Command) {
    let applied = agent.metadata.propose(command).await.unwrap();
    assert_eq!(applied.outcome, Outcome::Done);
}

/// Agents 1 and 2 in zone a, 3 and 4 in zone b; a topic of three replicas.
async fn cluster() -> (Arc<Agent>, Vec<AgentOrigin>) {
    let agent = agent(&[]).await;
    let mut origins = vec![agent.origin()];
    for (identity, zone) in [(2, "a"), (3, "b"), (4, "b")] {
        origins.push(neighbour(&agent, identity, zone).await);
    }
    let create = Command::CreateTopic(alluvium_metadata::CreateTopic {
        name: "t".to_owned(),
        id: TopicId([7; 16]),
        partitions: PARTITIONS,
        replication_factor: 2,
        configs: Vec::new(),
        at: NOW,
    });
    propose(&agent, create).await;
    (agent, origins)
}

fn as_client(agent: &Arc<Agent>, client_id: &str, version: i16) -> RequestContext {
    RequestContext {
        client_id: client_id.to_owned(),
        ..context(agent, version)
    }
}

async fn ask(agent: &Arc<Agent>, client_id: &str) -> MetadataResponse {
    let context = as_client(agent, client_id, 13);
    let request = message!(MetadataRequest { topics: None });
    sendable(13, metadata::handle(&context, request).await)
}

/// Which agents lead, and how many partitions of each.
fn leaders(response: &MetadataResponse) -> BTreeMap<i32, usize> {
    let mut leaders = BTreeMap::new();
    for partition in &response.topics[0].partitions {
        assert_eq!(partition.replica_nodes[0], partition.leader_id);
        *leaders.entry(partition.leader_id).or_default() += 1;
    }
    leaders
}

fn nodes(response: &MetadataResponse) -> Vec<i32> {
    response.brokers.iter().map(|node| node.node_id).collect()
}

#[tokio::test]
async fn clients_are_sent_to_agents_of_their_zone_and_told_of_one_in_the_other() {
    let (agent, _) = cluster().await;
    for (client_id, near) in [("app,zone=b", [3, 4]), ("ws_az=a", [1, 2])] {
        let response = ask(&agent, client_id).await;
        assert_eq!(nodes(&response), [1, 2, 3, 4]);
        let leaders: Vec<i32> = leaders(&response).into_keys().collect();
        assert_eq!(leaders, near);
        for partition in &response.topics[0].partitions {
            assert_eq!(partition.replica_nodes.len(), 2);
            assert!(!near.contains(&partition.replica_nodes[1]));
            assert_eq!(partition.error_code, 0);
        }
    }
    for client_id in ["app", "zone=elsewhere"] {
        assert_eq!(leaders(&ask(&agent, client_id).await).len(), 4);
    }
}

#[tokio::test]
async fn both_apis_name_the_same_agents() {
    let (agent, _) = cluster().await;
    let context = as_client(&agent, "app,zone=b", 0);
    let request = message!(DescribeTopicPartitionsRequest {
        topics: vec![message!(TopicRequest { name: "t".into() })],
        response_partition_limit: 2000,
    });
    let pages = sendable(
        0,
        describe_topic_partitions::handle(&context, request).await,
    );
    let response = ask(&agent, "app,zone=b").await;
    let described = pages.topics[0].partitions.iter();
    let described: Vec<_> = described
        .map(|partition| (partition.leader_id, partition.replica_nodes.clone()))
        .collect();
    let told: Vec<_> = response.topics[0]
        .partitions
        .iter()
        .map(|partition| (partition.leader_id, partition.replica_nodes.clone()))
        .collect();
    assert_eq!(described, told);
}

#[tokio::test]
async fn an_agent_that_leaves_is_named_no_more_and_only_its_share_moves() {
    let (agent, origins) = cluster().await;
    let before = ask(&agent, "app,zone=b").await;
    propose(&agent, Command::DrainAgent { origin: origins[3] }).await;
    let after = ask(&agent, "app,zone=b").await;
    assert_eq!(nodes(&after), [1, 2, 3]);
    assert_eq!(leaders(&after), BTreeMap::from([(3, 60)]));
    let agents = vec![origins[3]];
    propose(&agent, Command::EndAgents { agents, at: NOW }).await;
    assert_eq!(ask(&agent, "app,zone=b").await.topics, after.topics);
    // It comes back under its old id, and takes up what was its own.
    neighbour(&agent, 4, "b").await;
    assert_eq!(ask(&agent, "app,zone=b").await.topics, before.topics);
}

#[tokio::test]
async fn an_agent_that_drains_names_others_and_the_last_one_nobody() {
    let (agent, origins) = cluster().await;
    propose(&agent, Command::DrainAgent { origin: origins[0] }).await;
    let response = ask(&agent, "app,zone=a").await;
    assert_eq!(
        (nodes(&response), response.controller_id),
        (vec![2, 3, 4], 2)
    );
    assert_eq!(leaders(&response), BTreeMap::from([(2, 60)]));
    let agents = origins[1..].to_vec();
    propose(&agent, Command::EndAgents { agents, at: NOW }).await;
    let response = ask(&agent, "app,zone=a").await;
    assert_eq!((nodes(&response), response.controller_id), (vec![], -1));
    let partition = &response.topics[0].partitions[0];
    assert_eq!(code(partition.error_code), ErrorCode::LeaderNotAvailable);
    assert_eq!(
        (partition.leader_id, partition.replica_nodes.len()),
        (-1, 0)
    );
}

#[tokio::test]
async fn every_group_has_one_coordinator_and_the_next_when_it_is_gone() {
    let (agent, origins) = cluster().await;
    let groups: Vec<StrBytes> = (0..40).map(|n| format!("group-{n}").into()).collect();
    let find = async || {
        let request = message!(FindCoordinatorRequest {
            coordinator_keys: groups.clone()
        });
        let found = find_coordinator::handle(&context(&agent, 6), request).await;
        sendable(6, found)
            .coordinators
            .into_iter()
            .map(|found| (found.node_id, found.host.to_string(), found.error_code))
            .collect::<Vec<_>>()
    };
    let before = find().await;
    let nodes: std::collections::BTreeSet<i32> = before.iter().map(|found| found.0).collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    let agents = vec![origins[2]];
    propose(&agent, Command::EndAgents { agents, at: NOW }).await;
    let after = find().await;
    for (was, is) in before.iter().zip(&after) {
        assert!(is.0 != 3 && (was.0 == 3 || was == is), "{was:?} {is:?}");
        if is.0 > 1 {
            assert_eq!(is.1, format!("broker-{}.test", is.0));
        }
    }
    let agents = origins;
    propose(&agent, Command::EndAgents { agents, at: NOW }).await;
    for found in find().await {
        assert_eq!(code(found.2), ErrorCode::CoordinatorNotAvailable);
    }
}

#[tokio::test]
async fn fenced_agents_are_shown_to_who_asks_for_them() {
    let (agent, origins) = cluster().await;
    propose(&agent, Command::DrainAgent { origin: origins[1] }).await;
    let agents = vec![origins[2]];
    propose(&agent, Command::EndAgents { agents, at: NOW }).await;
    let describe = async |version, include_fenced_brokers| {
        let request = message!(DescribeClusterRequest {
            endpoint_type: 1,
            include_fenced_brokers
        });
        let described = describe_cluster::handle(&context(&agent, version), request).await;
        let described = sendable(version, described);
        let nodes = described.brokers.iter();
        nodes
            .map(|node| (node.broker_id, node.is_fenced))
            .collect::<Vec<_>>()
    };
    assert_eq!(describe(2, false).await, [(1, false), (4, false)]);
    assert_eq!(describe(1, false).await, [(1, false), (4, false)]);
    let all = [(1, false), (2, true), (3, true), (4, false)];
    assert_eq!(describe(2, true).await, all);
}
