//! Which partitions are due, and how far.

use std::time::Duration;

use alluvium_metadata::{Partition, Run, RunLocation};
use alluvium_types::{Millis, ObjectId, Offset};

use crate::TopicPolicy;

/// How a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Below this each key is there once.
    pub(super) first_dirty: Offset,
    /// One past the last offset that may be cleaned now.
    pub(super) end: Offset,
    /// Bytes between the two.
    pub(super) dirty_bytes: u64,
    /// Bytes below them.
    pub(super) clean_bytes: u64,
    /// The greatest timestamp of the first run between them.
    pub(super) dirty_since: Millis,
}

/// A run of an object, as it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceRun {
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) max_timestamp: Millis,
    pub(super) length: u64,
    /// None where no record is left.
    pub(super) place: Option<SourcePlace>,
}

/// Where a [`SourceRun`] lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourcePlace {
    pub(super) object: ObjectId,
    pub(super) position: u64,
    /// The batches bear their own offsets.
    pub(super) sparse: bool,
}

impl SourceRun {
    /// A run that may be cleaned: one that lies in an object, or nowhere.
    pub(super) fn of(run: &Run) -> Option<Self> {
        let (object, position, sparse) = match run.location {
            RunLocation::Object { object, position } => (Some(object), position, false),
            RunLocation::Sparse { object, position } => (Some(object), position, true),
            RunLocation::Gap => (None, 0, false),
            RunLocation::Inline(_) | RunLocation::Journal { .. } => return None,
        };
        Some(Self {
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            max_timestamp: run.max_timestamp,
            length: run.length,
            place: object.map(|object| SourcePlace {
                object,
                position,
                sparse,
            }),
        })
    }
}

/// How a partition stands; none when nothing of it may be cleaned. What is not settled yet may not,
/// nor what is newer than `min.compaction.lag.ms`, nor what lies behind either.
pub(super) fn standing(
    partition: &Partition,
    policy: &TopicPolicy,
    now: Millis,
) -> Option<Standing> {
    let first_dirty = partition.clean_to().max(partition.log_start());
    let readable = partition
        .last_stable_offset()
        .min(partition.high_watermark());
    let newest = (!policy.min_compaction_lag.is_zero())
        .then(|| now.saturating_sub(millis(policy.min_compaction_lag)));
    let mut standing: Option<Standing> = None;
    let mut beyond = false;
    let (mut dirty, mut behind) = (0u64, 0u64);
    for run in partition.runs_from(first_dirty) {
        beyond |= run.end_offset > readable
            || SourceRun::of(run).is_none()
            || newest.is_some_and(|newest| run.max_timestamp > newest);
        if beyond {
            behind = behind.saturating_add(run.length);
            continue;
        }
        dirty = dirty.saturating_add(dirty_share(run, first_dirty));
        match &mut standing {
            Some(standing) => standing.end = run.end_offset,
            None => {
                standing = Some(Standing {
                    first_dirty,
                    end: run.end_offset,
                    dirty_bytes: 0,
                    clean_bytes: 0,
                    dirty_since: run.max_timestamp,
                });
            }
        }
    }
    let rest = partition.bytes().saturating_sub(behind);
    standing.map(|standing| Standing {
        dirty_bytes: dirty,
        clean_bytes: rest.saturating_sub(dirty),
        ..standing
    })
}

/// Bytes of a run from `first_dirty` on, as if its offsets were of one size.
fn dirty_share(run: &Run, first_dirty: Offset) -> u64 {
    let offsets = |from: Offset| u128::try_from(run.end_offset.saturating_sub(from)).unwrap_or(0);
    let (all, dirty) = (
        offsets(run.base_offset),
        offsets(first_dirty.max(run.base_offset)),
    );
    u64::try_from(u128::from(run.length) * dirty / all.max(1)).unwrap_or(run.length)
}

impl Standing {
    /// Share of the bytes that may be cleaned which are not clean.
    #[allow(clippy::cast_precision_loss, reason = "a ratio")]
    pub(super) fn dirty_ratio(&self) -> f64 {
        let all = self.dirty_bytes.saturating_add(self.clean_bytes);
        self.dirty_bytes as f64 / all.max(1) as f64
    }

    /// Whether the policy asks for cleaning now. `dirty_since` is the time of the oldest record that
    /// is not clean.
    pub(super) fn is_due(&self, policy: &TopicPolicy, now: Millis, dirty_since: Millis) -> bool {
        if self.dirty_bytes == 0 {
            return false;
        }
        let age = now.saturating_sub(dirty_since);
        let is_late = dirty_since >= 0 && age > millis(policy.max_compaction_lag);
        is_late || self.dirty_ratio() > policy.min_dirty_ratio
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
