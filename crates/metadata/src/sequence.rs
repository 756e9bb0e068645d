//! Giving a durable chunk its offsets.

use std::collections::BTreeSet;

use bytes::Bytes;

use alluvium_types::{ErrorCode, Millis, ObjectId, Offset, ProducerId, TopicPartition, limits};

use crate::command::{
    AgentOrigin, BatchOutcome, BatchStamp, Change, ChunkRun, InTransaction, JournalCopy, Location,
    Outcome, PartitionSequenced, ProducerStamp, Sequence,
};
use crate::partition::Partition;
use crate::producers::{EXPIRATION_MILLIS, Producers, Terms, Verdict};
use crate::runs::{JournalChunkId, Run, RunLocation};
use crate::state::{COPIES, JournalChunk, State, refuse};

/// Most expired producers that one command clears away, so that no command takes long.
const SWEEP: usize = 64;

/// When to look at a producer again; each remembered producer has one entry.
pub(crate) type Expiries = BTreeSet<(Millis, TopicPartition, ProducerId)>;

pub(crate) fn apply(state: &mut State, command: Sequence, changes: &mut Vec<Change>) -> Outcome {
    let origin = command.origin;
    match state.answered(origin, command.chunk) {
        Ok(None) => {}
        Ok(Some(outcome)) => return outcome,
        Err(refusal) => return Outcome::Refused(refusal),
    }
    let outcome = sequence(state, &command, changes);
    // From here on the chunk is answered, even when it was refused: the agent must be able to go on.
    state.remember(origin, &outcome);
    outcome
}

fn sequence(state: &mut State, command: &Sequence, changes: &mut Vec<Change>) -> Outcome {
    if let Err(message) = admit(state, command) {
        return refuse(ErrorCode::InvalidRequest, message);
    }
    let expiration = expiration(state);
    sweep(state, command.at, expiration);
    announce(state, command);
    let mut outcomes = Vec::with_capacity(command.runs.len());
    let mut rows = 0u64;
    for run in &command.runs {
        let terms = Terms {
            at: command.at,
            expiration,
            zero_from: state.zero_from(run.partition.topic),
        };
        let barred = barred(state, run);
        let Some(partition) = state.partition_mut(run.partition) else {
            let refused = BatchOutcome::Refused(ErrorCode::UnknownTopicOrPartition);
            outcomes.push(PartitionSequenced {
                batches: vec![refused; run.batches.len()],
                log_start: -1,
            });
            continue;
        };
        let was = (partition.high_watermark(), partition.last_stable_offset());
        let mut append = Append {
            partition,
            location: &command.location,
            terms,
            open: None,
            rows: 0,
            barred,
            unsettled: Vec::new(),
            new_producers: Vec::new(),
            joined: BTreeSet::new(),
        };
        let batches = append.run(run);
        let Append {
            rows: run_rows,
            unsettled,
            new_producers,
            joined,
            ..
        } = append;
        let moved = (partition.high_watermark(), partition.last_stable_offset()) != was;
        outcomes.push(PartitionSequenced {
            batches,
            log_start: partition.log_start(),
        });
        rows += run_rows;
        for (due, producer) in new_producers {
            state.expiries.insert((due, run.partition, producer));
        }
        for producer in joined {
            state
                .transactions
                .joined(producer, run.partition, command.at);
        }
        state.count_rows(run.partition, run_rows);
        for row in unsettled {
            if let Some(chunk) = row.journal() {
                state.journal.add_run(chunk, run.partition, row.base_offset);
            }
            state.waiting.add(run.partition, &row);
        }
        if moved {
            changes.push(Change::Partition(run.partition));
        }
    }
    if let Location::Object { object, .. } = command.location {
        state.objects.add(object, rows);
        state.objects.release(object, rows > 0, command.at);
    }
    if let Location::Journal { chunk, .. } = command.location {
        state.journal.forget_unnamed(chunk);
    }
    Outcome::Sequenced(outcomes)
}

/// Batches of a run that their transactions do not take, and why.
fn barred(state: &State, run: &ChunkRun) -> Vec<(usize, ErrorCode)> {
    let stamps = run.batches.iter().map(|batch| batch.producer.as_ref());
    let barred = stamps.enumerate().filter_map(|(index, stamp)| {
        let admitted = state.transactions.admit(stamp?, run.partition);
        admitted.err().map(|code| (index, code))
    });
    barred.collect()
}

/// Makes the chunk's location known, so that runs may name it.
fn announce(state: &mut State, command: &Sequence) {
    match &command.location {
        Location::Object { object, bytes } => state.objects.hold(*object, *bytes, 0),
        Location::Inline(_) => {}
        Location::Journal {
            chunk: id,
            copies,
            bytes,
            stable,
        } => {
            let chunk = JournalChunk {
                copies: copies.clone(),
                bytes: *bytes,
                stable: *stable,
                at: command.at,
            };
            state.journal.insert(*id, chunk);
        }
    }
}

