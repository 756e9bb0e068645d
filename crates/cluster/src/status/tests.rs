use super::*;

fn voter(node: u32, reachable: bool) -> VoterStatus {
    VoterStatus {
        id: VoterId::new(0, node),
        address: format!("node-{node}"),
        votes: true,
        last_index: Some(10),
        lag: Some(0),
        contact_millis: Some(if reachable { 20 } else { 7_000 }),
        reachable,
    }
}

fn agent(id: i32) -> AgentStatus {
    AgentStatus {
        id: AgentId(id),
        host: "host".to_owned(),
        port: 9092,
        zone: None,
        condition: AgentCondition::Live,
        renewed_millis: Some(100),
        view_lag: Some(1),
    }
}

fn judge(status: &ClusterStatus) -> Vec<String> {
    advice(status, false, Duration::from_secs(2))
}

#[test]
fn a_healthy_cluster_needs_no_advice() {
    let status = ClusterStatus {
        voters: vec![voter(1, true), voter(2, true), voter(3, true)],
        agents: vec![agent(1), agent(2)],
        ..ClusterStatus::default()
    };
    assert_eq!(judge(&status), Vec::<String>::new());
}

#[test]
fn what_is_unhealthy_is_named_with_what_to_do() {
    let mut slow = agent(7);
    slow.renewed_millis = Some(1_500);
    let status = ClusterStatus {
        voters: vec![voter(1, true), voter(2, false), voter(3, true)],
        agents: vec![slow],
        archive: Some(ArchiveStatus {
            next_index: 5,
            behind_millis: 60_000,
            error: None,
        }),
        ..ClusterStatus::default()
    };
    let advice = judge(&status);
    assert_eq!(advice.len(), 3, "{advice:?}");
    assert!(advice[0].contains("metadata node 2 (node-2) has not answered for 7 s"));
    assert!(advice[0].contains("the death of one more stops the cluster"));
    assert!(advice[1].contains("agent 7 (host:9092)"));
    assert!(advice[2].contains("60 s old"));
}

#[test]
fn without_a_majority_the_cluster_stands_still() {
    let status = ClusterStatus {
        voters: vec![voter(1, true), voter(2, false), voter(3, false)],
        agents: vec![agent(1), agent(2)],
        ..ClusterStatus::default()
    };
    let advice = judge(&status);
    assert!(advice[0].contains("metadata node 2 (node-2)"), "{advice:?}");
    assert!(advice[0].contains("no majority of 3 is left"), "{advice:?}");
    assert!(advice[0].contains("alluvium restore"), "{advice:?}");
}

#[test]
fn two_voters_are_worse_than_they_look() {
    let status = ClusterStatus {
        voters: vec![voter(1, true), voter(2, true)],
        ..ClusterStatus::default()
    };
    let advice = judge(&status);
    assert!(advice[0].contains("2 metadata nodes"), "{advice:?}");
    assert!(advice[1].contains("no agent serves"), "{advice:?}");
}
