//! Moving sequenced bytes to their final object.

use alluvium_types::ErrorCode;

use crate::command::{Outcome, Refusal, Settle, SettleRun};
use crate::state::{State, refusal};

pub(crate) fn apply(state: &mut State, command: &Settle) -> Result<Outcome, Refusal> {
    state.registration(command.origin)?;
    state
        .objects
        .admit(command.object, command.bytes)
        .map_err(|message| refusal(ErrorCode::InvalidRequest, message))?;
    let moved = command
        .runs
        .iter()
        .map(|run| settle(state, command, run))
        .collect();
    Ok(Outcome::Settled(moved))
}

/// Moves one run; false when its bytes are not waiting to be moved (any more).
fn settle(state: &mut State, command: &Settle, run: &SettleRun) -> bool {
    let end = run.position.checked_add(run.length);
    if end.is_none_or(|end| end > command.bytes) {
        return false;
    }
    let Some(partition) = state.partition_mut(run.partition) else {
        return false;
    };
    let Some(swallowed) = partition.settle(command.object, run) else {
        return false;
    };
    if !partition.has_inline() {
        state.inline_partitions.remove(&run.partition);
    }
    state.inline_bytes = state.inline_bytes.saturating_sub(run.length);
    // Counted up before down: the object must not pass through zero.
    state.objects.add(command.object, command.bytes, 1);
    if swallowed > 0 {
        state.objects.remove(command.object, u64::from(swallowed));
    }
    true
}

#[cfg(test)]
mod tests;
