//! Agents whose registration ends while they live.

use super::*;
use crate::testing::{MoodyDisk, submit};

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_ended_registers_again_and_serves() {
    let cluster = Cluster::new().await;
    let agents = [cluster.agent(1).await];
    let agent = &agents[0];
    let connection = agent.produce.connect();
    let at = cluster.at(0);
    for number in 0..3 {
        let sent = send(
            &connection,
            at,
            idempotent(&[&number.to_string()], 7, number),
        )
        .await;
        assert_eq!(sent.base_offset, i64::from(number));
    }
    let joined = member(agent, "g").await;
    let before = agent.origin();
    cluster.end(agent).await;
    let again = async {
        while agent.origin() == before {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(1), again).await.unwrap();
    assert_eq!(agent.origin().agent, before.agent);
    assert_eq!(agent.origin().epoch.0, before.epoch.0 + 1);
    // Chunk numbers begin anew; producers go on, and retries are known.
    for number in 2..5 {
        let sent = send(
            &connection,
            at,
            idempotent(&[&number.to_string()], 7, number),
        )
        .await;
        assert_eq!(
            (sent.error, sent.base_offset),
            (ErrorCode::None, i64::from(number))
        );
    }
    assert_eq!(cluster.read_all(agent, 0).await, ["0", "1", "2", "3", "4"]);
    // The group was taken up again under the new registration.
    assert_eq!(beat(agent, "g", &joined).await, Ok(()));
    assert_eq!(commit(agent, "g", Some(&joined), 4).await, ErrorCode::None);
    shut_down(&agents).await;
}

#[tokio::test]
async fn a_chunk_that_is_on_its_way_while_the_registration_ends_goes_under_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let cluster = Cluster::over(bucket).await;
    let agents = [cluster.agent(1).await];
    let agent = &agents[0];
    let files = mood.files();
    mood.hold(0);
    let big = crate::testing::large_batch(100 << 10, 1);
    let on_its_way = submit(&agent.produce.connect(), cluster.at(0), big);
    mood.begun(files + 1).await;
    let before = agent.origin();
    cluster.end(agent).await;
    while agent.origin() == before {
        sleep(Duration::from_millis(1)).await;
    }
    mood.free();
    let stored = on_its_way.await.unwrap().remove(0);
    assert_eq!((stored.error, stored.base_offset), (ErrorCode::None, 0));
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_quorum_refused_is_not_answered_as_stored() {
    let cluster = Cluster::new().await;
    let agents: [_; 2] = cluster.agents().await;
    let [old, other] = &agents;
    let connection = old.produce.connect();
    let at = cluster.at(0);
    assert_eq!(
        send(&connection, at, batch(&["before"])).await.base_offset,
        0
    );
    cluster.cut_off(old).await;
    let started = Instant::now();
    for _ in 0..3 {
        let refused = send(&connection, at, batch(&["after"])).await;
        assert_eq!(refused.error, ErrorCode::NotLeaderOrFollower, "{refused:?}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "others could have taken them"
    );
    assert_eq!(old.produce.held_bytes(), 0);
    assert_eq!(
        send(&other.produce.connect(), at, batch(&["other"]))
            .await
            .base_offset,
        1
    );
    assert_eq!(cluster.read_all(other, 0).await, ["before", "other"]);
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_word_of_the_quorum_sends_producers_elsewhere() {
    let cluster = Cluster::new().await;
    let agents = [cluster.agent(1).await];
    let agent = &agents[0];
    let (connection, at) = (agent.produce.connect(), cluster.at(0));
    agent.lease.shutdown().await;
    tokio::time::advance(Duration::from_secs(3700)).await;
    let refused = send(&connection, at, batch(&["a"])).await;
    assert_eq!(refused.error, ErrorCode::NotLeaderOrFollower, "{refused:?}");
    let lease = Instant::now() + Duration::from_secs(60);
    agent.registration.renewed(agent.origin(), lease);
    assert_eq!(send(&connection, at, batch(&["a"])).await.base_offset, 0);
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn two_processes_do_not_take_one_identity_from_each_other_in_turns() {
    let cluster = Cluster::new().await;
    let old = cluster.agent(1).await;
    let config = AgentConfig {
        identity: 1,
        port: 9999,
        ..AgentConfig::default()
    };
    let new = cluster.start(config).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(new.origin().epoch.0, old.origin().epoch.0 + 1);
    assert!(new.lease_valid() && !old.lease_valid());
    let at = cluster.at(0);
    let refused = send(&old.produce.connect(), at, batch(&["old"])).await;
    assert_eq!(refused.error, ErrorCode::NotLeaderOrFollower);
    assert_eq!(
        send(&new.produce.connect(), at, batch(&["new"]))
            .await
            .base_offset,
        0
    );
    // Once the other one has gone, it takes its place again.
    new.shutdown().await;
    let again = async {
        while !old.lease_valid() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), again).await.unwrap();
    assert_eq!(
        send(&old.produce.connect(), at, batch(&["old"]))
            .await
            .base_offset,
        1
    );
    old.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_forgotten_says_that_it_must_be_started_again() {
    let cluster = Cluster::new().await;
    let agent = cluster.agent(1).await;
    let agents = vec![agent.origin()];
    let commands = vec![
        Command::EndAgents { agents, at: 1 },
        Command::ForgetAgents { ended_before: 2 },
    ];
    cluster.metadata.propose_many(commands).await.unwrap();
    let reason = timeout(Duration::from_secs(5), agent.failed())
        .await
        .unwrap();
    assert!(reason.contains("start it again"), "{reason}");
    let refused = send(&agent.produce.connect(), cluster.at(0), batch(&["a"])).await;
    assert_ne!(refused.error, ErrorCode::None);
    agent.shutdown().await;
}
