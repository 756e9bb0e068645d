//! Share groups: what they have of the records of each partition (KIP-932).
//!
//! Kafka keeps this with the leader of each partition and in a topic of its own. Here it lies in the
//! quorum, so that any agent serves any member of a group, and an acquisition is one command.

use alluvium_types::{ErrorCode, TopicPartition};

use super::{State, groups, refusal};
use crate::command::{
    Change, Outcome, Refusal, ShareAcknowledge, ShareAcquire, ShareBegin, ShareRelease, ShareReset,
};
use crate::share::SharePartition;

fn unknown(group: &str, place: TopicPartition) -> Refusal {
    refusal(
        ErrorCode::UnknownTopicOrPartition,
        format!("Share group '{group}' has not begun with partition {place:?}, or it is gone."),
    )
}

pub(super) fn begin(state: &mut State, command: ShareBegin, changes: &mut Vec<Change>) -> Outcome {
    let ShareBegin { group, mut starts } = command;
    let known = state.groups.get(&group).map(|group| &group.shares);
    starts.retain(|(place, start)| {
        *start >= 0
            && state.partition(*place).is_some()
            && !known.is_some_and(|shares| shares.contains_key(place))
    });
    if starts.is_empty() {
        return Outcome::Done;
    }
    groups::change(state, group, |group| {
        let shares = starts
            .into_iter()
            .map(|(place, start)| (place, SharePartition::new(start)));
        group.shares.extend(shares);
    });
    changes.push(Change::Groups);
    Outcome::Done
}

/// What a group has of a partition, brought up to where the log begins.
fn share<'a>(
    state: &'a mut State,
    group: &str,
    place: TopicPartition,
) -> Result<&'a mut SharePartition, Refusal> {
    let log_start = state.partition(place).map(crate::Partition::log_start);
    let known = state.groups.get_mut(group);
    let share = known.and_then(|group| group.shares.get_mut(&place));
    let (Some(log_start), Some(share)) = (log_start, share) else {
        return Err(unknown(group, place));
    };
    share.forget_below(log_start);
    Ok(share)
}

pub(super) fn acquire(
    state: &mut State,
    command: &ShareAcquire,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let place = command.partition;
    let readable = state
        .partition(place)
        .map_or(0, crate::Partition::high_watermark);
    let share = share(state, &command.group, place)?;
    let wanted = (command.most, command.end.min(readable));
    let acquired = share.acquire(&command.member, wanted, command.terms, command.at);
    changes.push(Change::Share(place));
    Ok(Outcome::ShareAcquired(acquired))
}

pub(super) fn acknowledge(
    state: &mut State,
    command: &ShareAcknowledge,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let share = share(state, &command.group, command.partition)?;
    let done = share.acknowledge(&command.member, &command.batches, command.terms, command.at);
    changes.push(Change::Share(command.partition));
    Ok(Outcome::ShareAcknowledged(done.err()))
}

pub(super) fn release(
    state: &mut State,
    command: &ShareRelease,
    changes: &mut Vec<Change>,
) -> Outcome {
    if let Some(group) = state.groups.get_mut(&command.group) {
        let in_question = |place: &TopicPartition| {
            command.partitions.is_empty() || command.partitions.contains(place)
        };
        let shares = group.shares.iter_mut();
        for (place, share) in shares.filter(|(place, _)| in_question(place)) {
            share.release(&command.members, command.terms);
            changes.push(Change::Share(*place));
        }
    }
    Outcome::Done
}

pub(super) fn reset(
    state: &mut State,
    command: ShareReset,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let ShareReset { group, mut starts } = command;
    if !state.groups.contains_key(&group) {
        return Err(groups::unknown_group(&group));
    }
    starts.retain(|(place, _)| state.partition(*place).is_some());
    groups::change(state, group, |group| {
        for (place, start) in starts {
            match start {
                Some(start) => {
                    group
                        .shares
                        .insert(place, SharePartition::new(start.max(0)));
                }
                None => {
                    group.shares.remove(&place);
                }
            }
        }
    });
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}
