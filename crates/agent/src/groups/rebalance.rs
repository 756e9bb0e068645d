//! The two phases of a rebalance: members join, then each gets what the leader assigned to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_types::ErrorCode;
use bytes::Bytes;
use tracing::{debug, info, warn};

use super::group::{Env, Group, Initial, Phase};
use super::request::{JoinRefused, Synced};
use super::settings::WRITE_PAUSE;
use super::timers::Timer;

impl Group {
    /// Starts a rebalance, or ends the join phase of the one under way if everybody is there.
    pub(crate) fn rebalance_or_complete(&mut self, env: &mut Env<'_>, reason: &str) {
        match self.phase {
            Phase::Empty | Phase::Completing(_) | Phase::Stable => self.prepare(env, reason),
            Phase::Preparing(_) => self.complete_join_if_ready(env),
            Phase::Dead => {}
        }
    }

    /// Starts a rebalance: from now on members are told to join again.
    pub(crate) fn prepare(&mut self, env: &mut Env<'_>, reason: &str) {
        info!(
            group = %self.id, generation = self.generation, state = self.state().name(), reason,
            "rebalance begins"
        );
        if matches!(self.phase, Phase::Completing(_)) {
            self.refuse_syncs(env, ErrorCode::RebalanceInProgress);
        }
        self.unsynced.clear();
        env.timers.cancel(&Timer::Sync(Arc::clone(&self.id)));
        if matches!(self.phase, Phase::Empty) {
            let delay = env.settings.initial_delay;
            let remaining = (self.rebalance_timeout() - delay).max(0);
            self.phase = Phase::Preparing(Some(Initial {
                delay,
                remaining,
                newcomer: false,
            }));
            if delay == 0 {
                self.complete_join(env);
            } else {
                env.timers
                    .set(Timer::Join(Arc::clone(&self.id)), env.now + delay);
            }
        } else {
            self.phase = Phase::Preparing(None);
            env.timers.set(
                Timer::Join(Arc::clone(&self.id)),
                env.now + self.rebalance_timeout(),
            );
            self.complete_join_if_ready(env);
        }
    }

    /// Ends the join phase if nobody is missing. The first phase of all runs its time.
    pub(crate) fn complete_join_if_ready(&mut self, env: &mut Env<'_>) {
        if matches!(self.phase, Phase::Preparing(None))
            && self.pending.is_empty()
            && self.members.values().all(|member| member.joining.is_some())
        {
            self.complete_join(env);
        }
    }

    /// The time of the join phase is over.
    pub(crate) fn join_timer(&mut self, env: &mut Env<'_>) {
        let Phase::Preparing(initial) = &mut self.phase else {
            return;
        };
        if let Some(round) = initial
            && round.newcomer
            && round.remaining > 0
        {
            let delay = env.settings.initial_delay.min(round.remaining);
            let remaining = (round.remaining - round.delay).max(0);
            *round = Initial {
                delay,
                remaining,
                newcomer: false,
            };
            env.timers
                .set(Timer::Join(Arc::clone(&self.id)), env.now + delay);
            return;
        }
        self.complete_join(env);
    }

