//! Crashes, cuts and changes at random, with writers and readers at work all the while.
//!
//! What must hold: a command that was acknowledged is in every later state, once, and in the order in
//! which commands were acknowledged; a read after a barrier sees what was acknowledged before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_storage::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use alluvium_metadata::Outcome;
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_types::random;

use super::harness::{Cluster, Weather, address, has_topic, propose};
use crate::client::Metadata;
use crate::members::MembershipChange;

const SECOND: Duration = Duration::from_secs(1);

/// An acknowledged command.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    topic: u64,
    index: u64,
    begun: Instant,
    ended: Instant,
}

#[derive(Debug, Default)]
struct History {
    next: u64,
    acknowledged: Vec<Acknowledged>,
    reads: usize,
    attempts: usize,
}

#[derive(Clone, Default)]
struct World {
    handles: Arc<Mutex<BTreeMap<u32, Metadata>>>,
    history: Arc<Mutex<History>>,
}

impl World {
    fn any(&self) -> Option<Metadata> {
        let handles = self.handles.lock().unwrap();
        if handles.is_empty() {
            return None;
        }
        let place = random::range(0..handles.len());
        handles.values().nth(place).cloned()
    }

    async fn write(self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            sleep(random::range(Duration::ZERO..Duration::from_millis(60))).await;
            let Some(metadata) = self.any() else {
                continue;
            };
            let topic = {
                let mut history = self.history.lock().unwrap();
                history.next += 1;
                history.attempts += 1;
                history.next
            };
            let begun = Instant::now();
            if let Ok(applied) = propose(&metadata, topic).await {
                // Were it applied a second time, that would refuse it.
                assert_eq!(applied.outcome, Outcome::Done, "topic {topic}");
                let acknowledged = Acknowledged {
                    topic,
                    index: applied.index,
                    begun,
                    ended: Instant::now(),
                };
                self.history.lock().unwrap().acknowledged.push(acknowledged);
            }
        }
    }

    async fn read(self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            sleep(random::range(Duration::ZERO..Duration::from_millis(200))).await;
            let Some(metadata) = self.any() else {
                continue;
            };
            let known: Vec<u64> = {
                let history = self.history.lock().unwrap();
                history.acknowledged.iter().map(|it| it.topic).collect()
            };
            if metadata.barrier().await.is_ok() {
                metadata.read(|state| {
                    for topic in known {
                        assert!(has_topic(state, topic), "a read misses topic {topic}");
                    }
                });
                self.history.lock().unwrap().reads += 1;
            }
        }
    }
}

async fn start(cluster: &mut Cluster, world: &World, number: u32) {
    cluster.start(number).await;
    let metadata = cluster.metadata(number);
    world.handles.lock().unwrap().insert(number, metadata);
}

fn kill(cluster: &mut Cluster, world: &World, number: u32) {
    if cluster.is_up(number) {
        world.handles.lock().unwrap().remove(&number);
        cluster.kill(number);
    }
}

fn cut_at_random(cluster: &Cluster) {
    let (one, other) = (random::range(1..=3), random::range(1..=3));
    match random::range(0..4) {
        0 => cluster.net.isolate(&address(one)),
        1 => cluster.net.cut(&address(one), &address(other)),
        2 => cluster.net.cut("*", &address(one)),
        _ => cluster.net.cut(&address(one), "*"),
    }
}

/// A disk may be lost when the others hold everything.
async fn lose_a_disk(cluster: &mut Cluster, world: &World, number: u32) {
    calm(cluster, world).await;
    kill(cluster, world, number);
    cluster.put(number, ForgetfulDisk::default());
    sleep(random::range(Duration::ZERO..SECOND)).await;
    start(cluster, world, number).await;
}

/// Everything works again.
async fn calm(cluster: &mut Cluster, world: &World) {
    cluster.net.heal();
    *cluster.weather.lock().unwrap() = Weather::default();
    for number in 1..=3 {
        if !cluster.is_up(number) {
            start(cluster, world, number).await;
        }
    }
    cluster
        .until("all three vote", |cluster| {
            (1..=3).all(|number| {
                let standing = cluster.standing(number);
                standing.voters.len() == 3
                    && !standing.changing
                    && standing.votes(cluster.voter(number))
            })
        })
        .await;
    cluster.leader().await;
}

