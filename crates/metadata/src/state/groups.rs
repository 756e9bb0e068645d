//! Consumer groups: the durable part of their membership, and their committed offsets.

use std::collections::BTreeMap;

use alluvium_types::{ErrorCode, Millis, Offset, PartitionIndex, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::{State, refusal};
use crate::command::{Change, CommitOffsets, GroupRecord, Outcome, PutGroup, Refusal};

/// A consumer group's durable part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Membership, for groups that have had members.
    pub record: Option<GroupRecord>,
    /// Committed offsets.
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// What the client wanted kept beside it.
    pub metadata: String,
    /// When it was committed.
    pub committed_at: Millis,
}

impl Group {
    /// Nothing would be lost with it.
    pub(crate) fn is_empty(&self) -> bool {
        self.record.is_none() && self.offsets.is_empty()
    }
}

fn unknown_group(id: &str) -> Refusal {
    refusal(
        ErrorCode::GroupIdNotFound,
        format!("Group '{id}' is not known."),
    )
}

pub(super) fn commit(
    state: &mut State,
    command: CommitOffsets,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.registration(command.origin)?;
    let CommitOffsets {
        group,
        mut offsets,
        at,
        ..
    } = command;
    // A topic may be deleted while a commit for it is on its way; the others are still committed.
    offsets.retain(|commit| state.partition(commit.partition).is_some());
    if offsets.is_empty() {
        return Ok(Outcome::Done);
    }
    let committed = &mut state.groups.entry(group).or_default().offsets;
    for commit in offsets {
        let offset = CommittedOffset {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata,
            committed_at: at,
        };
        committed.insert(commit.partition, offset);
    }
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

pub(super) fn delete_offsets(
    state: &mut State,
    id: &str,
    partitions: &[TopicPartition],
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let group = state.groups.get_mut(id).ok_or_else(|| unknown_group(id))?;
    let before = group.offsets.len();
    for partition in partitions {
        group.offsets.remove(partition);
    }
    if group.offsets.len() < before {
        changes.push(Change::Groups);
    }
    if group.is_empty() {
        state.groups.remove(id);
    }
    Ok(Outcome::Done)
}

pub(super) fn put(
    state: &mut State,
    command: PutGroup,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.registration(command.origin)?;
    let PutGroup {
        group: id, record, ..
    } = command;
    let current = state
        .groups
        .get(&id)
        .and_then(|group| group.record.as_ref());
    if let Some(current) = current.filter(|current| current.generation > record.generation) {
        return Err(refusal(
            ErrorCode::IllegalGeneration,
            format!(
                "Group '{id}' is at generation {}, it cannot go back to {}.",
                current.generation, record.generation
            ),
        ));
    }
    state.groups.entry(id).or_default().record = Some(record);
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

pub(super) fn delete(
    state: &mut State,
    id: &str,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.groups.remove(id).ok_or_else(|| unknown_group(id))?;
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

/// Forgets what groups have committed for a topic that is gone.
pub(super) fn forget_topic(state: &mut State, topic: TopicId, changes: &mut Vec<Change>) {
    let everything = TopicPartition::new(topic, PartitionIndex::MIN)
        ..=TopicPartition::new(topic, PartitionIndex::MAX);
    let mut any = false;
    state.groups.retain(|_, group| {
        let gone: Vec<_> = group
            .offsets
            .range(everything.clone())
            .map(|(place, _)| *place)
            .collect();
        for place in &gone {
            group.offsets.remove(place);
        }
        any |= !gone.is_empty();
        gone.is_empty() || !group.is_empty()
    });
    if any {
        changes.push(Change::Groups);
    }
}

#[cfg(test)]
mod tests;
