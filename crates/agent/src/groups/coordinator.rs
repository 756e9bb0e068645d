//! All groups of this agent, and the queue of what is to be made durable. Plain data: time comes in
//! with every call, commands go out through [`Coordinator::take_writes`].
//!
//! The queue is one, and first in first out, for a reason: a commit that was checked against a
//! generation is applied before the next generation is written, so no member of that generation can
//! be told its assignment, and read its offsets, before the last commits of the one before it.

mod consumers;
mod forgetting;
mod remembered;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alluvium_metadata::{GroupRecord, OffsetCommit};
use alluvium_types::hash::HashSet;
use alluvium_types::{ErrorCode, Millis};
use tracing::warn;

pub(crate) use self::forgetting::Forgotten;
pub(crate) use self::forgetting::sort as sort_forgotten;
pub(crate) use self::remembered::{Durable, Remembered};
use super::consumer::{Catalog, ConsumerGroup};
use super::group::{Env, Group, Phase};
use super::join::newcomer_id;
use super::member::Waiter;
use super::request::{
    Committer, GroupDescription, GroupListing, GroupType, Heartbeat, JoinAnswer, JoinGroup,
    JoinRefused, Leaver, SyncAnswer, SyncGroup,
};
use super::settings::{ALL_GROUPS_BYTES, MEMBER_BYTES, Settings};
use super::timers::{Timer, Timers};
use super::work::Work;
use crate::budget::Lease;

/// Most assignors that a member may name.
const PROTOCOLS_PER_MEMBER: usize = 100;

/// The protocol type of consumers.
pub(crate) const CONSUMER: &str = "consumer";

/// Longest static instance id, in bytes; Kafka gives it the rules of topic names.
const INSTANCE_ID_BYTES: usize = 249;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    groups: BTreeMap<Arc<str>, Group>,
    consumers: BTreeMap<Arc<str>, ConsumerGroup>,
    timers: Timers,
    queue: VecDeque<Work>,
    settings: Settings,
    bytes: usize,
    tokens: u64,
    closed: bool,
}

impl Coordinator {
    /// Takes up a group that the quorum remembers with members.
    pub(crate) fn restore(&mut self, now: Millis, id: &str, record: &GroupRecord) {
        let id: Arc<str> = id.into();
        let mut env = Env {
            now,
            settings: &self.settings,
            timers: &mut self.timers,
        };
        let group = Group::restore(Arc::clone(&id), record, &mut env);
        self.bytes += group.bytes();
        self.groups.insert(id, group);
    }

