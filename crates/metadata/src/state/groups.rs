//! Consumer groups: the durable part of their membership, and their committed offsets.

use std::collections::BTreeMap;

use alluvium_types::{
    ErrorCode, Millis, Offset, PartitionIndex, ProducerId, TopicId, TopicPartition,
};
use serde::{Deserialize, Serialize};

use super::{State, refusal};
use crate::command::{
    AgentOrigin, Change, CommitOffsets, ConsumerGroupRecord, GroupRecord, OffsetCommit, Outcome,
    PutGroup, Refusal,
};
use crate::share::SharePartition;

/// Most groups that are claimed and hold nothing yet. Beyond it the oldest of these claims is
/// dropped: its coordinator is told so when it writes, and claims again.
pub(crate) const IDLE_GROUPS: usize = 10_000;

/// A consumer group's durable part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Membership, for groups that have had members.
    pub record: Option<GroupRecord>,
    /// Committed offsets.
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Who claimed it last: the only one that may write it, while its registration lasts.
    pub coordinator: Option<AgentOrigin>,
    /// The number of that claim, 0 before the first.
    pub(crate) claim: u64,
    /// Offsets that open transactions will commit, by the producer of each.
    pub(crate) pending: BTreeMap<ProducerId, BTreeMap<TopicPartition, CommittedOffset>>,
    /// What it has of each partition, if it is a share group.
    pub shares: BTreeMap<TopicPartition, SharePartition>,
    /// Membership, for groups of the newer consumer protocol.
    pub consumer: Option<ConsumerGroupRecord>,
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

impl CommittedOffset {
    fn of(commit: OffsetCommit, at: Millis) -> (TopicPartition, Self) {
        let offset = Self {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata,
            committed_at: at,
        };
        (commit.partition, offset)
    }
}

impl Group {
    /// Nothing would be lost with it.
    pub(crate) fn is_empty(&self) -> bool {
        self.record.is_none()
            && self.offsets.is_empty()
            && self.pending.is_empty()
            && self.shares.is_empty()
            && self.consumer.is_none()
    }

    /// Its generation or epoch, whichever protocol it has.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        let generation = self.record.as_ref().map(|record| record.generation);
        let epoch = self.consumer.as_ref().map(|record| record.epoch);
        generation.or(epoch).unwrap_or(0)
    }

    /// Whether its coordinator has members to look after.
    #[must_use]
    pub fn has_members(&self) -> bool {
        let classic = self.record.as_ref();
        let consumer = self.consumer.as_ref();
        classic.is_some_and(|record| !record.members.is_empty())
            || consumer.is_some_and(|record| !record.members.is_empty())
    }

    /// Whether an open transaction holds back an offset of a partition (KIP-447).
    #[must_use]
    pub fn is_unstable(&self, partition: TopicPartition) -> bool {
        let mut pending = self.pending.values();
        pending.any(|offsets| offsets.contains_key(&partition))
    }

    /// Whether open transactions hold back any offset.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

pub(super) fn unknown_group(id: &str) -> Refusal {
    refusal(
        ErrorCode::GroupIdNotFound,
        format!("Group '{id}' is not known."),
    )
}

fn not_coordinator(origin: AgentOrigin, group: &str, why: &str) -> Refusal {
    refusal(
        ErrorCode::NotCoordinator,
        format!(
            "Agent {} does not coordinate group '{group}': {why}.",
            origin.agent
        ),
    )
}

/// Whether a registration may write a group. Release 0.1 knew no claims: until there is one, any
/// current registration may.
pub(super) fn admit(state: &State, origin: AgentOrigin, id: &str) -> Result<(), Refusal> {
    state.registration(origin)?;
    if state.rules == 0 || state.claimed_by(id) == Some(origin) {
        return Ok(());
    }
    Err(not_coordinator(
        origin,
        id,
        "it has not claimed it, or another has since",
    ))
}

/// Changes a group, made if there is none, and keeps count of those that hold nothing: they last
/// while whoever claimed them does, within bounds.
pub(super) fn change<R>(state: &mut State, id: String, change: impl FnOnce(&mut Group) -> R) -> R {
    let mut group = state.groups.remove(&id).unwrap_or_default();
    state.idle_groups.remove(&group.claim);
    let result = change(&mut group);
    if !group.is_empty() {
        state.groups.insert(id, group);
    } else if group
        .coordinator
        .is_some_and(|origin| state.is_current(origin))
    {
        state.idle_groups.insert(group.claim, id.clone());
        state.groups.insert(id, group);
        if state.idle_groups.len() > IDLE_GROUPS
            && let Some((_, oldest)) = state.idle_groups.pop_first()
        {
            state.groups.remove(&oldest);
        }
    }
    result
}

/// Registrations have ended: what they claimed and never filled goes with them.
pub(super) fn let_go(state: &mut State) {
    let ended = |id: &str| {
        let coordinator = state.claimed_by(id);
        !coordinator.is_some_and(|origin| state.is_current(origin))
    };
    let gone: Vec<(u64, String)> = state
        .idle_groups
        .iter()
        .filter(|(_, id)| ended(id))
        .map(|(claim, id)| (*claim, id.clone()))
        .collect();
    for (claim, id) in gone {
        state.idle_groups.remove(&claim);
        state.groups.remove(&id);
    }
}

