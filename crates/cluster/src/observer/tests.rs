use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use alluvium_metadata::{Command, Outcome, RegisterAgent, State};
use alluvium_transport::Answers;
use alluvium_types::TopicId;

use super::*;
use crate::applied::{ProposeError, Renewal};
use crate::rpc::{FeedMessage, Identity, Request};
use crate::testing::{Cluster, Net, Scripted, address, one_thread, topic};

async fn allocate(metadata: &Metadata) -> Result<i64, ProposeError> {
    let command = Command::AllocateProducerIds { count: 1 };
    match metadata.propose(command).await?.outcome {
        Outcome::ProducerIds(id) => Ok(id),
        other => panic!("{other:?}"),
    }
}

fn register(identity: u128) -> Command {
    Command::RegisterAgent(RegisterAgent {
        identity,
        host: "localhost".to_owned(),
        port: 9092,
        zone: None,
        at: 0,
        cluster_id: TopicId([9; 16]),
    })
}

async fn state_at(metadata: &Metadata, index: u64) -> State {
    metadata.wait_applied(index).await.unwrap();
    metadata.read(State::clone)
}

#[tokio::test(start_paused = true)]
async fn an_observer_holds_the_state_that_the_voters_hold() {
    let _seeded = one_thread();
    let cluster = Cluster::of(3).await;
    let observer = cluster.observer("agent").await;
    let metadata = observer.metadata();
    let mut changes = metadata.subscribe();
    let mut last = 0;
    for number in 0..30 {
        let through = cluster.metadata(1 + u32::try_from(number % 3).unwrap());
        last = through.propose(topic(number)).await.unwrap().index;
    }
    let commands = (30..500).map(topic).collect();
    last = last.max(metadata.propose_many(commands).await.unwrap()[469].index);
    let seen = state_at(&metadata, last).await;
    for number in 1..=3 {
        assert_eq!(state_at(&cluster.metadata(number), last).await, seen);
    }
    assert_eq!(seen.topics().count(), 500);
    assert!(changes.try_recv().is_ok());
    // One that comes late holds the same.
    let late = cluster.observer("late").await;
    assert_eq!(late.metadata().read(State::clone), seen);
    assert!(late.metadata().applied() >= last);
}

