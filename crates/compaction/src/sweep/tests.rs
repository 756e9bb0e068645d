use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alluvium_metadata::{AgentOrigin, Command, Outcome, RegisterAgent, State};
use alluvium_objects::key;
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{BatchOptions, Record, encode};
use alluvium_types::{Millis, ObjectId, TopicId, TopicPartition};
use bytes::Bytes;
use tokio::time::sleep;

use super::*;
use crate::shelf::Shelf;
use crate::testing::{NOW, Rig, policy};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MILLIS: Millis = 3_600_000;

fn batch() -> Bytes {
    let record = Record {
        timestamp: NOW,
        value: Some(Bytes::from_static(b"value")),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    encode(&[record], options).unwrap()
}

/// A cluster that sweeps.
struct World {
    shelf: Arc<Shelf>,
    rig: Rig,
    stop: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let shelf = Shelf::at(NOW);
        let rig = Rig::over(policy(), shelf.bucket()).await;
        Self {
            shelf,
            rig,
            stop: CancellationToken::new(),
        }
    }

    fn sweep(&self) {
        let config = CompactionConfig {
            list_page: 2,
            ..CompactionConfig::default()
        };
        tokio::spawn(run(self.rig.context.clone(), config, self.stop.clone()));
    }

    /// A topic with an object per batch.
    async fn topic(&self, number: u8, objects: usize) -> (TopicId, Vec<ObjectId>) {
        let before = self.live();
        let topic = self.rig.topic(number, 1).await;
        for _ in 0..objects {
            self.rig
                .append(TopicPartition::new(topic, 0), &[batch()])
                .await;
        }
        let made = self.live().into_iter().filter(|it| !before.contains(it));
        (topic, made.collect())
    }

    fn live(&self) -> Vec<ObjectId> {
        let live = |state: &State| state.live_objects().map(|it| it.0).collect();
        self.rig.context.metadata.read(live)
    }

    fn dead(&self) -> usize {
        let dead = |state: &State| state.dead_objects().count();
        self.rig.context.metadata.read(dead)
    }

    async fn propose(&self, command: Command) -> Outcome {
        self.rig
            .context
            .metadata
            .propose(command)
            .await
            .unwrap()
            .outcome
    }

    async fn delete(&self, topic: TopicId) {
        let deleted = self.propose(Command::DeleteTopic { topic }).await;
        assert_eq!(deleted, Outcome::Done);
    }

    /// Another agent registers under an identity of its own.
    async fn join(&self, identity: u128, at: Millis) {
        let register = Command::RegisterAgent(RegisterAgent {
            identity,
            host: "localhost".to_owned(),
            port: 9093,
            zone: None,
            at,
            cluster_id: TopicId([9; 16]),
        });
        let joined = self.propose(register).await;
        assert!(matches!(joined, Outcome::AgentRegistered(_)), "{joined:?}");
    }

    /// All agents but this one leave.
    async fn end_others(&self, at: Millis) {
        let mine = self.rig.context.owner.origin().unwrap();
        let others = self.rig.context.metadata.read(|state| {
            let others = state.live_agents().filter(|agent| agent.id != mine.agent);
            let origins = others.map(|agent| AgentOrigin {
                agent: agent.id,
                epoch: agent.epoch,
            });
            origins.collect()
        });
        let end = Command::EndAgents { agents: others, at };
        assert_eq!(self.propose(end).await, Outcome::Done);
    }

    fn orphan(&self, id: u128, modified: Millis) -> ObjectId {
        let object = ObjectId(id);
        self.shelf.put_at(&key(object), "orphan", modified);
        object
    }

    fn are_there(&self, objects: &[ObjectId]) -> bool {
        objects.iter().all(|object| self.shelf.has(*object))
    }

    fn are_gone(&self, objects: &[ObjectId]) -> bool {
        !objects.iter().any(|object| self.shelf.has(*object))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topics_objects_go_after_the_grace_and_not_before() {
    let world = World::new().await;
    let (topic, objects) = world.topic(1, 5).await;
    let (_, kept) = world.topic(2, 5).await;
    world.delete(topic).await;
    world.sweep();
    sleep(MINUTE).await;
    // Their runs are purged by now.
    assert_eq!(world.dead(), 5);
    sleep(8 * MINUTE).await;
    assert!(world.are_there(&objects));
    // Nothing happens in the cluster, so its clock stands still; the sweeper's does not.
    sleep(3 * MINUTE).await;
    assert!(world.are_gone(&objects));
    assert_eq!(world.dead(), 0, "the quorum was told");
    assert!(world.are_there(&kept));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_ahead_ends_no_grace() {
    let world = World::new().await;
    let (topic, objects) = world.topic(1, 2).await;
    world.delete(topic).await;
    let purged = world.propose(Command::Purge { most: 100 }).await;
    assert_eq!(purged, Outcome::Purged(0));
    // Another agent's commands are of tomorrow.
    world.join(2, NOW + 24 * HOUR_MILLIS).await;
    world.end_others(NOW + 24 * HOUR_MILLIS).await;
    world.sweep();
    sleep(9 * MINUTE).await;
    assert!(world.are_there(&objects));
    sleep(2 * MINUTE).await;
    assert!(world.are_gone(&objects));
    assert_eq!(world.dead(), 0);
}

#[tokio::test(start_paused = true)]
async fn orphans_go_when_they_are_old() {
    let world = World::new().await;
    let (_, live) = world.topic(1, 5).await;
    let old = [
        world.orphan(1, NOW - 2 * HOUR_MILLIS),
        world.orphan(u128::MAX, NOW - HOUR_MILLIS),
    ];
    let young = world.orphan(3, NOW - HOUR_MILLIS + 1);
    // Named like objects, but not where objects are; and what is not ours.
    for other in [
        format!("backup/{}", key(live[0])),
        "ab/readme".to_owned(),
        "quorum/history/0000000000".to_owned(),
        "zz/other".to_owned(),
    ] {
        world.shelf.put_at(&other, "other", NOW - 9 * HOUR_MILLIS);
    }
    let foreign = 4;
    world.sweep();
    // Seen for the first time: however old they look, the clock may have jumped.
    sleep(HOUR / 2 - MINUTE).await;
    assert!(world.are_there(&old));
    sleep(20 * MINUTE).await;
    assert!(world.are_gone(&old));
    assert!(world.are_there(&[young]));
    // Nothing new is written, so the store shows no newer time: an hour here is an hour.
    sleep(30 * MINUTE).await;
    assert!(world.are_gone(&[young]));
    assert!(world.are_there(&live));
    assert_eq!(world.shelf.keys().len(), live.len() + foreign);
}

#[tokio::test(start_paused = true)]
async fn what_is_named_stays_however_clocks_jump() {
    let world = World::new().await;
    let (_, live) = world.topic(1, 3).await;
    let uploaded = world.orphan(7, NOW);
    world.sweep();
    sleep(MINUTE).await;
    // The store and this process are suddenly a year ahead.
    let year = 365 * 24 * HOUR_MILLIS;
    world.shelf.now.fetch_add(year, Ordering::SeqCst);
    world.rig.clock.advance(year);
    world.shelf.put_at(&key(ObjectId(8)), "new", NOW + year);
    sleep(HOUR / 3).await;
    assert!(world.are_there(&[uploaded]), "its writer may be at it yet");
    assert!(world.are_there(&live));
    sleep(5 * HOUR).await;
    assert!(world.are_there(&live));
    assert!(world.are_gone(&[uploaded]));
}

#[tokio::test(start_paused = true)]
async fn what_is_named_at_last_is_no_orphan() {
    let world = World::new().await;
    let topic = world.rig.topic(1, 1).await;
    world.sweep();
    let at = TopicPartition::new(topic, 0);
    for round in 0..6 {
        // An object is there for a while before its command comes.
        world.rig.append(at, &[batch()]).await;
        world.shelf.now.fetch_add(HOUR_MILLIS, Ordering::SeqCst);
        assert_eq!(world.live().len(), round + 1);
        assert!(world.are_there(&world.live()));
        sleep(HOUR).await;
    }
    assert!(world.are_there(&world.live()));
}

#[tokio::test(start_paused = true)]
async fn another_agent_takes_over() {
    let world = World::new().await;
    let orphan = world.orphan(1, NOW - 2 * HOUR_MILLIS);
    let mine = || {
        let agent = world.rig.context.owner.origin().unwrap().agent;
        let metadata = &world.rig.context.metadata;
        metadata.read(|state| ownership::owns(state, agent, SWEEP))
    };
    assert!(mine());
    world.sweep();
    sleep(MINUTE).await;
    for identity in 2.. {
        world.join(identity, NOW).await;
        if !mine() {
            break;
        }
    }
    sleep(6 * HOUR).await;
    assert!(world.are_there(&[orphan]), "that is another's work now");
    world.end_others(NOW).await;
    assert!(mine());
    sleep(HOUR / 2 - MINUTE).await;
    assert!(world.are_there(&[orphan]), "it begins anew");
    sleep(HOUR).await;
    assert!(world.are_gone(&[orphan]));
}

#[tokio::test(start_paused = true)]
async fn errors_delay_and_end_nothing() {
    let world = World::new().await;
    let (topic, objects) = world.topic(1, 3).await;
    let orphan = world.orphan(1, NOW - 2 * HOUR_MILLIS);
    world.delete(topic).await;
    world.shelf.is_away.store(true, Ordering::SeqCst);
    world.sweep();
    sleep(HOUR).await;
    assert!(world.are_there(&objects));
    assert_eq!(world.dead(), 3, "nothing is forgotten that is not deleted");
    world.shelf.is_away.store(false, Ordering::SeqCst);
    let locked = objects[1];
    world.shelf.locked.lock().unwrap().insert(key(locked));
    sleep(2 * HOUR).await;
    assert!(world.are_gone(&[objects[0], objects[2], orphan]));
    assert!(world.are_there(&[locked]));
    assert_eq!(world.dead(), 1);
    world.shelf.locked.lock().unwrap().clear();
    sleep(HOUR).await;
    assert!(world.are_gone(&objects));
    assert_eq!(world.dead(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_told_to() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let config = CompactionConfig::default();
    let task = tokio::spawn(run(world.rig.context.clone(), config, stop.clone()));
    sleep(MINUTE).await;
    stop.cancel();
    task.await.unwrap();
}
