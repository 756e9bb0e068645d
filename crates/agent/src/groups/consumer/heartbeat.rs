//! ConsumerGroupHeartbeat: joining, living on, leaving.

use std::sync::Arc;

use alluvium_metadata::{ConsumerMember, Partitions};
use alluvium_types::ErrorCode;
use tracing::info;

use super::super::group::Env;
use super::super::settings::{GROUP_BYTES, MEMBER_BYTES};
use super::member::{Member, is_within};
use super::request::{JOINS, LEAVES, LEAVES_FOR_A_WHILE};
use super::subscription::{Catalog, compile};
use super::{
    ConsumerAnswer, ConsumerGroup, ConsumerHeartbeat, ConsumerMembership, ConsumerRefused,
};

fn refuse<T>(code: ErrorCode, message: String) -> Result<T, ConsumerRefused> {
    Err(ConsumerRefused::new(code, message))
}

impl ConsumerGroup {
    /// A member joins, lives on or leaves. The request was checked
    /// ([`ConsumerHeartbeat::check`]).
    ///
    /// # Errors
    /// What a Kafka client is told; nothing has changed then.
    pub(crate) fn heartbeat(
        &mut self,
        env: &mut Env<'_>,
        beat: &ConsumerHeartbeat,
        catalog: &impl Catalog,
    ) -> ConsumerAnswer {
        if let Some(pattern) = beat.pattern.as_ref().filter(|it| !it.is_empty()) {
            compile(pattern)?;
        }
        match beat.epoch {
            LEAVES | LEAVES_FOR_A_WHILE => return self.leave(env, beat),
            JOINS => self.admit(env, beat)?,
            _ => self.check_known(beat)?,
        }
        let id: Arc<str> = beat.member_id.as_str().into();
        let revoked = self.members.get(&id).map(|it| it.record.revoking.clone());
        let is_new = self.enter(env, beat, &id);
        let mut is_other = false;
        self.update(&id, |member, _| {
            is_other = take_news(&mut member.record, beat)
        });
        self.renew_session(&id, env);
        let topics_changed = self.subscriptions.look(catalog, env.now);
        if is_new || is_other || topics_changed {
            self.next_epoch();
        }
        self.aim(env);
        let has_moved = self.lead(&id, beat.owned.as_ref());
        let revokes = self.members.get(&id).map(|it| &it.record.revoking);
        if revokes != revoked.as_ref() {
            self.watch_revocation(&id, env);
        }
        let Some(member) = self.members.get(&id) else {
            return Err(ErrorCode::UnknownMemberId.into());
        };
        let is_told = has_moved || beat.epoch == JOINS || beat.is_full();
        Ok(ConsumerMembership {
            member_id: beat.member_id.clone(),
            epoch: member.record.epoch,
            interval: env.settings.consumer_heartbeat,
            assignment: is_told.then(|| member.record.assigned.clone()),
        })
    }

    /// Takes a member a step towards its target. Says whether what it may read has changed.
    pub(super) fn lead(&mut self, id: &Arc<str>, owned: Option<&Partitions>) -> bool {
        let epoch = self.target_epoch;
        let mut has_moved = false;
        self.update(id, |member, owners| {
            let before = member.record.assigned.clone();
            member.step(epoch, owned, |topic, partition| {
                !owners.contains_key(&(topic, partition))
            });
            has_moved = member.record.assigned != before;
        });
        has_moved
    }