#[tokio::test(start_paused = true)]
async fn whoever_proposes_reads_its_own_writes_and_a_barrier_those_of_others() {
    let _seeded = one_thread();
    let cluster = Cluster::of(3).await;
    let (one, other) = (
        cluster.observer("one").await,
        cluster.observer("other").await,
    );
    let follower = cluster.metadata(cluster.follower().await);
    for number in 0..20 {
        let writer = if number % 2 == 0 {
            &follower
        } else {
            &one.metadata()
        };
        writer.propose(topic(number)).await.unwrap();
        let name = format!("topic-{number}");
        assert!(writer.read(|state| state.topic_by_name(&name).is_some()));
        let reader = other.metadata();
        let (first, second) = tokio::join!(reader.barrier(), reader.barrier());
        first.and(second).unwrap();
        assert!(reader.read(|state| state.topic_by_name(&name).is_some()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_shows_everywhere_at_once() {
    let _seeded = one_thread();
    let cluster = Cluster::of(3).await;
    for number in 1..=3 {
        let observer = cluster.observer_of("agent", vec![address(number)]).await;
        let metadata = observer.metadata();
        for _ in 0..20 {
            let began = Instant::now();
            allocate(&metadata).await.unwrap();
            let took = began.elapsed();
            // Not with the next heartbeat, and not by asking again.
            assert!(took < Duration::from_millis(20), "node {number}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_die_one_after_another_and_everything_is_seen_once() {
    let _seeded = one_thread();
    let mut cluster = Cluster::of(3).await;
    let observer = cluster.observer("agent").await;
    let metadata = observer.metadata();
    let mut given = Vec::new();
    for round in 0..6_u32 {
        let victim = 1 + round % 3;
        cluster.kill(victim);
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut answered = 0;
        while answered < 20 {
            assert!(
                Instant::now() < deadline,
                "no answer after node {victim} died"
            );
            if let Ok(id) = allocate(&metadata).await {
                given.push(id);
                answered += 1;
            }
        }
        cluster.start(victim).await;
    }
    assert!(given.windows(2).all(|pair| pair[0] < pair[1]), "{given:?}");
    metadata.barrier().await.unwrap();
    let last = metadata.applied();
    let seen = state_at(&metadata, last).await;
    for number in 1..=3 {
        assert_eq!(state_at(&cluster.metadata(number), last).await, seen);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_is_far_behind_gets_a_snapshot() {
    let _seeded = one_thread();
    let mut cluster = Cluster::of(1).await;
    let metadata = cluster.metadata(1);
    let early = cluster.observer("early").await;
    let commands = (0..2_000).map(topic).collect();
    metadata.propose_many(commands).await.unwrap();
    cluster.node(1).snapshot().await.unwrap();
    cluster.net.cut("*", "early");
    let many = (2_000..2_500).map(topic).collect();
    let last = metadata.propose_many(many).await.unwrap()[499].index;
    cluster.node(1).snapshot().await.unwrap();
    drop(metadata);
    // What was applied lately is not in the memory of a node that starts from its snapshot.
    cluster.kill(1);
    cluster.start(1).await;
    cluster.net.heal();
    let late = cluster.observer("late").await;
    let expected = state_at(&cluster.metadata(1), last).await;
    assert_eq!(expected.topics().count(), 2_500);
    assert_eq!(state_at(&late.metadata(), last).await, expected);
    assert_eq!(state_at(&early.metadata(), last).await, expected);
    // And goes on by entries.
    let next = late.metadata().propose(topic(2_500)).await.unwrap().index;
    let expected = state_at(&cluster.metadata(1), next).await;
    assert_eq!(state_at(&early.metadata(), next).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_from_the_others_is_left() {
    let _seeded = one_thread();
    let cluster = Cluster::of(3).await;
    let observers = [
        cluster.observer("a").await,
        cluster.observer("b").await,
        cluster.observer("c").await,
        cluster.observer("d").await,
    ];
    let follower = cluster.follower().await;
    for number in 1..=3 {
        cluster.net.cut(&address(follower), &address(number));
        cluster.net.cut(&address(number), &address(follower));
    }
    let leader = cluster.metadata(cluster.leader().await);
    let index = leader.propose(topic(1)).await.unwrap().index;
    let began = Instant::now();
    for observer in &observers {
        observer.metadata().wait_applied(index).await.unwrap();
    }
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_does_not_keep_agents_waiting() {
    let _seeded = one_thread();
    let cluster = Cluster::of(3).await;
    let observer = cluster.observer("agent").await;
    let metadata = observer.metadata();
    allocate(&metadata).await.unwrap();
    let leader = cluster.leader().await;
    cluster.net.isolate(&address(leader));
    let began = Instant::now();
    while allocate(&metadata).await.is_err() {}
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    metadata.barrier().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_ends_and_one_that_is_does_not() {
    let _seeded = one_thread();
    let mut cluster = Cluster::of(3).await;
    let observer = cluster.observer("agent").await;
    let metadata = observer.metadata();
    let mut origins = Vec::new();
    for identity in [1, 2] {
        match metadata.propose(register(identity)).await.unwrap().outcome {
            Outcome::AgentRegistered(origin) => origins.push(origin),
            other => panic!("{other:?}"),
        }
    }
    let lease = cluster.lease;
    for round in 0..12 {
        if round == 4 {
            cluster.kill(cluster.leader().await);
        }
        let renewal = metadata.renew(origins[0]).await.unwrap();
        assert_eq!(renewal, Renewal::Renewed { lease });
        sleep(lease / 3).await;
    }
    let ended: Vec<bool> = metadata.read(|state| {
        let agents = state.agents();
        agents.map(|agent| agent.ended_at().is_some()).collect()
    });
    assert_eq!(ended, [false, true]);
    assert_eq!(metadata.renew(origins[1]).await.unwrap(), Renewal::Ended);
    let status = metadata.status().await.unwrap();
    assert_eq!(status.agents.len(), 1);
    assert!(status.agents[0].renewed_millis.unwrap() < 1_000);
    assert_eq!(status.voters.len(), 3);
    assert_eq!(status.voters.iter().filter(|it| it.reachable).count(), 2);
    assert!(
        status.advice[0].contains("metadata node"),
        "{:?}",
        status.advice
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_line_closes_ends_soon_unless_it_renews() {
    let _seeded = one_thread();
    let mut cluster = Cluster::of(3).await;
    let observer = cluster.observer("agent").await;
    let metadata = observer.metadata();
    // A new leader begins with full leases when it first looks.
    sleep(cluster.lease / 4).await;
    let mut agents = Vec::new();
    for identity in [1, 2] {
        let Outcome::AgentRegistered(origin) =
            metadata.propose(register(identity)).await.unwrap().outcome
        else {
            panic!("not registered");
        };
        metadata.renew(origin).await.unwrap();
        let line = metadata.attend(origin, None).await.unwrap();
        agents.push((origin, line));
    }
    let (dead, line) = agents.pop().unwrap();
    let (alive, other) = agents.pop().unwrap();
    drop((line, other));
    metadata.renew(alive).await.unwrap();
    sleep(cluster.lease / 2 + Duration::from_millis(200)).await;
    assert_eq!(metadata.renew(dead).await.unwrap(), Renewal::Ended);
    assert_ne!(metadata.renew(alive).await.unwrap(), Renewal::Ended);
    // A line that is one stays; that of a leader that dies breaks, and the next leader has another.
    let line = metadata.attend(alive, None).await;
    let mut line = metadata.attend(alive, line).await.unwrap();
    assert!(timeout(cluster.lease, line.broken()).await.is_err());
    metadata.renew(alive).await.unwrap();
    cluster.kill(cluster.leader().await);
    timeout(cluster.lease, line.broken()).await.unwrap();
    metadata.renew(alive).await.unwrap();
    let mut line = metadata.attend(alive, None).await.unwrap();
    assert!(timeout(cluster.lease, line.broken()).await.is_err());
}

fn begin(identity: Identity) -> Bytes {
    FeedMessage::Begin {
        identity,
        next_index: 0,
        nodes: Vec::new(),
    }
    .encode()
}

fn identity(cluster: u8, restores: u32) -> Identity {
    Identity {
        cluster: TopicId([cluster; 16]),
        restores,
    }
}

fn form(cluster: u8) -> Bytes {
    let command = Command::FormCluster {
        id: TopicId([cluster; 16]),
    };
    postcard::to_stdvec(&command).unwrap().into()
}

async fn observe(net: &Net, nodes: &[&str]) -> Observer {
    let config = ObserverConfig {
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
    };
    let started = Observer::start(config, net.transport("agent"));
    timeout(Duration::from_secs(60), started)
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn another_cluster_or_history_ends_an_observer_by_name() {
    for other in [
        FeedMessage::Foreign(identity(1, 2)),
        FeedMessage::Begin {
            identity: identity(2, 0),
            next_index: 0,
            nodes: Vec::new(),
        },
    ] {
        let net = Net::default();
        let node = Scripted::new(|_| None);
        let entries = FeedMessage::Entries {
            first: 0,
            commands: vec![None, Some(form(1))],
        };
        let first = [begin(identity(1, 0)), entries.encode()];
        node.stream(stream::iter(first).boxed());
        net.listen("node", node.clone());
        let observer = observe(&net, &["node"]).await;
        node.stream(stream::iter([other.encode()]).boxed());
        let reason = timeout(Duration::from_secs(60), observer.stopped())
            .await
            .unwrap();
        assert!(reason.contains("restored"), "{reason}");
        observer
            .metadata()
            .read(|state| assert!(state.cluster_id().is_some()));
    }
}

#[tokio::test(start_paused = true)]
async fn entries_are_taken_once_and_nonsense_is_left_for_another_node() {
    let net = Net::default();
    let node = Scripted::new(|_| None);
    net.listen("node", node.clone());
    let entries =
        |first, commands: Vec<Option<Bytes>>| FeedMessage::Entries { first, commands }.encode();
    let one: Bytes = postcard::to_stdvec(&Command::AllocateProducerIds { count: 1 })
        .unwrap()
        .into();
    let course = [
        begin(identity(1, 0)),
        entries(0, vec![None, Some(form(1)), Some(one.clone())]),
        // Sent again, as after a reconnect.
        entries(1, vec![Some(form(1)), Some(one.clone()), Some(one.clone())]),
        // A gap.
        entries(7, vec![Some(one.clone())]),
    ];
    node.stream(stream::iter(course).boxed());
    let observer = observe(&net, &["node"]).await;
    let metadata = observer.metadata();
    metadata.wait_applied(3).await.unwrap();
    for course in [
        vec![Bytes::from_static(b"\xff\xff\xff")],
        vec![FeedMessage::Piece(Bytes::from_static(b"1")).encode()],
        vec![
            FeedMessage::Snapshot {
                next_index: 50,
                bytes: u64::MAX,
            }
            .encode(),
        ],
        vec![
            FeedMessage::Snapshot {
                next_index: 50,
                bytes: 4,
            }
            .encode(),
            FeedMessage::Piece(Bytes::from_static(b"nope")).encode(),
        ],
        vec![entries(4, vec![Some(one.clone())])],
    ] {
        let before = node.times_asked();
        node.stream(stream::iter(course).boxed());
        while node.times_asked() < before + 3 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    metadata.wait_applied(4).await.unwrap();
    assert_eq!(metadata.applied(), 4);
    let asked = node.asked.lock().unwrap().clone();
    let last = asked.last().unwrap();
    let Request::Subscribe(subscribe) = last else {
        panic!("{last:?}")
    };
    assert_eq!(subscribe.next_index, 5);
    assert_eq!(subscribe.identity, Some(identity(1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_is_left_within_seconds() {
    let net = Net::default();
    let (silent, lively) = (Scripted::new(|_| None), Scripted::new(|_| None));
    net.listen("silent", silent.clone());
    net.listen("lively", lively.clone());
    silent.stream(stream::pending().boxed());
    let entries = FeedMessage::Entries {
        first: 0,
        commands: vec![Some(form(1))],
    };
    let course = stream::iter([begin(identity(1, 0)), entries.encode()]);
    lively.stream(course.chain(stream::pending()).boxed());
    let began = Instant::now();
    let _observer = observe(&net, &["silent", "lively"]).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

/// A node that is there, has what lies below `next_index`, and sends none of it.
fn beats(next_index: u64) -> Answers {
    stream::unfold(next_index, |next_index| async move {
        sleep(Duration::from_millis(200)).await;
        let beat = FeedMessage::Beat {
            next_index,
            leader: None,
        };
        Some((beat.encode(), next_index))
    })
    .boxed()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lacks_what_is_committed_is_left_and_one_that_looks_for_it_is_not() {
    let net = Net::default();
    let node = Scripted::new(|_| None);
    net.listen("node", node.clone());
    let entries = FeedMessage::Entries {
        first: 0,
        commands: vec![Some(form(1))],
    };
    let course = stream::iter([begin(identity(1, 0)), entries.encode()]);
    node.stream(course.chain(beats(1)).boxed());
    let observer = observe(&net, &["node"]).await;
    let metadata = observer.metadata();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node.times_asked(), 1);
    // It becomes known that there is more than the node has.
    let waiting = tokio::spawn(async move { metadata.wait_applied(50).await });
    node.stream(beats(51));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.times_asked(), 2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node.times_asked(), 2);
    assert_eq!(waiting.await.unwrap(), Err(ProposeError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_a_later_release_ends_an_observer_by_name() {
    let net = Net::default();
    let node = Scripted::new(|_| None);
    net.listen("node", node.clone());
    let entries = FeedMessage::Entries {
        first: 0,
        commands: vec![Some(Bytes::from_static(&[250]))],
    };
    node.stream(stream::iter([begin(identity(1, 0)), entries.encode()]).boxed());
    let config = ObserverConfig {
        nodes: vec!["node".to_owned()],
    };
    let started = Observer::start(config, net.transport("agent"));
    let error = timeout(Duration::from_secs(60), started)
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("later release"), "{error}");
}
