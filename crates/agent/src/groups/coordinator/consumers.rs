//! Groups of the newer consumer protocol, and how groups change from one protocol to the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_metadata::{ConsumerGroupRecord, ConsumerMember};
use alluvium_types::{ErrorCode, Millis};
use tracing::{info, warn};

use super::super::consumer::classic::upgraded;
use super::super::consumer::{
    Catalog, ConsumerAnswer, ConsumerDescription, ConsumerGroup, ConsumerHeartbeat, ConsumerRefused,
};
use super::super::group::{Env, Phase};
use super::super::member::Waiter;
use super::super::request::{Heartbeat, JoinAnswer, JoinGroup, JoinRefused, Leaver};
use super::super::settings::{ALL_GROUPS_BYTES, ENTRY_BYTES};
use super::super::timers::Timer;
use super::super::work::{Told, Work};
use super::{Coordinator, Durable};

/// Bytes that a member's record takes when it is written, about.
pub(super) fn consumer_bytes(member: &ConsumerMember) -> usize {
    let topics: usize = member.topics.iter().map(String::len).sum();
    let partitions = member.assigned.values().chain(member.revoking.values());
    let partitions: usize = partitions.map(|of| 20 + of.len() * 4).sum();
    ENTRY_BYTES + topics + partitions
}

impl Coordinator {
    /// Takes up a group that the quorum remembers with members.
    pub(crate) fn restore_consumers(
        &mut self,
        now: Millis,
        id: &str,
        record: &ConsumerGroupRecord,
    ) {
        let id: Arc<str> = id.into();
        let mut env = Env {
            now,
            settings: &self.settings,
            timers: &mut self.timers,
        };
        let group = ConsumerGroup::restore(Arc::clone(&id), record, &mut env);
        self.bytes += group.bytes();
        self.consumers.insert(id, group);
    }

