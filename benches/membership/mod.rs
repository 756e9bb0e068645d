//! Members of groups, as plain as the protocol allows: each has a connection, does what it is told at once,
//! and says what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_client::Connection;
use alluvium_protocol::message;
use alluvium_protocol::messages::{
    ApiVersion, ConsumerGroupHeartbeatRequest, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, DecodeLimits, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ShareGroupHeartbeatRequest, SyncGroupRequest, Uuid,
    consumer_group_heartbeat_request::TopicPartitions,
    consumer_protocol_assignment::TopicPartition, decode_consumer_protocol_assignment,
    encode_consumer_protocol_assignment, encode_consumer_protocol_subscription,
    join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
    sync_group_request::SyncGroupRequestAssignment,
};
use alluvium_types::ErrorCode;
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a classic member may be silent, in milliseconds: the least that Kafka allows.
pub(crate) const SESSION: i32 = 6_000;

/// The protocols that groups have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Classic,
    Consumer,
    Share,
}

/// What a member has at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Generation or epoch.
    pub(crate) epoch: i32,
    pub(crate) partitions: BTreeSet<i32>,
}

/// What all members of a group have.
#[derive(Debug, Default)]
pub(crate) struct Board {
    held: Mutex<BTreeMap<usize, Held>>,
    changed: Notify,
}

impl Board {
    fn write(&self, member: usize, held: Held) {
        let mut board = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        board.insert(member, held);
        self.changed.notify_waiters();
    }

    pub(crate) fn erase(&self, member: usize) {
        let mut board = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        board.remove(&member);
        self.changed.notify_waiters();
    }

    /// Waits until `members` have every partition, and nobody has more than two beyond another.
    pub(crate) async fn settled(&self, members: usize, partitions: usize, once: bool) {
        loop {
            let changed = self.changed.notified();
            {
                let board = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                let sizes = || board.values().map(|held| held.partitions.len());
                let all: BTreeSet<i32> = board
                    .values()
                    .flat_map(|held| held.partitions.iter().copied())
                    .collect();
                let even = sizes().max().unwrap_or(0) <= sizes().min().unwrap_or(0) + 2;
                let disjoint = !once || sizes().sum::<usize>() == partitions;
                let epochs: BTreeSet<i32> = board.values().map(|held| held.epoch).collect();
                if board.len() == members
                    && all.len() == partitions
                    && even
                    && disjoint
                    && epochs.len() == 1
                {
                    return;
                }
            }
            let _ = timeout(Duration::from_millis(100), changed).await;
        }
    }
}

/// A running member.
pub(crate) struct Member {
    pub(crate) number: usize,
    task: JoinHandle<()>,
    leave: Arc<Notify>,
}

impl Member {
    pub(crate) fn start(
        protocol: Protocol,
        address: &str,
        group: &str,
        topic: &str,
        number: usize,
        board: &Arc<Board>,
    ) -> Self {
        let leave = Arc::new(Notify::new());
        let session = Session {
            address: address.to_owned(),
            group: group.to_owned(),
            topic: topic.to_owned(),
            number,
            board: Arc::clone(board),
            leave: Arc::clone(&leave),
        };
        let task = tokio::spawn(async move {
            match protocol {
                Protocol::Classic => session.classic().await,
                Protocol::Consumer => session.consumer().await,
                Protocol::Share => session.share().await,
            }
        });
        Self {
            number,
            task,
            leave,
        }
    }

    /// It dies without a word.
    pub(crate) fn kill(self, board: &Board) {
        self.task.abort();
        board.erase(self.number);
    }

    /// It says goodbye.
    pub(crate) async fn leave(self, board: &Board) {
        self.leave.notify_one();
        self.task.await.expect("a member");
        board.erase(self.number);
    }
}

struct Session {
    address: String,
    group: String,
    topic: String,
    number: usize,
    board: Arc<Board>,
    leave: Arc<Notify>,
}

impl Session {
    async fn connect(&self) -> Connection {
        Connection::open(&self.address).await.expect("a server")
    }

    fn hold(&self, epoch: i32, partitions: BTreeSet<i32>) {
        self.board.write(self.number, Held { epoch, partitions });
    }

    /// Waits for the next heartbeat. False when it is to leave.
    async fn rest(&self, time: Duration) -> bool {
        timeout(time, self.leave.notified()).await.is_err()
    }

