//! Which batches are those of aborted transactions.

use std::collections::BTreeMap;

use alluvium_metadata::Partition;
use alluvium_types::{Offset, ProducerId};

use super::plan::SourceRun;
use super::read::PlacedBatch;

/// The aborted transactions of some offsets, as the view says that names the runs which hold them: a later
/// one may have let go of those whose records went meanwhile.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    /// First offsets by producer and offset of the marker. Those of one producer do not overlap.
    by_end: BTreeMap<(ProducerId, Offset), Offset>,
}

impl Aborted {
    /// Those that have offsets in these runs.
    pub(super) fn within(partition: &Partition, runs: &[SourceRun]) -> Self {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
            return Self::default();
        };
        let within = partition.aborted_within(first.base_offset, last.end_offset);
        let by_end = within.map(|done| ((done.producer, done.last_offset), done.first_offset));
        Self {
            by_end: by_end.collect(),
        }
    }

    /// Whether a batch holds records of one.
    pub(super) fn hold(&self, batch: &PlacedBatch) -> bool {
        if !batch.header.is_transactional() || batch.header.is_control() {
            return false;
        }
        let producer = batch.header.producer_id;
        let from = (producer, batch.base_offset);
        let next = self.by_end.range(from..=(producer, Offset::MAX)).next();
        next.is_some_and(|(_, first_offset)| *first_offset <= batch.base_offset)
    }

    /// Whether this is the marker of one: a reader who is told of it must find its end.
    pub(super) fn end_with(&self, marker: &PlacedBatch) -> bool {
        let end = (marker.header.producer_id, marker.base_offset);
        self.by_end.contains_key(&end)
    }

    /// Whether one has offsets in a run.
    pub(super) fn meet(&self, run: SourceRun) -> bool {
        self.by_end.iter().any(|((_, last_offset), first_offset)| {
            *first_offset < run.end_offset && *last_offset >= run.base_offset
        })
    }
}