    /// Ends the join phase: who has not come is out, who has is told of the new generation.
    fn complete_join(&mut self, env: &mut Env<'_>) {
        env.timers.cancel(&Timer::Join(Arc::clone(&self.id)));
        self.remove_absent(env);
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none has come: their sessions decide.
            let wait = self.rebalance_timeout().max(1);
            env.timers
                .set(Timer::Join(Arc::clone(&self.id)), env.now + wait);
            return;
        }
        self.generation = self.generation.saturating_add(1);
        self.unsynced.clear();
        if self.members.is_empty() {
            info!(group = %self.id, generation = self.generation, "group is empty");
            self.protocol = None;
            self.leader = None;
            self.phase = Phase::Empty;
            self.dirty = true;
            return;
        }
        self.protocol = self.select_protocol();
        self.phase = Phase::Completing(None);
        info!(
            group = %self.id, generation = self.generation, members = self.members.len(),
            "generation is formed"
        );
        for id in self.member_ids() {
            self.update(&id, |member| {
                member.is_new = false;
                member.assignment = Bytes::new();
            });
            self.answer_join(&id);
            self.renew_session(&id, env);
            self.unsynced.insert(id);
        }
        let wait = self.rebalance_timeout().max(1);
        env.timers
            .set(Timer::Sync(Arc::clone(&self.id)), env.now + wait);
    }

    /// Removes members that did not join again, and newcomers whose connection is lost: nobody
    /// would assign anything in their name. Static members stay for as long as their session.
    fn remove_absent(&mut self, env: &mut Env<'_>) {
        let absent: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| match &member.joining {
                None => member.instance_id.is_none(),
                Some(joining) => member.is_new && joining.waiter.is_gone(),
            })
            .map(|member| Arc::clone(&member.id))
            .collect();
        for id in absent {
            info!(group = %self.id, member = %id, "member did not join in time and is removed");
            self.remove(&id, ErrorCode::UnknownMemberId, env);
        }
    }

    /// Keeps the leader if it has joined, else elects one who has. False when nobody has.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| {
            self.members
                .get(id)
                .is_some_and(|member| member.joining.is_some())
        };
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let Some(elected) = self.members.keys().find(|id| joined(id)).cloned() else {
            return false;
        };
        info!(group = %self.id, leader = %elected, "leader did not join, another is elected");
        self.leader = Some(elected);
        true
    }

    /// Tells a member that waits that it is part of this generation.
    fn answer_join(&mut self, id: &str) {
        let Some(joining) = self
            .members
            .get_mut(id)
            .and_then(|member| member.joining.take())
        else {
            return;
        };
        if let Some(member) = self.members.get(id) {
            let skip = matches!(self.phase, Phase::Stable) && joining.takes_skip_assignment;
            let joined = self.joined(member, Some(&joining), skip);
            joining.waiter.answer(Ok(joined));
        }
    }

    /// Tells whoever waits for an assignment that none will come. While they waited they could not
    /// send heartbeats, so their sessions begin anew.
    fn refuse_syncs(&mut self, env: &mut Env<'_>, code: ErrorCode) {
        for id in self.member_ids() {
            let waiter = self
                .members
                .get_mut(&id)
                .and_then(|member| member.syncing.take());
            if let Some(waiter) = waiter {
                waiter.answer(Err(code));
                self.renew_session(&id, env);
            }
        }
    }

    /// The leader's assignment is there; it is told once it is durable.
    pub(crate) fn take_assignment(&mut self, assignments: Vec<(String, Bytes)>) {
        let mut given: BTreeMap<Arc<str>, Bytes> = BTreeMap::new();
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get(id.as_str()) {
                given.insert(Arc::clone(&member.id), assignment);
            }
        }
        if given.len() < self.members.len() {
            debug!(group = %self.id, given = given.len(), "some members are assigned nothing");
        }
        self.phase = Phase::Completing(Some(given));
        self.dirty = true;
    }

    /// Members that never asked for their assignment hold up the others: they are removed.
    pub(crate) fn sync_timer(&mut self, env: &mut Env<'_>) {
        if !matches!(self.phase, Phase::Completing(_) | Phase::Stable) || self.unsynced.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            info!(group = %self.id, member = %id, "member did not sync in time and is removed");
            self.remove(&id, ErrorCode::UnknownMemberId, env);
        }
        self.prepare(env, "members did not sync in time");
    }

    /// Write `token` has been done, or has failed with `result`. What was waiting for it goes on.
    pub(crate) fn written(&mut self, env: &mut Env<'_>, token: u64, result: Result<(), ErrorCode>) {
        let Some((writing, generation)) = self.writing else {
            return;
        };
        if writing != token {
            return;
        }
        self.writing = None;
        if let Err(code) = result {
            warn!(group = %self.id, generation, %code, "group could not be written");
        }
        match &mut self.phase {
            Phase::Completing(proposed) if generation == self.generation => {
                let Some(given) = proposed.take() else {
                    return;
                };
                match result {
                    Ok(()) => self.become_stable(env, given),
                    Err(code) => {
                        self.refuse_syncs(env, code);
                        self.prepare(env, "the assignment could not be written");
                    }
                }
            }
            // A later write covers whoever joined while this one was under way.
            Phase::Stable if !self.dirty => self.answer_restarted(env, result),
            Phase::Empty if result.is_err() => {
                env.timers
                    .set(Timer::Write(Arc::clone(&self.id)), env.now + WRITE_PAUSE);
                // Held in memory until then.
                self.dirty = true;
                self.queued = true;
            }
            _ => {}
        }
    }

    fn become_stable(&mut self, env: &mut Env<'_>, mut given: BTreeMap<Arc<str>, Bytes>) {
        self.phase = Phase::Stable;
        info!(
            group = %self.id, generation = self.generation, members = self.members.len(),
            "group is stable"
        );
        metrics::counter!("alluvium_group_rebalances_total").increment(1);
        for id in self.member_ids() {
            let assignment = given.remove(&id).unwrap_or_default();
            self.update(&id, |member| member.assignment = assignment.clone());
            let waiter = self
                .members
                .get_mut(&id)
                .and_then(|member| member.syncing.take());
            if let Some(waiter) = waiter {
                waiter.answer(Ok(Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment,
                }));
                self.renew_session(&id, env);
            }
        }
    }

    /// Static members that came back to a stable group.
    fn answer_restarted(&mut self, env: &mut Env<'_>, result: Result<(), ErrorCode>) {
        for id in self.member_ids() {
            if self
                .members
                .get(&id)
                .is_some_and(|member| member.joining.is_some())
            {
                self.renew_session(&id, env);
            }
            match result {
                Ok(()) => self.answer_join(&id),
                Err(code) => {
                    let joining = self
                        .members
                        .get_mut(&id)
                        .and_then(|member| member.joining.take());
                    if let Some(joining) = joining {
                        let refused = JoinRefused {
                            code,
                            member_id: String::new(),
                        };
                        joining.waiter.answer(Err(refused));
                    }
                }
            }
        }
    }
}
