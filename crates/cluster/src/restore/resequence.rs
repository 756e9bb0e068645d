//! Offsets for records whose commands are lost.
//!
//! Batches go one by one through the same command as ever, so the rules are the same: an idempotent
//! producer's batch that the state has already is found to be a duplicate, and one that does not
//! follow its predecessor is held back until that came. What is held back to the end lacks batches
//! that were in the lost tail of the log only (inline), or that were never stored. They may have been
//! acknowledged, so they are kept, in the order of their sequences, and reported.
//!
//! How a transaction ended whose end is in the lost tail of the log cannot be told: a marker in one
//! partition does not say what there was in others. It is aborted, in all of them; where its marker was
//! found, at that offset, so that what follows keeps its own. The restored state aborts the rest.

use std::collections::BTreeMap;

use alluvium_metadata::{
    AgentOrigin, BatchOutcome, ChunkRun, Command, EndTransaction, EndedBy, Location, Outcome,
    RegisterAgent, Sequence, Settle, SettleRun,
};
use alluvium_types::{ChunkNumber, ErrorCode, Millis, Offset, ProducerId, TopicPartition};

use super::Restoring;
use super::objects::{Batch, Chunk};
use super::report::{Resequenced, Tally};
use crate::view::Current;

/// Batches of a producer in a partition that wait for one before them.
type Held = BTreeMap<(TopicPartition, ProducerId), Vec<(Batch, Millis)>>;

struct Resequencer<'a> {
    current: &'a mut Current,
    origin: AgentOrigin,
    chunk: u64,
    held: Held,
    tally: Tally,
}

/// Moves to settled objects what the state has in write-ahead buffers still: they may have been
/// trimmed, and what is unstable in them is void with the restore. Then sequences what settled objects
/// hold beyond the state, by the offsets it had, then chunks.
pub(super) fn resequence(
    restoring: &mut Restoring,
    mut settled: Vec<Batch>,
    chunks: Vec<Chunk>,
) -> Resequenced {
    if settled.is_empty() && chunks.is_empty() {
        return Resequenced::default();
    }
    let (cluster, last_at) = (restoring.cluster, restoring.last_at);
    let Some(mut sequencer) = Resequencer::begin(&mut restoring.current, cluster, last_at) else {
        return Resequenced::default();
    };
    sequencer.settle(&mut settled);
    settled.sort_by_key(|batch| (batch.partition, batch.base_offset, batch.object));
    let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for batch in settled {
        let Some(base_offset) = batch.base_offset else {
            continue;
        };
        let place = batch.partition;
        let known = sequencer.next_offset(place);
        let end = ends.entry(place).or_insert(known);
        // What the state has, and what another object brought already.
        if base_offset < *end {
            continue;
        }
        *end = base_offset.saturating_add(Offset::from(batch.stamp.records));
        match batch.ends {
            Some(producer) => sequencer.abort(place, producer, last_at),
            None => sequencer.batch(batch, last_at),
        }
    }
    let mut objects = 0;
    for chunk in chunks {
        let at = chunk.sealed_at().max(last_at);
        objects += 1;
        for batch in chunk.batches {
            sequencer.batch(batch, at);
        }
    }
    sequencer.across_gaps();
    let tally = sequencer.end();
    tally.finish(&restoring.current.state, objects)
}

impl<'a> Resequencer<'a> {
    /// Under a registration of its own, which leaves nothing behind.
    fn begin(
        current: &'a mut Current,
        cluster: alluvium_types::TopicId,
        at: Millis,
    ) -> Option<Self> {
        let register = Command::RegisterAgent(RegisterAgent {
            identity: alluvium_types::random::value(),
            host: "restore".to_owned(),
            port: 0,
            zone: None,
            at,
            cluster_id: cluster,
        });
        match current.state.apply(register, &mut Vec::new()) {
            Outcome::AgentRegistered(origin) => Some(Self {
                current,
                origin,
                chunk: 0,
                held: Held::new(),
                tally: Tally::default(),
            }),
            refused => {
                // Only when all agent ids are used up.
                tracing::error!(?refused, "nothing can be sequenced anew");
                None
            }
        }
    }

    fn end(self) -> Tally {
        let ended = Millis::MIN;
        let end = Command::EndAgents {
            agents: vec![self.origin],
            at: ended,
        };
        let forget = Command::ForgetAgents {
            ended_before: ended + 1,
        };
        for command in [end, forget] {
            self.current.state.apply(command, &mut Vec::new());
        }
        self.tally
    }

    /// What the state has elsewhere, or not at all, is left as it is.
    fn settle(&mut self, settled: &mut [Batch]) {
        settled.sort_by_key(|batch| (batch.object, batch.partition, batch.position));
        for batches in settled.chunk_by(|batch, next| batch.object == next.object) {
            let runs: Vec<SettleRun> = batches.chunk_by(continues).filter_map(settle_run).collect();
            let Some(Batch {
                object,
                object_bytes,
                ..
            }) = batches.first()
            else {
                continue;
            };
            let command = Command::Settle(Settle {
                origin: self.origin,
                object: *object,
                bytes: *object_bytes,
                runs,
            });
            self.current.state.apply(command, &mut Vec::new());
        }
    }