    /// Whether somebody may join, for what it brings.
    fn admit(&self, env: &Env<'_>, beat: &ConsumerHeartbeat) -> Result<(), ConsumerRefused> {
        let names = beat.topics.iter().flatten().map(String::len);
        if names.sum::<usize>() > MEMBER_BYTES || self.bytes > GROUP_BYTES * 4 {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("Group {} has no memory for this subscription.", beat.group),
            );
        }
        if let Some(instance) = beat.instance_id.as_deref()
            && let Some(former) = self.instances.get(instance)
            && **former != *beat.member_id
        {
            let former = self.members.get(former);
            let is_away = former.is_some_and(|it| it.record.epoch == LEAVES_FOR_A_WHILE);
            if is_away {
                return Ok(());
            }
            return refuse(
                ErrorCode::UnreleasedInstanceId,
                format!("Static member {instance} is still there, under another member id."),
            );
        }
        let is_known = self.members.contains_key(beat.member_id.as_str());
        if !is_known && self.members.len() >= env.settings.consumer_max_size {
            return refuse(
                ErrorCode::GroupMaxSizeReached,
                format!("Group {} has as many members as it may have.", beat.group),
            );
        }
        Ok(())
    }

    /// Whether a member is who it says it is, and knows where it stands.
    fn check_known(&self, beat: &ConsumerHeartbeat) -> Result<(), ConsumerRefused> {
        let id = &beat.member_id;
        if let Some(instance) = beat.instance_id.as_deref() {
            match self.instances.get(instance) {
                None => return unknown(&format!("instance {instance}")),
                Some(known) if **known != **id => {
                    return refuse(
                        ErrorCode::FencedInstanceId,
                        format!("Static member {instance} has another member id by now."),
                    );
                }
                Some(_) => {}
            }
        }
        let Some(member) = self.members.get(id.as_str()) else {
            return unknown(&format!("member {id}"));
        };
        let record = &member.record;
        // An answer with a newer epoch may have been lost on its way.
        let is_behind = beat.epoch == record.previous_epoch
            && beat
                .owned
                .as_ref()
                .is_some_and(|owned| is_within(owned, &record.assigned));
        if beat.epoch == record.epoch || is_behind {
            return Ok(());
        }
        refuse(
            ErrorCode::FencedMemberEpoch,
            format!(
                "Member {id} is at epoch {}, not at {}; it must give up its partitions and join again.",
                record.epoch, beat.epoch
            ),
        )
    }

    /// Makes a joining member one, or lets a static one take the place of its former self. Says whether
    /// the group has another member now.
    fn enter(&mut self, env: &mut Env<'_>, beat: &ConsumerHeartbeat, id: &Arc<str>) -> bool {
        if beat.epoch != JOINS {
            return false;
        }
        let former = beat.instance_id.as_deref();
        let former = former
            .and_then(|instance| self.instances.get(instance))
            .cloned();
        match former.filter(|former| former != id) {
            Some(former) => !self.replace(env, &former, id),
            None if self.members.contains_key(id) => {
                // It begins anew, with nothing.
                self.update(id, |member, _| {
                    member.record.instance_id.clone_from(&beat.instance_id);
                    member.begin_anew();
                });
                self.instances.retain(|_, known| known != id);
                if let Some(instance) = beat.instance_id.as_deref() {
                    self.instances.insert(instance.into(), Arc::clone(id));
                }
                false
            }
            None => {
                info!(group = %self.id, member = %id, "a member joins");
                self.add(id, beat.instance_id.clone());
                true
            }
        }
    }

    /// Adds a member that has nothing yet.
    pub(super) fn add(&mut self, id: &Arc<str>, instance_id: Option<String>) {
        let record = ConsumerMember {
            member_id: id.to_string(),
            instance_id,
            ..ConsumerMember::default()
        };
        let target = Partitions::new();
        self.insert(Arc::clone(id), Member { record, target });
    }

    /// A static member that was restarted takes the place of its former self. Says whether there was one.
    pub(super) fn replace(&mut self, env: &mut Env<'_>, former: &str, id: &Arc<str>) -> bool {
        let Some(mut member) = self.remove(former, env) else {
            return false;
        };
        info!(group = %self.id, former, member = %id, "static member was restarted");
        member.record.member_id = id.to_string();
        member.begin_anew();
        self.insert(Arc::clone(id), member);
        true
    }

    fn leave(&mut self, env: &mut Env<'_>, beat: &ConsumerHeartbeat) -> ConsumerAnswer {
        let id = beat.member_id.as_str();
        if let Some(instance) = beat.instance_id.as_deref()
            && let Some(known) = self.instances.get(instance)
            && **known != *id
        {
            return refuse(
                ErrorCode::FencedInstanceId,
                format!("Static member {instance} has another member id by now."),
            );
        }
        if !self.members.contains_key(id) {
            return unknown(&format!("member {id}"));
        }
        if beat.epoch == LEAVES_FOR_A_WHILE {
            self.update(id, |member, _| member.record.epoch = LEAVES_FOR_A_WHILE);
        } else {
            info!(group = %self.id, member = id, "a member leaves");
            self.remove(id, env);
            self.next_epoch();
        }
        Ok(ConsumerMembership {
            member_id: beat.member_id.clone(),
            epoch: beat.epoch,
            interval: env.settings.consumer_heartbeat,
            assignment: None,
        })
    }

    /// Members leave as LeaveGroup has it: by id, or static ones by their instance.
    pub(crate) fn dismiss(
        &mut self,
        env: &mut Env<'_>,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let id = match instance {
            Some(instance) => match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(id) if !member.is_empty() && **id != *member => {
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(id) => Arc::clone(id),
            },
            None => member.into(),
        };
        match self.remove(&id, env) {
            Some(_) => {
                self.next_epoch();
                Ok(())
            }
            None => Err(ErrorCode::UnknownMemberId),
        }
    }
}

fn unknown<T>(who: &str) -> Result<T, ConsumerRefused> {
    refuse(
        ErrorCode::UnknownMemberId,
        format!("The group has no {who}."),
    )
}

/// Notes what a member says of itself. Says whether it wants anything else than before.
fn take_news(record: &mut ConsumerMember, beat: &ConsumerHeartbeat) -> bool {
    record.client_id.clone_from(&beat.client_id);
    record.client_host.clone_from(&beat.client_host);
    if beat.rack.is_some() {
        record.rack.clone_from(&beat.rack);
    }
    if let Some(timeout) = beat.rebalance_timeout {
        record.rebalance_timeout = timeout;
    }
    let mut is_other = false;
    if let Some(topics) = &beat.topics
        && *topics != record.topics
    {
        record.topics.clone_from(topics);
        is_other = true;
    }
    if let Some(pattern) = &beat.pattern {
        let pattern = Some(pattern.clone()).filter(|it| !it.is_empty());
        is_other |= pattern != record.pattern;
        record.pattern = pattern;
    }
    if beat.assignor.is_some() {
        is_other |= beat.assignor != record.assignor;
        record.assignor.clone_from(&beat.assignor);
    }
    is_other
}
