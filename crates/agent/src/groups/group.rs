//! One group: who belongs to it, and what it remembers. What happens to it is in `join`,
//! `rebalance` and `session`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_metadata::{GroupMember, GroupRecord};
use alluvium_types::hash::HashMap;
use alluvium_types::{ErrorCode, Millis};
use bytes::Bytes;

use super::member::{Joining, Member};
use super::request::{GroupDescription, GroupState, JoinRefused, Joined};
use super::settings::{ENTRY_BYTES, Settings};
use super::timers::{Timer, Timers};

/// What a group needs from outside to change. Time is milliseconds and never goes back.
pub(crate) struct Env<'a> {
    pub(crate) now: Millis,
    pub(crate) settings: &'a Settings,
    pub(crate) timers: &'a mut Timers,
}

/// The first join phase of a group that was empty: it is kept open for a while, so that members
/// that start together make one generation (KIP-134).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Initial {
    /// How long this round is.
    pub(crate) delay: i64,
    /// How much longer it may be kept open.
    pub(crate) remaining: i64,
    /// Somebody joined in this round.
    pub(crate) newcomer: bool,
}

/// Where a group stands, with what belongs to that state alone.
#[derive(Debug)]
pub(crate) enum Phase {
    Empty,
    Preparing(Option<Initial>),
    /// With the leader's assignment, while it is being made durable.
    Completing(Option<BTreeMap<Arc<str>, Bytes>>),
    Stable,
    /// Its deletion is under way.
    Dead,
}

/// A group with members, with members to come, or with a change that is not yet durable. A group
/// that is empty and durable lives in the quorum alone.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) phase: Phase,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<Arc<str>>,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
    /// Member ids by static instance id.
    pub(crate) instances: HashMap<Arc<str>, Arc<str>>,
    /// Ids given out (KIP-394) that nobody has joined with yet.
    pub(crate) pending: BTreeSet<Arc<str>>,
    /// Members of this generation that have not asked for their assignment.
    pub(crate) unsynced: BTreeSet<Arc<str>>,
    /// How many members know an assignor.
    supported: HashMap<String, usize>,
    subscription_bytes: usize,
    assigned_bytes: usize,
    /// There is something to write.
    pub(crate) dirty: bool,
    /// It stands in the queue for writing.
    pub(crate) queued: bool,
    /// The write under way, and the generation that it holds.
    pub(crate) writing: Option<(u64, i32)>,
}

