//! Members of a group: they join, read what they are given, commit, and now and then vanish.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_agent::groups::{
    CommitPartition, CommitTopic, Committer, FetchTopic, Heartbeat, JoinGroup, Joined, Leaver,
    SyncGroup,
};
use alluvium_checker::{Event, Place};
use alluvium_protocol::produce::TopicRef;
use alluvium_types::{ErrorCode, Offset, random};
use bytes::Bytes;
use tokio::time::Instant;

use super::reader::{Fetched, fetch};
use super::{Client, TOPICS};

/// The group.
const GROUP: &str = "readers";

const SESSION_MS: i32 = 6_000;
const ANSWER: Duration = Duration::from_secs(5);
const JOIN: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_millis(700);
const COMMIT: Duration = Duration::from_millis(400);

/// A partition of a topic as members name it.
type Share = (&'static str, i32);

struct Member {
    client: Client,
    id: String,
    instance: Option<String>,
    generation: i32,
    coordinator: Option<usize>,
}

/// What a member does after a refusal.
enum Next {
    /// The same again, perhaps of another coordinator.
    Again,
    Rejoin,
}

/// Is a member until told to stop.
pub(crate) async fn member(client: Client, is_static: bool) {
    let instance = is_static.then(|| format!("static-{}", client.number));
    let mut member = Member {
        client,
        id: String::new(),
        instance,
        generation: -1,
        coordinator: None,
    };
    while !member.client.stopping() {
        let Some(shares) = member.join().await else {
            member.client.pause(200).await;
            continue;
        };
        member.read(shares).await;
        if member.instance.is_none() && random::range(0..4) == 0 {
            member.leave().await;
        }
        if random::range(0..6) == 0 {
            // The process died and comes back as a newcomer.
            member.id.clear();
            member.client.pause(3000).await;
        }
    }
    member.leave().await;
}

impl Member {
    /// The machine of the coordinator.
    async fn coordinator(&mut self) -> Option<usize> {
        if self.coordinator.is_none() {
            let (cluster, asked) = (&self.client.cluster, self.client.any_agent());
            let found = cluster
                .ask(self.client.host, asked, ANSWER, |agent| async move {
                    agent.groups.coordinator(GROUP)
                })
                .await;
            self.coordinator = cluster.machine_of(found.ok()??);
        }
        self.coordinator
    }

    fn refused(&mut self, what: &str, code: ErrorCode) -> Next {
        self.client
            .cluster
            .recorder
            .refused(&format!("{what}: {code}"));
        match code {
            ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress => {
                self.coordinator = None;
                Next::Again
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                self.id.clear();
                Next::Rejoin
            }
            ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress
            | ErrorCode::MemberIdRequired => Next::Rejoin,
            _ => Next::Again,
        }
    }

    async fn join(&mut self) -> Option<Vec<Share>> {
        let coordinator = self.coordinator().await?;
        let request = JoinGroup {
            group: GROUP.to_owned(),
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            client_id: format!("c{}", self.client.number),
            client_host: "/10.0.0.1".to_owned(),
            session_timeout: SESSION_MS,
            rebalance_timeout: SESSION_MS,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::from_static(b"all"))],
            takes_member_id: true,
            ..JoinGroup::default()
        };
        let (cluster, host) = (&self.client.cluster, self.client.host);
        let asked = cluster.ask(host, coordinator, JOIN, |agent| async move {
            agent.groups.join(request).await
        });
        let joined = match asked.await {
            Err(_) => {
                self.coordinator = None;
                return None;
            }
            Ok(Err(refused)) => {
                self.id.clone_from(&refused.member_id);
                self.refused("join", refused.code);
                return None;
            }
            Ok(Ok(joined)) => joined,
        };
        self.id.clone_from(&joined.member_id);
        self.generation = joined.generation;
        self.sync(coordinator, &joined).await
    }

    async fn sync(&mut self, coordinator: usize, joined: &Joined) -> Option<Vec<Share>> {
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let request = SyncGroup {
            group: GROUP.to_owned(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol: joined.protocol.clone(),
            assignments: if leads { assign(joined) } else { Vec::new() },
        };
        let (cluster, host) = (&self.client.cluster, self.client.host);
        let asked = cluster.ask(host, coordinator, JOIN, |agent| async move {
            agent.groups.sync(request).await
        });
        match asked.await {
            Err(_) => {
                self.coordinator = None;
                None
            }
            Ok(Err(code)) => {
                self.refused("sync", code);
                None
            }
            Ok(Ok(synced)) => {
                let shares = parse(&synced.assignment);
                let places = shares.iter().map(|(topic, p)| Place::new(topic, *p));
                let event = Event::Assigned {
                    group: GROUP.to_owned(),
                    generation: self.generation,
                    // A static member that comes back has another id and is the same owner.
                    member: self.instance.clone().unwrap_or_else(|| self.id.clone()),
                    places: places.collect(),
                };
                cluster.recorder.note(self.client.number, event);
                Some(shares)
            }
        }
    }

    /// What the group has committed of the shares; nothing when it cannot be learned.
    async fn committed(&mut self, shares: &[Share]) -> Option<BTreeMap<Share, Offset>> {
        let coordinator = self.coordinator().await?;
        let recorder = &self.client.cluster.recorder;
        let asked_at = recorder.now();
        let wanted: Vec<FetchTopic> = shares
            .iter()
            .filter_map(|(topic, partition)| {
                Some(FetchTopic {
                    topic: TopicRef::Id(self.client.cluster.topic(topic)?),
                    partitions: vec![*partition],
                })
            })
            .collect();
        let (cluster, host) = (&self.client.cluster, self.client.host);
        let asked = cluster.ask(host, coordinator, ANSWER, |agent| async move {
            agent.groups.fetch_offsets(GROUP, None, Some(&wanted)).await
        });
        let topics = match asked.await {
            Err(_) => {
                self.coordinator = None;
                return None;
            }
            Ok(Err(code)) => {
                self.refused("offset fetch", code);
                return None;
            }
            Ok(Ok(topics)) => topics,
        };
        let mut found = BTreeMap::new();
        for (share, topic) in shares.iter().zip(topics) {
            let offset = topic.partitions.first()?;
            if offset.code != ErrorCode::None {
                recorder.refused(&format!("offset fetch: {}", offset.code));
                return None;
            }
            let event = Event::CommitFetched {
                group: GROUP.to_owned(),
                place: Place::new(share.0, share.1),
                asked: asked_at,
                offset: Some(offset.offset).filter(|offset| *offset >= 0),
            };
            recorder.note(self.client.number, event);
            found.insert(*share, offset.offset.max(0));
        }
        Some(found)
    }

    /// Reads and commits until the generation ends, or now and then for no reason.
    async fn read(&mut self, shares: Vec<Share>) {
        let begun = Instant::now();
        let lifetime = Duration::from_millis(random::range(500..20_000));
        let (mut beaten, mut committed) = (Instant::now(), Instant::now());
        let mut positions = None;
        let mut link = None;
        while !self.client.stopping() && begun.elapsed() < lifetime {
            if beaten.elapsed() >= HEARTBEAT {
                beaten = Instant::now();
                if matches!(self.heartbeat().await, Some(Next::Rejoin)) {
                    return;
                }
            }
            if positions.is_none() {
                positions = self.committed(&shares).await;
            }
            let Some(at) = positions.as_mut().filter(|at| !at.is_empty()) else {
                self.client.pause(200).await;
                continue;
            };
            let turn = random::range(0..at.len());
            if let Some(((topic, partition), offset)) = at.iter_mut().nth(turn) {
                let wait = Duration::from_millis(100);
                let fetched = fetch(
                    &self.client,
                    &mut link,
                    topic,
                    *partition,
                    *offset,
                    wait,
                    false,
                );
                if let Fetched::Upto(next, _) = fetched.await {
                    *offset = next;
                }
            }
            if committed.elapsed() >= COMMIT {
                committed = Instant::now();
                let now = at.clone();
                if matches!(self.commit(&now).await, Some(Next::Rejoin)) {
                    return;
                }
            }
            self.client.pause(60).await;
        }
    }

    async fn heartbeat(&mut self) -> Option<Next> {
        let coordinator = self.coordinator().await?;
        let request = Heartbeat {
            group: GROUP.to_owned(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
        };
        let (cluster, host) = (&self.client.cluster, self.client.host);
        let asked = cluster.ask(host, coordinator, ANSWER, |agent| async move {
            agent.groups.heartbeat(&request).await
        });
        match asked.await {
            Err(_) => {
                self.coordinator = None;
                None
            }
            Ok(Ok(())) => None,
            Ok(Err(code)) => Some(self.refused("heartbeat", code)),
        }
    }

    async fn commit(&mut self, positions: &BTreeMap<Share, Offset>) -> Option<Next> {
        let coordinator = self.coordinator().await?;
        let committer = Committer {
            group: GROUP.to_owned(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            takes_group_not_found: false,
            takes_epochs: false,
        };
        let topics: Vec<CommitTopic> = positions
            .iter()
            .filter_map(|((topic, partition), offset)| {
                Some(CommitTopic {
                    topic: TopicRef::Id(self.client.cluster.topic(topic)?),
                    partitions: vec![CommitPartition {
                        partition: *partition,
                        offset: *offset,
                        leader_epoch: -1,
                        metadata: String::new(),
                    }],
                })
            })
            .collect();
        let (cluster, host) = (&self.client.cluster, self.client.host);
        let within = Duration::from_millis(random::range(400..5000));
        let asked = cluster.ask(host, coordinator, within, |agent| async move {
            agent.groups.commit(&committer, topics).await
        });
        let Ok(codes) = asked.await else {
            self.coordinator = None;
            return None;
        };
        let mut next = None;
        for (((topic, partition), offset), code) in positions.iter().zip(codes.concat()) {
            if code == ErrorCode::None {
                let event = Event::Committed {
                    group: GROUP.to_owned(),
                    place: Place::new(topic, *partition),
                    offset: *offset,
                };
                self.client.cluster.recorder.note(self.client.number, event);
            } else {
                next = Some(self.refused("commit", code));
            }
        }
        next
    }

    async fn leave(&mut self) {
        let Some(coordinator) = self.coordinator().await else {
            return;
        };
        let leaver = Leaver {
            member_id: std::mem::take(&mut self.id),
            instance_id: self.instance.clone(),
            reason: None,
        };
        let (cluster, host) = (&self.client.cluster, self.client.host);
        let asked = cluster.ask(host, coordinator, ANSWER, |agent| async move {
            agent.groups.leave(GROUP, &[leaver]).await
        });
        let _ = asked.await;
    }
}

/// All partitions of all topics, dealt out by turns.
fn assign(joined: &Joined) -> Vec<(String, Bytes)> {
    let mut hands: Vec<(String, String)> = joined
        .members
        .iter()
        .map(|member| (member.member_id.clone(), String::new()))
        .collect();
    let count = hands.len().max(1);
    let all = TOPICS
        .iter()
        .flat_map(|(topic, partitions, _)| (0..*partitions).map(move |p| format!("{topic}/{p} ")));
    for (turn, share) in all.enumerate() {
        if let Some((_, hand)) = hands.get_mut(turn % count) {
            hand.push_str(&share);
        }
    }
    hands
        .into_iter()
        .map(|(member, hand)| (member, Bytes::from(hand)))
        .collect()
}

fn parse(assignment: &Bytes) -> Vec<Share> {
    let text = std::str::from_utf8(assignment).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|share| {
            let (topic, partition) = share.split_once('/')?;
            let (topic, ..) = TOPICS.iter().find(|(name, ..)| *name == topic)?;
            Some((*topic, partition.parse().ok()?))
        })
        .collect()
}
