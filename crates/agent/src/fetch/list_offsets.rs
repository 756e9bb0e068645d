//! ListOffsets: where a partition begins and ends, and where a time lies in it.

use bytes::Bytes;

use alluvium_cluster::Metadata;
use alluvium_metadata::{Partition, Run, RunLocation, State};
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
    /// Nor do those from here on: the high watermark.
    end: Offset,
    timestamp: Millis,
}

pub(super) async fn list_offset(
    source: &Source,
    metadata: &Metadata,
    partition: TopicPartition,
    spec: OffsetSpec,
) -> Result<(Offset, Millis), ErrorCode> {
    let found = match spec {
        OffsetSpec::Earliest => return look(metadata, partition, |_, it| (it.log_start(), -1)),
        OffsetSpec::Latest { read_committed } => {
            return look(metadata, partition, |_, it| {
                let committed = it.last_stable_offset();
                (
                    if read_committed {
                        committed
                    } else {
                        it.high_watermark()
                    },
                    -1,
                )
            });
        }
        OffsetSpec::MaxTimestamp => {
            let greatest = look(metadata, partition, |_, it| {
                let search = |run: &Run| Search::new(partition, it, run.max_timestamp);
                it.run_of_max_timestamp().map(search)
            })?;
            match greatest {
                Some(search) => search.greatest(source, metadata).await,
                None => Ok(None),
            }
        }
        OffsetSpec::Timestamp(timestamp) => {
            let search = look(metadata, partition, |_, it| {
                Search::new(partition, it, timestamp)
            })?;
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
    fn new(partition: TopicPartition, state: &Partition, timestamp: Millis) -> Self {
        let (from, end) = (state.log_start(), state.high_watermark());
        Self {
            partition,
            from,
            end,
            timestamp,
        }
    }

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

    /// The record with the greatest timestamp, which the runs say is the one searched for. The
    /// first run may owe it to records below the log start; then its batches are asked.
    async fn greatest(
        &self,
        source: &Source,
        metadata: &Metadata,
    ) -> Result<Option<(Offset, Millis)>, ReadError> {
        if let Some(found) = self.run(source, metadata).await? {
            return Ok(Some(found));
        }
        let first_and_rest = look(metadata, self.partition, |state, partition| {
            let runs = partition.runs_from(self.from);
            let mut runs = runs.filter(|run| run.location != RunLocation::Gap);
            let first = PlannedRun::new(runs.next()?, state);
            Some((first, runs.map(|run| run.max_timestamp).max()))
        });
        let Ok(Some((first, rest))) = first_and_rest else {
            return Ok(None);
        };
        let start = Start {
            position: 0,
            base_offset: first.base_offset,
            slack: 0,
        };
        let mut reader = RunReader::new(source, self.partition, &first, start);
        let mut greatest = rest;
        while let Some(header) = reader.header().await? {
            if header.last_offset() >= self.from {
                greatest = greatest.max(Some(header.max_timestamp));
            }
            reader.skip(&header);
        }
        match greatest {
            Some(timestamp) => Self { timestamp, ..*self }.run(source, metadata).await,
            None => Ok(None),
        }
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
            if header.max_timestamp < self.timestamp || header.last_offset() < self.from {
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
