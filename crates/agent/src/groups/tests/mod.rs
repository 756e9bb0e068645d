//! The plain state machine, with time and durability in the test's hands.

mod consumers;
mod forgetting;
mod membership;
mod random;
mod rebalances;
mod restarts;
mod shell;

use std::collections::HashMap;

use alluvium_metadata::{AgentOrigin, Command, OffsetCommit};
use alluvium_types::{AgentEpoch, AgentId, ErrorCode, Millis, TopicId, TopicPartition};
use bytes::Bytes;
use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::coordinator::{Coordinator, Durable, Remembered};
use super::group::Group;
use super::member::Waiter;
use super::request::{
    Committer, Heartbeat, JoinAnswer, JoinGroup, Joined, Leaver, SyncAnswer, SyncGroup,
};
use super::settings::Settings;

const SESSION: i32 = 10_000;
const REBALANCE: i32 = 60_000;

/// What a quorum would remember.
#[derive(Debug, Default)]
struct Quorum {
    groups: HashMap<String, Remembered>,
    /// Commits and records, in the order in which they were applied.
    log: Vec<String>,
}

impl Durable for Quorum {
    fn group(&self, id: &str) -> Option<Remembered> {
        self.groups.get(id).cloned()
    }
}

impl Quorum {
    fn apply(&mut self, command: Command) {
        match command {
            Command::PutGroup(put) => {
                self.log.push(format!("record {}", put.record.generation));
                let group = self.groups.entry(put.group).or_default();
                let before = group.classic.as_ref();
                assert!(before.is_none_or(|before| before.generation <= put.record.generation));
                *group = Remembered {
                    classic: Some(put.record),
                    consumer: None,
                };
            }
            Command::ChangeConsumerGroup(change) => {
                self.log.push(format!("epoch {}", change.epoch));
                let group = self.groups.entry(change.group).or_default();
                group.classic = None;
                let record = group.consumer.get_or_insert_default();
                assert!(record.epoch <= change.epoch);
                record.epoch = change.epoch;
                for id in change.removed {
                    record.members.remove(&id);
                }
                for member in change.changed {
                    record.members.insert(member.member_id.clone(), member);
                }
            }
            Command::CommitOffsets(commit) => {
                self.log.extend(
                    commit
                        .offsets
                        .iter()
                        .map(|o| format!("commit {}", o.offset)),
                );
                self.groups.entry(commit.group).or_default();
            }
            Command::RemoveGroup { group, .. } => {
                self.log.push("delete".into());
                self.groups.remove(&group);
            }
            Command::RemoveOffsets { partitions, .. } => {
                self.log.push(format!("forget {}", partitions.len()));
            }
            other => panic!("groups do not propose {other:?}"),
        }
    }
}

/// A coordinator in a test's hands. The group is always "g".
struct Bench {
    coordinator: Coordinator,
    quorum: Quorum,
    now: Millis,
    ids: u128,
}

impl Bench {
    fn new() -> Self {
        let settings = Settings {
            initial_delay: 0,
            ..Settings::default()
        };
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        let mut coordinator = Coordinator::default();
        coordinator.configure(settings);
        Self {
            coordinator,
            quorum: Quorum::default(),
            now: 0,
            ids: 0,
        }
    }

    /// The agent starts again on what is durable.
    fn restart(&mut self) {
        let settings = Settings {
            initial_delay: 0,
            ..Settings::default()
        };
        self.coordinator = Coordinator::default();
        self.coordinator.configure(settings);
        for (id, group) in &self.quorum.groups {
            let classic = group.classic.as_ref();
            if let Some(record) = classic.filter(|record| !record.members.is_empty()) {
                self.coordinator.restore(self.now, id, record);
            }
            let consumer = group.consumer.as_ref();
            if let Some(record) = consumer.filter(|record| !record.members.is_empty()) {
                self.coordinator.restore_consumers(self.now, id, record);
            }
        }
    }

    fn send_join(&mut self, request: JoinGroup) -> Receiver<JoinAnswer> {
        let (waiter, answer) = Waiter::new();
        self.ids += 1;
        // High bits only: the version and variant bits of the id are not free.
        let bits = self.ids << 80;
        self.coordinator
            .join(self.now, request, bits, waiter, &self.quorum);
        answer
    }

    fn join(&mut self, member_id: &str) -> Receiver<JoinAnswer> {
        self.send_join(request(member_id, None))
    }

    /// Gets an id and joins with it, as clients have done since KIP-394.
    fn newcomer(&mut self) -> (String, Receiver<JoinAnswer>) {
        let refused = now(&mut self.join("")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::MemberIdRequired);
        let answer = self.join(&refused.member_id);
        (refused.member_id, answer)
    }

    fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &str)],
    ) -> Receiver<SyncAnswer> {
        let (waiter, answer) = Waiter::new();
        let request = SyncGroup {
            group: "g".into(),
            generation,
            member_id: member_id.into(),
            assignments: assignments
                .iter()
                .map(|(id, share)| ((*id).to_owned(), Bytes::copy_from_slice(share.as_bytes())))
                .collect(),
            ..SyncGroup::default()
        };
        self.coordinator
            .sync(self.now, request, waiter, &self.quorum);
        answer
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        let heartbeat = Heartbeat {
            group: "g".into(),
            generation,
            member_id: member_id.into(),
            instance_id: None,
        };
        self.coordinator
            .heartbeat(self.now, &heartbeat)
            .err()
            .unwrap_or_default()
    }

    fn leave(&mut self, member_id: &str) -> ErrorCode {
        let leaver = Leaver {
            member_id: member_id.into(),
            ..Leaver::default()
        };
        self.coordinator.leave(self.now, "g", &[leaver]).unwrap()[0]
    }

    fn commit(&mut self, member_id: &str, generation: i32, offset: i64) -> Receiver<ErrorCode> {
        let (waiter, answer) = Waiter::new();
        let committer = Committer {
            group: "g".into(),
            generation,
            member_id: member_id.into(),
            instance_id: None,
            takes_group_not_found: true,
            takes_epochs: true,
        };
        let partition = TopicPartition::new(TopicId([1; 16]), 0);
        let offsets = vec![OffsetCommit {
            partition,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }];
        self.coordinator
            .commit(self.now, &committer, offsets, None, waiter, &self.quorum);
        answer
    }

    fn delete(&mut self) -> Receiver<ErrorCode> {
        let (waiter, answer) = Waiter::new();
        self.coordinator.delete(self.now, "g", waiter, &self.quorum);
        answer
    }

    /// Makes everything queued durable.
    fn write(&mut self) {
        while self.coordinator.has_writes() {
            self.write_with(Ok(()));
        }
    }

    /// Takes what is queued once; it is applied unless `result` says otherwise.
    fn write_with(&mut self, result: Result<(), ErrorCode>) {
        let origin = AgentOrigin {
            agent: AgentId(1),
            epoch: AgentEpoch(1),
        };
        let (commands, done) = self.coordinator.take_writes(self.now, origin, 0, 100);
        for (command, done) in commands.into_iter().zip(done) {
            if result.is_ok() {
                self.quorum.apply(command);
            }
            self.coordinator.finish(self.now, done, result);
        }
    }

    fn advance(&mut self, millis: Millis) {
        self.now += millis;
        self.coordinator.expire(self.now);
    }

    fn group(&self) -> &Group {
        self.coordinator.group("g").unwrap()
    }

    fn state(&self) -> &'static str {
        self.coordinator
            .group("g")
            .map_or("-", |group| group.state().name())
    }

    /// Starts a group of `count` members and makes it stable. Returns their ids, the leader's first.
    fn stable(&mut self, count: usize) -> Vec<String> {
        let (first, mut answer) = self.newcomer();
        let mut ids = vec![first.clone()];
        let mut joined = now(&mut answer).unwrap();
        for _ in 1..count {
            let (id, mut answer) = self.newcomer();
            ids.push(id);
            let mut others: Vec<_> = ids[..ids.len() - 1]
                .to_vec()
                .iter()
                .map(|id| self.join(id))
                .collect();
            joined = now(&mut others[0]).unwrap();
            assert!(others[1..].iter_mut().all(|other| now(other).is_ok()));
            assert!(now(&mut answer).is_ok());
        }
        assert_eq!(joined.leader, first);
        self.sync_all(&joined, &ids);
        ids
    }

    /// All members sync; the leader gives each its own id as its share.
    fn sync_all(&mut self, joined: &Joined, ids: &[String]) {
        let shares: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
        let mut answers = Vec::new();
        for id in ids {
            let given = if *id == joined.leader {
                shares.as_slice()
            } else {
                &[]
            };
            answers.push(self.sync(id, joined.generation, given));
        }
        self.write();
        for (id, answer) in ids.iter().zip(&mut answers) {
            assert_eq!(now(answer).unwrap().assignment, id.as_bytes());
        }
        assert_eq!(self.state(), "Stable");
    }
}

fn request(member_id: &str, instance_id: Option<&str>) -> JoinGroup {
    JoinGroup {
        group: "g".into(),
        member_id: member_id.into(),
        instance_id: instance_id.map(str::to_owned),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        takes_member_id: true,
        takes_skip_assignment: true,
        reason: None,
    }
}

fn protocols(names: &[&str]) -> Vec<(String, Bytes)> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), Bytes::from(format!("sub {name}"))))
        .collect()
}

/// The answer, which must be there.
fn now<T>(answer: &mut Receiver<T>) -> T {
    answer.try_recv().expect("an answer")
}

/// Whether there is no answer yet.
fn waits<T>(answer: &mut Receiver<T>) -> bool {
    matches!(answer.try_recv(), Err(TryRecvError::Empty))
}
