//! A member of a consumer group (the classic protocol, range assignor).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use alluvium_protocol::message;
use alluvium_protocol::messages::{
    ApiVersion, ConsumerProtocolAssignment, ConsumerProtocolSubscription, DecodeLimits,
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
    consumer_protocol_assignment::TopicPartition,
    decode_consumer_protocol_assignment, encode_consumer_protocol_assignment,
    encode_consumer_protocol_subscription,
    join_group_request::JoinGroupRequestProtocol,
    leave_group_request::MemberIdentity,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    sync_group_request::SyncGroupRequestAssignment,
};
use alluvium_types::{ErrorCode, Offset};

use crate::client::{Client, Target};
use crate::consumer::{Answer, Consumer, ReadRecord, Start};
use crate::error::ClientError;

/// Without a sign of life for this long a member is taken for dead, unless it asks for another time.
const SESSION_MS: i32 = 30_000;

/// Signs of life.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// The newest versions that name topics.
pub(crate) const COMMIT_BY_NAME: i16 = 9;
pub(crate) const FETCH_BY_NAME: i16 = 9;

/// A member that reads what the group assigns to it.
#[derive(Debug)]
pub struct GroupConsumer<'a> {
    client: &'a Client,
    group: String,
    topic: String,
    start: Start,
    member_id: String,
    generation: i32,
    consumer: Option<Consumer<'a>>,
    last_heartbeat: Instant,
    session_ms: i32,
    /// What the group had committed of what this member owns, when it took over.
    found: BTreeMap<i32, Offset>,
    /// The generation has ended, or a join did not come to an end.
    outside: bool,
}

