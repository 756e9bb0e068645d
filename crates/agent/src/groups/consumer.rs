//! Groups of the newer consumer protocol (KIP-848): members say what they want and have, the coordinator
//! says what each may read. There is no barrier at which everybody waits.
//!
//! Whenever members, subscriptions or topics change, the group gets a new epoch, and an assignor
//! ([`assignor`]) makes a target for every member. With its heartbeats each member is led there on its own
//! ([`member`]): it gives up what others are to have, then its epoch becomes the group's, and it gets what
//! is free. A partition has one member at a time, whatever the epochs of the others.
//!
//! Plain data, the time as an argument. What must outlive the coordinator leaves as [`GroupChange`]s, in
//! order; a member is answered when its own is durable.

pub(super) mod assignor;
pub(super) mod classic;
mod heartbeat;
mod member;
pub(super) mod request;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_metadata::{ConsumerGroupRecord, ConsumerMember};
use alluvium_types::hash::HashMap;
use alluvium_types::{ErrorCode, PartitionIndex, TopicId};
use tracing::info;

use self::assignor::{Assignor, Subscriber};
use self::member::{Member, each};
use self::subscription::Subscriptions;
use super::group::Env;
use super::request::{Committer, GroupState};
use super::settings::ENTRY_BYTES;
use super::timers::Timer;

pub(crate) use self::request::{
    ConsumerAnswer, ConsumerDescription, ConsumerHeartbeat, ConsumerMembership, ConsumerRefused,
};
pub(crate) use self::subscription::Catalog;

/// What is to be written of a group.
#[derive(Debug, Default)]
pub(crate) struct GroupChange {
    pub(crate) epoch: i32,
    pub(crate) removed: Vec<String>,
    pub(crate) changed: Vec<ConsumerMember>,
}

/// Who has a partition, or is giving it up.
type Owners = HashMap<(TopicId, PartitionIndex), Arc<str>>;

/// A group with members, or with changes that are not yet durable.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    pub(crate) id: Arc<str>,
    epoch: i32,
    /// The epoch for which the targets were made.
    target_epoch: i32,
    assignor: Assignor,
    members: BTreeMap<Arc<str>, Member>,
    /// Member ids by static instance id.
    instances: HashMap<Arc<str>, Arc<str>>,
    owners: Owners,
    subscriptions: Subscriptions,
    bytes: usize,
    /// What has changed since the last [`Self::take_change`].
    removed: BTreeSet<Arc<str>>,
    changed: BTreeSet<Arc<str>>,
    is_changed: bool,
    /// Changes on their way to the quorum.
    pub(crate) writes: usize,
}

impl ConsumerGroup {
    /// A group as the quorum remembers it, or a new one that goes on from an epoch. Members get fresh
    /// sessions. Where some were on their way to their targets, new ones are made.
    pub(crate) fn restore(id: Arc<str>, record: &ConsumerGroupRecord, env: &mut Env<'_>) -> Self {
        let mut group = Self {
            id,
            epoch: record.epoch,
            target_epoch: record.epoch,
            assignor: Assignor::Uniform,
            members: BTreeMap::new(),
            instances: HashMap::default(),
            owners: HashMap::default(),
            subscriptions: Subscriptions::default(),
            bytes: 0,
            removed: BTreeSet::new(),
            changed: BTreeSet::new(),
            is_changed: false,
            writes: 0,
        };
        for member in record.members.values() {
            let restored = Member::restore(member);
            group.count(&restored);
            group.subscriptions.add(member);
            let id: Arc<str> = member.member_id.as_str().into();
            if let Some(instance) = &member.instance_id {
                group
                    .instances
                    .insert(instance.as_str().into(), Arc::clone(&id));
            }
            group.members.insert(Arc::clone(&id), restored);
            group.renew_session(&id, env);
            group.watch_revocation(&id, env);
        }
        group.assignor = group.preferred(&env.settings.offered());
        let mut members = group.members.values();
        if !members.all(|member| member.is_settled(record.epoch)) {
            group.next_epoch();
        }
        group
    }

