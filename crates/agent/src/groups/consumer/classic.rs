//! Members that speak the classic protocol in a group of the newer one, so that a group may change its
//! protocol member by member (KIP-848, "online migration"). A JoinGroup is their heartbeat with news, a
//! SyncGroup tells what they may read, and a Heartbeat whether they are to join again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_metadata::{ClassicProtocol, ConsumerGroupRecord, ConsumerMember, Partitions};
use alluvium_protocol::message;
use alluvium_protocol::messages::consumer_protocol_assignment::TopicPartition;
use alluvium_protocol::messages::{
    ApiVersion, ConsumerProtocolAssignment, DecodeLimits, decode_consumer_protocol_assignment,
    decode_consumer_protocol_subscription, encode_consumer_protocol_assignment,
};
use alluvium_types::{ErrorCode, PartitionIndex};
use bytes::{Bytes, BytesMut};
use tracing::info;

use super::super::coordinator::CONSUMER;
use super::super::group::{Env, Group};
use super::super::request::{Heartbeat, JoinGroup, Joined, SyncGroup, Synced};
use super::ConsumerGroup;
use super::member::{Member, each, has};
use super::subscription::Catalog;

/// The newest version in which assignments are written.
const ASSIGNMENTS: i16 = 3;

/// The first version in which a subscription says of which generation it is.
const WITH_GENERATION: i16 = 2;

/// What a member says in the metadata of its protocols.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) topics: BTreeSet<String>,
    owned: Vec<(String, Vec<PartitionIndex>)>,
    generation: i32,
    rack: Option<String>,
    version: i16,
}

/// What a member says with its first protocol.
fn read(protocols: &[(String, Bytes)]) -> Option<Subscription> {
    let (_, metadata) = protocols.first()?;
    subscription(metadata)
}

/// A subscription as consumers write it.
pub(crate) fn subscription(metadata: &Bytes) -> Option<Subscription> {
    let limits = DecodeLimits::default();
    let (version, said) = decode_consumer_protocol_subscription(metadata.clone(), limits).ok()?;
    let owned = said.owned_partitions.into_iter();
    Some(Subscription {
        topics: said.topics.iter().map(ToString::to_string).collect(),
        owned: owned
            .map(|topic| (topic.topic.to_string(), topic.partitions))
            .collect(),
        generation: said.generation_id,
        rack: said.rack_id.as_ref().map(ToString::to_string),
        version: version.value(),
    })
}

fn place(topics: Vec<(String, Vec<PartitionIndex>)>, catalog: &impl Catalog) -> Partitions {
    let mut placed = Partitions::new();
    for (name, partitions) in topics {
        if let Some((topic, _)) = catalog.topic(&name)
            && !partitions.is_empty()
        {
            placed.entry(topic).or_default().extend(partitions);
        }
    }
    placed
}

fn read_assignment(assignment: &Bytes, catalog: &impl Catalog) -> Partitions {
    let limits = DecodeLimits::default();
    let Ok((_, said)) = decode_consumer_protocol_assignment(assignment.clone(), limits) else {
        return Partitions::new();
    };
    let topics = said.assigned_partitions.into_iter();
    let topics = topics.map(|topic| (topic.topic.to_string(), topic.partitions));
    place(topics.collect(), catalog)
}

fn write_assignment(partitions: &Partitions, version: i16, catalog: &impl Catalog) -> Bytes {
    let topics = partitions.iter().filter_map(|(topic, partitions)| {
        Some(message!(TopicPartition {
            topic: catalog.name(*topic)?.into(),
            partitions: partitions.iter().copied().collect(),
        }))
    });
    let assignment = message!(ConsumerProtocolAssignment {
        assigned_partitions: topics.collect()
    });
    let mut written = BytesMut::new();
    let version = ApiVersion::new(version.clamp(0, ASSIGNMENTS));
    match encode_consumer_protocol_assignment(&mut written, &assignment, version) {
        Ok(_) => written.freeze(),
        Err(_) => Bytes::new(),
    }
}

