//! What an agent was answered for its chunks.

use std::collections::VecDeque;

use alluvium_types::{AgentEpoch, ChunkNumber, ErrorCode};
use serde::{Deserialize, Serialize};

use super::agents::{self, Registration};
use super::{State, refusal};
use crate::command::{AgentOrigin, Outcome, Refusal};

/// Answers that are remembered per registration.
pub(crate) const REMEMBERED_CHUNKS: usize = 64;

/// Bytes of answers that are remembered per registration; the newest is kept whatever its size.
pub(crate) const REMEMBERED_BYTES: usize = 4 << 20;

/// The chunks of one agent epoch that were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkLog {
    pub(super) last: u64,
    /// The last answers, oldest first, encoded: an answer is some bytes a batch that way, and few
    /// are ever asked for again.
    pub(super) answers: VecDeque<Box<[u8]>>,
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
        let mut bytes = self.bytes();
        while self.answers.len() > REMEMBERED_CHUNKS
            || (bytes > REMEMBERED_BYTES && self.answers.len() > 1)
        {
            bytes -= self.answers.pop_front().map_or(0, |answer| answer.len());
        }
    }

    /// Forgets the answers, not how many there were.
    pub(super) fn forget_answers(&mut self) {
        self.answers = VecDeque::new();
    }

    /// Bytes of the answers that are remembered.
    pub(super) fn bytes(&self) -> usize {
        self.answers.iter().map(|answer| answer.len()).sum()
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
    /// What a chunk was answered, if it was. Nothing when it is the next of a registration that may
    /// sequence. A registration that was replaced or ended is still told of the chunks that were
    /// sequenced under it, so that nobody hears that records which are stored were not.
    ///
    /// # Errors
    /// The chunk cannot be sequenced: see [`crate::Sequence`].
    pub(crate) fn answered(
        &self,
        origin: AgentOrigin,
        chunk: ChunkNumber,
    ) -> Result<Option<Outcome>, Refusal> {
        let Some(registration) = self.agents.get(&origin.agent) else {
            return Err(agents::unknown(origin));
        };
        let Some(log) = chunk_log(registration, origin.epoch) else {
            // An epoch that was never given, or one of which nothing is known any more.
            return Err(if origin.epoch > registration.agent.epoch {
                agents::stale(&registration.agent, origin)
            } else {
                forgotten(origin, chunk)
            });
        };
        match log.place(chunk) {
            Place::Answered(outcome) => Ok(Some(outcome)),
            Place::Forgotten => Err(forgotten(origin, chunk)),
            Place::Next => self.registration(origin).map(|_| None),
            Place::Early { expected } => {
                self.registration(origin)?;
                Err(refusal(
                    ErrorCode::InvalidRequest,
                    format!(
                        "Chunk {} of agent {} came too early: expected chunk {expected}.",
                        chunk.0, origin.agent
                    ),
                ))
            }
        }
    }

    /// Counts the next chunk of a current registration as answered.
    pub(crate) fn remember(&mut self, origin: AgentOrigin, outcome: &Outcome) {
        if let Some(registration) = self.agents.get_mut(&origin.agent)
            && registration.agent.epoch == origin.epoch
        {
            registration.chunks.remember(outcome);
        }
    }
}

/// The chunks of an agent's epoch, if they are remembered.
fn chunk_log(registration: &Registration, epoch: AgentEpoch) -> Option<&ChunkLog> {
    let current = registration.agent.epoch;
    if epoch == current {
        return Some(&registration.chunks);
    }
    (epoch.0.checked_add(1) == Some(current.0)).then_some(&registration.before)
}

fn forgotten(origin: AgentOrigin, chunk: ChunkNumber) -> Refusal {
    refusal(
        ErrorCode::InvalidRequest,
        format!(
            "Chunk {} of agent {} is too old to answer for.",
            chunk.0, origin.agent
        ),
    )
}

#[cfg(test)]
mod tests;
