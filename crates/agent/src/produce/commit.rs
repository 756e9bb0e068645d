//! Proposes chunks to the quorum and answers who waits for them.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep};

use alluvium_cluster::{Applied, Metadata, ProposeError};
use alluvium_metadata::{AgentOrigin, BatchOutcome, Command, Outcome, Sequence};
use alluvium_protocol::produce::ProduceResult;
use alluvium_types::{ChunkNumber, Clock, ErrorCode, Millis, Offset, TopicPartition};

use crate::backoff::Backoff;
use crate::registration::Registration;

use super::flight::{Flight, Proposal};
use super::submission::{Waiting, unanswered};

/// Gives chunks their numbers. They are given when a chunk is proposed, not when it is sealed, so a
/// chunk that never became durable leaves no hole. Under a new registration they begin anew.
#[derive(Debug)]
pub(super) struct Sequencer {
    pub(super) registration: Registration,
    pub(super) metadata: Metadata,
    pub(super) clock: Arc<dyn Clock>,
    origin: AgentOrigin,
    last_chunk: u64,
}

/// What became of the chunks that were proposed together, by id.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) origin: AgentOrigin,
    pub(super) outcomes: Vec<(u64, Outcome)>,
}

impl Sequencer {
    pub(super) fn new(
        registration: Registration,
        metadata: Metadata,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let origin = registration.origin();
        Self {
            registration,
            metadata,
            clock,
            origin,
            last_chunk: 0,
        }
    }

    /// Proposes the chunks, in order, until it is known what became of them. The commands stay the
    /// same over all attempts but for their time: by its number a chunk that was sequenced before is
    /// answered as then, also when the registration has ended since; and one that was not must be
    /// refused once its object may have been swept.
    pub(super) fn propose(
        &mut self,
        proposals: Vec<Proposal>,
    ) -> impl Future<Output = Answered> + Send + 'static {
        let origin = self.registration.origin();
        if self.origin != origin {
            self.origin = origin;
            self.last_chunk = 0;
        }
        let at = self.clock.now();
        let mut ids = Vec::with_capacity(proposals.len());
        let mut commands = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            self.last_chunk += 1;
            ids.push(proposal.id);
            commands.push(Command::Sequence(Sequence {
                origin,
                chunk: ChunkNumber(self.last_chunk),
                location: proposal.location,
                runs: proposal.runs,
                sealed_at: proposal.sealed_at,
                at,
            }));
        }
        let metadata = self.metadata.clone();
        let clock = Arc::clone(&self.clock);
        async move {
            let propose = |commands| metadata.propose_many(as_of(clock.now(), commands));
            let outcomes = propose_until_known(propose, commands).await;
            let outcomes = ids.into_iter().zip(outcomes).collect();
            Answered { origin, outcomes }
        }
    }
}

fn as_of(now: Millis, mut commands: Vec<Command>) -> Vec<Command> {
    for command in &mut commands {
        if let Command::Sequence(sequence) = command {
            sequence.at = now;
        }
    }
    commands
}

async fn propose_until_known<Answer>(
    propose: impl Fn(Vec<Command>) -> Answer,
    commands: Vec<Command>,
) -> Vec<Outcome>
where
    Answer: Future<Output = Result<Vec<Applied>, ProposeError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    let started = Instant::now();
    loop {
        match propose(commands.clone()).await {
            Ok(applied) => {
                metrics::histogram!("alluvium_produce_sequence_seconds")
                    .record(started.elapsed().as_secs_f64());
                return applied.into_iter().map(|applied| applied.outcome).collect();
            }
            Err(error) => {
                let pause = backoff.next();
                if backoff.attempts() > 2 {
                    tracing::warn!(%error, "chunks are not sequenced yet; trying again");
                } else {
                    tracing::debug!(%error, "sequencing chunks failed; trying again");
                }
                sleep(pause).await;
            }
        }
    }
}

/// Whether the quorum says that the registration under which a chunk was proposed is over.
pub(super) fn says_stale(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(refusal) if matches!(
        refusal.code,
        ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered
    ))
}

/// What producers are told of a chunk that was refused as a whole. Under a registration that is over
/// it was not stored and never will be: the client finds who takes the records. In all other cases
/// it may have been, and be too old to be remembered.
pub(super) fn refusal(outcome: &Outcome) -> Option<ProduceResult> {
    let Outcome::Refused(refusal) = outcome else {
        return None;
    };
    tracing::error!(%refusal, "the quorum refused a chunk; its producers are told to try again");
    metrics::counter!("alluvium_produce_chunks_refused_total").increment(1);
    let (code, what) = if refusal.code == ErrorCode::StaleBrokerEpoch {
        (ErrorCode::NotLeaderOrFollower, "were not stored")
    } else {
        (ErrorCode::RequestTimedOut, "may not have been stored")
    };
    let text = format!("The records {what}; send them again. {}", refusal.message);
    Some(ProduceResult::refused(code, text))
}

/// What a producer is told of a batch.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) waiting: Waiting,
    pub(super) partition: TopicPartition,
    pub(super) outcome: BatchOutcome,
    log_start: Offset,
}