/// A group of the classic protocol as one of the newer, its members as they are. None when they are no
/// consumers.
pub(crate) fn upgraded(group: &Group, catalog: &impl Catalog) -> Option<ConsumerGroupRecord> {
    if group.protocol_type.as_deref() != Some(CONSUMER) {
        return None;
    }
    let mut members = BTreeMap::new();
    for member in group.members.values() {
        let said = read(&member.protocols)?;
        let record = ConsumerMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            rack: said.rack,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout,
            topics: said.topics,
            epoch: group.generation,
            previous_epoch: group.generation,
            assigned: read_assignment(&member.assignment, catalog),
            classic: Some(ClassicProtocol {
                session_timeout: member.session_timeout,
                protocols: member.protocols.clone(),
            }),
            ..ConsumerMember::default()
        };
        members.insert(record.member_id.clone(), record);
    }
    Some(ConsumerGroupRecord {
        epoch: group.generation,
        members,
        at: 0,
    })
}

impl ConsumerGroup {
    /// Everything is to be written: the quorum knows the group by another protocol.
    pub(crate) fn is_converted(&mut self) {
        self.changed = self.members.keys().cloned().collect();
        self.is_changed = true;
    }

    /// Whether all members speak the classic protocol, so that the group can go back to it.
    pub(crate) fn is_classic(&self) -> bool {
        let mut members = self.members.values();
        self.has_members() && members.all(|member| member.record.classic.is_some())
    }

    /// Members as a classic group has them. What each has is left out: they are to join again.
    pub(crate) fn downgraded(&self) -> alluvium_metadata::GroupRecord {
        let members = self.members.values().map(|member| {
            let record = &member.record;
            let classic = record.classic.clone().unwrap_or_default();
            alluvium_metadata::GroupMember {
                member_id: record.member_id.clone(),
                instance_id: record.instance_id.clone(),
                client_id: record.client_id.clone(),
                client_host: record.client_host.clone(),
                session_timeout: classic.session_timeout,
                rebalance_timeout: record.rebalance_timeout,
                protocols: classic.protocols,
                assignment: Bytes::new(),
            }
        });
        alluvium_metadata::GroupRecord {
            protocol_type: CONSUMER.to_owned(),
            protocol: None,
            generation: self.epoch,
            leader: None,
            members: members.collect(),
            at: 0,
        }
    }

    /// The first of a member's protocols that all classic members know.
    fn shared_protocol(&self, protocols: &[(String, Bytes)]) -> Option<String> {
        let classic = || {
            self.members
                .values()
                .filter_map(|it| it.record.classic.as_ref())
        };
        let is_shared = |name: &String| {
            classic().all(|others| others.protocols.iter().any(|(other, _)| other == name))
        };
        let mut names = protocols.iter().map(|(name, _)| name);
        names.find(|name| is_shared(name)).cloned()
    }

    /// A classic member joins, or joins again. `id` is for a newcomer.
    ///
    /// # Errors
    /// What a Kafka client is told, with the member id to come back with.
    pub(crate) fn join_classic(
        &mut self,
        env: &mut Env<'_>,
        request: JoinGroup,
        id: String,
        catalog: &impl Catalog,
    ) -> Result<Joined, (ErrorCode, String)> {
        let known = request.member_id.clone();
        let Some(said) = read(&request.protocols).filter(|_| request.protocol_type == CONSUMER)
        else {
            return Err((ErrorCode::InconsistentGroupProtocol, known));
        };
        let Some(protocol) = self.shared_protocol(&request.protocols) else {
            return Err((ErrorCode::InconsistentGroupProtocol, known));
        };
        if known.is_empty() && request.instance_id.is_none() && request.takes_member_id {
            return Err((ErrorCode::MemberIdRequired, id));
        }
        let is_full = self.members.len() >= env.settings.consumer_max_size;
        if !self.members.contains_key(known.as_str()) && is_full {
            return Err((ErrorCode::GroupMaxSizeReached, String::new()));
        }
        let id: Arc<str> = if known.is_empty() { id } else { known }.into();
        let revoked = self.members.get(&id).map(|it| it.record.revoking.clone());
        let is_new = self.enter_classic(env, &request, &id)?;
        let mut is_other = false;
        let member_topics = said.topics.clone();
        self.update(&id, |member, _| {
            let record = &mut member.record;
            is_other = record.topics != member_topics;
            record.topics = member_topics;
            record.rack = said.rack.clone();
            record.client_id = request.client_id;
            record.client_host = request.client_host;
            record.rebalance_timeout = request.rebalance_timeout;
            record.classic = Some(ClassicProtocol {
                session_timeout: request.session_timeout,
                protocols: request.protocols,
            });
        });
        self.renew_session(&id, env);
        if self.subscriptions.look(catalog, env.now) || is_new || is_other {
            self.next_epoch();
        }
        self.aim(env);
        let epoch = self.members.get(&id).map(|member| member.record.epoch);
        let is_current = said.version < WITH_GENERATION || Some(said.generation) == epoch;
        let owned = if is_current {
            place(said.owned, catalog)
        } else {
            Partitions::new()
        };
        self.lead(&id, Some(&owned));
        let member = self.members.get(&id);
        let member = member.ok_or((ErrorCode::UnknownMemberId, String::new()))?;
        if Some(&member.record.revoking) != revoked.as_ref() || revoked.is_none() {
            self.watch_revocation(&id, env);
        }
        Ok(Joined {
            generation: member.record.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(protocol),
            // Nobody leads: the coordinator assigns.
            leader: String::new(),
            skip_assignment: false,
            member_id: id.to_string(),
            members: Vec::new(),
        })
    }

