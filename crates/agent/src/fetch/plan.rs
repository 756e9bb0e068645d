//! What to read, decided on the view of the metadata in one glance; nothing is read here.

use bytes::Bytes;

use alluvium_metadata::{JournalChunkId, Partition, Run, RunLocation, State};
use alluvium_types::{AgentId, ErrorCode, Offset, ProducerId, TopicPartition};

use super::source::{ChunkRef, ObjectRef};
use super::{ReadLimits, ReadPartition};

/// Most runs of one partition that one fetch reads.
const RUNS: usize = 1024;

/// Runs behind those, and their bytes, that are looked at for what may be read next.
const NEXT_RUNS: usize = 16;
const NEXT_BYTES: u64 = 96 << 20;

/// About how many aborted transactions a reader is told of at a time: 16 bytes each.
const ABORTED: usize = 4096;

/// Who is so near to the end reads what others read as well.
const TAIL_BYTES: u64 = 16 << 20;

/// What to read of a partition.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) partition: TopicPartition,
    pub(super) offset: Offset,
    pub(super) error: ErrorCode,
    pub(super) high_watermark: Offset,
    pub(super) last_stable_offset: Offset,
    pub(super) log_start: Offset,
    /// Nothing at or past this is read.
    pub(super) end: Offset,
    /// From the run that holds the offset on.
    pub(super) runs: Vec<PlannedRun>,
    /// Bytes that it may return.
    pub(super) max_bytes: usize,
    /// It may return its first batch whatever its size.
    pub(super) at_least_one: bool,
    /// About how many bytes there are, no more than `max_bytes` when there are more.
    pub(super) available: usize,
    /// There are more runs than one fetch reads.
    pub(super) is_cut: bool,
    /// What comes behind `runs`, as far as it is looked at.
    pub(super) next: Vec<PlannedRun>,
    /// Aborted transactions that have offsets between the offset and the end of the runs, by first offset.
    pub(super) aborted: Vec<(ProducerId, Offset)>,
    /// The offset is near the end of what may be read.
    pub(super) is_tail: bool,
}

/// A run and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedRun {
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) length: u64,
    pub(super) place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Inline(Bytes),
    Object {
        object: ObjectRef,
        /// First byte.
        position: u64,
        /// The batches bear their own offsets, and offsets may be missing.
        sparse: bool,
    },
    Journal {
        chunk: ChunkRef,
        /// First byte.
        position: u64,
    },
    /// There is nothing at these offsets.
    Gap,
    /// In an object of which the metadata does not know the length: a fault.
    Nowhere(alluvium_types::ObjectId),
    /// In a chunk that the metadata does not know: a fault.
    NoChunk(JournalChunkId),
}

impl PlannedRun {
    pub(super) fn new(run: &Run, state: &State) -> Self {
        let in_object = |object, position: u64, sparse| match state.object_bytes(object) {
            Some(bytes) => Place::Object {
                object: ObjectRef { object, bytes },
                position,
                sparse,
            },
            None => Place::Nowhere(object),
        };
        let place = match &run.location {
            RunLocation::Inline(bytes) => Place::Inline(bytes.clone()),
            RunLocation::Object { object, position } => in_object(*object, *position, false),
            RunLocation::Sparse { object, position } => in_object(*object, *position, true),
            RunLocation::Journal { chunk, position } => match state.journal_chunk(*chunk) {
                Some(held) => Place::Journal {
                    chunk: ChunkRef {
                        chunk: *chunk,
                        bytes: held.bytes,
                        copies: held
                            .copies
                            .iter()
                            .map(|copy| copy.agent)
                            .collect::<Vec<AgentId>>(),
                    },
                    position: *position,
                },
                None => Place::NoChunk(*chunk),
            },
            RunLocation::Gap => Place::Gap,
        };
        Self {
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            length: run.length,
            place,
        }
    }
}

/// Plans a whole fetch. The bytes are shared out in the order of the partitions, as Kafka does it.
pub(super) fn plan(state: &State, asked: &[ReadPartition], limits: &ReadLimits) -> Vec<Plan> {
    let mut left = limits.max_bytes;
    let mut at_least_one = true;
    asked
        .iter()
        .map(|asked| {
            let max_bytes = asked.max_bytes.min(left);
            let plan = plan_partition(state, asked, max_bytes, at_least_one, limits.read_committed);
            at_least_one &= plan.available == 0;
            left = left.saturating_sub(plan.available.min(max_bytes));
            plan
        })
        .collect()
}

