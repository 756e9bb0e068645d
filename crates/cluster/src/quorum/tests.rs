use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use alluvium_metadata::{Command, State};
use alluvium_storage::disk::{ForgetfulDisk, create_dir_durable};
use alluvium_types::{SystemClock, random};

use super::harness::{Cluster, Weather, address, has_topic, propose, timed};
use crate::applied::ProposeError;
use crate::members::{ChangeError, MembershipChange};
use crate::node::{Node, NodeConfig};
use crate::voter_id::VoterId;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn forms_once_whoever_starts_first() {
    for (seed, order) in [[1, 2, 3], [3, 1, 2], [2, 3, 1], [3, 2, 1]]
        .iter()
        .enumerate()
    {
        let mut cluster = Cluster::new(seed as u64, 3);
        for number in order {
            cluster.start(*number).await;
            sleep(random::range(Duration::ZERO..SECOND)).await;
        }
        let leader = cluster.leader().await;
        for number in 1..=3 {
            cluster.node(number).formed().await;
        }
        cluster.agree().await;
        let id = cluster.metadata(leader).read(State::cluster_id);
        assert!(id.is_some());
        assert_eq!(cluster.standing(leader).voters.len(), 3);
        propose(&cluster.metadata(order[0]), 1).await.unwrap();
        propose(&cluster.metadata(order[2]), 2).await.unwrap();
        cluster.agree().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_of_three_do_not_form_and_lists_must_agree() {
    let mut cluster = Cluster::new(1, 3);
    cluster.start(1).await;
    cluster.start(2).await;
    sleep(20 * SECOND).await;
    assert!(!cluster.standing(1).is_formed() && !cluster.standing(2).is_formed());
    cluster.nodes = vec![address(1), address(3)];
    cluster.start(3).await;
    sleep(5 * SECOND).await;
    assert!(
        cluster
            .up()
            .all(|number| !cluster.standing(number).is_formed())
    );
}

#[tokio::test(start_paused = true)]
async fn an_operator_forms_a_quorum_of_nodes_without_a_list() {
    let mut cluster = Cluster::new(1, 0);
    for number in 1..=3 {
        cluster.start(number).await;
    }
    sleep(5 * SECOND).await;
    assert!(
        cluster
            .up()
            .all(|number| !cluster.standing(number).is_formed())
    );
    let quorum = &cluster.node(2).quorum;
    let error = quorum.form(vec![address(1), address(3)]).await.unwrap_err();
    assert!(error.to_string().contains(&address(2)), "{error}");
    quorum.form((1..=3).map(address).collect()).await.unwrap();
    let leader = cluster.leader().await;
    assert_eq!(cluster.standing(leader).voters.len(), 3);
    let error = quorum.form(vec![address(2)]).await.unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    propose(&cluster.metadata(3), 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_dies_and_another_serves_within_a_second() {
    let mut longest = Duration::ZERO;
    for seed in 0..6 {
        let mut cluster = Cluster::formed(seed, 3).await;
        let leader = cluster.leader().await;
        let mut acknowledged = Vec::new();
        for number in 0..20 {
            let from = u32::try_from(number % 3).unwrap() + 1;
            propose(&cluster.metadata(from), number).await.unwrap();
            acknowledged.push(number);
        }
        sleep(random::range(Duration::ZERO..SECOND)).await;
        cluster.kill(leader);
        let other = cluster.up().next().unwrap();
        let metadata = cluster.metadata(other);
        let (proposed, took) = timed(propose(&metadata, 20)).await;
        proposed.unwrap();
        longest = longest.max(took);
        acknowledged.push(20);
        cluster.start(leader).await;
        cluster.agree().await;
        for number in 1..=3 {
            let metadata = cluster.metadata(number);
            for topic in &acknowledged {
                assert!(
                    metadata.read(|state| has_topic(state, *topic)),
                    "{topic} is lost"
                );
            }
        }
    }
    assert!(longest < SECOND, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_shut_down_hands_over_first() {
    for seed in 0..4 {
        let mut cluster = Cluster::formed(seed, 3).await;
        let leader = cluster.leader().await;
        propose(&cluster.metadata(leader), 1).await.unwrap();
        cluster.stop(leader).await;
        let other = cluster.up().next().unwrap();
        let (proposed, took) = timed(propose(&cluster.metadata(other), 2)).await;
        proposed.unwrap();
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_cut_off_does_not_disturb() {
    for seed in 0..3 {
        let cluster = Cluster::formed(seed, 3).await;
        let leader = cluster.leader().await;
        let follower = cluster.up().find(|number| *number != leader).unwrap();
        let term = cluster.standing(leader).term;
        match seed % 3 {
            0 => cluster.net.isolate(&address(follower)),
            // It hears nothing, and is heard.
            1 => cluster.net.cut("*", &address(follower)),
            // It only does not hear the leader.
            _ => cluster.net.cut(&address(leader), &address(follower)),
        }
        for number in 0..10 {
            propose(&cluster.metadata(leader), number).await.unwrap();
            sleep(SECOND).await;
        }
        assert_eq!(cluster.standing(leader).term, term, "way {}", seed % 3);
        cluster.net.heal();
        sleep(3 * SECOND).await;
        cluster.agree().await;
        assert_eq!(cluster.leader().await, leader);
        assert_eq!(cluster.standing(leader).term, term);
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_refuses_soon_and_the_majority_serves() {
    for seed in 0..2 {
        let cluster = Cluster::formed(seed, 3).await;
        let leader = cluster.leader().await;
        let other = cluster.up().find(|number| *number != leader).unwrap();
        cluster.net.isolate(&address(leader));
        let cut_off = cluster.metadata(leader);
        // One is under way when the majority falls silent, the others come later.
        let (first, took) = timed(propose(&cut_off, 1)).await;
        assert_eq!(first.unwrap_err(), ProposeError::TimedOut);
        assert!(took < 3 * SECOND, "{took:?}");
        let served = propose(&cluster.metadata(other), 2).await.unwrap();
        let (second, took) = timed(propose(&cut_off, 3)).await;
        assert!(
            matches!(second, Err(ProposeError::Unavailable(_))),
            "{second:?}"
        );
        assert!(took < 7 * SECOND, "{took:?}");
        assert!(timed(cut_off.barrier()).await.0.is_err());
        cluster.net.heal();
        cluster.agree().await;
        assert!(cut_off.applied() >= served.index);
        assert!(cut_off.read(|state| has_topic(state, 2) && !has_topic(state, 3)));
    }
}

#[tokio::test(start_paused = true)]
async fn all_nodes_restart_with_torn_logs() {
    let mut cluster = Cluster::formed(3, 3).await;
    let mut acknowledged = 0;
    for round in 0..6 {
        let from = cluster.leader().await;
        for _ in 0..10 {
            propose(&cluster.metadata(from), acknowledged)
                .await
                .unwrap();
            acknowledged += 1;
        }
        for number in 1..=3 {
            cluster.kill(number);
        }
        for number in [2, 3, 1] {
            cluster.start(number).await;
        }
        let leader = cluster.leader().await;
        cluster.metadata(leader).barrier().await.unwrap();
        for topic in 0..acknowledged {
            let there = cluster
                .metadata(leader)
                .read(|state| has_topic(state, topic));
            assert!(there, "round {round}: {topic} is lost");
        }
        cluster.agree().await;
    }
}

/// Writes until the log that a node without snapshot would need is gone.
async fn outrun(cluster: &Cluster, leader: u32, from: u64) -> u64 {
    let metadata = cluster.metadata(leader);
    let topics = (from..from + 100).map(super::harness::topic);
    let ids = (0..1_300).map(|_| Command::AllocateProducerIds { count: 1 });
    metadata
        .propose_many(ids.chain(topics).collect())
        .await
        .unwrap();
    cluster.node(leader).snapshot().await.unwrap();
    from + 100
}

#[tokio::test(start_paused = true)]
async fn a_laggard_gets_a_snapshot() {
    for seed in 0..3 {
        let mut cluster = Cluster::formed(seed, 3).await;
        let leader = cluster.leader().await;
        let laggard = cluster.up().find(|number| *number != leader).unwrap();
        cluster.kill(laggard);
        let next = outrun(&cluster, leader, 0).await;
        cluster
            .until("the log is purged", |cluster| {
                cluster.node(leader).log.begin() > 100
            })
            .await;
        if seed == 2 {
            *cluster.weather.lock().unwrap() = Weather {
                lost: 5,
                delay: Duration::from_millis(20),
            };
        }
        cluster.start(laggard).await;
        let metadata = cluster.metadata(laggard);
        cluster
            .until("it has caught up", |_| {
                metadata.read(|state| has_topic(state, next - 1))
            })
            .await;
        *cluster.weather.lock().unwrap() = Weather::default();
        cluster.agree().await;
        // It starts from the snapshot that it was sent.
        cluster.kill(laggard);
        cluster.start(laggard).await;
        cluster.agree().await;
        assert!(cluster.node(laggard).log.begin() > 100, "it got the log");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_is_another_voter_and_takes_the_place_of_the_one_before() {
    for seed in 0..4 {
        let mut cluster = Cluster::formed(seed, 3).await;
        let leader = cluster.leader().await;
        outrun(&cluster, leader, 0).await;
        // The leader is wiped, too.
        let wiped = if seed % 2 == 0 {
            leader
        } else {
            leader % 3 + 1
        };
        let before = cluster.voter(wiped);
        cluster.wipe(wiped);
        cluster.start(wiped).await;
        let after = cluster.voter(wiped);
        assert_ne!(before, after);
        assert_eq!((before.node(), after.node()), (wiped, wiped));
        cluster
            .until("it votes", |cluster| {
                let standing = cluster.standing(wiped);
                standing.votes(after) && !standing.changing && standing.voters.len() == 3
            })
            .await;
        let leader = cluster.leader().await;
        assert!(
            !cluster
                .standing(leader)
                .members()
                .any(|peer| peer.voter == before)
        );
        propose(&cluster.metadata(wiped), 5_000).await.unwrap();
        cluster.agree().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_promised_on_a_lost_disk_is_not_promised_by_the_new_one() {
    let mut cluster = Cluster::formed(9, 3).await;
    let leader = cluster.leader().await;
    let wiped = leader % 3 + 1;
    let third = (1..=3).find(|n| *n != leader && *n != wiped).unwrap();
    // Two of three disks are gone: nobody may lead with what the third knows.
    cluster.net.isolate(&address(leader));
    cluster.wipe(wiped);
    cluster.start(wiped).await;
    sleep(30 * SECOND).await;
    assert!(!cluster.standing(third).leads() && !cluster.standing(wiped).leads());
    cluster.net.heal();
    cluster
        .until("it votes", |cluster| {
            cluster.standing(wiped).votes(cluster.voter(wiped))
        })
        .await;
    cluster.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_replaced_is_told_so_when_it_comes_back() {
    let mut cluster = Cluster::formed(4, 3).await;
    let leader = cluster.leader().await;
    let node = leader % 3 + 1;
    let old = cluster.machines[&node].disk.clone();
    cluster.stop(node).await;
    cluster.machines.get_mut(&node).unwrap().disk = Default::default();
    cluster.start(node).await;
    cluster
        .until("it votes", |cluster| {
            cluster.standing(node).votes(cluster.voter(node))
        })
        .await;
    cluster.stop(node).await;
    cluster.machines.get_mut(&node).unwrap().disk = old;
    let term = cluster.standing(cluster.leader().await).term;
    cluster.start(node).await;
    let reason = timeout(30 * SECOND, cluster.node(node).stopped())
        .await
        .unwrap();
    assert!(reason.contains("empty its metadata folder"), "{reason}");
    assert_eq!(cluster.standing(cluster.leader().await).term, term);
}

#[tokio::test(start_paused = true)]
async fn voters_come_and_go() {
    let mut cluster = Cluster::formed(5, 3).await;
    let leader = cluster.leader().await;
    outrun(&cluster, leader, 0).await;
    // Any node passes the wish on to the leader.
    let metadata = cluster.metadata(leader % 3 + 1);
    let add = |number| MembershipChange::Add {
        address: address(number),
        voter: None,
    };
    let nobody = metadata.change(add(4)).await.unwrap_err();
    assert!(nobody.to_string().contains("start the node"), "{nobody}");
    cluster.start(4).await;
    cluster.start(5).await;
    sleep(2 * SECOND).await;
    assert!(!cluster.standing(4).is_formed(), "nobody asked for it");
    metadata.change(add(4)).await.unwrap();
    metadata.change(add(5)).await.unwrap();
    cluster
        .until("five vote", |cluster| {
            cluster
                .up()
                .all(|number| cluster.standing(number).voters.len() == 5)
        })
        .await;
    cluster.agree().await;

    let hand_over = |to| MembershipChange::HandOver { to: Some(to) };
    metadata.change(hand_over(cluster.voter(5))).await.unwrap();
    assert_eq!(cluster.leader().await, 5);
    let stranger = VoterId::new(1, 77);
    let error = metadata.change(hand_over(stranger)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Refused(_)), "{error}");

    // A follower goes, then the leader.
    let gone = cluster.voter(4);
    metadata
        .change(MembershipChange::Remove { voter: gone })
        .await
        .unwrap();
    let reason = timeout(30 * SECOND, cluster.node(4).stopped())
        .await
        .unwrap();
    assert!(reason.contains("removed"), "{reason}");
    let gone = cluster.voter(5);
    metadata
        .change(MembershipChange::Remove { voter: gone })
        .await
        .unwrap();
    cluster.stop(4).await;
    cluster.stop(5).await;
    let leader = cluster.leader().await;
    assert_eq!(cluster.standing(leader).voters.len(), 3);
    propose(&metadata, 9_000).await.unwrap();
    cluster.agree().await;
}

#[tokio::test(start_paused = true)]
async fn no_change_leaves_a_quorum_without_a_living_majority() {
    let mut cluster = Cluster::formed(6, 3).await;
    let leader = cluster.leader().await;
    let (dead, living) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let voters = [dead, living].map(|number| cluster.voter(number));
    cluster.kill(dead);
    sleep(5 * SECOND).await;
    let metadata = cluster.metadata(leader);
    let remove = |voter| MembershipChange::Remove { voter };
    let error = metadata.change(remove(voters[1])).await.unwrap_err();
    assert!(error.to_string().contains("no majority"), "{error}");
    metadata.change(remove(voters[0])).await.unwrap();
    assert_eq!(cluster.standing(leader).voters.len(), 2);
    metadata.change(remove(voters[1])).await.unwrap();
    let error = metadata
        .change(remove(cluster.voter(leader)))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("only"), "{error}");
    propose(&metadata, 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_costs_the_leader_its_office() {
    for full in [true, false] {
        let cluster = Cluster::formed(7, 3).await;
        let leader = cluster.leader().await;
        let disk = &cluster.machines[&leader].disk;
        disk.fail_writes(u64::MAX);
        if !full {
            disk.fail_syncs(u64::MAX);
        }
        let other = cluster.up().find(|number| *number != leader).unwrap();
        let metadata = cluster.metadata(other);
        let began = Instant::now();
        let mut number = 0;
        while propose(&metadata, number).await.is_err() {
            number += 1;
            assert!(began.elapsed() < 5 * SECOND, "nobody serves");
        }
        let reason = timeout(5 * SECOND, cluster.node(leader).stopped())
            .await
            .unwrap();
        let (name, dir) = (cluster.voter(leader).to_string(), "/data/metadata");
        assert!(reason.contains(&name) && reason.contains(dir), "{reason}");
        assert_ne!(cluster.leader().await, leader);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quorum_of_one_that_nobody_reached_grows() {
    let mut cluster = Cluster::new(8, 0);
    // As release 0.1 left it: no file says who the voter is, and it has no address.
    let dir = std::path::Path::new("/data/metadata");
    let disk = ForgetfulDisk::default();
    create_dir_durable(disk.shared().as_ref(), &dir.join("log")).unwrap();
    let config = NodeConfig {
        address: String::new(),
        ..cluster.config(1)
    };
    let nobody = cluster.net.transport("");
    let node = Node::start(config, disk.shared(), nobody, Arc::new(SystemClock))
        .await
        .unwrap();
    assert_eq!(node.voter_id(), VoterId(1));
    propose(&node.metadata(), 1).await.unwrap();
    node.shutdown().await;

    cluster.put(1, disk);
    cluster.start(1).await;
    let metadata = cluster.metadata(1);
    cluster
        .until("it has told its address", |cluster| {
            cluster.standing(1).voters[0].address == address(1)
        })
        .await;
    for number in [2, 3] {
        cluster.start(number).await;
        let add = MembershipChange::Add {
            address: address(number),
            voter: None,
        };
        metadata.change(add).await.unwrap();
    }
    assert_eq!(cluster.standing(1).voters.len(), 3);
    cluster.agree().await;
    cluster.kill(1);
    let metadata = cluster.metadata(2);
    propose(&metadata, 2).await.unwrap();
    assert!(metadata.read(|state| has_topic(state, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_log_is_refused_and_says_how_to_replace_the_node() {
    let mut cluster = Cluster::formed(2, 3).await;
    let leader = cluster.leader().await;
    let damaged = leader % 3 + 1;
    for number in 0..20 {
        propose(&cluster.metadata(leader), number).await.unwrap();
    }
    cluster.stop(damaged).await;
    let disk = cluster.machines[&damaged].disk.shared();
    let log = disk
        .list(std::path::Path::new("/data/metadata/log"))
        .unwrap();
    let file = log.iter().map(|entry| &entry.path).min().unwrap();
    let file = disk.open(file).unwrap();
    let written = file.read_at(0, 64 << 10).unwrap();
    let used = written.iter().rposition(|byte| *byte != 0).unwrap();
    let middle = u64::try_from(used / 2).unwrap();
    let flipped = written[used / 2] ^ 0x5A;
    file.write_at(&[vec![flipped].into()], middle).unwrap();
    file.sync().unwrap();
    let error = cluster.try_start(damaged).await.unwrap_err();
    assert!(error.contains("empty the folder"), "{error}");
    // Which is what helps.
    cluster.put(damaged, ForgetfulDisk::default());
    cluster.start(damaged).await;
    cluster
        .until("it votes", |cluster| {
            cluster.standing(damaged).votes(cluster.voter(damaged))
        })
        .await;
    cluster.agree().await;
}
