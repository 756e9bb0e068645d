//! What is counted of the runs as they come and go, so that no query walks the manifests.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_types::{PartitionIndex, TopicId, TopicPartition};

use super::State;
use crate::partition::{Partition, Replaced};
use crate::runs::{Run, RunLocation};

/// What waits to be settled in the topics that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) inline_bytes: u64,
    pub(crate) journal_bytes: u64,
    topics: BTreeMap<TopicId, OfTopic>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfTopic {
    inline: Share,
    journal: Share,
}

/// One topic's share of what lies in one kind of location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Share {
    bytes: u64,
    partitions: BTreeSet<PartitionIndex>,
}

impl Share {
    /// A partition has `bytes` more.
    fn add(&mut self, partition: PartitionIndex, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.partitions.insert(partition);
    }

    fn remove(&mut self, partition: PartitionIndex, bytes: u64, is_last: bool) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if is_last {
            self.partitions.remove(&partition);
        }
    }
}

impl Waiting {
    pub(crate) fn inline_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions(|topic| &topic.inline)
    }

    pub(crate) fn journal_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions(|topic| &topic.journal)
    }

    fn partitions(&self, share: fn(&OfTopic) -> &Share) -> impl Iterator<Item = TopicPartition> {
        self.topics.iter().flat_map(move |(id, topic)| {
            let partitions = share(topic).partitions.iter();
            partitions.map(|index| TopicPartition::new(*id, *index))
        })
    }

    pub(crate) fn add(&mut self, place: TopicPartition, run: &Run) {
        if !run.is_unsettled() {
            return;
        }
        let topic = self.topics.entry(place.topic).or_default();
        let (share, total) = if run.inline().is_some() {
            (&mut topic.inline, &mut self.inline_bytes)
        } else {
            (&mut topic.journal, &mut self.journal_bytes)
        };
        share.add(place.partition, run.length);
        *total = total.saturating_add(run.length);
    }

    /// `partition` has lost `run` already.
    fn remove(&mut self, place: TopicPartition, run: &Run, partition: &Partition) {
        let Some(topic) = self.topics.get_mut(&place.topic) else {
            return;
        };
        match &run.location {
            RunLocation::Inline(_) => {
                let is_last = !partition.has_inline();
                topic.inline.remove(place.partition, run.length, is_last);
                self.inline_bytes = self.inline_bytes.saturating_sub(run.length);
            }
            RunLocation::Journal { .. } => {
                let is_last = !partition.has_journal();
                topic.journal.remove(place.partition, run.length, is_last);
                self.journal_bytes = self.journal_bytes.saturating_sub(run.length);
            }
            _ => return,
        }
        if *topic == OfTopic::default() {
            self.topics.remove(&place.topic);
        }
    }

    /// The topic was deleted: nothing of it waits any more.
    pub(super) fn remove_topic(&mut self, topic: TopicId) {
        if let Some(gone) = self.topics.remove(&topic) {
            self.inline_bytes = self.inline_bytes.saturating_sub(gone.inline.bytes);
            self.journal_bytes = self.journal_bytes.saturating_sub(gone.journal.bytes);
        }
    }
}

impl State {
    /// Counts what was replaced in a partition. Up before down: nothing that stays may pass through
    /// zero.
    pub(crate) fn account(&mut self, place: TopicPartition, replaced: &Replaced) {
        for run in &replaced.added {
            self.count_in(place, run);
        }
        for run in &replaced.removed {
            self.count_out(place, run);
        }
    }

    /// Counts a run that a partition has now. Its object or chunk is known.
    pub(crate) fn count_in(&mut self, place: TopicPartition, run: &Run) {
        if let Some((object, _)) = run.object() {
            self.objects.add(object, 1);
        }
        if let Some(chunk) = run.journal() {
            self.journal.add_run(chunk, place, run.base_offset);
        }
        self.count_rows(place, 1);
        if self.topics.contains_key(&place.topic) {
            self.waiting.add(place, run);
        }
    }

    /// Counts new runs of a partition.
    pub(crate) fn count_rows(&mut self, place: TopicPartition, rows: u64) {
        if let Some(topic) = self.topics.get_mut(&place.topic) {
            topic.runs = topic.runs.saturating_add(rows);
        } else {
            self.graveyard
                .count(place.topic, |runs| runs.saturating_add(rows));
        }
    }

    /// Counts a run that has left its partition.
    pub(crate) fn count_out(&mut self, place: TopicPartition, run: &Run) {
        if let Some((object, _)) = run.object() {
            self.objects.remove(object, self.clock);
        }
        if let Some(chunk) = run.journal() {
            self.journal.remove_run(chunk, place, run.base_offset);
        }
        let Some(topic) = self.topics.get_mut(&place.topic) else {
            self.graveyard
                .count(place.topic, |runs| runs.saturating_sub(1));
            return;
        };
        topic.runs = topic.runs.saturating_sub(1);
        let index = usize::try_from(place.partition).ok();
        if let Some(partition) = index.and_then(|index| topic.partitions.get(index)) {
            self.waiting.remove(place, run, partition);
        }
    }
}
