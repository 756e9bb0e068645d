//! Agents that leave, and what others do in their place.

use alluvium_metadata::Standing;

use super::*;
use crate::testing::submit;

#[tokio::test(start_paused = true)]
async fn a_drained_agent_hands_its_groups_over_and_refuses_no_producer() {
    let cluster = Cluster::new().await;
    let agents: [_; 2] = cluster.agents().await;
    let leaving = cluster.coordinator(&agents, "g");
    let staying = agents
        .iter()
        .find(|agent| agent.id() != leaving.id())
        .unwrap();
    let joined = member(leaving, "g").await;
    let newcomer = leaving.groups.join(joining("g", "")).await.unwrap_err();
    let waiting = tokio::spawn({
        let leaving = Arc::clone(leaving);
        async move { leaving.groups.join(joining("g", &newcomer.member_id)).await }
    });
    tokio::task::yield_now().await;
    let connection = leaving.produce.connect();
    let taken = submit(&connection, cluster.at(0), batch(&["taken"]));

    leaving.drain().await;
    assert_eq!(taken.await.unwrap()[0].error, ErrorCode::None);
    let elsewhere = waiting.await.unwrap().unwrap_err();
    assert_eq!(elsewhere.code, ErrorCode::NotCoordinator);
    assert_eq!(
        beat(leaving, "g", &joined).await,
        Err(ErrorCode::NotCoordinator)
    );
    assert_eq!(staying.groups.coordinator("g"), Some(staying.id()));
    assert_eq!(beat(staying, "g", &joined).await, Ok(()));
    let late = send(&connection, cluster.at(0), batch(&["late"])).await;
    assert_eq!(late.error, ErrorCode::None);
    // It is still there for those who read.
    assert_eq!(cluster.read_all(leaving, 0).await, ["taken", "late"]);

    leaving.shutdown().await;
    cluster.metadata.read(|state| {
        let left = state.agent(leaving.id()).unwrap();
        assert!(matches!(left.standing, Standing::Ended { .. }));
        let live: Vec<_> = state.live_agents().map(|agent| agent.id).collect();
        assert_eq!(live, [staying.id()]);
    });
    staying.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_leaves_does_not_come_back_by_itself() {
    let cluster = Cluster::new().await;
    let agents: [_; 2] = cluster.agents().await;
    agents[0].drain().await;
    let before = agents[0].origin();
    cluster.end(&agents[0]).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(agents[0].origin(), before);
    assert!(!agents[0].lease_valid());
    shut_down(&agents).await;
}

#[tokio::test]
async fn each_agent_settles_its_share_and_those_of_others_that_ended() {
    let cluster = Cluster::new().await;
    let agents: [_; 2] = cluster.agents().await;
    let connection = agents[0].produce.connect();
    let fill = |text: &'static str| {
        let connection = &connection;
        let cluster = &cluster;
        async move {
            for partition in 0..8 {
                let sent = send(connection, cluster.at(partition), batch(&[text])).await;
                assert_eq!(sent.error, ErrorCode::None);
            }
        }
    };
    let settled = || async {
        while cluster.metadata.read(State::inline_bytes) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    fill("one").await;
    let objects = || async { cluster.bucket.list("", None, 1000).await.unwrap().len() };
    timeout(Duration::from_secs(5), settled()).await.unwrap();
    assert!(objects().await >= 2, "both had a share");
    fill("two").await;
    cluster.cut_off(&agents[1]).await;
    timeout(Duration::from_secs(5), settled()).await.unwrap();
    for partition in 0..8 {
        assert_eq!(
            cluster.read_all(&agents[0], partition).await,
            ["one", "two"]
        );
    }
    shut_down(&agents).await;
}
