//! ListOffsets: where a partition begins and ends, and where a time lies in it.
//!
//! A read_committed client is answered with nothing at or past the last stable offset. The markers that
//! end transactions are no answer to a time: they hold no record of anybody's.

use std::collections::BTreeSet;

use bytes::Bytes;

use alluvium_cluster::Metadata;
use alluvium_metadata::{Partition, RunLocation, State};
use alluvium_protocol::batch;
use alluvium_protocol::records;
use alluvium_types::{ErrorCode, Millis, Offset, TopicPartition, limits};

use super::OffsetSpec;
use super::plan::PlannedRun;
use super::run_reader::{RunReader, Start, unreadable};
use super::seek::{Target, seek};
use super::source::{ReadError, Source};

/// Runs that are looked at for one time before giving up: with sane timestamps it is one or two.
const RUNS: usize = 1000;

/// No record qualifies.
const NONE: (Offset, Millis) = (-1, -1);

/// What is looked for in runs.
#[derive(Clone, Copy, Debug)]
struct Search {
    partition: TopicPartition,
    /// Records before this do not count: the log start.
    from: Offset,
    /// Nor do those from here on: the high watermark, or the last stable offset.
    end: Offset,
    timestamp: Millis,
}

pub(super) async fn list_offset(
    source: &Source,
    metadata: &Metadata,
    partition: TopicPartition,
    spec: OffsetSpec,
    read_committed: bool,
) -> Result<(Offset, Millis), ErrorCode> {
    let end = |it: &Partition| {
        if read_committed {
            it.last_stable_offset()
        } else {
            it.high_watermark()
        }
    };
    let search = |it: &Partition, timestamp| Search {
        partition,
        from: it.log_start(),
        end: end(it),
        timestamp,
    };
    let found = match spec {
        OffsetSpec::Earliest => return look(metadata, partition, |_, it| (it.log_start(), -1)),
        OffsetSpec::Latest => return look(metadata, partition, |_, it| (end(it), -1)),
        OffsetSpec::MaxTimestamp => {
            let greatest = look(metadata, partition, |_, it| {
                let run = it.run_of_max_timestamp();
                run.map(|run| search(it, run.max_timestamp))
            })?;
            match greatest {
                Some(search) => search.greatest(source, metadata).await,
                None => Ok(None),
            }
        }
        OffsetSpec::Timestamp(timestamp) => {
            let search = look(metadata, partition, |_, it| search(it, timestamp))?;
            search.run(source, metadata).await
        }
    };
    match found {
        Ok(found) => Ok(found.unwrap_or(NONE)),
        Err(error) => {
            tracing::error!(
                topic = %partition.topic,
                partition = partition.partition,
                "offsets cannot be listed by time: {error}",
            );
            Err(ErrorCode::KafkaStorageError)
        }
    }
}

