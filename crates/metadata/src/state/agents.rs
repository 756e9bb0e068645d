//! Registrations of agents: coming, draining, ending, being forgotten.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use alluvium_types::{AgentEpoch, AgentId, ErrorCode, Millis, ProducerId};
use serde::{Deserialize, Serialize};

use super::{ChunkLog, State, groups, journal, refusal};
use crate::command::{AgentOrigin, AnnounceAgent, Change, Outcome, Refusal, RegisterAgent};

/// Most ended agents that are remembered; those that ended first are forgotten first.
const ENDED_AGENTS: usize = 1000;

/// Bytes of answers that are remembered of all ended agents together.
const ENDED_BYTES: usize = 16 << 20;

/// How many epochs and agent ids a restored cluster leaves out.
const RESTORED_EPOCHS: u64 = 1 << 20;
const RESTORED_AGENTS: i32 = 1000;

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id; never given to another.
    pub id: AgentId,
    /// Its current registration.
    pub epoch: AgentEpoch,
    /// The identity it registered with.
    pub identity: u128,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its availability zone.
    pub zone: Option<String>,
    /// When it last registered.
    pub registered_at: Millis,
    /// Whether clients are sent to it and whether it may write.
    pub standing: Standing,
    /// The address at which other agents reach it, once this registration has announced one.
    pub peer: Option<String>,
    /// The incarnation of its write-ahead buffer, once this registration has announced one.
    pub journal: Option<u128>,
}

/// How an agent stands. Registering again makes it live, whatever it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It serves.
    #[default]
    Live,
    /// It is about to leave: clients are not sent to it any more, what it has under way is taken.
    Draining,
    /// Its lease ran out, or it left. Nothing more is taken from this registration.
    Ended {
        /// When.
        at: Millis,
    },
}

impl Agent {
    /// The registration that its commands name.
    #[must_use]
    pub const fn origin(&self) -> AgentOrigin {
        AgentOrigin {
            agent: self.id,
            epoch: self.epoch,
        }
    }

    /// When it ended, if it has.
    #[must_use]
    pub const fn ended_at(&self) -> Option<Millis> {
        match self.standing {
            Standing::Ended { at } => Some(at),
            Standing::Live | Standing::Draining => None,
        }
    }
}

/// An agent with the chunks of its current epoch and of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) agent: Agent,
    pub(crate) chunks: ChunkLog,
    pub(crate) before: ChunkLog,
}

impl State {
    /// The agent that a command names, if the command is of its current registration and that has
    /// not ended.
    pub(crate) fn registration(&self, origin: AgentOrigin) -> Result<&Registration, Refusal> {
        let registration = self
            .agents
            .get(&origin.agent)
            .ok_or_else(|| unknown(origin))?;
        if self.is_current(origin) {
            Ok(registration)
        } else {
            Err(stale(&registration.agent, origin))
        }
    }

    /// Whether a registration is the agent's last one and has not ended.
    pub(crate) fn is_current(&self, origin: AgentOrigin) -> bool {
        self.agent(origin.agent)
            .is_some_and(|agent| agent.epoch == origin.epoch && agent.ended_at().is_none())
    }
}

pub(super) fn unknown(origin: AgentOrigin) -> Refusal {
    refusal(
        ErrorCode::BrokerIdNotRegistered,
        format!("Agent {} is not registered.", origin.agent),
    )
}

/// Why commands of a registration are not taken (any more).
pub(super) fn stale(agent: &Agent, origin: AgentOrigin) -> Refusal {
    let AgentOrigin { agent: id, epoch } = origin;
    let message = if agent.epoch == epoch {
        format!(
            "Registration {} of agent {id} has ended: its lease ran out, or it left. Register again.",
            epoch.0
        )
    } else {
        format!(
            "Agent {id} has epoch {}, not {}: it registered again under the same identity.",
            agent.epoch.0, epoch.0
        )
    };
    refusal(ErrorCode::StaleBrokerEpoch, message)
}

pub(super) fn register(
    state: &mut State,
    command: RegisterAgent,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let exhausted = || {
        refusal(
            ErrorCode::UnknownServerError,
            "No agent id or epoch is left.",
        )
    };
    let known = state.identities.get(&command.identity).copied();
    let known = known.and_then(|id| state.agents.get(&id));
    let (id, epoch) = match known.map(|known| known.agent.origin()) {
        Some(replaced) => {
            let epoch = replaced.epoch.0.checked_add(1).ok_or_else(exhausted)?;
            (replaced.agent, epoch)
        }
        None => {
            let id = state.last_agent.checked_add(1).ok_or_else(exhausted)?;
            (AgentId(id), 1)
        }
    };
    let agent = Agent {
        id,
        epoch: AgentEpoch(epoch),
        identity: command.identity,
        host: command.host,
        port: command.port,
        zone: command.zone,
        registered_at: command.at,
        standing: Standing::Live,
        peer: None,
        journal: None,
    };
    let origin = agent.origin();
    let registration = Registration {
        agent,
        chunks: ChunkLog::default(),
        before: ChunkLog::default(),
    };
    state.cluster_id.get_or_insert(command.cluster_id);
    state.last_agent = state.last_agent.max(id.0);
    state.identities.insert(command.identity, id);
    if let Some(replaced) = state.agents.insert(id, registration) {
        journal::void(state, id, changes);
        if let Some(registration) = state.agents.get_mut(&id) {
            registration.before = replaced.chunks;
        }
        groups::let_go(state);
    }
    changes.push(Change::Agents);
    Ok(Outcome::AgentRegistered(origin))
}