    fn next_offset(&self, place: TopicPartition) -> Offset {
        let partition = self.current.state.partition(place);
        partition.map_or(0, alluvium_metadata::Partition::next_offset)
    }

    /// Aborts what is open of a producer's transaction, if it has records in this partition.
    fn abort(&mut self, place: TopicPartition, producer: ProducerId, at: Millis) {
        let state = &mut self.current.state;
        let is_open = state
            .partition(place)
            .is_some_and(|partition| partition.open_transaction(producer).is_some());
        let Some((id, transaction)) = state.transaction_of(producer).filter(|_| is_open) else {
            return;
        };
        let command = Command::EndTransaction(EndTransaction {
            transactional_id: id.to_owned(),
            producer: transaction.producer,
            commit: false,
            by: EndedBy::Producer,
            at,
        });
        state.apply(command, &mut Vec::new());
    }

    /// Sequences a batch, or holds it back; then whatever waited for it.
    fn batch(&mut self, batch: Batch, at: Millis) {
        let producer = batch
            .stamp
            .producer
            .map(|stamp| (batch.partition, stamp.id));
        match self.sequence(&batch, at) {
            BatchOutcome::Refused(ErrorCode::OutOfOrderSequenceNumber) if producer.is_some() => {
                if let Some(producer) = producer {
                    self.held.entry(producer).or_default().push((batch, at));
                }
            }
            outcome => {
                self.tally.count(&batch, outcome);
                if let Some(producer) = producer {
                    self.release(producer);
                }
            }
        }
    }

    /// Tries again what is held back of a producer, until nothing more follows.
    fn release(&mut self, producer: (TopicPartition, ProducerId)) {
        let Some(mut held) = self.held.remove(&producer) else {
            return;
        };
        held.sort_by_key(|(batch, _)| sequence_of(batch));
        loop {
            let mut kept = Vec::new();
            let before = held.len();
            for (batch, at) in held {
                match self.sequence(&batch, at) {
                    BatchOutcome::Refused(ErrorCode::OutOfOrderSequenceNumber) => {
                        kept.push((batch, at));
                    }
                    outcome => self.tally.count(&batch, outcome),
                }
            }
            held = kept;
            if held.is_empty() {
                return;
            }
            if held.len() == before {
                self.held.insert(producer, held);
                return;
            }
        }
    }

    /// Sequences what is held back though its predecessors never came.
    fn across_gaps(&mut self) {
        for ((place, id), mut held) in std::mem::take(&mut self.held) {
            held.sort_by_key(|(batch, _)| sequence_of(batch));
            for (batch, at) in held {
                let mut outcome = self.sequence(&batch, at);
                if outcome == BatchOutcome::Refused(ErrorCode::OutOfOrderSequenceNumber) {
                    self.current.state.forget_producer(place, id);
                    outcome = self.sequence(&batch, at);
                    self.tally.gap(&batch);
                }
                self.tally.count(&batch, outcome);
            }
        }
    }

    fn sequence(&mut self, batch: &Batch, at: Millis) -> BatchOutcome {
        self.chunk += 1;
        let command = Command::Sequence(Sequence {
            origin: self.origin,
            chunk: ChunkNumber(self.chunk),
            location: Location::Object {
                object: batch.object,
                bytes: batch.object_bytes,
            },
            runs: vec![ChunkRun {
                partition: batch.partition,
                position: batch.position,
                batches: vec![batch.stamp],
            }],
            sealed_at: at,
            at,
        });
        let outcome = self.current.state.apply(command, &mut Vec::new());
        match outcome {
            Outcome::Sequenced(partitions) => partitions
                .first()
                .and_then(|partition| partition.batches.first())
                .copied()
                .unwrap_or(BatchOutcome::Refused(ErrorCode::UnknownServerError)),
            Outcome::Refused(refusal) => {
                tracing::warn!(object = %batch.object, %refusal, "a batch cannot be sequenced anew");
                BatchOutcome::Refused(refusal.code)
            }
            _ => BatchOutcome::Refused(ErrorCode::UnknownServerError),
        }
    }
}

/// Whether a batch of the same object goes on where the one before it ends.
fn continues(batch: &Batch, next: &Batch) -> bool {
    let end = batch
        .base_offset
        .map(|offset| offset.saturating_add(Offset::from(batch.stamp.records)));
    batch.partition == next.partition
        && end == next.base_offset
        && batch.position.saturating_add(u64::from(batch.stamp.bytes)) == next.position
}

/// The stretch that batches make which go on from one another.
fn settle_run(batches: &[Batch]) -> Option<SettleRun> {
    let (first, last) = (batches.first()?, batches.last()?);
    let end = last.position.checked_add(u64::from(last.stamp.bytes))?;
    Some(SettleRun {
        partition: first.partition,
        base_offset: first.base_offset?,
        end_offset: last
            .base_offset?
            .checked_add(Offset::from(last.stamp.records))?,
        position: first.position,
        length: end.checked_sub(first.position)?,
    })
}

fn sequence_of(batch: &Batch) -> (i16, i32) {
    batch
        .stamp
        .producer
        .map_or((0, 0), |stamp| (stamp.epoch, stamp.base_sequence))
}
