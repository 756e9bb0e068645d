//! Groups while their coordinators come and go.

use futures::future::join_all;

use super::*;
use crate::groups::ConsumerHeartbeat;
use crate::topics::{Alteration, AlterationOp};

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_elsewhere_when_its_coordinator_ends() {
    let cluster = Cluster::new().await;
    let agents: [_; 3] = cluster.agents().await;
    let old = cluster.coordinator(&agents, "g");
    let joined = member(old, "g").await;
    assert_eq!(commit(old, "g", Some(&joined), 5).await, ErrorCode::None);
    for agent in agents.iter().filter(|agent| agent.id() != old.id()) {
        let elsewhere = Err(ErrorCode::NotCoordinator);
        assert_eq!(beat(agent, "g", &joined).await, elsewhere);
        assert_eq!(committed(agent, "g").await, Err(ErrorCode::NotCoordinator));
        assert_eq!(
            agent.groups.describe("g").await,
            Err(ErrorCode::NotCoordinator)
        );
        assert_eq!(agent.groups.delete("g").await, ErrorCode::NotCoordinator);
        assert_eq!(agent.groups.list().await, Ok(Vec::new()));
    }

    cluster.cut_off(old).await;
    let new = cluster.coordinator(&agents, "g");
    assert_ne!(new.id(), old.id());
    // Same generation, same share, no rebalance; and what was committed is there.
    assert_eq!(beat(new, "g", &joined).await, Ok(()));
    assert_eq!(share(new, "g", &joined).await, Ok("all".into()));
    assert_eq!(committed(new, "g").await, Ok(Some(5)));
    assert_eq!(commit(new, "g", Some(&joined), 6).await, ErrorCode::None);
    assert_eq!(new.groups.list().await.unwrap().len(), 1);

    // The old one, which lives, coordinates nothing and changes nothing.
    assert!(beat(old, "g", &joined).await.is_err());
    assert_ne!(commit(old, "g", Some(&joined), 4).await, ErrorCode::None);
    assert_eq!(committed(new, "g").await, Ok(Some(6)));
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn members_that_died_with_their_coordinator_are_missed() {
    let cluster = Cluster::new().await;
    let agents: [_; 2] = cluster.agents().await;
    let old = cluster.coordinator(&agents, "g");
    member(old, "g").await;
    cluster.cut_off(old).await;
    let new = cluster.coordinator(&agents, "g");
    // Nobody asks for the group in the meantime.
    sleep(Duration::from_secs(15)).await;
    let record = cluster
        .metadata
        .read(|state| state.group("g").unwrap().record.clone());
    assert_eq!(record.unwrap().members, []);
    assert_eq!(new.groups.delete("g").await, ErrorCode::None);
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_takes_its_share_of_the_groups_and_members_keep_theirs() {
    let cluster = Cluster::new().await;
    let first = cluster.agent(1).await;
    let names: Vec<String> = (0..12).map(|number| format!("group-{number}")).collect();
    let mut members = Vec::new();
    for name in &names {
        members.push(member(&first, name).await);
    }
    let agents = [first, cluster.agent(2).await];
    let mut moved = 0;
    for (name, joined) in names.iter().zip(&members) {
        let coordinator = cluster.coordinator(&agents, name);
        moved += usize::from(coordinator.id() == agents[1].id());
        for agent in &agents {
            let expected = if agent.id() == coordinator.id() {
                Ok(())
            } else {
                Err(ErrorCode::NotCoordinator)
            };
            assert_eq!(beat(agent, name, joined).await, expected, "{name}");
        }
        let commit = commit(coordinator, name, Some(joined), 1).await;
        assert_eq!(commit, ErrorCode::None);
    }
    assert!((2..=10).contains(&moved), "{moved} of 12 groups moved");
    // Every group is listed once.
    let [a, b] = [&agents[0], &agents[1]].map(|agent| async { agent.groups.list().await.unwrap() });
    let mut listed: Vec<_> = [a.await, b.await].concat();
    listed.sort_by(|one, other| one.group.cmp(&other.group));
    let mut expected = names.clone();
    expected.sort_unstable();
    let listed: Vec<_> = listed.into_iter().map(|listing| listing.group).collect();
    assert_eq!(listed, expected);
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn many_who_come_at_once_claim_a_group_once() {
    let cluster = Cluster::new().await;
    let agents: [_; 2] = cluster.agents().await;
    let agent = cluster.coordinator(&agents, "g");
    let index = || async {
        let nothing = Command::AllocateProducerIds { count: 0 };
        cluster.metadata.propose(nothing).await.unwrap().index
    };
    let before = index().await;
    let codes = join_all((0..50).map(|offset| commit(agent, "g", None, offset))).await;
    assert_eq!(codes, vec![ErrorCode::None; 50]);
    assert_eq!(index().await - before, 50 + 1 + 1);
    assert_eq!(committed(agent, "g").await, Ok(Some(49)));
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_a_group_that_is_not_there_claims_nothing() {
    let cluster = Cluster::new().await;
    let agents: [_; 2] = cluster.agents().await;
    let agent = cluster.coordinator(&agents, "g");
    let nobody = Joined {
        generation: 3,
        protocol_type: None,
        protocol: None,
        leader: String::new(),
        skip_assignment: false,
        member_id: "m".into(),
        members: Vec::new(),
    };
    assert_eq!(
        beat(agent, "g", &nobody).await,
        Err(ErrorCode::UnknownMemberId)
    );
    let code = commit(agent, "g", Some(&nobody), 1).await;
    assert_eq!(code, ErrorCode::GroupIdNotFound);
    assert_eq!(agent.groups.describe("g").await, Ok(None));
    assert_eq!(agent.groups.delete("g").await, ErrorCode::GroupIdNotFound);
    assert_eq!(committed(agent, "g").await, Ok(None));
    assert_eq!(cluster.metadata.read(|state| state.claimed_by("g")), None);
    let long = "g".repeat(2000);
    let refused = agent.groups.join(joining(&long, "")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidGroupId);
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_without_word_of_the_quorum_stops_being_one() {
    let cluster = Cluster::new().await;
    let agents = [cluster.agent(1).await];
    let agent = &agents[0];
    let joined = member(agent, "g").await;
    let newcomer = agent.groups.join(joining("g", "")).await.unwrap_err();
    let waiting = tokio::spawn({
        let agent = Arc::clone(agent);
        async move { agent.groups.join(joining("g", &newcomer.member_id)).await }
    });
    tokio::task::yield_now().await;
    agent.lease.shutdown().await;
    // Nobody ends it: its own clock says that it must stop.
    tokio::time::advance(Duration::from_secs(3700)).await;
    assert!(!agent.lease_valid());
    let gone = ErrorCode::CoordinatorNotAvailable;
    assert_eq!(waiting.await.unwrap().unwrap_err().code, gone);
    assert_eq!(beat(agent, "g", &joined).await, Err(gone));
    assert_eq!(commit(agent, "g", Some(&joined), 1).await, gone);
    assert_eq!(committed(agent, "g").await, Err(gone));
    assert_eq!(agent.groups.list().await, Err(gone));
    assert_eq!(agent.groups.describe("g").await, Err(gone));

    // It has word again, in time: the group is as it was, with fresh sessions.
    let lease = Instant::now() + Duration::from_secs(60);
    agent.registration.renewed(agent.origin(), lease);
    assert_eq!(beat(agent, "g", &joined).await, Ok(()));
    assert_eq!(share(agent, "g", &joined).await, Ok("all".into()));
    shut_down(&agents).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_group_of_the_newer_protocol_has_settings_of_its_own() {
    let cluster = Cluster::new().await;
    let agent = cluster.agent(1).await;
    for (name, value) in [
        ("consumer.session.timeout.ms", "60000"),
        ("consumer.heartbeat.interval.ms", "7000"),
    ] {
        let set = [Alteration {
            name: name.to_owned(),
            op: AlterationOp::Set,
            value: Some(value.to_owned()),
        }];
        let topics = &cluster.topics;
        let done = topics.alter_group(&cluster.metadata, "patient", &set, false, false);
        done.await.unwrap();
    }
    let beat = |group: &str, epoch| {
        let joins = epoch == 0;
        let beat = ConsumerHeartbeat {
            group: group.to_owned(),
            member_id: "m".to_owned(),
            epoch,
            rebalance_timeout: joins.then_some(60_000),
            topics: joins.then(|| ["clicks".to_owned()].into()),
            owned: joins.then(BTreeMap::new),
            ..ConsumerHeartbeat::default()
        };
        agent.groups.consumer_heartbeat(beat)
    };
    let patient = beat("patient", 0).await.unwrap();
    let other = beat("other", 0).await.unwrap();
    assert_eq!((patient.interval, other.interval), (7000, 5000));
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(beat("patient", patient.epoch).await.is_ok());
    let late = beat("other", other.epoch).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::UnknownMemberId);
    shut_down(&[agent]).await;
}