impl<'a> GroupConsumer<'a> {
    /// Joins a group for one topic; `start` is where to begin in partitions that the group has no
    /// offset for.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn join(
        client: &'a Client,
        group: &str,
        topic: &str,
        start: Start,
    ) -> Result<Self, ClientError> {
        Self::join_for(client, group, topic, start, SESSION_MS).await
    }

    /// As [`Self::join`], for a session of so many milliseconds.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn join_for(
        client: &'a Client,
        group: &str,
        topic: &str,
        start: Start,
        session_ms: i32,
    ) -> Result<Self, ClientError> {
        let mut member = Self {
            client,
            group: group.to_owned(),
            topic: topic.to_owned(),
            start,
            member_id: String::new(),
            generation: -1,
            consumer: None,
            last_heartbeat: Instant::now(),
            session_ms,
            found: BTreeMap::new(),
            outside: true,
        };
        member.rejoin().await?;
        Ok(member)
    }

    /// The next offset of every partition that this member owns.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<i32, Offset> {
        self.consumer
            .as_ref()
            .map(|owned| owned.positions().clone())
            .unwrap_or_default()
    }

    /// The ends of the partitions that this member owns.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ends(&self) -> Result<BTreeMap<i32, Offset>, ClientError> {
        match &self.consumer {
            Some(consumer) => consumer.ends().await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Its id, as the coordinator gave it.
    #[must_use]
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// The generation that it is in.
    #[must_use]
    pub const fn generation(&self) -> i32 {
        self.generation
    }

    /// What the group had committed of what this member owns, when it took over.
    #[must_use]
    pub const fn found(&self) -> &BTreeMap<i32, Offset> {
        &self.found
    }

    /// As [`Self::poll`], with all that the answers say. May be called again after an error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn poll_answers(&mut self, wait: Duration) -> Result<Vec<Answer>, ClientError> {
        if self.outside {
            self.rejoin().await?;
        }
        if self.last_heartbeat.elapsed() >= HEARTBEAT {
            self.heartbeat().await?;
        }
        match &mut self.consumer {
            Some(consumer) => consumer.poll_answers(wait.min(HEARTBEAT)).await,
            None => {
                tokio::time::sleep(wait.min(HEARTBEAT)).await;
                Ok(Vec::new())
            }
        }
    }

    /// Reads what there is, waiting up to `wait`; gives signs of life and joins again when the group
    /// says so.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<ReadRecord>, ClientError> {
        if self.last_heartbeat.elapsed() >= HEARTBEAT {
            self.heartbeat().await?;
        }
        match &mut self.consumer {
            Some(consumer) => consumer.poll(wait.min(HEARTBEAT)).await,
            None => {
                tokio::time::sleep(wait.min(HEARTBEAT)).await;
                Ok(Vec::new())
            }
        }
    }

    /// Commits the positions as they are.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let Some(consumer) = &self.consumer else {
            return Ok(());
        };
        let partitions = consumer
            .positions()
            .iter()
            .map(|(partition, offset)| {
                message!(OffsetCommitRequestPartition {
                    partition_index: *partition,
                    committed_offset: *offset,
                    committed_leader_epoch: -1,
                })
            })
            .collect();
        let topic = message!(OffsetCommitRequestTopic {
            name: self.topic.as_str().into(),
            partitions,
        });
        let ask = message!(OffsetCommitRequest {
            group_id: self.group.as_str().into(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.member_id.as_str().into(),
            topics: vec![topic],
        });
        let answer = self
            .client
            .call_up_to(&self.coordinator(), &ask, COMMIT_BY_NAME)
            .await?;
        for result in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            let subject = format!("commit of {} {}", self.topic, result.partition_index);
            let left = ErrorCode::from_code(result.error_code);
            self.outside |= matches!(
                left,
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration)
            );
            ClientError::check(&subject, result.error_code, None)?;
        }
        Ok(())
    }

    /// Leaves the group, so that the others need not wait for this member's session to end.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leave(self) -> Result<(), ClientError> {
        let member = message!(MemberIdentity {
            member_id: self.member_id.as_str().into()
        });
        let ask = message!(LeaveGroupRequest {
            group_id: self.group.as_str().into(),
            members: vec![member],
        });
        let answer = self.client.call(&self.coordinator(), &ask).await?;
        ClientError::check(&self.subject(), answer.error_code, None)
    }

    fn coordinator(&self) -> Target {
        Target::Coordinator(self.group.clone())
    }

    fn subject(&self) -> String {
        format!("group {}", self.group)
    }

    async fn heartbeat(&mut self) -> Result<(), ClientError> {
        self.last_heartbeat = Instant::now();
        let ask = message!(HeartbeatRequest {
            group_id: self.group.as_str().into(),
            generation_id: self.generation,
            member_id: self.member_id.as_str().into(),
        });
        let answer = self.client.call(&self.coordinator(), &ask).await?;
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => Ok(()),
            Some(ErrorCode::RebalanceInProgress) => {
                // What cannot be committed now is read again by whoever comes next.
                let committed = self.commit().await;
                self.rejoin().await.and(committed)
            }
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                self.member_id.clear();
                self.rejoin().await
            }
            _ => Err(ClientError::refused(
                self.subject(),
                answer.error_code,
                None,
            )),
        }
    }

    async fn rejoin(&mut self) -> Result<(), ClientError> {
        self.outside = true;
        loop {
            let joined = self.ask_to_join().await?;
            let assignments = if joined.leader.as_str() == self.member_id {
                self.assign(&joined).await?
            } else {
                Vec::new()
            };
            let ask = message!(SyncGroupRequest {
                group_id: self.group.as_str().into(),
                generation_id: self.generation,
                member_id: self.member_id.as_str().into(),
                protocol_type: Some("consumer".into()),
                protocol_name: joined.protocol_name.clone(),
                assignments,
            });
            let answer = self.client.call(&self.coordinator(), &ask).await?;
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    self.take_over(answer.assignment).await?;
                    self.outside = false;
                    return Ok(());
                }
                Some(ErrorCode::RebalanceInProgress) => {}
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                    self.member_id.clear();
                }
                _ => {
                    return Err(ClientError::refused(
                        self.subject(),
                        answer.error_code,
                        None,
                    ));
                }
            }
        }
    }

    async fn ask_to_join(&mut self) -> Result<JoinGroupResponse, ClientError> {
        let subscription = message!(ConsumerProtocolSubscription {
            topics: vec![self.topic.as_str().into()]
        });
        let mut metadata = BytesMut::new();
        encode_consumer_protocol_subscription(&mut metadata, &subscription, ApiVersion::new(0))
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        let metadata = metadata.freeze();
        loop {
            let protocol = message!(JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: metadata.clone(),
            });
            let ask = message!(JoinGroupRequest {
                group_id: self.group.as_str().into(),
                session_timeout_ms: self.session_ms,
                rebalance_timeout_ms: self.session_ms,
                member_id: self.member_id.as_str().into(),
                protocol_type: "consumer".into(),
                protocols: vec![protocol],
            });
            let answer = self.client.call(&self.coordinator(), &ask).await?;
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    self.member_id = answer.member_id.to_string();
                    self.generation = answer.generation_id;
                    return Ok(answer);
                }
                // KIP-394: the first answer gives the id to join with.
                Some(ErrorCode::MemberIdRequired) => self.member_id = answer.member_id.to_string(),
                Some(ErrorCode::UnknownMemberId) => self.member_id.clear(),
                _ => {
                    return Err(ClientError::refused(
                        self.subject(),
                        answer.error_code,
                        None,
                    ));
                }
            }
        }
    }

    /// Range: consecutive partitions to members in the order of their ids.
    async fn assign(
        &self,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let topic = self.client.topic_on_first_use(&self.topic).await?;
        let partitions: Vec<i32> = topic
            .partitions
            .iter()
            .map(|known| known.partition)
            .collect();
        let mut members: Vec<_> = joined
            .members
            .iter()
            .map(|member| &member.member_id)
            .collect();
        members.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let count = members.len().max(1);
        let (each, extra) = (partitions.len() / count, partitions.len() % count);
        let mut rest = partitions.as_slice();
        let mut assignments = Vec::with_capacity(members.len());
        for (index, member) in members.into_iter().enumerate() {
            let (mine, others) = rest.split_at(each + usize::from(index < extra));
            rest = others;
            let owned = message!(TopicPartition {
                topic: self.topic.as_str().into(),
                partitions: mine.to_vec(),
            });
            let assignment = message!(ConsumerProtocolAssignment {
                assigned_partitions: vec![owned]
            });
            let mut bytes = BytesMut::new();
            encode_consumer_protocol_assignment(&mut bytes, &assignment, ApiVersion::new(0))
                .map_err(|error| ClientError::Usage(error.to_string()))?;
            assignments.push(message!(SyncGroupRequestAssignment {
                member_id: member.clone(),
                assignment: bytes.freeze(),
            }));
        }
        Ok(assignments)
    }

    async fn take_over(&mut self, assignment: Bytes) -> Result<(), ClientError> {
        self.last_heartbeat = Instant::now();
        self.consumer = None;
        self.found.clear();
        if assignment.is_empty() {
            return Ok(());
        }
        let (_, assignment) =
            decode_consumer_protocol_assignment(assignment, DecodeLimits::default())
                .map_err(|error| ClientError::Usage(format!("assignment: {error}")))?;
        let owned: Vec<i32> = assignment
            .assigned_partitions
            .iter()
            .filter(|topic| topic.topic.as_str() == self.topic)
            .flat_map(|topic| topic.partitions.iter().copied())
            .collect();
        if owned.is_empty() {
            return Ok(());
        }
        let committed = self.committed(&owned).await?;
        let mut consumer =
            Consumer::new(self.client, &self.topic, Some(&owned), self.start).await?;
        for (partition, offset) in &committed {
            consumer.seek(*partition, *offset);
        }
        self.found = committed;
        self.consumer = Some(consumer);
        Ok(())
    }

    async fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Offset>, ClientError> {
        committed_offsets(self.client, &self.group, &self.topic, partitions).await
    }
}

/// What a group has committed of a topic's partitions; those without a commit are left out.
///
/// # Errors
/// See [`ClientError`].
pub async fn committed_offsets(
    client: &Client,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Offset>, ClientError> {
    let wanted = message!(OffsetFetchRequestTopics {
        name: topic.into(),
        partition_indexes: partitions.to_vec(),
    });
    let asked = message!(OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![wanted]),
    });
    let ask = message!(OffsetFetchRequest {
        groups: vec![asked]
    });
    let target = Target::Coordinator(group.to_owned());
    let answer = client.call_up_to(&target, &ask, FETCH_BY_NAME).await?;
    let subject = format!("group {group}");
    let Some(found) = answer.groups.first() else {
        let silent = Some("the answer does not mention it");
        return Err(ClientError::refused(subject, -1, silent));
    };
    ClientError::check(&subject, found.error_code, None)?;
    let mut offsets = BTreeMap::new();
    for partition in found.topics.iter().flat_map(|topic| &topic.partitions) {
        ClientError::check(&subject, partition.error_code, None)?;
        if partition.committed_offset >= 0 {
            offsets.insert(partition.partition_index, partition.committed_offset);
        }
    }
    Ok(offsets)
}