/// Ends registrations, unless they were replaced or ended before.
pub(super) fn end(
    state: &mut State,
    origins: &[AgentOrigin],
    at: Millis,
    changes: &mut Vec<Change>,
) -> Outcome {
    let mut any = false;
    for origin in origins {
        any |= end_one(state, *origin, at, changes);
    }
    if any {
        groups::let_go(state);
        bound_ended(state);
        changes.push(Change::Agents);
    }
    Outcome::Done
}

fn end_one(state: &mut State, origin: AgentOrigin, at: Millis, changes: &mut Vec<Change>) -> bool {
    if !state.is_current(origin) {
        return false;
    }
    if let Some(Registration { agent, .. }) = state.agents.get_mut(&origin.agent) {
        agent.standing = Standing::Ended { at };
        (agent.peer, agent.journal) = (None, None);
    }
    journal::void(state, origin.agent, changes);
    true
}

/// Ended agents, the last one first.
fn ended(state: &State) -> Vec<(Reverse<Millis>, AgentId)> {
    let ended = state.agents();
    let mut ended: Vec<_> = ended
        .filter_map(|agent| Some((Reverse(agent.ended_at()?), agent.id)))
        .collect();
    ended.sort_unstable();
    ended
}

/// Keeps what is remembered of ended agents within bounds. One whose disk may hold records is not
/// forgotten: under another id they would not be found.
fn bound_ended(state: &mut State) {
    let mut bytes = 0usize;
    let holders = state.journal.holders();
    for (index, (_, id)) in ended(state).into_iter().enumerate() {
        if index >= ENDED_AGENTS && !holders.contains(&id) {
            forget_one(state, id);
            continue;
        }
        let Some(registration) = state.agents.get_mut(&id) else {
            continue;
        };
        for log in [&mut registration.chunks, &mut registration.before] {
            bytes = bytes.saturating_add(log.bytes());
            if bytes > ENDED_BYTES {
                log.forget_answers();
            }
        }
    }
}

fn forget_one(state: &mut State, id: AgentId) {
    if let Some(registration) = state.agents.remove(&id) {
        state.identities.remove(&registration.agent.identity);
        state.journal.forget_voided(id);
    }
}

pub(super) fn drain(
    state: &mut State,
    origin: AgentOrigin,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.registration(origin)?;
    if let Some(registration) = state.agents.get_mut(&origin.agent)
        && registration.agent.standing == Standing::Live
    {
        registration.agent.standing = Standing::Draining;
        changes.push(Change::Agents);
    }
    Ok(Outcome::Done)
}

pub(super) fn announce(
    state: &mut State,
    command: AnnounceAgent,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let AnnounceAgent {
        origin,
        peer,
        journal,
    } = command;
    state.registration(origin)?;
    if let Some(Registration { agent, .. }) = state.agents.get_mut(&origin.agent)
        && (&agent.peer, &agent.journal) != (&peer, &journal)
    {
        (agent.peer, agent.journal) = (peer, journal);
        changes.push(Change::Agents);
    }
    Ok(Outcome::Done)
}

pub(super) fn forget(
    state: &mut State,
    ended_before: Millis,
    changes: &mut Vec<Change>,
) -> Outcome {
    let holders = state.journal.holders();
    let gone: BTreeSet<AgentId> = state
        .agents()
        .filter(|agent| agent.ended_at().is_some_and(|at| at < ended_before))
        .filter(|agent| !holders.contains(&agent.id))
        .map(|agent| agent.id)
        .collect();
    for id in &gone {
        forget_one(state, *id);
    }
    if !gone.is_empty() {
        changes.push(Change::Agents);
    }
    Outcome::Done
}

/// Ends all agents and goes on well beyond any id or epoch that commands which are missing here may
/// have given.
pub(super) fn skip_ahead(state: &mut State, at: Millis) {
    let origins: Vec<_> = state.agents().map(Agent::origin).collect();
    end(state, &origins, at, &mut Vec::new());
    state.last_agent = state.last_agent.saturating_add(RESTORED_AGENTS);
    for registration in state.agents.values_mut() {
        let epoch = &mut registration.agent.epoch;
        *epoch = AgentEpoch(epoch.0.saturating_add(RESTORED_EPOCHS));
        // What was answered under the epochs left out is not known here.
        registration.chunks = ChunkLog::default();
        registration.before = ChunkLog::default();
    }
}

pub(super) fn allocate_producer_ids(state: &mut State, count: u32) -> Result<Outcome, Refusal> {
    let first = state.next_producer_id;
    let next = first.checked_add(ProducerId::from(count));
    state.next_producer_id =
        next.ok_or_else(|| refusal(ErrorCode::UnknownServerError, "No producer id is left."))?;
    Ok(Outcome::ProducerIds(first))
}

#[cfg(test)]
mod tests;
