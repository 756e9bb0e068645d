//! JoinGroup: who may join, as whom, and whether that means a rebalance.

use std::sync::Arc;

use alluvium_types::ErrorCode;
use tracing::info;

use super::group::{Env, Group, Phase};
use super::member::{Joining, Member, Waiter};
use super::request::{JoinAnswer, JoinGroup, JoinRefused};
use super::settings::{GROUP_BYTES, MEMBERS_PER_GROUP, NEW_MEMBER_WAIT};

/// Most characters of a client's name that become part of a member id.
const ID_PREFIX_CHARS: usize = 249;

/// Most characters of a client's reason that are logged.
const REASON_CHARS: usize = 200;

fn refuse(waiter: Waiter<JoinAnswer>, code: ErrorCode, member_id: &str) {
    waiter.answer(Err(JoinRefused {
        code,
        member_id: member_id.to_owned(),
    }));
}

/// What a client gave as its reason, as far as it is fit for a log.
pub(crate) fn shortened(reason: Option<&str>) -> String {
    reason
        .unwrap_or("not given")
        .chars()
        .take(REASON_CHARS)
        .collect()
}

/// Random bits as the text of a version 4 UUID.
pub(crate) fn uuid_text(bits: u128) -> String {
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// The id that a newcomer gets, made of random bits.
pub(crate) fn newcomer_id(request: &JoinGroup, id_bits: u128) -> String {
    let prefix = request.instance_id.as_deref().unwrap_or(&request.client_id);
    let prefix: String = prefix.chars().take(ID_PREFIX_CHARS).collect();
    format!("{prefix}-{}", uuid_text(id_bits))
}

impl Group {
    /// A member joins. `id_bits` are random; a newcomer's id is made of them.
    pub(crate) fn join(
        &mut self,
        env: &mut Env<'_>,
        request: JoinGroup,
        id_bits: u128,
        waiter: Waiter<JoinAnswer>,
    ) {
        if !self.has_room(&request, env.settings.max_size) {
            let removed = self.remove(&request.member_id, ErrorCode::GroupMaxSizeReached, env);
            refuse(waiter, ErrorCode::GroupMaxSizeReached, "");
            if removed.is_some() {
                self.rebalance_or_complete(env, "a member over the size limit was removed");
            }
            return;
        }
        let known = &request.member_id;
        if matches!(self.phase, Phase::Dead) {
            return refuse(waiter, ErrorCode::CoordinatorNotAvailable, known);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return refuse(waiter, ErrorCode::InconsistentGroupProtocol, known);
        }
        if request.member_id.is_empty() {
            self.join_as_newcomer(env, request, id_bits, waiter);
        } else {
            self.join_as_known(env, request, waiter);
        }
    }

    /// Whether the size limits leave room. While members rejoin it is those that have already done
    /// so that count: the last to come are the ones turned away.
    fn has_room(&self, request: &JoinGroup, max_size: usize) -> bool {
        let instance = request
            .instance_id
            .as_deref()
            .and_then(|id| self.instances.get(id));
        let id = instance.map_or(request.member_id.as_str(), |id| id);
        let member = self.members.get(id);
        let held = member.map_or(0, Member::bytes);
        if self.subscription_bytes().saturating_sub(held) + request.bytes() > GROUP_BYTES {
            return false;
        }
        match self.phase {
            Phase::Empty | Phase::Dead => max_size > 0,
            Phase::Preparing(_) => {
                let awaiting = self
                    .members
                    .values()
                    .filter(|member| member.joining.is_some());
                member.is_some_and(|member| member.joining.is_some()) || awaiting.count() < max_size
            }
            Phase::Completing(_) | Phase::Stable => {
                member.is_some() || self.members.len() < max_size
            }
        }
    }

    fn join_as_newcomer(
        &mut self,
        env: &mut Env<'_>,
        request: JoinGroup,
        id_bits: u128,
        waiter: Waiter<JoinAnswer>,
    ) {
        let id: Arc<str> = newcomer_id(&request, id_bits).into();
        let former = request
            .instance_id
            .as_deref()
            .and_then(|instance| self.instances.get(instance));
        if let Some(former) = former.cloned() {
            return self.join_as_restarted(env, &former, id, request, waiter);
        }
        if request.instance_id.is_none() && request.takes_member_id {
            if self.pending.len() + self.members.len() >= MEMBERS_PER_GROUP {
                return refuse(waiter, ErrorCode::GroupMaxSizeReached, "");
            }
            self.expire_at(&id, env.now + i64::from(request.session_timeout), env);
            refuse(waiter, ErrorCode::MemberIdRequired, &id);
            self.pending.insert(id);
            return;
        }
        self.add(env, id, request, waiter);
    }

    fn join_as_known(&mut self, env: &mut Env<'_>, request: JoinGroup, waiter: Waiter<JoinAnswer>) {
        if request.instance_id.is_none()
            && let Some(id) = self.pending.get(request.member_id.as_str()).cloned()
        {
            return self.add(env, id, request, waiter);
        }
        if let Err(code) = self.validate(&request.member_id, request.instance_id.as_deref()) {
            return refuse(waiter, code, &request.member_id);
        }
        let Some(member) = self.members.get(request.member_id.as_str()) else {
            return refuse(waiter, ErrorCode::UnknownMemberId, &request.member_id);
        };
        let unchanged = member.protocols == request.protocols;
        let leads = self.is_leader(&request.member_id);
        match self.phase {
            // It may not have received the answer to its first join, or is a follower that has
            // nothing new to say: the current generation is the answer. A leader that joins
            // again wants a rebalance, for reasons that only it knows.
            Phase::Completing(_) if unchanged => {
                waiter.answer(Ok(self.joined(member, None, false)));
            }
            Phase::Stable if unchanged && !leads => {
                waiter.answer(Ok(self.joined(member, None, false)));
            }
            Phase::Preparing(_) | Phase::Completing(_) | Phase::Stable => {
                let id = Arc::clone(&member.id);
                let reason = shortened(request.reason.as_deref());
                self.take_join(&id, request, waiter, None);
                self.rebalance_or_complete(env, &format!("member {id} rejoins, reason: {reason}"));
            }
            Phase::Empty | Phase::Dead => {
                refuse(waiter, ErrorCode::UnknownMemberId, &request.member_id);
            }
        }
    }

    /// A static member without its id is one that was restarted: it takes the place of its former
    /// self. A stable group whose protocol stays the same is not rebalanced for it.
    fn join_as_restarted(
        &mut self,
        env: &mut Env<'_>,
        former: &Arc<str>,
        id: Arc<str>,
        request: JoinGroup,
        waiter: Waiter<JoinAnswer>,
    ) {
        info!(group = %self.id, former = %former, member = %id, "static member was restarted");
        let leader = self.leader.clone();
        self.replace_static(former, &id, env);
        let shown = leader.filter(|_| !request.takes_skip_assignment);
        self.take_join(&id, request, waiter, shown);
        self.renew_session(&id, env);
        match self.phase {
            Phase::Stable if self.select_protocol() == self.protocol => self.dirty = true,
            // The leader may have been given the former id already.
            Phase::Completing(_) | Phase::Stable => {
                self.prepare(env, &format!("static member {id} was restarted"));
            }
            Phase::Preparing(_) => self.complete_join_if_ready(env),
            Phase::Empty | Phase::Dead => {}
        }
    }

    fn add(
        &mut self,
        env: &mut Env<'_>,
        id: Arc<str>,
        mut request: JoinGroup,
        waiter: Waiter<JoinAnswer>,
    ) {
        let reason = shortened(request.reason.take().as_deref());
        let takes_skip_assignment = request.takes_skip_assignment;
        if self.members.is_empty() {
            self.protocol_type = Some(std::mem::take(&mut request.protocol_type));
        }
        if let Phase::Preparing(Some(initial)) = &mut self.phase {
            initial.newcomer = true;
        }
        let mut member = Member::new(Arc::clone(&id), request);
        member.joining = Some(Joining {
            waiter,
            takes_skip_assignment,
            leader_shown: None,
        });
        self.insert(member);
        // It sends no heartbeats before it is told that it is a member.
        self.expire_at(&id, env.now + NEW_MEMBER_WAIT, env);
        self.rebalance_or_complete(env, &format!("member {id} joins, reason: {reason}"));
    }

    /// Notes what a member says of itself, and that it waits.
    fn take_join(
        &mut self,
        id: &str,
        request: JoinGroup,
        waiter: Waiter<JoinAnswer>,
        leader_shown: Option<Arc<str>>,
    ) {
        let takes_skip_assignment = request.takes_skip_assignment;
        self.update(id, |member| {
            member.protocols = request.protocols;
            member.session_timeout = request.session_timeout;
            member.rebalance_timeout = request.rebalance_timeout;
            member.client_id = request.client_id;
            member.client_host = request.client_host;
            let joining = Joining {
                waiter,
                takes_skip_assignment,
                leader_shown,
            };
            if let Some(before) = member.joining.replace(joining) {
                refuse(before.waiter, ErrorCode::RebalanceInProgress, id);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_random_uuids() {
        assert_eq!(uuid_text(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_text(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