    fn count(&mut self, member: &Member) {
        self.bytes += member.bytes();
        let id: Arc<str> = member.record.member_id.as_str().into();
        for (topic, partition) in held(&member.record) {
            self.owners.insert((topic, partition), Arc::clone(&id));
        }
    }

    fn uncount(&mut self, member: &Member) {
        self.bytes = self.bytes.saturating_sub(member.bytes());
        for place in held(&member.record) {
            self.owners.remove(&place);
        }
    }

    /// Changes a member, keeping what is known over members right. `change` sees who has a partition, as
    /// if this member had none.
    fn update(&mut self, id: &str, change: impl FnOnce(&mut Member, &Owners)) {
        let Some((id, before)) = self.members.remove_entry(id) else {
            return;
        };
        self.uncount(&before);
        let mut member = before.clone();
        change(&mut member, &self.owners);
        self.count(&member);
        // In this order what stays is not forgotten in between, with the topics that it matched.
        self.subscriptions.add(&member.record);
        self.subscriptions.remove(&before.record);
        if member.record != before.record {
            self.changed.insert(Arc::clone(&id));
        }
        self.members.insert(id, member);
    }

    fn insert(&mut self, id: Arc<str>, member: Member) {
        self.count(&member);
        self.subscriptions.add(&member.record);
        if let Some(instance) = &member.record.instance_id {
            self.instances
                .insert(instance.as_str().into(), Arc::clone(&id));
        }
        self.removed.remove(&id);
        self.changed.insert(Arc::clone(&id));
        self.members.insert(id, member);
    }

    /// Takes a member off the group, with its timers.
    fn remove(&mut self, id: &str, env: &mut Env<'_>) -> Option<Member> {
        let (id, member) = self.members.remove_entry(id)?;
        self.uncount(&member);
        self.subscriptions.remove(&member.record);
        if let Some(instance) = &member.record.instance_id
            && self.instances.get(instance.as_str()) == Some(&id)
        {
            self.instances.remove(instance.as_str());
        }
        for timer in self.timers_of(&id) {
            env.timers.cancel(&timer);
        }
        self.changed.remove(&id);
        self.removed.insert(id);
        Some(member)
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.is_changed = true;
    }

    fn timers_of(&self, member: &Arc<str>) -> [Timer; 2] {
        let (group, member) = (Arc::clone(&self.id), Arc::clone(member));
        let session = Timer::Session {
            group: Arc::clone(&group),
            member: Arc::clone(&member),
        };
        [session, Timer::Revocation { group, member }]
    }

    fn renew_session(&self, id: &Arc<str>, env: &mut Env<'_>) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let classic = member.record.classic.as_ref();
        let timeout = classic.map_or(env.settings.consumer_session, |it| it.session_timeout);
        let [session, _] = self.timers_of(id);
        env.timers.set(session, env.now + i64::from(timeout.max(1)));
    }

    /// A member that has to give something up may take its rebalance timeout for it.
    fn watch_revocation(&self, id: &Arc<str>, env: &mut Env<'_>) {
        let [_, revocation] = self.timers_of(id);
        match self.members.get(id) {
            Some(member) if !member.record.revoking.is_empty() => {
                let timeout = i64::from(member.record.rebalance_timeout.max(1));
                env.timers.set(revocation, env.now + timeout);
            }
            _ => env.timers.cancel(&revocation),
        }
    }

