//! What members do between joins: sync, heartbeat, commit, leave, fall silent.

use std::sync::Arc;

use alluvium_types::ErrorCode;
use bytes::Bytes;
use tracing::info;

use super::group::{Env, Group, Phase};
use super::join::shortened;
use super::member::Waiter;
use super::request::{Committer, Heartbeat, Leaver, SyncAnswer, SyncGroup, Synced};
use super::settings::GROUP_BYTES;
use super::timers::Timer;

fn differs(said: Option<&String>, known: Option<&String>) -> bool {
    matches!((said, known), (Some(said), Some(known)) if said != known)
}

impl Group {
    /// A member asks for its assignment; the leader brings them all.
    pub(crate) fn sync(
        &mut self,
        env: &mut Env<'_>,
        request: SyncGroup,
        waiter: Waiter<SyncAnswer>,
    ) {
        if let Err(code) = self.check_sync(&request) {
            return waiter.answer(Err(code));
        }
        match &self.phase {
            Phase::Completing(proposed) => {
                let first = proposed.is_none();
                let leads = self.is_leader(&request.member_id);
                let bytes: usize = request
                    .assignments
                    .iter()
                    .map(|(_, bytes)| bytes.len())
                    .sum();
                if leads && bytes > GROUP_BYTES {
                    return waiter.answer(Err(ErrorCode::UnknownServerError));
                }
                if let Some(member) = self.members.get_mut(request.member_id.as_str())
                    && let Some(before) = member.syncing.replace(waiter)
                {
                    before.answer(Err(ErrorCode::RebalanceInProgress));
                }
                self.has_synced(&request.member_id, env);
                if leads && first {
                    self.take_assignment(request.assignments);
                }
            }
            Phase::Stable => {
                self.has_synced(&request.member_id, env);
                let assignment = self
                    .members
                    .get(request.member_id.as_str())
                    .map_or_else(Bytes::new, |member| member.assignment.clone());
                waiter.answer(Ok(Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment,
                }));
            }
            Phase::Preparing(_) => waiter.answer(Err(ErrorCode::RebalanceInProgress)),
            Phase::Empty | Phase::Dead => waiter.answer(Err(ErrorCode::UnknownMemberId)),
        }
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), ErrorCode> {
        if matches!(self.phase, Phase::Dead) {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differs(request.protocol_type.as_ref(), self.protocol_type.as_ref())
            || differs(request.protocol.as_ref(), self.protocol.as_ref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, member: &str, env: &mut Env<'_>) {
        self.unsynced.remove(member);
        if self.unsynced.is_empty() {
            env.timers.cancel(&Timer::Sync(Arc::clone(&self.id)));
        }
    }

    /// A sign of life. While members are to join again it is answered so.
    pub(crate) fn heartbeat(
        &mut self,
        env: &mut Env<'_>,
        request: &Heartbeat,
    ) -> Result<(), ErrorCode> {
        if matches!(self.phase, Phase::Dead) {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_session(&request.member_id.as_str().into(), env);
        match self.phase {
            Phase::Preparing(_) => Err(ErrorCode::RebalanceInProgress),
            Phase::Completing(_) | Phase::Stable => Ok(()),
            Phase::Empty | Phase::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Whether a commit comes from somebody who may. It counts as a sign of life.
    pub(crate) fn check_commit(
        &mut self,
        env: &mut Env<'_>,
        committer: &Committer,
    ) -> Result<(), ErrorCode> {
        if matches!(self.phase, Phase::Dead) {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if committer.generation < 0 && matches!(self.phase, Phase::Empty) {
            return Ok(());
        }
        let anonymous = committer.generation < 0
            && committer.member_id.is_empty()
            && committer.instance_id.is_none();
        if anonymous {
            // Clients that assign partitions to themselves keep out of a group with members.
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate(&committer.member_id, committer.instance_id.as_deref())?;
        if committer.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if matches!(self.phase, Phase::Completing(_)) {
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.renew_session(&committer.member_id.as_str().into(), env);
        Ok(())
    }

    /// Members leave; one code for each.
    pub(crate) fn leave(&mut self, env: &mut Env<'_>, leavers: &[Leaver]) -> Vec<ErrorCode> {
        let before = self.members.len();
        let codes: Vec<ErrorCode> = leavers
            .iter()
            .map(|leaver| self.leave_one(env, leaver).err().unwrap_or_default())
            .collect();
        if self.members.len() < before {
            self.rebalance_or_complete(env, "members left");
        } else {
            self.complete_join_if_ready(env);
        }
        codes
    }

    fn leave_one(&mut self, env: &mut Env<'_>, leaver: &Leaver) -> Result<(), ErrorCode> {
        let id: Arc<str> = if leaver.member_id.is_empty() {
            let instance = leaver
                .instance_id
                .as_deref()
                .ok_or(ErrorCode::UnknownMemberId)?;
            self.instances
                .get(instance)
                .cloned()
                .ok_or(ErrorCode::UnknownMemberId)?
        } else {
            if !self.pending.contains(leaver.member_id.as_str()) {
                self.validate(&leaver.member_id, leaver.instance_id.as_deref())?;
            }
            leaver.member_id.as_str().into()
        };
        let reason = shortened(leaver.reason.as_deref());
        info!(group = %self.id, member = %id, reason, "member leaves");
        self.remove(&id, ErrorCode::UnknownMemberId, env);
        Ok(())
    }

    /// A member gave no sign of life for the length of its session.
    pub(crate) fn session_timer(&mut self, env: &mut Env<'_>, id: &Arc<str>) {
        if self.pending.remove(id) {
            info!(group = %self.id, member = %id, "member id was never used and is forgotten");
            return self.complete_join_if_ready(env);
        }
        let Some(member) = self.members.get(id) else {
            return;
        };
        // Whoever waits for an answer of ours cannot send heartbeats. A newcomer gets no grace:
        // its timer is the longest time that its first join may wait.
        if !member.is_new && member.waits() {
            return self.renew_session(id, env);
        }
        info!(group = %self.id, member = %id, "member's session timed out");
        self.remove(id, ErrorCode::UnknownMemberId, env);
        self.rebalance_or_complete(env, "a member's session timed out");
    }
}