fn trace(what: &str) {
    if std::env::var_os("ALLUVIUM_QUORUM_TRACE").is_some() {
        println!("{:?} {what}", Instant::now());
    }
}

async fn disturb(cluster: &mut Cluster, world: &World) {
    let number = random::range(1..=3);
    let what = random::range(0..13);
    trace(&format!("disturbance {what} at node {number}"));
    match what {
        0..=2 => kill(cluster, world, number),
        3 => (1..=3).for_each(|number| kill(cluster, world, number)),
        4..=5 => cut_at_random(cluster),
        6 => cluster.net.heal(),
        7 => {
            *cluster.weather.lock().unwrap() = Weather {
                lost: random::range(0..15),
                delay: Duration::from_millis(random::range(0..80)),
            };
        }
        8 => {
            if cluster.is_up(number) {
                // The disk has no faults here; a snapshot that is there already is no news.
                cluster.node(number).snapshot().await.unwrap();
            }
        }
        9 => lose_a_disk(cluster, world, number).await,
        10 => {
            if let Some(metadata) = world.any() {
                // It may well come to nothing now.
                let _ = metadata
                    .change(MembershipChange::HandOver { to: None })
                    .await;
            }
        }
        _ => {
            for number in 1..=3 {
                if !cluster.is_up(number) {
                    start(cluster, world, number).await;
                }
            }
        }
    }
}

async fn run(seed: u64) {
    let mut cluster = Cluster::formed(seed, 3).await;
    cluster.snapshot_log_bytes = 20_000;
    let world = World::default();
    for number in 1..=3 {
        let metadata = cluster.metadata(number);
        world.handles.lock().unwrap().insert(number, metadata);
    }
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        tasks.spawn(world.clone().write(stopped.clone()));
    }
    tasks.spawn(world.clone().read(stopped));
    for _ in 0..30 {
        sleep(random::range(Duration::ZERO..2 * SECOND)).await;
        disturb(&mut cluster, &world).await;
    }
    trace("calming");
    calm(&mut cluster, &world).await;
    trace("calm");
    stop.send_replace(true);
    tasks.join_all().await;
    trace("agreeing");
    cluster.agree().await;
    trace("agreed");
    check(&cluster, &world.history.lock().unwrap());
}

fn check(cluster: &Cluster, history: &History) {
    let acknowledged = &history.acknowledged;
    for number in 1..=3 {
        cluster.metadata(number).read(|state| {
            for command in acknowledged {
                let there = has_topic(state, command.topic);
                assert!(there, "node {number} lost {command:?}");
            }
        });
    }
    for pair in acknowledged.iter().zip(acknowledged.iter().skip(1)) {
        // In the order of their acknowledgements.
        assert!(pair.0.ended <= pair.1.ended);
    }
    let mut latest: Option<Acknowledged> = None;
    let mut by_beginning = acknowledged.clone();
    by_beginning.sort_by_key(|command| command.begun);
    let mut ended = acknowledged.iter().peekable();
    for command in by_beginning {
        while let Some(before) = ended.next_if(|before| before.ended < command.begun) {
            if latest.is_none_or(|latest| latest.index < before.index) {
                latest = Some(*before);
            }
        }
        if let Some(before) = latest {
            assert!(
                before.index < command.index,
                "{before:?} overtook {command:?}"
            );
        }
    }
    // Most of the time somebody served.
    assert!(history.reads > 20, "{} reads", history.reads);
    assert!(
        acknowledged.len() > 80,
        "{} of {}",
        acknowledged.len(),
        history.attempts
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_stays_through_crashes_and_cuts() {
    let first: u64 = std::env::var("ALLUVIUM_QUORUM_SEED").map_or(0, |seed| seed.parse().unwrap());
    let count: u64 =
        std::env::var("ALLUVIUM_QUORUM_SEEDS").map_or(2, |seeds| seeds.parse().unwrap());
    for seed in first..first + count {
        println!("seed {seed}");
        run(seed).await;
    }
}