/// The answers to everybody who waits for a chunk.
pub(super) fn answers(flight: Flight, outcome: Outcome) -> Vec<Answer> {
    let Outcome::Sequenced(sequenced) = outcome else {
        tracing::error!(?outcome, "a chunk was answered with something else");
        fail(flight, &unanswered());
        return Vec::new();
    };
    metrics::counter!("alluvium_produce_acked_bytes_total", "location" => flight.place)
        .increment(u64::try_from(flight.bytes).unwrap_or(u64::MAX));
    let partitions = flight.partitions.into_iter().zip(&sequenced);
    let outcomes = partitions.flat_map(|(partition, sequenced)| {
        let batches = sequenced.batches.iter();
        batches.map(move |outcome| (partition, *outcome, sequenced.log_start))
    });
    let answer = |(waiting, (partition, outcome, log_start))| Answer {
        waiting,
        partition,
        outcome,
        log_start,
    };
    flight
        .waiting
        .into_iter()
        .zip(outcomes)
        .map(answer)
        .collect()
}

/// Answers everybody who waits for a chunk with the same failure.
pub(super) fn fail(flight: Flight, result: &ProduceResult) {
    for waiting in flight.waiting {
        waiting.failed(result.clone());
    }
}

impl Answer {
    pub(super) fn give(self) {
        let Self {
            waiting,
            outcome,
            log_start,
            ..
        } = self;
        match outcome {
            BatchOutcome::Appended { base_offset } => waiting.stored(base_offset, log_start),
            BatchOutcome::Duplicate { base_offset } => {
                metrics::counter!("alluvium_produce_duplicates_total").increment(1);
                waiting.stored(base_offset, log_start);
            }
            BatchOutcome::Refused(code) => {
                let count =
                    metrics::counter!("alluvium_produce_refused_total", "code" => code.name());
                count.increment(1);
                tracing::debug!(
                    code = code.name(),
                    "a batch was refused when it was sequenced"
                );
                waiting.failed(ProduceResult::refused(code, refusal_text(code)));
            }
        }
    }
}

const fn refusal_text(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::OutOfOrderSequenceNumber => {
            "The batch does not continue the producer's sequence in this partition."
        }
        ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => {
            "A newer instance of the producer has taken over."
        }
        ErrorCode::InvalidProducerIdMapping => "The producer id belongs to no transactional id.",
        ErrorCode::InvalidTxnState => {
            "The partition was not added to an open transaction of the producer."
        }
        ErrorCode::UnknownTopicOrPartition => "The topic was deleted meanwhile.",
        _ => "The batch was refused when it was given its offsets.",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use alluvium_metadata::Location;
    use alluvium_types::AgentId;
    use bytes::Bytes;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_commands_are_proposed_until_their_outcome_is_known() {
        let origin = AgentOrigin {
            agent: AgentId(1),
            epoch: alluvium_types::AgentEpoch(1),
        };
        let metadata = Metadata::in_memory();
        let clock: Arc<dyn Clock> = Arc::new(alluvium_types::ManualClock::new(5));
        let registration = Registration::fixed(origin);
        let mut sequencer = Sequencer::new(registration.clone(), metadata, clock);
        let proposal = |id| {
            let location = Location::Inline(Bytes::new());
            Proposal {
                id,
                location,
                runs: Vec::new(),
                sealed_at: 4,
            }
        };
        // An agent that was never registered is refused, and its numbers go on all the same.
        let answered = sequencer.propose(vec![proposal(8), proposal(9)]).await;
        let ids: Vec<_> = answered.outcomes.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [8, 9]);
        assert_eq!(sequencer.last_chunk, 2);
        // Under a new registration they begin anew.
        let again = AgentOrigin {
            epoch: alluvium_types::AgentEpoch(2),
            ..origin
        };
        registration.registered(again, Instant::now() + Duration::from_secs(1));
        assert_eq!(sequencer.propose(vec![proposal(10)]).await.origin, again);
        assert_eq!(sequencer.last_chunk, 1);

        let commands = vec![Command::AllocateProducerIds { count: 1 }];
        let seen = RefCell::new(Vec::new());
        let propose = |commands: Vec<Command>| {
            seen.borrow_mut().push(commands);
            let attempts = seen.borrow().len();
            async move {
                match attempts {
                    1 => Err(ProposeError::TimedOut),
                    2..20 => Err(ProposeError::Unavailable("no leader".to_owned())),
                    _ => Ok(vec![Applied {
                        index: 1,
                        outcome: Outcome::Done,
                    }]),
                }
            }
        };
        let outcomes = propose_until_known(propose, commands.clone()).await;
        assert_eq!(outcomes, [Outcome::Done]);
        assert_eq!(seen.into_inner(), vec![commands; 20]);
    }

    #[test]
    fn a_later_attempt_says_how_late_it_is_and_nothing_else_new() {
        let at = |at| {
            Command::Sequence(Sequence {
                origin: AgentOrigin {
                    agent: AgentId(1),
                    epoch: alluvium_types::AgentEpoch(1),
                },
                chunk: ChunkNumber(1),
                location: Location::Inline(Bytes::new()),
                runs: Vec::new(),
                sealed_at: 4,
                at,
            })
        };
        assert_eq!(as_of(1_000_000, vec![at(5)]), [at(1_000_000)]);
    }
}