    /// Makes a classic newcomer a member, or lets a static one take its former self's place. Says whether
    /// the group has another member now.
    fn enter_classic(
        &mut self,
        env: &mut Env<'_>,
        request: &JoinGroup,
        id: &Arc<str>,
    ) -> Result<bool, (ErrorCode, String)> {
        let former = request.instance_id.as_deref();
        let former = former
            .and_then(|instance| self.instances.get(instance))
            .cloned();
        if let Some(former) = former.filter(|former| former != id) {
            if !request.member_id.is_empty() {
                return Err((ErrorCode::FencedInstanceId, request.member_id.clone()));
            }
            if self.replace(env, &former, id) {
                return Ok(false);
            }
        }
        if self.members.contains_key(id) {
            return Ok(false);
        }
        info!(group = %self.id, member = %id, "a member joins by the classic protocol");
        self.add(id, request.instance_id.clone());
        Ok(true)
    }

    /// A classic member that is who it says it is, at the generation that it says.
    fn classic_member(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(&Member, &ClassicProtocol), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if **known != *member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        let member = self.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        let classic = member.record.classic.as_ref();
        let classic = classic.ok_or(ErrorCode::UnknownMemberId)?;
        if member.record.epoch != generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok((member, classic))
    }

    /// What a classic member may read.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub(crate) fn sync_classic(
        &self,
        request: &SyncGroup,
        catalog: &impl Catalog,
    ) -> Result<Synced, ErrorCode> {
        let instance = request.instance_id.as_deref();
        let (member, classic) =
            self.classic_member(&request.member_id, instance, request.generation)?;
        let protocol = self.shared_protocol(&classic.protocols);
        let is_other = |said: &Option<String>, known: Option<&str>| {
            said.as_deref().is_some_and(|said| Some(said) != known)
        };
        if is_other(&request.protocol_type, Some(CONSUMER))
            || is_other(&request.protocol, protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.epoch > member.record.epoch && member.record.revoking.is_empty() {
            return Err(ErrorCode::RebalanceInProgress);
        }
        let version = read(&classic.protocols).map_or(0, |said| said.version);
        Ok(Synced {
            protocol_type: Some(CONSUMER.to_owned()),
            protocol,
            assignment: write_assignment(&member.record.assigned, version, catalog),
        })
    }

    /// A classic member's sign of life.
    ///
    /// # Errors
    /// What a Kafka client is told; `REBALANCE_IN_PROGRESS` when it is to join again, for which it has its
    /// rebalance timeout.
    pub(crate) fn heartbeat_classic(
        &mut self,
        env: &mut Env<'_>,
        request: &Heartbeat,
    ) -> Result<(), ErrorCode> {
        let instance = request.instance_id.as_deref();
        let (member, _) = self.classic_member(&request.member_id, instance, request.generation)?;
        let record = &member.record;
        let is_blocked = || {
            each(&member.target).any(|(topic, partition)| {
                !has(&record.assigned, topic, partition)
                    && self.owners.contains_key(&(topic, partition))
            })
        };
        let rejoins = record.epoch < self.epoch
            || !record.revoking.is_empty()
            || (record.waits && !is_blocked());
        let timeout = i64::from(record.rebalance_timeout.max(1));
        let id: Arc<str> = record.member_id.as_str().into();
        self.renew_session(&id, env);
        if !rejoins {
            return Ok(());
        }
        let [_, revocation] = self.timers_of(&id);
        if !env.timers.is_set(&revocation) {
            env.timers.set(revocation, env.now + timeout);
        }
        Err(ErrorCode::RebalanceInProgress)
    }
}