pub(super) fn claim(
    state: &mut State,
    origin: AgentOrigin,
    id: String,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.registration(origin)?;
    match state.coordinator_of(&id) {
        Some(agent) if agent == origin.agent => {}
        Some(agent) => {
            let why = format!("agent {agent} is to");
            return Err(not_coordinator(origin, &id, &why));
        }
        None => return Err(not_coordinator(origin, &id, "no agent is live")),
    }
    if state.claimed_by(&id) == Some(origin) {
        return Ok(Outcome::Done);
    }
    state.claims = state.claims.saturating_add(1);
    let claim = state.claims;
    change(state, id, |group| {
        group.coordinator = Some(origin);
        group.claim = claim;
    });
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

pub(super) fn commit(
    state: &mut State,
    command: CommitOffsets,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let CommitOffsets {
        origin,
        group,
        mut offsets,
        at,
    } = command;
    admit(state, origin, &group)?;
    // A topic may be deleted while a commit for it is on its way; the others are still committed.
    offsets.retain(|commit| state.partition(commit.partition).is_some());
    if offsets.is_empty() {
        return Ok(Outcome::Done);
    }
    change(state, group, |group| {
        for commit in offsets {
            let (partition, offset) = CommittedOffset::of(commit, at);
            group.offsets.insert(partition, offset);
        }
    });
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

/// Keeps offsets until a producer's transaction ends.
pub(super) fn hold_back(
    state: &mut State,
    id: String,
    producer: ProducerId,
    offsets: Vec<OffsetCommit>,
    at: Millis,
) {
    if offsets.is_empty() {
        return;
    }
    let offsets = offsets
        .into_iter()
        .map(|commit| CommittedOffset::of(commit, at));
    change(state, id, |group| {
        group.pending.entry(producer).or_default().extend(offsets);
    });
}

/// A producer's transaction has ended: what it held back is committed or forgotten.
pub(super) fn release(state: &mut State, id: String, producer: ProducerId, commit: bool) {
    change(state, id, |group| {
        let pending = group.pending.remove(&producer).unwrap_or_default();
        if commit {
            group.offsets.extend(pending);
        }
    });
}

pub(super) fn delete_offsets(
    state: &mut State,
    id: &str,
    partitions: &[TopicPartition],
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.group(id).ok_or_else(|| unknown_group(id))?;
    let any = change(state, id.to_owned(), |group| {
        let before = group.offsets.len();
        for partition in partitions {
            group.offsets.remove(partition);
        }
        // What open transactions would commit there goes, too.
        group.pending.retain(|_, offsets| {
            offsets.retain(|place, _| !partitions.contains(place));
            !offsets.is_empty()
        });
        group.offsets.len() < before
    });
    if any {
        changes.push(Change::Groups);
    }
    Ok(Outcome::Done)
}

pub(super) fn remove_offsets(
    state: &mut State,
    origin: AgentOrigin,
    id: &str,
    partitions: &[TopicPartition],
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    admit(state, origin, id)?;
    delete_offsets(state, id, partitions, changes)
}

pub(super) fn put(
    state: &mut State,
    command: PutGroup,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let PutGroup {
        origin,
        group: id,
        record,
    } = command;
    admit(state, origin, &id)?;
    let current = state.groups.get(&id).map_or(0, Group::epoch);
    if current > record.generation {
        return Err(refusal(
            ErrorCode::IllegalGeneration,
            format!(
                "Group '{id}' is at generation {current}, it cannot go back to {}.",
                record.generation
            ),
        ));
    }
    change(state, id, |group| {
        group.record = Some(record);
        group.consumer = None;
    });
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

pub(super) fn delete(
    state: &mut State,
    id: &str,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    state.group(id).ok_or_else(|| unknown_group(id))?;
    change(state, id.to_owned(), |group| {
        group.record = None;
        group.offsets.clear();
        group.pending.clear();
        group.shares.clear();
        group.consumer = None;
    });
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

pub(super) fn remove(
    state: &mut State,
    origin: AgentOrigin,
    id: &str,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    admit(state, origin, id)?;
    delete(state, id, changes)
}

/// Forgets what groups have committed for a topic that is gone.
pub(super) fn forget_topic(state: &mut State, topic: TopicId, changes: &mut Vec<Change>) {
    let everything = TopicPartition::new(topic, PartitionIndex::MIN)
        ..=TopicPartition::new(topic, PartitionIndex::MAX);
    let found: Vec<String> = state
        .groups
        .iter()
        .filter(|(_, group)| {
            let pending = group.pending.values();
            std::iter::once(&group.offsets)
                .chain(pending)
                .any(|offsets| offsets.range(everything.clone()).next().is_some())
                || group.shares.range(everything.clone()).next().is_some()
        })
        .map(|(id, _)| id.clone())
        .collect();
    if !found.is_empty() {
        changes.push(Change::Groups);
    }
    for id in found {
        change(state, id, |group| {
            group.offsets.retain(|place, _| place.topic != topic);
            group.shares.retain(|place, _| place.topic != topic);
            group.pending.retain(|_, offsets| {
                offsets.retain(|place, _| place.topic != topic);
                !offsets.is_empty()
            });
        });
    }
}

#[cfg(test)]
mod tests;