    /// Does something to a group that is in memory.
    fn with_consumers<R>(
        &mut self,
        now: Millis,
        id: &str,
        change: impl FnOnce(&mut ConsumerGroup, &mut Env<'_>) -> R,
    ) -> Option<R> {
        let group = self.consumers.get_mut(id)?;
        let before = group.bytes();
        let mut env = Env {
            now,
            settings: &self.settings,
            timers: &mut self.timers,
        };
        let result = change(group, &mut env);
        self.bytes = self.bytes.saturating_sub(before) + group.bytes();
        Some(result)
    }

    /// Queues what has changed in a group. Whoever made the change is answered when it is durable; where
    /// nothing has changed, now.
    fn queue_change(&mut self, now: Millis, id: &str, told: Option<Told>) {
        let Some(group) = self.consumers.get_mut(id) else {
            return;
        };
        if let Some(change) = group.take_change() {
            group.writes += 1;
            self.queue.push_back(Work::Consumer {
                group: Arc::clone(&group.id),
                change,
                told,
            });
            return;
        }
        let is_over = group.is_over();
        if let Some(told) = told {
            told.answer(Ok(()));
        }
        if is_over {
            self.forget_consumers(now, id);
        }
    }

    /// A group leaves memory.
    pub(super) fn forget_consumers(&mut self, now: Millis, id: &str) {
        if let Some(mut group) = self.consumers.remove(id) {
            self.bytes = self.bytes.saturating_sub(group.bytes());
            let mut env = Env {
                now,
                settings: &self.settings,
                timers: &mut self.timers,
            };
            group.close(&mut env);
        }
    }

    /// A member of a consumer group joins, lives on or leaves (KIP-848). The request was checked
    /// ([`ConsumerHeartbeat::check`]).
    pub(crate) fn consumer_heartbeat(
        &mut self,
        now: Millis,
        beat: &ConsumerHeartbeat,
        waiter: Waiter<ConsumerAnswer>,
        durable: &impl Durable,
        catalog: &impl Catalog,
    ) {
        if self.closed {
            return waiter.answer(Err(ErrorCode::CoordinatorNotAvailable.into()));
        }
        if let Err(refused) = self.enter_protocol(now, beat, durable, catalog) {
            return waiter.answer(Err(refused));
        }
        let answer = self.with_consumers(now, &beat.group, |group, env| {
            group.heartbeat(env, beat, catalog)
        });
        match answer {
            Some(Ok(membership)) => {
                self.queue_change(now, &beat.group, Some(Told::Member(waiter, membership)));
                self.downgrade(now, &beat.group);
            }
            Some(Err(refused)) => {
                waiter.answer(Err(refused));
                self.queue_change(now, &beat.group, None);
            }
            None => waiter.answer(Err(ErrorCode::CoordinatorNotAvailable.into())),
        }
    }

    /// Sees to it that a group is one of the newer protocol, in memory.
    fn enter_protocol(
        &mut self,
        now: Millis,
        beat: &ConsumerHeartbeat,
        durable: &impl Durable,
        catalog: &impl Catalog,
    ) -> Result<(), ConsumerRefused> {
        let id = beat.group.as_str();
        if self.consumers.contains_key(id) {
            return Ok(());
        }
        let not_found = |why: &str| {
            let text = format!("Group {id} {why}.");
            Err(ConsumerRefused::new(ErrorCode::GroupIdNotFound, text))
        };
        let joins = beat.epoch == 0;
        let record = match self.groups.get(id) {
            Some(group) if matches!(group.phase, Phase::Dead) => {
                return Err(ErrorCode::CoordinatorNotAvailable.into());
            }
            Some(_) if !joins => return not_found("is not a consumer group"),
            Some(group) if group.members.is_empty() => ConsumerGroupRecord {
                epoch: group.generation,
                ..ConsumerGroupRecord::default()
            },
            Some(_) if !self.settings.migration.upgrades() => {
                return not_found("has members of the classic protocol and may not change it");
            }
            Some(group) => match upgraded(group, catalog) {
                Some(record) => record,
                None => return not_found("has members that are no consumers"),
            },
            None => match durable.group(id) {
                None if !joins => return not_found("is not known"),
                Some(known) if !joins && known.consumer.is_none() => {
                    return not_found("is not a consumer group");
                }
                Some(known) => known.consumer.unwrap_or_else(|| ConsumerGroupRecord {
                    epoch: known.classic.map_or(0, |record| record.generation),
                    ..ConsumerGroupRecord::default()
                }),
                None => ConsumerGroupRecord::default(),
            },
        };
        if self.bytes > ALL_GROUPS_BYTES {
            warn!(
                group = id,
                bytes = self.bytes,
                "no memory for another group"
            );
            return Err(ErrorCode::CoordinatorNotAvailable.into());
        }
        let is_converted = self.groups.contains_key(id);
        if is_converted {
            info!(group = id, "group changes to the newer consumer protocol");
            self.forget(now, id, ErrorCode::RebalanceInProgress);
        }
        self.restore_consumers(now, id, &record);
        if is_converted {
            self.with_consumers(now, id, |group, _| group.is_converted());
        }
        Ok(())
    }

    /// A group whose members all speak the classic protocol by now goes back to it, and has them join
    /// again.
    fn downgrade(&mut self, now: Millis, id: &str) {
        let is_classic = self.consumers.get(id).filter(|group| group.is_classic());
        let Some(group) = is_classic.filter(|_| self.settings.migration.downgrades()) else {
            return;
        };
        info!(group = id, "group changes to the classic protocol");
        let record = group.downgraded();
        self.forget_consumers(now, id);
        self.restore(now, id, &record);
        let reason = "the last member of the newer protocol has left";
        self.with(now, id, |group, env| group.prepare(env, reason));
    }

    /// A classic member joins a group of the newer protocol.
    pub(super) fn join_consumers(
        &mut self,
        now: Millis,
        request: JoinGroup,
        id: String,
        waiter: Waiter<JoinAnswer>,
        catalog: &impl Catalog,
    ) {
        let (group, member_id) = (request.group.clone(), request.member_id.clone());
        let refuse = |waiter: Waiter<JoinAnswer>, code, member_id| {
            waiter.answer(Err(JoinRefused { code, member_id }));
        };
        let is_empty = self
            .consumers
            .get(group.as_str())
            .is_some_and(|it| !it.has_members());
        if is_empty {
            // Its last member has just left; that is not durable yet.
            return refuse(waiter, ErrorCode::CoordinatorLoadInProgress, member_id);
        }
        let joined = self.with_consumers(now, &group, |group, env| {
            group.join_classic(env, request, id, catalog)
        });
        match joined {
            Some(Ok(joined)) => {
                self.queue_change(now, &group, Some(Told::Classic(waiter, joined)));
            }
            Some(Err((code, member_id))) => {
                refuse(waiter, code, member_id);
                self.queue_change(now, &group, None);
            }
            None => refuse(waiter, ErrorCode::UnknownMemberId, member_id),
        }
    }

    /// A classic member of a group of the newer protocol gives a sign of life.
    pub(super) fn heartbeat_consumers(
        &mut self,
        now: Millis,
        request: &Heartbeat,
    ) -> Result<(), ErrorCode> {
        let beaten = self.with_consumers(now, &request.group, |group, env| {
            group.heartbeat_classic(env, request)
        });
        beaten.unwrap_or(Err(ErrorCode::UnknownMemberId))
    }

    /// A timer of a group is due.
    pub(super) fn expel(&mut self, now: Millis, id: &str, timer: &Timer) {
        let (member, why) = match timer {
            Timer::Session { member, .. } => (member, "it gave no sign of life"),
            Timer::Revocation { member, .. } => (member, "it did not give partitions up in time"),
            Timer::Join(_) | Timer::Sync(_) | Timer::Write(_) => return,
        };
        self.with_consumers(now, id, |group, env| group.expel(env, member, why));
        self.queue_change(now, id, None);
        self.downgrade(now, id);
    }

    /// Members leave a consumer group as an administrator asks (LeaveGroup).
    pub(super) fn dismiss(&mut self, now: Millis, id: &str, leavers: &[Leaver]) -> Vec<ErrorCode> {
        let codes = self.with_consumers(now, id, |group, env| {
            let code = |leaver: &Leaver| {
                let left = group.dismiss(env, &leaver.member_id, leaver.instance_id.as_deref());
                left.err().unwrap_or_default()
            };
            leavers.iter().map(code).collect()
        });
        self.queue_change(now, id, None);
        self.downgrade(now, id);
        codes.unwrap_or_default()
    }

    /// A change of a group was written, or not. What is not written is not known any more either: the
    /// group is taken up again as the quorum remembers it.
    pub(super) fn consumer_written(
        &mut self,
        now: Millis,
        group: Arc<str>,
        told: Option<Told>,
        result: Result<(), ErrorCode>,
    ) {
        if let Err(code) = result {
            warn!(%group, %code, "a change to a group was not written; it is read again");
            if let Some(told) = told {
                told.refuse(ErrorCode::CoordinatorNotAvailable);
            }
            let ids = BTreeSet::from([group]);
            return self.abandon(now, &ids, ErrorCode::CoordinatorNotAvailable);
        }
        if let Some(group) = self.consumers.get_mut(&group) {
            group.writes = group.writes.saturating_sub(1);
        }
        if let Some(told) = told {
            told.answer(Ok(()));
        }
        let is_over = self
            .consumers
            .get(&group)
            .is_some_and(ConsumerGroup::is_over);
        if is_over {
            self.forget_consumers(now, &group);
        }
    }

    /// A group of the newer protocol in memory.
    pub(crate) fn describe_consumers(&self, id: &str) -> Option<ConsumerDescription> {
        self.consumers.get(id).map(ConsumerGroup::describe)
    }

    /// Whether a member that asks for committed offsets is one, if its group is of the newer protocol.
    pub(crate) fn check_reader(&self, id: &str, member: &str, epoch: i32) -> Result<(), ErrorCode> {
        let group = self.consumers.get(id);
        group.map_or(Ok(()), |group| group.check_reader(member, epoch))
    }
}
