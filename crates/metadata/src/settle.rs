//! Moving sequenced bytes, inline or in write-ahead buffers, to their final object.

use alluvium_types::{ErrorCode, Millis};

use crate::command::{Change, Outcome, Refusal, Settle, SettleRun};
use crate::partition::{Partition, Replaced};
use crate::runs::{Run, RunLocation};
use crate::state::{State, refusal};

pub(crate) fn apply(
    state: &mut State,
    command: &Settle,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.registration(command.origin)?;
    state
        .objects
        .admit(command.object, command.bytes)
        .map_err(|message| refusal(ErrorCode::InvalidRequest, message))?;
    state.objects.hold(command.object, command.bytes, 0);
    let moved: Vec<bool> = command
        .runs
        .iter()
        .map(|run| settle(state, command, run, changes))
        .collect();
    let was_named = moved.contains(&true);
    state
        .objects
        .release(command.object, was_named, state.clock);
    Ok(Outcome::Settled(moved))
}

/// Moves one run; false when its bytes are not waiting to be moved (any more).
fn settle(
    state: &mut State,
    command: &Settle,
    settled: &SettleRun,
    changes: &mut Vec<Change>,
) -> bool {
    let end = settled.position.checked_add(settled.length);
    if end.is_none_or(|end| end > command.bytes) {
        return false;
    }
    let place = settled.partition;
    let Some(partition) = state.partition_mut(place) else {
        return false;
    };
    let was = partition.high_watermark();
    let location = RunLocation::Object {
        object: command.object,
        position: settled.position,
    };
    let Some(replaced) = replace(partition, settled, location) else {
        return false;
    };
    if partition.high_watermark() > was {
        changes.push(Change::Partition(place));
    }
    state.account(place, &replaced);
    true
}

/// Replaces the waiting runs that cover exactly the settled offsets by one run.
fn replace(
    partition: &mut Partition,
    settled: &SettleRun,
    location: RunLocation,
) -> Option<Replaced> {
    let stretch = partition.stretch(settled.base_offset, settled.end_offset)?;
    let mut length = 0u64;
    let mut max_timestamp = Millis::MIN;
    for run in partition.range(stretch.clone()) {
        if !run.is_unsettled() {
            return None;
        }
        length = length.checked_add(run.length)?;
        max_timestamp = max_timestamp.max(run.max_timestamp);
    }
    if length != settled.length {
        return None;
    }
    let run = Run {
        base_offset: settled.base_offset,
        end_offset: settled.end_offset,
        max_timestamp,
        length,
        location,
    };
    Some(partition.replace(stretch, [run]))
}

#[cfg(test)]
mod tests;
