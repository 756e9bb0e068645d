//! Registrations of agents, and what each was answered for its chunks.

use std::collections::VecDeque;

use alluvium_types::{AgentEpoch, AgentId, ChunkNumber, ErrorCode, Millis, ProducerId};
use serde::{Deserialize, Serialize};

use super::{State, refusal};
use crate::command::{AgentOrigin, Change, Outcome, Refusal, RegisterAgent};

/// Answers that are remembered per agent.
pub(crate) const REMEMBERED_CHUNKS: usize = 64;

/// Bytes of answers that are remembered per agent; the newest is kept whatever its size.
const REMEMBERED_BYTES: usize = 4 << 20;

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
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
}

/// An agent with the chunks of its current epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) agent: Agent,
    pub(crate) chunks: ChunkLog,
}

/// The chunks of one agent epoch that were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkLog {
    last: u64,
    /// The last answers, oldest first, encoded: an answer is some bytes a batch that way, and few
    /// are ever asked for again.
    answers: VecDeque<Box<[u8]>>,
}

/// Where a chunk number stands.
pub(crate) enum Place {
    Next,
    Answered(Outcome),
    Forgotten,
    Early { expected: u64 },
}

impl ChunkLog {
    pub(crate) fn place(&self, chunk: ChunkNumber) -> Place {
        let Some(back) = self.last.checked_sub(chunk.0) else {
            let expected = self.last.saturating_add(1);
            return if chunk.0 == expected {
                Place::Next
            } else {
                Place::Early { expected }
            };
        };
        let answer = usize::try_from(back)
            .ok()
            .and_then(|back| self.answers.iter().nth_back(back))
            .and_then(|answer| postcard::from_bytes(answer).ok());
        answer.map_or(Place::Forgotten, Place::Answered)
    }

    /// Counts the next chunk as answered.
    pub(crate) fn remember(&mut self, outcome: &Outcome) {
        self.last = self.last.saturating_add(1);
        // Encoding an outcome cannot fail; if it did, the answer would be forgotten, not wrong.
        let answer = postcard::to_allocvec(outcome).unwrap_or_default();
        self.answers.push_back(answer.into_boxed_slice());
        let mut bytes: usize = self.answers.iter().map(|answer| answer.len()).sum();
        while self.answers.len() > REMEMBERED_CHUNKS
            || (bytes > REMEMBERED_BYTES && self.answers.len() > 1)
        {
            bytes -= self.answers.pop_front().map_or(0, |answer| answer.len());
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let answers = u64::try_from(self.answers.len()).unwrap_or(u64::MAX);
        if self.answers.len() > REMEMBERED_CHUNKS || answers > self.last {
            return Err(format!("{answers} answers for {} chunks", self.last));
        }
        for answer in &self.answers {
            postcard::from_bytes::<Outcome>(answer)
                .map_err(|error| format!("an answer cannot be read: {error}"))?;
        }
        Ok(())
    }
}

impl State {
    /// The agent that a command names, if the command is of its current registration.
    pub(crate) fn registration(
        &mut self,
        origin: AgentOrigin,
    ) -> Result<&mut Registration, Refusal> {
        let Some(registration) = self.agents.get_mut(&origin.agent) else {
            return Err(refusal(
                ErrorCode::BrokerIdNotRegistered,
                format!("Agent {} is not registered.", origin.agent),
            ));
        };
        let current = registration.agent.epoch;
        if current != origin.epoch {
            return Err(refusal(
                ErrorCode::StaleBrokerEpoch,
                format!(
                    "Agent {} has epoch {}, not {}: it was started again under the same identity.",
                    origin.agent, current.0, origin.epoch.0
                ),
            ));
        }
        Ok(registration)
    }

    pub(crate) fn chunk_log(&mut self, origin: AgentOrigin) -> Result<&mut ChunkLog, Refusal> {
        self.registration(origin)
            .map(|registration| &mut registration.chunks)
    }
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
    let (id, epoch) = match known.and_then(|id| state.agents.get(&id)) {
        Some(registration) => (
            registration.agent.id,
            registration
                .agent
                .epoch
                .0
                .checked_add(1)
                .ok_or_else(exhausted)?,
        ),
        None => {
            let last = state.agents.last_key_value().map_or(0, |(id, _)| id.0);
            (AgentId(last.checked_add(1).ok_or_else(exhausted)?), 1)
        }
    };
    let epoch = AgentEpoch(epoch);
    let agent = Agent {
        id,
        epoch,
        identity: command.identity,
        host: command.host,
        port: command.port,
        zone: command.zone,
        registered_at: command.at,
    };
    state.cluster_id.get_or_insert(command.cluster_id);
    state.identities.insert(command.identity, id);
    state.agents.insert(
        id,
        Registration {
            agent,
            chunks: ChunkLog::default(),
        },
    );
    changes.push(Change::Agents);
    Ok(Outcome::AgentRegistered(AgentOrigin { agent: id, epoch }))
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
