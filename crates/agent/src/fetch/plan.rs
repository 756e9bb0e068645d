//! What to read, decided on the view of the metadata in one glance; nothing is read here.

use bytes::Bytes;

use alluvium_metadata::{Partition, Run, RunLocation, State};
use alluvium_types::{ErrorCode, Offset, TopicPartition};

use super::source::ObjectRef;
use super::{ReadLimits, ReadPartition};

/// Most runs of one partition that one fetch reads.
const RUNS: usize = 1024;

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
}

/// A run and where its bytes are.
#[derive(Clone, Debug)]
pub(super) struct PlannedRun {
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) length: u64,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Inline(Bytes),
    Object {
        object: ObjectRef,
        /// First byte.
        position: u64,
    },
    /// In an object of which the metadata does not know the length: a fault.
    Nowhere(alluvium_types::ObjectId),
}

impl PlannedRun {
    pub(super) fn new(run: &Run, state: &State) -> Self {
        let place = match &run.location {
            RunLocation::Inline(bytes) => Place::Inline(bytes.clone()),
            RunLocation::Journal { .. } | RunLocation::Sparse { .. } | RunLocation::Gap => {
                Place::Nowhere(alluvium_types::ObjectId(0))
            }
            RunLocation::Object { object, position } => match state.object_bytes(*object) {
                Some(bytes) => {
                    let object = ObjectRef {
                        object: *object,
                        bytes,
                    };
                    Place::Object {
                        object,
                        position: *position,
                    }
                }
                None => Place::Nowhere(*object),
            },
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
    plan.choose_runs(state, partition);
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

    fn choose_runs(&mut self, state: &State, partition: &Partition) {
        let mut available = 0u64;
        // One byte is planned even where none fits, so that the first batch can be read and so that
        // waiting readers see that there is something.
        let wanted = u64::try_from(self.max_bytes).unwrap_or(u64::MAX).max(1);
        for run in partition.runs_from(self.offset) {
            if available >= wanted || run.base_offset >= self.end {
                break;
            }
            if self.runs.len() == RUNS {
                self.is_cut = true;
                break;
            }
            available = available.saturating_add(bytes_from(run, self.offset));
            self.runs.push(PlannedRun::new(run, state));
        }
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
