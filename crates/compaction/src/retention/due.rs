//! How far a partition's log start may rise.

use std::time::Duration;

use alluvium_metadata::Partition;
use alluvium_types::{Millis, Offset};

use crate::TopicPolicy;

/// What a partition's policy lets go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The log start to be; none when all may stay.
    pub(super) log_start: Option<Offset>,
    /// Bytes of the runs below it.
    pub(super) bytes: u64,
    /// How much longer than wanted the oldest of them stayed.
    pub(super) lag: Duration,
}

/// What of a partition is past its retention. Costs what it finds.
pub(super) fn due(partition: &Partition, policy: &TopicPolicy, now: Millis) -> Due {
    let mut due = Due::default();
    if !policy.delete {
        return due;
    }
    let readable = partition.high_watermark();
    // A time before which a run's newest record must lie; no run does where nothing grows old.
    let oldest = policy.retention.map(|kept| {
        let kept = Millis::try_from(kept.as_millis()).unwrap_or(Millis::MAX);
        now.saturating_sub(kept)
    });
    let mut bytes = 0u64;
    for run in partition.runs() {
        if run.end_offset > readable {
            break;
        }
        bytes = bytes.saturating_add(run.length);
        let left = partition.bytes().saturating_sub(bytes);
        let is_too_much = policy.retention_bytes.is_some_and(|most| left >= most);
        let has_age = run.length > 0 && run.max_timestamp >= 0;
        let is_too_old = has_age && oldest.is_some_and(|oldest| run.max_timestamp < oldest);
        if is_too_old && due.lag.is_zero() {
            let late = oldest.unwrap_or_default().saturating_sub(run.max_timestamp);
            due.lag = Duration::from_millis(u64::try_from(late).unwrap_or(0));
        }
        // A gap goes, and a run whose records say no time, when what lies behind it may go.
        if !is_too_much && !is_too_old {
            if has_age {
                break;
            }
            continue;
        }
        if run.length > 0 {
            due.log_start = Some(run.end_offset);
            due.bytes = bytes;
        }
    }
    due
}