    /// JoinGroup and SyncGroup; the leader assigns ranges.
    async fn classic(&self) {
        let mut connection = self.connect().await;
        let mut member_id = String::new();
        loop {
            let join = message!(JoinGroupRequest {
                group_id: self.group.as_str().into(),
                session_timeout_ms: SESSION,
                rebalance_timeout_ms: 60_000,
                member_id: member_id.as_str().into(),
                protocol_type: "consumer".into(),
                protocols: vec![message!(JoinGroupRequestProtocol {
                    name: "range".into(),
                    metadata: self.subscription(),
                })],
            });
            let joined = connection.call(&join).await.expect("an answer");
            let code = ErrorCode::from_code(joined.error_code);
            if code == Some(ErrorCode::MemberIdRequired) {
                member_id = joined.member_id.to_string();
                continue;
            }
            if code != Some(ErrorCode::None) {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            member_id = joined.member_id.to_string();
            let ids: Vec<String> = joined
                .members
                .iter()
                .map(|it| it.member_id.to_string())
                .collect();
            let sync = message!(SyncGroupRequest {
                group_id: self.group.as_str().into(),
                generation_id: joined.generation_id,
                member_id: member_id.as_str().into(),
                protocol_type: Some("consumer".into()),
                protocol_name: Some("range".into()),
                assignments: self.ranges(&ids),
            });
            let synced = connection.call(&sync).await.expect("an answer");
            if synced.error_code != 0 {
                continue;
            }
            self.hold(joined.generation_id, partitions_of(synced.assignment));
            loop {
                if !self.rest(Duration::from_secs(3)).await {
                    let leave = message!(LeaveGroupRequest {
                        group_id: self.group.as_str().into(),
                        members: vec![message!(MemberIdentity {
                            member_id: member_id.as_str().into()
                        })],
                    });
                    connection.call(&leave).await.expect("an answer");
                    return;
                }
                let beat = message!(HeartbeatRequest {
                    group_id: self.group.as_str().into(),
                    generation_id: joined.generation_id,
                    member_id: member_id.as_str().into(),
                });
                if connection.call(&beat).await.expect("an answer").error_code != 0 {
                    break;
                }
            }
        }
    }

    fn subscription(&self) -> Bytes {
        let said = message!(ConsumerProtocolSubscription {
            topics: vec![self.topic.as_str().into()]
        });
        let mut written = BytesMut::new();
        encode_consumer_protocol_subscription(&mut written, &said, ApiVersion::new(1))
            .expect("it fits");
        written.freeze()
    }

    fn ranges(&self, ids: &[String]) -> Vec<SyncGroupRequestAssignment> {
        let count = ids.len().max(1);
        let share = |at: usize| {
            let of = message!(TopicPartition {
                topic: self.topic.as_str().into(),
                partitions: (at * PARTITIONS / count..(at + 1) * PARTITIONS / count)
                    .map(|it| i32::try_from(it).expect("few"))
                    .collect(),
            });
            let assignment = message!(ConsumerProtocolAssignment {
                assigned_partitions: vec![of]
            });
            let mut written = BytesMut::new();
            encode_consumer_protocol_assignment(&mut written, &assignment, ApiVersion::new(1))
                .expect("it fits");
            written.freeze()
        };
        let of = |(at, id): (usize, &String)| {
            message!(SyncGroupRequestAssignment {
                member_id: id.as_str().into(),
                assignment: share(at),
            })
        };
        ids.iter().enumerate().map(of).collect()
    }

    /// ConsumerGroupHeartbeat; what was given up is told at once.
    async fn consumer(&self) {
        let mut connection = self.connect().await;
        let member_id = format!("member-{}", self.number);
        let mut epoch = 0;
        let mut topic = Uuid::default();
        let mut owned = BTreeSet::new();
        loop {
            let has = if owned.is_empty() {
                Vec::new()
            } else {
                vec![message!(TopicPartitions {
                    topic_id: topic,
                    partitions: owned.iter().copied().collect(),
                })]
            };
            let mut beat = message!(ConsumerGroupHeartbeatRequest {
                group_id: self.group.as_str().into(),
                member_id: member_id.as_str().into(),
                member_epoch: epoch,
                rebalance_timeout_ms: -1,
                topic_partitions: Some(has),
            });
            if epoch == 0 {
                beat.rebalance_timeout_ms = 60_000;
                beat.subscribed_topic_names = Some(vec![self.topic.as_str().into()]);
            }
            let told = connection.call(&beat).await.expect("an answer");
            if told.error_code != 0 {
                epoch = 0;
                owned.clear();
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            epoch = told.member_epoch;
            let mut is_news = false;
            if let Some(assignment) = told.assignment {
                let topics = assignment.topic_partitions.into_iter();
                let assigned: BTreeSet<i32> = topics
                    .flat_map(|of| {
                        topic = of.topic_id;
                        of.partitions
                    })
                    .collect();
                is_news = assigned != owned;
                owned = assigned;
            }
            self.hold(epoch, owned.clone());
            let interval = u64::try_from(told.heartbeat_interval_ms).unwrap_or(5000);
            if !is_news && !self.rest(Duration::from_millis(interval)).await {
                beat.member_epoch = -1;
                beat.topic_partitions = None;
                connection.call(&beat).await.expect("an answer");
                return;
            }
        }
    }

    async fn share(&self) {
        let mut connection = self.connect().await;
        let member_id = format!("member-{}", self.number);
        let mut epoch = 0;
        let mut has = BTreeSet::new();
        loop {
            let mut beat = message!(ShareGroupHeartbeatRequest {
                group_id: self.group.as_str().into(),
                member_id: member_id.as_str().into(),
                member_epoch: epoch,
            });
            if epoch == 0 {
                beat.subscribed_topic_names = Some(vec![self.topic.as_str().into()]);
            }
            let told = connection.call(&beat).await.expect("an answer");
            if told.error_code != 0 {
                epoch = 0;
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            epoch = told.member_epoch;
            if let Some(assignment) = told.assignment {
                let topics = assignment.topic_partitions.into_iter();
                has = topics.flat_map(|of| of.partitions).collect();
            }
            self.hold(epoch, has.clone());
            let interval = u64::try_from(told.heartbeat_interval_ms).unwrap_or(5000);
            if !self.rest(Duration::from_millis(interval)).await {
                beat.member_epoch = -1;
                connection.call(&beat).await.expect("an answer");
                return;
            }
        }
    }
}

/// Partitions of the topic that groups share.
pub(crate) const PARTITIONS: usize = 500;

fn partitions_of(assignment: Bytes) -> BTreeSet<i32> {
    let decoded = decode_consumer_protocol_assignment(assignment, DecodeLimits::default());
    let (_, said) = decoded.expect("what the leader wrote");
    let topics = said.assigned_partitions.into_iter();
    topics.flat_map(|topic| topic.partitions).collect()
}