/// Whether the chunk as a whole can be sequenced.
fn admit(state: &State, command: &Sequence) -> Result<(), String> {
    let age = command.at.saturating_sub(command.sealed_at);
    if age > limits::CHUNK_AGE_MILLIS {
        return Err(format!(
            "Chunk {} of agent {} was sealed {age} ms ago; its object may be gone. Send its batches again.",
            command.chunk.0, command.origin.agent
        ));
    }
    if !command
        .runs
        .is_sorted_by(|run, next| run.partition < next.partition)
    {
        return Err(format!(
            "Chunk {} of agent {} does not name its partitions once each and in order.",
            command.chunk.0, command.origin.agent
        ));
    }
    match &command.location {
        Location::Object { object, bytes } => state.objects.admit(*object, *bytes),
        Location::Inline(_) => Ok(()),
        Location::Journal { chunk, copies, .. } => {
            admit_journal(state, command.origin, *chunk, copies)
        }
    }
}

/// Whether a chunk may lie in write-ahead buffers as the command says.
fn admit_journal(
    state: &State,
    origin: AgentOrigin,
    chunk: JournalChunkId,
    copies: &[JournalCopy],
) -> Result<(), String> {
    let blame = |what: &str| {
        Err(format!(
            "Journal {chunk:?} of agent {}: {what}.",
            origin.agent
        ))
    };
    if chunk.agent != origin.agent || chunk.epoch > origin.epoch {
        return blame("it bears another agent's name, or a later registration's");
    }
    if state.journal.get(chunk).is_some() {
        return blame("it was sequenced already");
    }
    let holders: BTreeSet<_> = copies.iter().map(|copy| copy.agent).collect();
    if !(1..=COPIES).contains(&copies.len()) || holders.len() != copies.len() {
        return blame("it takes 1 to 16 copies, of one agent each");
    }
    Ok(())
}

fn expiration(state: &State) -> Millis {
    state
        .cluster_configs
        .get("producer.id.expiration.ms")
        .and_then(|text| text.trim().parse().ok())
        .filter(|millis| *millis > 0)
        .unwrap_or(EXPIRATION_MILLIS)
}

/// Clears away producers that have been idle too long. What a batch is answered does not depend on
/// it: a producer that has expired and is still there counts as unknown.
fn sweep(state: &mut State, at: Millis, expiration: Millis) {
    for _ in 0..SWEEP {
        let Some(entry) = state
            .expiries
            .first()
            .copied()
            .filter(|(due, ..)| *due <= at)
        else {
            return;
        };
        state.expiries.remove(&entry);
        let (_, place, producer) = entry;
        let Some(partition) = state.any_partition_mut(place) else {
            continue;
        };
        if let Some(due) = partition.expire_producer(producer, at, expiration) {
            state.expiries.insert((due, place, producer));
        }
    }
}

/// One run of a chunk on its way into a partition.
struct Append<'a> {
    partition: &'a mut Partition,
    location: &'a Location,
    terms: Terms,
    /// Accepted batches that lie one after another and are not in the manifest yet.
    open: Option<Open>,
    rows: u64,
    /// Batches that are refused whatever else they are, in order.
    barred: Vec<(usize, ErrorCode)>,
    /// New runs whose bytes wait for their object.
    unsettled: Vec<Run>,
    /// When to look whether they have expired.
    new_producers: Vec<(Millis, ProducerId)>,
    /// Producers that appended in a transaction.
    joined: BTreeSet<ProducerId>,
}

struct Open {
    end_offset: Offset,
    position: u64,
    length: u64,
    max_timestamp: Millis,
}

