//! Replacing runs by runs for the same offsets in other objects.

use std::collections::BTreeSet;

use alluvium_types::{ErrorCode, ObjectId, Offset, limits};

use crate::command::{Compact, CompactStretch, CompactedRun, Outcome, Refusal};
use crate::partition::{Partition, Replaced};
use crate::runs::{Run, RunLocation};
use crate::state::{State, refusal};

pub(crate) fn apply(state: &mut State, command: &Compact) -> Result<Outcome, Refusal> {
    state.registration(command.origin)?;
    admit(state, command).map_err(|message| refusal(ErrorCode::InvalidRequest, message))?;
    // One that was live before may die of this command.
    let ids = command.objects.iter().map(|object| object.object);
    let mut named: BTreeSet<ObjectId> = ids
        .filter(|object| state.objects.level(*object).is_some())
        .collect();
    for object in &command.objects {
        state
            .objects
            .hold(object.object, object.bytes, object.level);
    }
    let replaced = command
        .stretches
        .iter()
        .map(|stretch| replace(state, command, stretch, &mut named))
        .collect();
    for object in &command.objects {
        let was_named = named.contains(&object.object);
        state.objects.release(object.object, was_named, state.clock);
    }
    Ok(Outcome::Compacted(replaced))
}

/// Whether runs may name the objects.
fn admit(state: &State, command: &Compact) -> Result<(), String> {
    let age = state.clock.saturating_sub(command.at);
    if age > limits::CHUNK_AGE_MILLIS {
        return Err(format!(
            "This compaction of agent {} is {age} ms old; its objects may be gone. Plan it again.",
            command.origin.agent
        ));
    }
    let mut seen = BTreeSet::new();
    for object in &command.objects {
        if !seen.insert(object.object) {
            return Err(format!("Object {} is named twice.", object.object));
        }
        state.objects.admit(object.object, object.bytes)?;
    }
    Ok(())
}

/// Replaces one stretch; false when it is not as it was, or what takes its place cannot be.
fn replace(
    state: &mut State,
    command: &Compact,
    stretch: &CompactStretch,
    named: &mut BTreeSet<ObjectId>,
) -> bool {
    let place = stretch.partition;
    let Some(partition) = state.partition_mut(place) else {
        return false;
    };
    if stretch
        .clean_to
        .is_some_and(|to| !(0..=partition.high_watermark()).contains(&to))
    {
        return false;
    }
    if !is_mark(stretch) {
        let Some((replaced, dropped)) = replace_runs(partition, command, stretch) else {
            return false;
        };
        named.extend(
            replaced
                .added
                .iter()
                .filter_map(Run::object)
                .map(|(object, _)| object),
        );
        state.account(place, &replaced);
        for run in dropped {
            state.count_out(place, &run);
        }
    }
    if let (Some(to), Some(partition)) = (stretch.clean_to, state.partition_mut(place)) {
        partition.clean(to);
    }
    true
}

/// Nothing is replaced, it is only said how far keys are there once.
fn is_mark(stretch: &CompactStretch) -> bool {
    stretch.base_offset == stretch.end_offset
        && stretch.sources.is_empty()
        && stretch.runs.is_empty()
        && stretch.clean_to.is_some()
}

/// What came and went, and what the log start had overtaken in the meantime.
fn replace_runs(
    partition: &mut Partition,
    command: &Compact,
    stretch: &CompactStretch,
) -> Option<(Replaced, Vec<Run>)> {
    let found = partition.stretch(stretch.base_offset, stretch.end_offset)?;
    let mut sources = stretch.sources.iter();
    let mut there = 0u64;
    for run in partition.range(found.clone()) {
        if run.is_unsettled() {
            return None;
        }
        if let Some((object, _)) = run.object()
            && sources.next() != Some(&object)
        {
            return None;
        }
        there = there.saturating_add(run.length);
    }
    if sources.next().is_some() {
        return None;
    }
    let runs = runs(command, stretch)?;
    let bytes = runs.iter().try_fold(partition.bytes() - there, |sum, run| {
        sum.checked_add(run.length)
    });
    bytes?;
    let old: Vec<&Run> = partition.range(found.clone()).collect();
    if !are_dense(&runs, &old) {
        return None;
    }
    let replaced = partition.replace(found, runs);
    let mut dropped = Vec::new();
    partition.advance(partition.log_start(), |run| dropped.push(run));
    Some((replaced, dropped))
}

/// The new runs, if they tile the stretch and lie within their objects.
fn runs(command: &Compact, stretch: &CompactStretch) -> Option<Vec<Run>> {
    let mut expected = stretch.base_offset;
    let mut runs = Vec::with_capacity(stretch.runs.len());
    for run in &stretch.runs {
        if run.base_offset != expected || run.end_offset <= run.base_offset {
            return None;
        }
        expected = run.end_offset;
        runs.push(new_run(command, run)?);
    }
    (expected == stretch.end_offset).then_some(runs)
}

fn new_run(command: &Compact, run: &CompactedRun) -> Option<Run> {
    let (length, location) = match run.place {
        None => (0, RunLocation::Gap),
        Some(place) => {
            let object = command.objects.get(usize::try_from(place.object).ok()?)?;
            let end = place.position.checked_add(place.length)?;
            if place.length == 0 || end > object.bytes {
                return None;
            }
            let (object, position) = (object.object, place.position);
            let location = if place.sparse {
                RunLocation::Sparse { object, position }
            } else {
                RunLocation::Object { object, position }
            };
            (place.length, location)
        }
    };
    Some(Run {
        base_offset: run.base_offset,
        end_offset: run.end_offset,
        max_timestamp: run.max_timestamp,
        length,
        location,
    })
}

/// Whether runs that shall have a record at every offset replace none that lacks some.
fn are_dense(new: &[Run], old: &[&Run]) -> bool {
    let lacking = |run: &&&Run| !matches!(run.location, RunLocation::Object { .. });
    let lacking: Vec<(Offset, Offset)> = old
        .iter()
        .filter(lacking)
        .map(|run| (run.base_offset, run.end_offset))
        .collect();
    new.iter()
        .filter(|run| matches!(run.location, RunLocation::Object { .. }))
        .all(|run| {
            let behind = lacking.partition_point(|(_, end)| *end <= run.base_offset);
            lacking
                .get(behind)
                .is_none_or(|(base, _)| *base >= run.end_offset)
        })
}

#[cfg(test)]
mod tests;