    /// The assignor that most members ask for; the first of those there are when none do.
    fn preferred(&self, assignors: &[Assignor]) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        let asked = self.members.values();
        for name in asked.filter_map(|member| member.record.assignor.as_deref()) {
            if let Some(assignor) = Assignor::by_name(name) {
                *votes.entry(assignor).or_default() += 1;
            }
        }
        let default = assignors.first().copied().unwrap_or(Assignor::Uniform);
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
        most.map_or(default, |(assignor, _)| assignor)
    }

    /// Makes the targets of the group's epoch, if they are still those of an older one.
    fn aim(&mut self, env: &Env<'_>) {
        if self.target_epoch == self.epoch {
            return;
        }
        self.assignor = self.preferred(&env.settings.offered());
        let counts = self.subscriptions.counts();
        let subscribers: Vec<Subscriber<'_>> = self
            .members
            .iter()
            .map(|(id, member)| Subscriber {
                name: member.record.instance_id.as_deref().unwrap_or(id),
                topics: self.subscriptions.of(&member.record),
                had: &member.target,
            })
            .collect();
        let targets = self.assignor.assign(&subscribers, &counts);
        for (member, target) in self.members.values_mut().zip(targets) {
            self.bytes = self.bytes.saturating_sub(member.bytes());
            member.target = target;
            self.bytes += member.bytes();
        }
        self.target_epoch = self.epoch;
        info!(
            group = %self.id,
            epoch = self.epoch,
            members = self.members.len(),
            assignor = self.assignor.name(),
            "partitions are dealt out"
        );
    }

    /// A member was silent for too long, or took too long to give partitions up.
    pub(crate) fn expel(&mut self, env: &mut Env<'_>, member: &str, why: &'static str) {
        if self.remove(member, env).is_some() {
            info!(group = %self.id, member, why, "a member is expelled");
            self.next_epoch();
        }
    }

    /// Whether a member may commit offsets, by its epoch.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub(crate) fn check_commit(&self, committer: &Committer) -> Result<(), ErrorCode> {
        // An administrator may commit while nobody is there.
        if committer.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(committer.member_id.as_str());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if member.record.classic.is_none() && !committer.takes_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if member.record.epoch == committer.generation {
            Ok(())
        } else if member.record.classic.is_some() {
            Err(ErrorCode::IllegalGeneration)
        } else {
            Err(ErrorCode::StaleMemberEpoch)
        }
    }

    /// Whether a member that asks for committed offsets is one.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub(crate) fn check_reader(&self, member: &str, epoch: i32) -> Result<(), ErrorCode> {
        if member.is_empty() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        if member.record.epoch == epoch {
            Ok(())
        } else {
            Err(ErrorCode::StaleMemberEpoch)
        }
    }

    /// What is to be written, if there is anything.
    pub(crate) fn take_change(&mut self) -> Option<GroupChange> {
        if !self.is_changed && self.changed.is_empty() && self.removed.is_empty() {
            return None;
        }
        self.is_changed = false;
        let removed = std::mem::take(&mut self.removed);
        let changed = std::mem::take(&mut self.changed);
        let records = changed.iter().filter_map(|id| self.members.get(id));
        Some(GroupChange {
            epoch: self.epoch,
            removed: removed.iter().map(|id| (**id).to_owned()).collect(),
            changed: records.map(|member| member.record.clone()).collect(),
        })
    }

    /// Nothing here that the quorum does not know.
    pub(crate) fn is_over(&self) -> bool {
        self.members.is_empty()
            && self.writes == 0
            && !self.is_changed
            && self.changed.is_empty()
            && self.removed.is_empty()
    }

    pub(crate) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether any member subscribes to a topic.
    pub(crate) fn wants(&self, topic: &str) -> bool {
        self.subscriptions.wants(topic)
    }

    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + (1 + self.members.len()) * ENTRY_BYTES
    }

    pub(crate) fn state(&self) -> GroupState {
        let mut members = self.members.values();
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target_epoch {
            GroupState::Assigning
        } else if members.all(|member| member.is_settled(self.target_epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub(crate) fn describe(&self) -> ConsumerDescription {
        let members = self.members.values();
        ConsumerDescription {
            state: self.state(),
            epoch: self.epoch,
            target_epoch: self.target_epoch,
            assignor: self.assignor.name(),
            members: members
                .map(|member| (member.record.clone(), member.target.clone()))
                .collect(),
        }
    }

    /// Forgets all timers.
    pub(crate) fn close(&mut self, env: &mut Env<'_>) {
        for id in self.members.keys() {
            for timer in self.timers_of(id) {
                env.timers.cancel(&timer);
            }
        }
    }
}

/// What a member has, or is giving up.
fn held(record: &ConsumerMember) -> impl Iterator<Item = (TopicId, PartitionIndex)> + '_ {
    each(&record.assigned).chain(each(&record.revoking))
}
