//! What a restore says.

use std::collections::BTreeMap;

use serde::Serialize;

use alluvium_metadata::{BatchOutcome, State};
use alluvium_types::{Millis, Offset, PartitionIndex, TopicId, TopicPartition};

use super::objects::Batch;
use super::{RestoreConfig, Restoring};
use crate::voter_id::VoterId;

/// What was kept, what was given new offsets, and what is missing.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreReport {
    /// Which store.
    pub store: String,
    /// The cluster's id.
    pub cluster: String,
    /// Nothing was written.
    pub plan: bool,
    /// The history that was restored: how often the cluster had been restored before.
    pub restored_history: u32,
    /// The history that begins.
    pub new_history: u32,
    /// The new quorum's only voter; none in a plan.
    pub voter: Option<String>,
    /// The log.
    pub log: Replayed,
    /// Topics kept.
    pub topics: usize,
    /// Partitions kept.
    pub partitions: usize,
    /// Consumer groups kept.
    pub groups: usize,
    /// Records kept, those with new offsets included.
    pub records: u64,
    /// Records whose commands were in the lost tail of the log.
    pub resequenced: Resequenced,
    /// Offsets that cannot be read: their objects are not in the bucket.
    pub lost: Vec<LostRun>,
    /// Objects that no manifest names and that cannot be read, and why.
    pub damaged_objects: Vec<String>,
    /// Objects that no manifest names and that were not taken: attempts that failed, chunks that are
    /// there under another name, objects of after the moment asked for.
    pub passed_over_objects: u64,
}

/// How the log was replayed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replayed {
    /// The snapshot it began with covers all entries below this; none when it began with nothing.
    pub snapshot: Option<u64>,
    /// Pieces of the log replayed.
    pub pieces: u64,
    /// Entries replayed.
    pub entries: u64,
    /// Everything below is restored.
    pub next_index: u64,
    /// The archive's last moment: what was acknowledged inside the log after it is lost.
    pub until: Millis,
    /// Why it did not go on to the archive's end.
    pub ended_early: Option<String>,
    /// Files of the archive that are damaged and whose content was found elsewhere.
    pub damaged: Vec<String>,
}

/// Records that were given offsets anew.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Resequenced {
    /// Chunks they were in.
    pub chunks: u64,
    /// Per partition.
    pub partitions: Vec<PartitionOffsets>,
    /// Batches that the state had already.
    pub duplicates: u64,
    /// Batches kept though batches before them, by their producers' sequences, were not found.
    pub across_gaps: u64,
    /// Batches not kept.
    pub refused: Vec<RefusedBatches>,
}

/// Offsets given anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionOffsets {
    /// Of which topic.
    pub topic: String,
    /// Of which partition.
    pub partition: PartitionIndex,
    /// The first.
    pub first: Offset,
    /// The last.
    pub last: Offset,
    /// How many records.
    pub records: u64,
}

/// Batches that were not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedBatches {
    /// Of which topic, by name or, when it is gone, by id.
    pub topic: String,
    /// Of which partition.
    pub partition: PartitionIndex,
    /// Why, as a producer would have been told.
    pub reason: String,
    /// How many.
    pub batches: u64,
}

/// Offsets whose object is missing. Reading them fails until the object is back, or the partition's
/// log start is moved past them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostRun {
    /// Of which topic.
    pub topic: String,
    /// Of which partition.
    pub partition: PartitionIndex,
    /// The first.
    pub first: Offset,
    /// The last.
    pub last: Offset,
    /// The object's id.
    pub object: String,
}

/// Counts while batches are sequenced.
#[derive(Debug, Default)]
pub(super) struct Tally {
    appended: BTreeMap<TopicPartition, (Offset, Offset, u64)>,
    refused: BTreeMap<(TopicPartition, &'static str), u64>,
    duplicates: u64,
    across_gaps: u64,
}

impl Tally {
    pub(super) fn count(&mut self, batch: &Batch, outcome: BatchOutcome) {
        match outcome {
            BatchOutcome::Appended { base_offset } => {
                let end = base_offset.saturating_add(Offset::from(batch.stamp.records));
                let seen = self
                    .appended
                    .entry(batch.partition)
                    .or_insert((base_offset, end, 0));
                seen.0 = seen.0.min(base_offset);
                seen.1 = seen.1.max(end);
                seen.2 += u64::from(batch.stamp.records);
            }
            BatchOutcome::Duplicate { .. }
            | BatchOutcome::Refused(alluvium_types::ErrorCode::DuplicateSequenceNumber) => {
                self.duplicates += 1;
            }
            BatchOutcome::Refused(code) => {
                let place = (batch.partition, code.name());
                *self.refused.entry(place).or_default() += 1;
            }
        }
    }

    pub(super) fn gap(&mut self, _batch: &Batch) {
        self.across_gaps += 1;
    }

    pub(super) fn finish(self, state: &State, chunks: u64) -> Resequenced {
        let name = |topic: TopicId| {
            state
                .topic(topic)
                .map_or_else(|| topic.to_string(), |topic| topic.name.clone())
        };
        Resequenced {
            chunks,
            partitions: self
                .appended
                .into_iter()
                .map(|(place, (first, end, records))| PartitionOffsets {
                    topic: name(place.topic),
                    partition: place.partition,
                    first,
                    last: end - 1,
                    records,
                })
                .collect(),
            duplicates: self.duplicates,
            across_gaps: self.across_gaps,
            refused: self
                .refused
                .into_iter()
                .map(|((place, reason), batches)| RefusedBatches {
                    topic: name(place.topic),
                    partition: place.partition,
                    reason: reason.to_owned(),
                    batches,
                })
                .collect(),
        }
    }
}

/// What the steps of a restore found.
pub(super) struct Findings {
    pub(super) replayed: Replayed,
    pub(super) resequenced: Resequenced,
    pub(super) lost: Vec<LostRun>,
    pub(super) damaged: Vec<String>,
    pub(super) passed_over: u64,
}

pub(super) fn report(
    config: &RestoreConfig,
    restoring: &Restoring,
    voter: Option<VoterId>,
    findings: Findings,
) -> RestoreReport {
    let state = &restoring.current.state;
    let partitions = || state.topics().flat_map(|topic| &topic.partitions);
    let records = partitions()
        .map(|partition| partition.high_watermark() - partition.log_start())
        .filter_map(|records| u64::try_from(records).ok())
        .sum();
    RestoreReport {
        store: config.bucket.url().to_owned(),
        cluster: restoring.cluster.to_string(),
        plan: config.plan,
        restored_history: restoring.from,
        new_history: restoring.history,
        voter: voter.map(|voter| voter.to_string()),
        log: findings.replayed,
        topics: state.topics().count(),
        partitions: partitions().count(),
        groups: state.groups().count(),
        records,
        resequenced: findings.resequenced,
        lost: findings.lost,
        damaged_objects: findings.damaged,
        passed_over_objects: findings.passed_over,
    }
}