impl Group {
    /// A group without members, going on from what the quorum remembers of it.
    pub(crate) fn new(id: Arc<str>, record: Option<&GroupRecord>) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            generation: record.map_or(0, |record| record.generation),
            protocol_type: record
                .map(|record| record.protocol_type.clone())
                .filter(|protocol_type| !protocol_type.is_empty()),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::default(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            supported: HashMap::default(),
            subscription_bytes: 0,
            assigned_bytes: 0,
            dirty: false,
            queued: false,
            writing: None,
        }
    }

    /// A group with its members and their assignments as the quorum remembers them. Every member
    /// gets a fresh session, so that running consumers go on without a rebalance.
    pub(crate) fn restore(id: Arc<str>, record: &GroupRecord, env: &mut Env<'_>) -> Self {
        let mut group = Self::new(id, Some(record));
        for member in &record.members {
            group.insert(Member::restore(member));
        }
        if group.members.is_empty() {
            return group;
        }
        group.phase = Phase::Stable;
        group.protocol = record.protocol.clone();
        group.leader = record
            .leader
            .as_deref()
            .filter(|leader| group.members.contains_key(*leader))
            .map(Into::into);
        for id in group.member_ids() {
            group.renew_session(&id, env);
        }
        group
    }

    /// What the quorum is to keep; nothing while a rebalance is under way.
    pub(crate) fn record(&self, at: Millis) -> Option<GroupRecord> {
        let members: Vec<GroupMember> = match &self.phase {
            Phase::Empty => Vec::new(),
            Phase::Stable => self
                .members
                .values()
                .map(|member| member.record(member.assignment.clone()))
                .collect(),
            Phase::Completing(Some(proposed)) => self
                .members
                .values()
                .map(|member| member.record(proposed.get(&member.id).cloned().unwrap_or_default()))
                .collect(),
            Phase::Preparing(_) | Phase::Completing(None) | Phase::Dead => return None,
        };
        Some(GroupRecord {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone(),
            generation: self.generation,
            leader: self.leader.as_deref().map(str::to_owned),
            members,
            at,
        })
    }

    pub(crate) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing(_) => GroupState::PreparingRebalance,
            Phase::Completing(_) => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
            Phase::Dead => GroupState::Dead,
        }
    }

    pub(crate) fn describe(&self) -> GroupDescription {
        let stable = matches!(self.phase, Phase::Stable);
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let describe = |member: &Member| {
            let mut told = member.record(Bytes::new());
            told.protocols = Vec::new();
            if stable {
                told.assignment = member.assignment.clone();
                let metadata = member.metadata(self.protocol.as_deref());
                told.protocols = vec![(protocol.clone(), metadata)];
            }
            told
        };
        GroupDescription {
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.values().map(describe).collect(),
            protocol,
        }
    }

    /// Nothing here that the quorum does not know.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Empty)
            && self.pending.is_empty()
            && !self.dirty
            && !self.queued
            && self.writing.is_none()
    }

    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let assignments: usize = match &self.phase {
            Phase::Completing(Some(proposed)) => proposed.values().map(Bytes::len).sum(),
            _ => 0,
        };
        let entries = 1 + self.members.len() + self.pending.len();
        self.subscription_bytes + self.assigned_bytes + assignments + entries * ENTRY_BYTES
    }

    /// Bytes of its members' subscriptions.
    pub(crate) fn subscription_bytes(&self) -> usize {
        self.subscription_bytes
    }

    pub(crate) fn member_ids(&self) -> Vec<Arc<str>> {
        self.members.keys().cloned().collect()
    }

    pub(crate) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Adds a member; the first one leads.
    pub(crate) fn insert(&mut self, member: Member) {
        let id = Arc::clone(&member.id);
        if let Some(instance) = &member.instance_id {
            self.instances.insert(Arc::clone(instance), Arc::clone(&id));
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&id));
        }
        self.pending.remove(&id);
        self.count(&member);
        self.members.insert(id, member);
    }

    /// Takes a member or an id given out off the group, with its timer. Whoever waits on its behalf
    /// is told `code`.
    pub(crate) fn remove(
        &mut self,
        id: &str,
        code: ErrorCode,
        env: &mut Env<'_>,
    ) -> Option<Member> {
        env.timers.cancel(&Timer::Session {
            group: Arc::clone(&self.id),
            member: id.into(),
        });
        self.pending.remove(id);
        self.unsynced.remove(id);
        let mut member = self.members.remove(id)?;
        self.uncount(&member);
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        refuse_waiters(&mut member, code, "");
        Some(member)
    }

    fn count(&mut self, member: &Member) {
        self.subscription_bytes += member.bytes();
        self.assigned_bytes += member.assignment.len();
        for (name, _) in &member.protocols {
            *self.supported.entry(name.clone()).or_default() += 1;
        }
    }

    fn uncount(&mut self, member: &Member) {
        self.subscription_bytes = self.subscription_bytes.saturating_sub(member.bytes());
        self.assigned_bytes = self.assigned_bytes.saturating_sub(member.assignment.len());
        for (name, _) in &member.protocols {
            if let Some(count) = self.supported.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(name);
                }
            }
        }
    }

    /// Changes a member, keeping the sums over members right.
    pub(crate) fn update(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        if let Some(mut member) = self.members.remove(id) {
            self.uncount(&member);
            change(&mut member);
            self.count(&member);
            self.members.insert(Arc::clone(&member.id), member);
        }
    }

    /// A restarted static member takes the place of its former self, which is fenced (KIP-345).
    pub(crate) fn replace_static(&mut self, old: &str, new: &Arc<str>, env: &mut Env<'_>) {
        let leads = self.is_leader(old);
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        self.uncount(&member);
        env.timers.cancel(&Timer::Session {
            group: Arc::clone(&self.id),
            member: old.into(),
        });
        refuse_waiters(&mut member, ErrorCode::FencedInstanceId, old);
        self.unsynced.remove(old);
        member.id = Arc::clone(new);
        member.is_new = false;
        if leads {
            self.leader = Some(Arc::clone(new));
        }
        self.insert(member);
    }

    /// Checks that a member is who it says it is.
    pub(crate) fn validate(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known.as_ref() != member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Whether a member with these protocols fits to the others: everybody must share one.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if matches!(self.phase, Phase::Empty) {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.is_shared(name))
    }

    fn is_shared(&self, protocol: &str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The assignor that gets the most votes: each member votes for the first of its own that all
    /// members know. Between equals the leader's order decides.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let mut votes: HashMap<&str, usize> = HashMap::default();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .find(|(name, _)| self.is_shared(name));
            if let Some((name, _)) = vote {
                *votes.entry(name.as_str()).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let leader = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader))?;
        leader
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| votes.get(name) == Some(&most))
            .map(str::to_owned)
    }

    /// How long a rebalance waits: as long as the most patient member asks.
    pub(crate) fn rebalance_timeout(&self) -> i64 {
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout)
            .max();
        i64::from(longest.unwrap_or(0).max(0))
    }

    pub(crate) fn renew_session(&self, id: &Arc<str>, env: &mut Env<'_>) {
        if let Some(member) = self.members.get(id) {
            self.expire_at(id, env.now + i64::from(member.session_timeout), env);
        }
    }

    pub(crate) fn expire_at(&self, id: &Arc<str>, at: Millis, env: &mut Env<'_>) {
        let timer = Timer::Session {
            group: Arc::clone(&self.id),
            member: Arc::clone(id),
        };
        env.timers.set(timer, at);
    }

    /// What a member is told of the current generation.
    pub(crate) fn joined(&self, member: &Member, joining: Option<&Joining>, skip: bool) -> Joined {
        let leads = self.is_leader(&member.id);
        let stable = matches!(self.phase, Phase::Stable);
        let shown = joining
            .and_then(|joining| joining.leader_shown.clone())
            .filter(|_| stable);
        let hidden = shown.is_some();
        let protocol = self.protocol.as_deref();
        let members = if leads && !hidden {
            self.members
                .values()
                .map(|member| member.as_joined(protocol))
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: shown
                .or_else(|| self.leader.clone())
                .as_deref()
                .unwrap_or("")
                .to_owned(),
            skip_assignment: skip && leads && !hidden,
            member_id: member.id.to_string(),
            members,
        }
    }

    /// Forgets all timers; whoever still waits is told `code`.
    pub(crate) fn close(&mut self, code: ErrorCode, env: &mut Env<'_>) {
        let pending = std::mem::take(&mut self.pending);
        for id in self.member_ids().into_iter().chain(pending) {
            env.timers.cancel(&Timer::Session {
                group: Arc::clone(&self.id),
                member: id,
            });
        }
        env.timers.cancel(&Timer::Join(Arc::clone(&self.id)));
        env.timers.cancel(&Timer::Sync(Arc::clone(&self.id)));
        env.timers.cancel(&Timer::Write(Arc::clone(&self.id)));
        for member in self.members.values_mut() {
            let id = Arc::clone(&member.id);
            refuse_waiters(member, code, &id);
        }
    }
}

/// Tells whoever waits on a member's behalf that it is in vain.
pub(crate) fn refuse_waiters(member: &mut Member, code: ErrorCode, member_id: &str) {
    if let Some(joining) = member.joining.take() {
        joining.waiter.answer(Err(JoinRefused {
            code,
            member_id: member_id.to_owned(),
        }));
    }
    if let Some(waiter) = member.syncing.take() {
        waiter.answer(Err(code));
    }
}