impl Append<'_> {
    fn run(&mut self, run: &ChunkRun) -> Vec<BatchOutcome> {
        if !self.fits(run) {
            return vec![BatchOutcome::Refused(ErrorCode::InvalidRecord); run.batches.len()];
        }
        let mut position = run.position;
        let mut outcomes = Vec::with_capacity(run.batches.len());
        for (index, batch) in run.batches.iter().enumerate() {
            let barred = self
                .barred
                .binary_search_by_key(&index, |(barred, _)| *barred);
            let barred = barred.ok().and_then(|at| self.barred.get(at)).copied();
            let outcome = self.batch(batch, position, barred.map(|(_, code)| code));
            if !matches!(outcome, BatchOutcome::Appended { .. }) {
                self.close();
            }
            outcomes.push(outcome);
            position = position.saturating_add(u64::from(batch.bytes));
        }
        self.close();
        outcomes
    }

    /// Whether the run lies within its location.
    fn fits(&self, run: &ChunkRun) -> bool {
        let whole = match self.location {
            Location::Object { bytes, .. } => Some(*bytes),
            Location::Inline(bytes) => u64::try_from(bytes.len()).ok(),
            Location::Journal { bytes, .. } => Some(*bytes),
        };
        let end = run.batches.iter().try_fold(run.position, |end, batch| {
            end.checked_add(u64::from(batch.bytes))
        });
        matches!((end, whole), (Some(end), Some(whole)) if end <= whole)
    }

    fn batch(
        &mut self,
        batch: &BatchStamp,
        position: u64,
        barred: Option<ErrorCode>,
    ) -> BatchOutcome {
        if !is_sound(batch) || !self.has_room(batch) {
            return BatchOutcome::Refused(ErrorCode::InvalidRecord);
        }
        if let Some(code) = barred {
            return BatchOutcome::Refused(code);
        }
        let base_offset = self
            .open
            .as_ref()
            .map_or(self.partition.next_offset(), |open| open.end_offset);
        if let Some(stamp) = &batch.producer {
            match self.judge(stamp, batch.records) {
                Verdict::Append => {}
                Verdict::Duplicate(base_offset) => return BatchOutcome::Duplicate { base_offset },
                Verdict::Refuse(code) => return BatchOutcome::Refused(code),
            }
            let producers: &mut Producers = self.partition.producers_mut();
            let due = producers.record(stamp, batch.records, base_offset, self.terms);
            self.new_producers.extend(due.map(|due| (due, stamp.id)));
            if stamp.transaction != InTransaction::No {
                self.partition.begin_transaction(stamp.id, base_offset);
                self.joined.insert(stamp.id);
            }
        }
        let (bytes, records) = (u64::from(batch.bytes), Offset::from(batch.records));
        match &mut self.open {
            Some(open) => {
                open.end_offset += records;
                open.length += bytes;
                open.max_timestamp = open.max_timestamp.max(batch.max_timestamp);
            }
            None => {
                self.open = Some(Open {
                    end_offset: base_offset + records,
                    position,
                    length: bytes,
                    max_timestamp: batch.max_timestamp,
                });
            }
        }
        BatchOutcome::Appended { base_offset }
    }

    fn judge(&self, stamp: &ProducerStamp, records: u32) -> Verdict {
        let is_within = stamp.transaction != InTransaction::No;
        if !is_within && self.partition.open_transaction(stamp.id).is_some() {
            return Verdict::Refuse(ErrorCode::InvalidTxnState);
        }
        self.partition
            .producers()
            .map_or(self.terms.judge_unknown(stamp), |producers| {
                producers.judge(stamp, records, self.terms)
            })
    }

    /// Whether offsets and byte counts reach for one more batch.
    fn has_room(&self, batch: &BatchStamp) -> bool {
        let (records, bytes) = self.open.as_ref().map_or((0, 0), |open| {
            (
                open.end_offset.saturating_sub(self.partition.next_offset()),
                open.length,
            )
        });
        self.partition.has_room(
            records.saturating_add(Offset::from(batch.records)),
            bytes.saturating_add(u64::from(batch.bytes)),
        )
    }

    /// Puts the open batches into the manifest.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let location = match self.location {
            Location::Object { object, .. } => object_at(*object, open.position),
            Location::Inline(bytes) => RunLocation::Inline(cut(bytes, open.position, open.length)),
            Location::Journal { chunk, .. } => RunLocation::Journal {
                chunk: *chunk,
                position: open.position,
            },
        };
        let run = Run {
            base_offset: self.partition.next_offset(),
            end_offset: open.end_offset,
            max_timestamp: open.max_timestamp,
            length: open.length,
            location,
        };
        if run.is_unsettled() {
            self.unsettled.push(run.clone());
        }
        let base_offset = run.base_offset;
        self.rows += u64::from(self.partition.push(run));
        if matches!(self.location, Location::Journal { stable: false, .. }) {
            self.partition.hold(base_offset);
        }
    }
}

const fn object_at(object: ObjectId, position: u64) -> RunLocation {
    RunLocation::Object { object, position }
}

/// Whether a batch's own numbers can be true. A batch has at most 2^31 offsets, since its last
/// offset delta is an `int32`.
fn is_sound(batch: &BatchStamp) -> bool {
    let stamp_is_sound = batch
        .producer
        .is_none_or(|stamp| stamp.id >= 0 && stamp.epoch >= 0 && stamp.base_sequence >= 0);
    batch.bytes > 0 && (1..=1 << 31).contains(&batch.records) && stamp_is_sound
}

/// A piece of the chunk's bytes, which was found to lie within them. A piece under half of the whole
/// is copied, so that what is kept never holds on to more than twice its size.
fn cut(bytes: &Bytes, position: u64, length: u64) -> Bytes {
    let (Ok(position), Ok(length)) = (usize::try_from(position), usize::try_from(length)) else {
        return Bytes::new();
    };
    let piece = bytes.slice(position..position + length);
    if length < bytes.len() / 2 {
        Bytes::copy_from_slice(&piece)
    } else {
        piece
    }
}

#[cfg(test)]
mod tests;