fn look<R>(
    metadata: &Metadata,
    partition: TopicPartition,
    read: impl FnOnce(&State, &Partition) -> R,
) -> Result<R, ErrorCode> {
    metadata
        .read(|state| state.partition(partition).map(|it| read(state, it)))
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

impl Search {
    /// The first record that qualifies, run by run.
    async fn run(
        &self,
        source: &Source,
        metadata: &Metadata,
    ) -> Result<Option<(Offset, Millis)>, ReadError> {
        let mut from = None;
        for _ in 0..RUNS {
            let candidate = look(metadata, self.partition, |state, partition| {
                let from = match from {
                    Some(from) => from,
                    None => partition.run_at_time(self.timestamp)?.base_offset,
                };
                let mut later = partition.runs_from(from.max(self.from));
                let run = later.find(|run| {
                    run.location != RunLocation::Gap && run.max_timestamp >= self.timestamp
                })?;
                Some(PlannedRun::new(run, state))
            });
            // A topic deleted meanwhile has no such record.
            let Ok(Some(run)) = candidate else {
                return Ok(None);
            };
            if run.base_offset >= self.end {
                return Ok(None);
            }
            if let Some(found) = self.in_run(source, &run).await? {
                return Ok(Some(found));
            }
            from = Some(run.end_offset);
        }
        tracing::warn!(partition = ?self.partition, "too many runs to search for a time");
        Ok(None)
    }

    /// The record with the greatest timestamp, which the runs say is the one searched for. A run may
    /// owe it to records below the log start or past the end, or to a marker; then batches are asked, of
    /// the runs that claim the greatest times.
    async fn greatest(
        &self,
        source: &Source,
        metadata: &Metadata,
    ) -> Result<Option<(Offset, Millis)>, ReadError> {
        if let Some(found) = self.run(source, metadata).await? {
            return Ok(Some(found));
        }
        let mut greatest: Option<Millis> = None;
        let mut asked = BTreeSet::new();
        for _ in 0..RUNS {
            let candidate = look(metadata, self.partition, |state, partition| {
                let runs = partition
                    .runs_from(self.from)
                    .take_while(|run| run.base_offset < self.end)
                    .filter(|run| run.location != RunLocation::Gap)
                    .filter(|run| !asked.contains(&run.base_offset));
                let claims = runs.max_by_key(|run| run.max_timestamp)?;
                let is_more = greatest.is_none_or(|greatest| claims.max_timestamp > greatest);
                is_more.then(|| PlannedRun::new(claims, state))
            });
            let Ok(Some(run)) = candidate else {
                break;
            };
            asked.insert(run.base_offset);
            greatest = greatest.max(self.greatest_in(source, &run).await?);
        }
        match greatest {
            Some(timestamp) => Self { timestamp, ..*self }.run(source, metadata).await,
            None => Ok(None),
        }
    }

    /// The greatest timestamp that the batches of a run claim.
    async fn greatest_in(
        &self,
        source: &Source,
        run: &PlannedRun,
    ) -> Result<Option<Millis>, ReadError> {
        let start = Start {
            position: 0,
            base_offset: run.base_offset,
            slack: 0,
        };
        let mut reader = RunReader::new(source, self.partition, run, start);
        let mut greatest = None;
        while let Some(header) = reader.header().await? {
            if header.base_offset >= self.end {
                break;
            }
            if header.last_offset() >= self.from && !header.is_control() {
                greatest = greatest.max(Some(header.max_timestamp));
            }
            reader.skip(&header);
        }
        Ok(greatest)
    }

    async fn in_run(
        &self,
        source: &Source,
        run: &PlannedRun,
    ) -> Result<Option<(Offset, Millis)>, ReadError> {
        let start = seek(source, self.partition, run, Target::Time(self.timestamp)).await?;
        let mut reader = RunReader::new(source, self.partition, run, start);
        while let Some(header) = reader.header().await? {
            if header.base_offset >= self.end {
                return Ok(None);
            }
            let is_before =
                header.max_timestamp < self.timestamp || header.last_offset() < self.from;
            if is_before || header.is_control() {
                reader.skip(&header);
                continue;
            }
            let Some(parts) = reader.take(&header).await? else {
                continue;
            };
            let batch = with_offset(&parts.concat(), header.base_offset);
            let found = self
                .in_batch(&batch, header.base_offset)
                .map_err(|error| unreadable(self.partition, &error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn in_batch(
        &self,
        batch: &Bytes,
        base_offset: Offset,
    ) -> Result<Option<(Offset, Millis)>, batch::BatchError> {
        let limit = limits::DECOMPRESSED_BATCH_BYTES;
        if base_offset >= self.from {
            return records::first_at_or_after(batch, self.timestamp, limit);
        }
        // The log start lies inside the batch.
        let mut records = records::decode(batch, limit)?.into_iter();
        let found = records
            .find(|record| record.offset >= self.from && record.timestamp >= self.timestamp)
            .map(|record| (record.offset, record.timestamp));
        Ok(found)
    }
}

/// The batch under the offset that the partition gave it.
fn with_offset(batch: &[u8], base_offset: Offset) -> Bytes {
    let Some((head, rest)) = batch.split_first_chunk::<16>() else {
        return Bytes::new();
    };
    let mut patched = Vec::with_capacity(batch.len());
    patched.extend_from_slice(&batch::patched_head(head, base_offset, 0));
    patched.extend_from_slice(rest);
    Bytes::from(patched)
}
