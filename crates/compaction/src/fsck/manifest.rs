//! The manifests alone: each partition's runs tile its offsets, each run has a place of its own.
//!
//! The state machine checks the same of itself. This is written apart from it, so that a fault in one
//! is seen by the other.

use std::sync::Arc;

use alluvium_metadata::{JournalChunkId, Partition, Run, RunLocation, State};
use alluvium_types::{ObjectId, Offset, TopicId, TopicPartition};

use super::finding::{Problem, Stretch};
use super::report::Report;

/// Bytes of an object that a run names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) object: ObjectId,
    pub(super) position: u64,
    pub(super) length: u64,
    pub(super) place: TopicPartition,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    /// The batches bear their own offsets, and some offsets have none.
    pub(super) sparse: bool,
}

impl Claim {
    /// One past its last byte.
    pub(super) const fn end(&self) -> u64 {
        self.position.saturating_add(self.length)
    }
}

/// All of them, by object and position. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Arc<[Claim]>);

impl Claims {
    /// Reads and checks the manifests.
    pub(super) fn read(state: &State, report: &mut Report) -> Self {
        if let Err(reason) = state.check() {
            report.add(None, Vec::new(), Problem::Contradiction { reason });
        }
        report.counts.purgeable_runs = state.purgeable_runs();
        let mut claims = Vec::new();
        for topic in state.topics() {
            report.counts.topics += 1;
            for (index, partition) in (0..).zip(&topic.partitions) {
                report.counts.partitions += 1;
                let place = TopicPartition::new(topic.id, index);
                for (first, last, problem) in tiling(partition) {
                    let stretch = stretch(state, place, first, last);
                    report.add(None, vec![stretch], problem);
                }
                for run in partition.runs() {
                    count(run, report);
                    if let Some(chunk) = unknown_chunk(state, run) {
                        let stretch = stretch(state, place, run.base_offset, run.end_offset - 1);
                        let chunk = format!("{}/{}/{}", chunk.agent, chunk.epoch.0, chunk.chunk.0);
                        report.add(None, vec![stretch], Problem::UnknownChunk { chunk });
                    }
                    claims.extend(claim(place, run));
                }
            }
        }
        // Those of deleted topics are let go piece by piece; until then they hold their objects.
        for topic in state.deleted_topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let place = TopicPartition::new(topic.id, index);
                claims.extend(partition.runs().filter_map(|run| claim(place, run)));
            }
        }
        claims.sort_unstable_by_key(|claim| (claim.object, claim.position));
        for (claim, next) in shared(&claims) {
            let stretches =
                [claim, next].map(|it| stretch(state, it.place, it.base_offset, it.end_offset - 1));
            let position = next.position;
            let problem = Problem::SharedBytes { position };
            report.add(Some(claim.object), stretches.to_vec(), problem);
        }
        Self(claims.into())
    }

    /// Those of one object, by position.
    pub(super) fn of(&self, object: ObjectId) -> &[Claim] {
        let from = self.0.partition_point(|claim| claim.object < object);
        let rest = self.0.get(from..).unwrap_or_default();
        let count = rest.partition_point(|claim| claim.object == object);
        rest.get(..count).unwrap_or_default()
    }
}

/// Offsets of a partition, for people.
pub(super) fn stretch(
    state: &State,
    place: TopicPartition,
    first: Offset,
    last: Offset,
) -> Stretch {
    Stretch {
        topic: topic_name(state, place.topic),
        partition: place.partition,
        first,
        last,
    }
}

fn topic_name(state: &State, topic: TopicId) -> String {
    let known = state.topic(topic);
    known.map_or_else(|| topic.to_string(), |topic| topic.name.clone())
}

fn count(run: &Run, report: &mut Report) {
    let counts = &mut report.counts;
    counts.runs += 1;
    match run.location {
        RunLocation::Object { .. } => {}
        RunLocation::Inline(_) => {
            counts.inline_bytes = counts.inline_bytes.saturating_add(run.length);
        }
        RunLocation::Journal { .. } => {
            counts.journal_bytes = counts.journal_bytes.saturating_add(run.length);
        }
        RunLocation::Sparse { .. } => counts.sparse_runs += 1,
        RunLocation::Gap => counts.gaps += 1,
    }
}

fn unknown_chunk(state: &State, run: &Run) -> Option<JournalChunkId> {
    match run.location {
        RunLocation::Journal { chunk, .. } => {
            Some(chunk).filter(|chunk| state.journal_chunk(*chunk).is_none())
        }
        _ => None,
    }
}

fn claim(place: TopicPartition, run: &Run) -> Option<Claim> {
    let (object, position, sparse) = match run.location {
        RunLocation::Object { object, position } => (object, position, false),
        RunLocation::Sparse { object, position } => (object, position, true),
        _ => return None,
    };
    Some(Claim {
        object,
        position,
        length: run.length,
        place,
        base_offset: run.base_offset,
        end_offset: run.end_offset,
        sparse,
    })
}

/// Neighbours that name the same bytes.
pub(super) fn shared(claims: &[Claim]) -> impl Iterator<Item = (&Claim, &Claim)> {
    claims
        .iter()
        .zip(claims.iter().skip(1))
        .filter(|(claim, next)| claim.object == next.object && claim.end() > next.position)
}

fn tiling(partition: &Partition) -> Vec<(Offset, Offset, Problem)> {
    let ends = (partition.log_start(), partition.next_offset());
    tiles(ends, partition.runs())
}

/// What is wrong with runs that should tile the offsets between a log start and a next offset: first
/// and last offset concerned, and what.
pub(super) fn tiles<'a>(
    (log_start, next_offset): (Offset, Offset),
    runs: impl Iterator<Item = &'a Run>,
) -> Vec<(Offset, Offset, Problem)> {
    let mut wrong = Vec::new();
    let mut expected = None;
    for run in runs {
        let (base, end) = (run.base_offset, run.end_offset);
        // The first run may begin below the log start.
        match expected.unwrap_or_else(|| base.min(log_start)) {
            expected if base > expected => wrong.push((expected, base - 1, Problem::Hole)),
            expected if base < expected => {
                wrong.push((base, end.min(expected) - 1, Problem::Overlap));
            }
            _ => {}
        }
        let is_gap = matches!(run.location, RunLocation::Gap);
        let reason = match &run.location {
            _ if end <= base => "it ends before it begins",
            _ if is_gap != (run.length == 0) => "its length does not fit its kind",
            RunLocation::Inline(bytes) if u64::try_from(bytes.len()).ok() != Some(run.length) => {
                "its bytes are not as many as it says"
            }
            _ => "",
        };
        if !reason.is_empty() {
            let reason = reason.to_owned();
            wrong.push((base, end - 1, Problem::BadRun { reason }));
        }
        expected = Some(end.max(expected.unwrap_or(end)));
    }
    let end = expected.unwrap_or(log_start);
    if end < next_offset {
        wrong.push((end, next_offset - 1, Problem::Hole));
    } else if end > next_offset {
        let reason = format!("it reaches beyond the next offset {next_offset}");
        wrong.push((next_offset, end - 1, Problem::BadRun { reason }));
    }
    wrong
}