    /// Heeds changed broker settings.
    pub(crate) fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Does something to a group that is in memory, and what follows from it.
    fn with<R>(
        &mut self,
        now: Millis,
        id: &str,
        change: impl FnOnce(&mut Group, &mut Env<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let before = group.bytes();
        let mut env = Env {
            now,
            settings: &self.settings,
            timers: &mut self.timers,
        };
        let result = change(group, &mut env);
        if group.dirty && !group.queued {
            group.queued = true;
            self.queue.push_back(Work::Record(Arc::clone(&group.id)));
        }
        self.bytes = self.bytes.saturating_sub(before) + group.bytes();
        if group.is_over() {
            self.forget(now, id, ErrorCode::CoordinatorNotAvailable);
        }
        Some(result)
    }

    /// A group leaves memory, and whoever waits for it is told `code`.
    fn forget(&mut self, now: Millis, id: &str, code: ErrorCode) {
        if let Some(mut group) = self.groups.remove(id) {
            self.bytes = self.bytes.saturating_sub(group.bytes());
            let mut env = Env {
                now,
                settings: &self.settings,
                timers: &mut self.timers,
            };
            group.close(code, &mut env);
        }
    }

    /// A member joins. See [`Group::join`].
    pub(crate) fn join(
        &mut self,
        now: Millis,
        mut request: JoinGroup,
        id_bits: u128,
        waiter: Waiter<JoinAnswer>,
        durable: &(impl Durable + Catalog),
    ) {
        if let Err(code) = self.check_join(&request) {
            let member_id = request.member_id;
            return waiter.answer(Err(JoinRefused { code, member_id }));
        }
        if request.rebalance_timeout < 0 {
            request.rebalance_timeout = request.session_timeout;
        }
        let mut names = HashSet::default();
        request
            .protocols
            .retain(|(name, _)| names.insert(name.clone()));
        if self.consumers.contains_key(request.group.as_str()) {
            let id = newcomer_id(&request, id_bits);
            return self.join_consumers(now, request, id, waiter, durable);
        }
        if !self.groups.contains_key(request.group.as_str()) {
            if !request.member_id.is_empty() {
                let (code, member_id) = (ErrorCode::UnknownMemberId, request.member_id);
                return waiter.answer(Err(JoinRefused { code, member_id }));
            }
            let record = durable.group(&request.group).unwrap_or_default();
            self.restore(now, &request.group, &record.into_classic());
        }
        let group = request.group.clone();
        self.with(now, &group, |group, env| {
            group.join(env, request, id_bits, waiter)
        });
    }

    fn check_join(&self, request: &JoinGroup) -> Result<(), ErrorCode> {
        if self.closed {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if request.group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let sessions = self.settings.min_session..=self.settings.max_session;
        if !sessions.contains(&request.session_timeout) || request.session_timeout <= 0 {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let instance = request.instance_id.as_ref();
        if request.bytes() > MEMBER_BYTES
            || request.protocols.len() > PROTOCOLS_PER_MEMBER
            || instance.is_some_and(|id| id.is_empty() || id.len() > INSTANCE_ID_BYTES)
        {
            return Err(ErrorCode::InvalidRequest);
        }
        if self.bytes + request.bytes() > ALL_GROUPS_BYTES {
            warn!(group = %request.group, bytes = self.bytes, "no memory for another member");
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Ok(())
    }

    /// See [`Group::sync`].
    pub(crate) fn sync(
        &mut self,
        now: Millis,
        request: SyncGroup,
        waiter: Waiter<SyncAnswer>,
        catalog: &impl Catalog,
    ) {
        let bytes: usize = request
            .assignments
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum();
        if let Err(code) = self.check(&request.group) {
            return waiter.answer(Err(code));
        }
        if let Some(group) = self.consumers.get(request.group.as_str()) {
            return waiter.answer(group.sync_classic(&request, catalog));
        }
        if !self.groups.contains_key(request.group.as_str()) {
            return waiter.answer(Err(ErrorCode::UnknownMemberId));
        }
        if self.bytes + bytes > ALL_GROUPS_BYTES {
            warn!(group = %request.group, bytes = self.bytes, "no memory for an assignment");
            return waiter.answer(Err(ErrorCode::CoordinatorNotAvailable));
        }
        let group = request.group.clone();
        self.with(now, &group, |group, env| group.sync(env, request, waiter));
    }

    fn check(&self, group: &str) -> Result<(), ErrorCode> {
        if self.closed {
            Err(ErrorCode::CoordinatorNotAvailable)
        } else if group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            Ok(())
        }
    }

    /// See [`Group::heartbeat`].
    pub(crate) fn heartbeat(&mut self, now: Millis, request: &Heartbeat) -> Result<(), ErrorCode> {
        self.check(&request.group)?;
        if self.consumers.contains_key(request.group.as_str()) {
            return self.heartbeat_consumers(now, request);
        }
        self.with(now, &request.group, |group, env| {
            group.heartbeat(env, request)
        })
        .unwrap_or(Err(ErrorCode::UnknownMemberId))
    }

    /// See [`Group::leave`].
    ///
    /// # Errors
    /// What is wrong with the whole request.
    pub(crate) fn leave(
        &mut self,
        now: Millis,
        group: &str,
        leavers: &[Leaver],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        self.check(group)?;
        if self.consumers.contains_key(group) {
            return Ok(self.dismiss(now, group, leavers));
        }
        match self.groups.get(group) {
            None => Ok(vec![ErrorCode::UnknownMemberId; leavers.len()]),
            Some(group) if matches!(group.phase, Phase::Dead) => {
                Err(ErrorCode::CoordinatorNotAvailable)
            }
            Some(_) => Ok(self
                .with(now, group, |group, env| group.leave(env, leavers))
                .unwrap_or_default()),
        }
    }

    /// Queues a commit of somebody who may.
    pub(crate) fn commit(
        &mut self,
        now: Millis,
        committer: &Committer,
        offsets: Vec<OffsetCommit>,
        lease: Option<Lease>,
        waiter: Waiter<ErrorCode>,
        durable: &impl Durable,
    ) {
        if let Err(code) = self.check_commit(now, committer, durable) {
            return waiter.answer(code);
        }
        let group = committer.group.clone();
        self.queue.push_back(Work::Commit {
            group,
            offsets,
            waiter,
            lease,
        });
    }

    /// Whether a member may commit now.
    pub(crate) fn check_commit(
        &mut self,
        now: Millis,
        committer: &Committer,
        durable: &impl Durable,
    ) -> Result<(), ErrorCode> {
        if self.closed {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if let Some(group) = self.consumers.get(committer.group.as_str()) {
            return group.check_commit(committer);
        }
        let checked = self.with(now, &committer.group, |group, env| {
            group.check_commit(env, committer)
        });
        if let Some(checked) = checked {
            return checked;
        }
        // The group has no members, or does not exist.
        if committer.generation < 0 {
            Ok(())
        } else if durable.group(&committer.group).is_some() {
            Err(ErrorCode::UnknownMemberId)
        } else if committer.takes_group_not_found {
            Err(ErrorCode::GroupIdNotFound)
        } else {
            Err(ErrorCode::IllegalGeneration)
        }
    }

    /// Queues the deletion of a group without members. Until it is done nobody can join.
    pub(crate) fn delete(
        &mut self,
        now: Millis,
        id: &str,
        waiter: Waiter<ErrorCode>,
        durable: &impl Durable,
    ) {
        if self.closed {
            return waiter.answer(ErrorCode::CoordinatorNotAvailable);
        }
        if let Some(group) = self.consumers.get(id) {
            return waiter.answer(if group.has_members() {
                ErrorCode::NonEmptyGroup
            } else {
                // Its last member has just left; that is not durable yet.
                ErrorCode::CoordinatorLoadInProgress
            });
        }
        match self.groups.get(id).map(|group| &group.phase) {
            Some(Phase::Empty) => {}
            Some(Phase::Dead) => return waiter.answer(ErrorCode::GroupIdNotFound),
            Some(_) => return waiter.answer(ErrorCode::NonEmptyGroup),
            None => match durable.group(id) {
                None => return waiter.answer(ErrorCode::GroupIdNotFound),
                Some(record) if record.has_members() => {
                    return waiter.answer(ErrorCode::NonEmptyGroup);
                }
                Some(record) => self.restore(now, id, &record.into_classic()),
            },
        }
        self.with(now, id, |group, env| {
            group.close(ErrorCode::CoordinatorNotAvailable, env);
            group.phase = Phase::Dead;
            group.dirty = false;
        });
        self.queue.push_back(Work::Delete {
            group: id.into(),
            waiter,
        });
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        if self.closed {
            None
        } else {
            self.timers.next()
        }
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, now: Millis) {
        if self.closed {
            return;
        }
        while let Some(timer) = self.timers.pop_due(now) {
            let group = Arc::clone(timer.group());
            if self.consumers.contains_key(&group) {
                self.expel(now, &group, &timer);
                continue;
            }
            self.with(now, &group, |group, env| match &timer {
                Timer::Session { member, .. } => group.session_timer(env, member),
                Timer::Join(_) => group.join_timer(env),
                Timer::Sync(_) => group.sync_timer(env),
                Timer::Write(_) => group.queued = false,
                Timer::Revocation { .. } => {}
            });
        }
    }

    /// Another agent is to coordinate these groups: they leave memory, and whoever waits, be it for
    /// what is queued to be written, is told `code`.
    pub(crate) fn abandon(&mut self, now: Millis, ids: &BTreeSet<Arc<str>>, code: ErrorCode) {
        for id in ids {
            self.forget(now, id, code);
            self.forget_consumers(now, id);
        }
        for work in std::mem::take(&mut self.queue) {
            if ids.contains(work.group()) {
                work.refuse(code);
            } else {
                self.queue.push_back(work);
            }
        }
    }

    /// The same for all groups, and all that is queued.
    pub(crate) fn abandon_all(&mut self, now: Millis, code: ErrorCode) {
        let groups = std::mem::take(&mut self.groups);
        let consumers = std::mem::take(&mut self.consumers);
        self.bytes = 0;
        let mut env = Env {
            now,
            settings: &self.settings,
            timers: &mut self.timers,
        };
        for mut group in groups.into_values() {
            group.close(code, &mut env);
        }
        for mut group in consumers.into_values() {
            group.close(&mut env);
        }
        for work in std::mem::take(&mut self.queue) {
            work.refuse(code);
        }
    }

    /// Answers whoever waits for others. From now on nothing expires and nobody joins; what is
    /// queued can still be taken.
    pub(crate) fn close(&mut self, now: Millis) {
        self.closed = true;
        let mut env = Env {
            now,
            settings: &self.settings,
            timers: &mut self.timers,
        };
        for group in self.groups.values_mut() {
            group.close(ErrorCode::CoordinatorNotAvailable, &mut env);
        }
        for group in self.consumers.values_mut() {
            group.close(&mut env);
        }
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a group is in memory.
    pub(crate) fn holds(&self, id: &str) -> bool {
        self.groups.contains_key(id) || self.consumers.contains_key(id)
    }

    /// The ids of the groups in memory.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys().chain(self.consumers.keys())
    }

    /// The groups in memory.
    pub(crate) fn list(&self) -> impl Iterator<Item = GroupListing> {
        let classic = self.groups.values().map(|group| GroupListing {
            group: group.id.to_string(),
            group_type: GroupType::Classic,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state(),
        });
        let consumers = self.consumers.values().map(|group| GroupListing {
            group: group.id.to_string(),
            group_type: GroupType::Consumer,
            protocol_type: CONSUMER.to_owned(),
            state: group.state(),
        });
        classic.chain(consumers)
    }

    /// A group in memory.
    pub(crate) fn describe(&self, id: &str) -> Option<GroupDescription> {
        self.groups.get(id).map(Group::describe)
    }

    #[cfg(test)]
    pub(crate) fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    #[cfg(test)]
    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