fn plan_partition(
    state: &State,
    asked: &ReadPartition,
    max_bytes: usize,
    at_least_one: bool,
    read_committed: bool,
) -> Plan {
    let mut plan = Plan {
        partition: asked.partition,
        offset: asked.offset,
        error: ErrorCode::None,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start: -1,
        end: -1,
        runs: Vec::new(),
        max_bytes,
        at_least_one,
        available: 0,
        is_cut: false,
        next: Vec::new(),
        aborted: Vec::new(),
        is_tail: false,
    };
    let Some(partition) = state.partition(asked.partition) else {
        plan.error = ErrorCode::UnknownTopicOrPartition;
        return plan;
    };
    plan.high_watermark = partition.high_watermark();
    plan.last_stable_offset = partition.last_stable_offset();
    plan.log_start = partition.log_start();
    plan.end = if read_committed {
        plan.last_stable_offset
    } else {
        plan.high_watermark
    };
    if asked.offset < plan.log_start || asked.offset > plan.high_watermark {
        plan.error = ErrorCode::OffsetOutOfRange;
        return plan;
    }
    // Where an open transaction holds a reader up, the rest of its run is no news.
    if asked.offset < plan.end {
        plan.choose_runs(state, partition);
    }
    if read_committed {
        plan.note_aborted(partition);
    }
    plan
}

impl Plan {
    /// Whether a view that lags may be the reason why there is nothing.
    pub(super) fn is_miss(&self) -> bool {
        match self.error {
            ErrorCode::UnknownTopicOrPartition => true,
            ErrorCode::OffsetOutOfRange => self.offset > self.high_watermark,
            _ => false,
        }
    }

    /// The view may lag: a client must not take an offset that is not here yet for one that is no
    /// more, and begin somewhere else.
    pub(super) fn doubt(&mut self) {
        if self.error == ErrorCode::OffsetOutOfRange && self.is_miss() {
            self.error = ErrorCode::NotLeaderOrFollower;
        }
    }

    /// Notes what a reader of the planned runs is to be told of. Of very many transactions not all are,
    /// and the reader comes less far.
    fn note_aborted(&mut self, partition: &Partition) {
        let last = self.next.last().or(self.runs.last());
        let Some(end) = last.map(|run| run.end_offset.min(self.end)) else {
            return;
        };
        let (aborted, told_to) = partition.aborted_up_to(self.offset, end, ABORTED);
        let aborted = aborted.iter();
        self.aborted = aborted
            .map(|done| (done.producer, done.first_offset))
            .collect();
        if told_to < end {
            self.end = told_to;
        }
    }

    fn choose_runs(&mut self, state: &State, partition: &Partition) {
        let mut available = 0u64;
        // One byte is planned even where none fits, so that the first batch can be read and so that
        // waiting readers see that there is something.
        let wanted = u64::try_from(self.max_bytes).unwrap_or(u64::MAX).max(1);
        let mut runs = partition
            .runs_from(self.offset)
            .take_while(|run| run.base_offset < self.end)
            .filter(|run| run.location != RunLocation::Gap)
            .peekable();
        while available < wanted
            && let Some(run) = runs.peek()
        {
            if self.runs.len() == RUNS {
                self.is_cut = true;
                break;
            }
            available = available.saturating_add(bytes_from(run, self.offset));
            self.runs.push(PlannedRun::new(run, state));
            runs.next();
        }
        let mut beyond = 0u64;
        while self.next.len() < NEXT_RUNS
            && beyond < NEXT_BYTES
            && let Some(run) = runs.next()
        {
            beyond = beyond.saturating_add(run.length);
            self.next.push(PlannedRun::new(run, state));
        }
        self.is_tail = runs.next().is_none() && available.saturating_add(beyond) <= TAIL_BYTES;
        self.available = usize::try_from(available).unwrap_or(usize::MAX);
    }
}

/// About how many bytes of a run lie at or behind an offset; never none.
fn bytes_from(run: &Run, offset: Offset) -> u64 {
    let records = run.end_offset.saturating_sub(run.base_offset).max(1);
    let left = run
        .end_offset
        .saturating_sub(offset.max(run.base_offset))
        .max(1);
    let share = i128::from(run.length) * i128::from(left) / i128::from(records);
    u64::try_from(share).unwrap_or(run.length).max(1)
}
