//! Reads the batches of one run with few large requests, and checks them.

use std::collections::VecDeque;

use alluvium_objects::{Footer, RunEntry, TRAILER_BYTES, key};
use alluvium_protocol::batch::{BatchHeader, check_crc};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::limits::BATCH_HEADER_BYTES;
use alluvium_types::{Offset, TopicPartition};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::plan::{SourcePlace, SourceRun};
use crate::is_missing;

/// Bytes of one request, and how many are under way at once.
const READ_BYTES: u64 = 4 << 20;
const READS: usize = 3;

/// Why a run cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("object {place} at byte {position}: {reason}")]
    Damaged {
        place: String,
        position: u64,
        reason: String,
    },
}

impl ReadError {
    /// Whether the store only does not answer now.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Bucket(error) if !is_missing(error))
    }
}

/// A batch at its place in the partition.
#[derive(Debug)]
pub(super) struct PlacedBatch {
    pub(super) base_offset: Offset,
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
}

/// A run, being read from its first batch to its last.
pub(super) struct RunBatches<'a> {
    run: SourceRun,
    place: SourcePlace,
    pieces: BoxStream<'a, Result<Bytes, BucketError>>,
    held: VecDeque<Bytes>,
    /// Bytes in `held`.
    ready: usize,
    /// Bytes of the run that were given out.
    given: u64,
    next_offset: Offset,
    /// What the object's footer says of a run whose batches bear their own offsets: these lie
    /// outside the batches' own checksums.
    entry: Option<RunEntry>,
    crc: crc_fast::Digest,
}

impl<'a> RunBatches<'a> {
    /// `object_bytes` is the object's length.
    pub(super) async fn open(
        bucket: &'a Bucket,
        partition: TopicPartition,
        run: SourceRun,
        place: SourcePlace,
        object_bytes: u64,
    ) -> Result<Self, ReadError> {
        let entry = if place.sparse {
            entry(bucket, partition, &run, place, object_bytes).await?
        } else {
            None
        };
        let end = place.position.saturating_add(run.length);
        let name = key(place.object);
        let ranges = (place.position..end)
            .step_by(usize::try_from(READ_BYTES).unwrap_or(usize::MAX))
            .map(move |from| from..end.min(from.saturating_add(READ_BYTES)));
        let reads = ranges.map(move |range| {
            let name = name.clone();
            async move { bucket.read(&name, range).await }
        });
        Ok(Self {
            run,
            place,
            pieces: stream::iter(reads).buffered(READS).boxed(),
            held: VecDeque::new(),
            ready: 0,
            given: 0,
            next_offset: run.base_offset,
            entry,
            crc: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi),
        })
    }

    /// The next batch, checked; `None` at the end of the run, once all of it is found to be sound.
    pub(super) async fn next(&mut self) -> Result<Option<PlacedBatch>, ReadError> {
        if self.given >= self.run.length {
            return self.finish().map(|()| None);
        }
        let parsed = self.header().await?;
        let left = self.run.length.saturating_sub(self.given);
        if u64::try_from(parsed.bytes).unwrap_or(u64::MAX) > left {
            return Err(self.damaged(&"a batch reaches past the end of its run"));
        }
        let bytes = self.take(parsed.bytes).await?;
        check_crc(&bytes).map_err(|error| self.damaged(&error))?;
        let base_offset = if self.place.sparse {
            parsed.base_offset
        } else {
            self.next_offset
        };
        let header = BatchHeader {
            base_offset,
            ..parsed
        };
        let end = header.last_offset().saturating_add(1);
        let is_inside = base_offset >= self.next_offset && end <= self.run.end_offset;
        if header.last_offset_delta < 0 || !is_inside {
            return Err(self.damaged(&"a batch has offsets that are not the run's"));
        }
        if self.entry.is_some() {
            self.crc.update(&bytes);
        }
        self.given += bytes.len() as u64;
        self.next_offset = end;
        Ok(Some(PlacedBatch {
            base_offset,
            header,
            bytes,
        }))
    }

    fn finish(&self) -> Result<(), ReadError> {
        if !self.place.sparse && self.next_offset != self.run.end_offset {
            return Err(self.damaged(&"its batches end before the run does"));
        }
        let found = u32::try_from(self.crc.finalize()).unwrap_or(u32::MAX);
        match &self.entry {
            Some(entry) if entry.crc != found => {
                Err(self.damaged(&"the run's checksum does not match its bytes"))
            }
            _ => Ok(()),
        }
    }

    /// The next batch's header, which stays where it is.
    async fn header(&mut self) -> Result<BatchHeader, ReadError> {
        self.fill(BATCH_HEADER_BYTES).await?;
        let parsed = match self.held.front() {
            Some(first) if first.len() >= BATCH_HEADER_BYTES => BatchHeader::parse(first),
            _ => {
                let head = self.take(BATCH_HEADER_BYTES).await?;
                let parsed = BatchHeader::parse(&head);
                self.ready += head.len();
                self.held.push_front(head);
                parsed
            }
        };
        parsed.map_err(|error| self.damaged(&error))
    }

    async fn fill(&mut self, bytes: usize) -> Result<(), ReadError> {
        while self.ready < bytes {
            match self.pieces.next().await {
                Some(piece) => {
                    let piece = piece?;
                    self.ready += piece.len();
                    self.held.push_back(piece);
                }
                None => return Err(self.damaged(&"the store gave too few bytes")),
            }
        }
        while self.held.front().is_some_and(Bytes::is_empty) {
            self.held.pop_front();
        }
        Ok(())
    }

    /// So many bytes in one piece; copied only where they lie in two.
    async fn take(&mut self, bytes: usize) -> Result<Bytes, ReadError> {
        self.fill(bytes).await?;
        self.ready -= bytes;
        if let Some(first) = self.held.front_mut().filter(|first| first.len() >= bytes) {
            return Ok(first.split_to(bytes));
        }
        let mut joined = BytesMut::with_capacity(bytes);
        while joined.len() < bytes {
            let Some(first) = self.held.front_mut() else {
                return Err(self.damaged(&"the store gave too few bytes"));
            };
            let common = first.len().min(bytes - joined.len());
            joined.extend_from_slice(&first.split_to(common));
            if first.is_empty() {
                self.held.pop_front();
            }
        }
        Ok(joined.freeze())
    }

    fn damaged(&self, reason: &dyn std::fmt::Display) -> ReadError {
        ReadError::Damaged {
            place: self.place.object.to_string(),
            position: self.place.position.saturating_add(self.given),
            reason: reason.to_string(),
        }
    }
}

/// The footer's entry of exactly this run; none when the run is a part of one.
async fn entry(
    bucket: &Bucket,
    partition: TopicPartition,
    run: &SourceRun,
    place: SourcePlace,
    object_bytes: u64,
) -> Result<Option<RunEntry>, ReadError> {
    let name = key(place.object);
    let damaged = |reason: &dyn std::fmt::Display| ReadError::Damaged {
        place: place.object.to_string(),
        position: place.position,
        reason: format!("footer: {reason}"),
    };
    let tail = |bytes: u64| object_bytes.saturating_sub(bytes)..object_bytes;
    let trailer = bucket.read(&name, tail(TRAILER_BYTES)).await?;
    let bytes = Footer::tail_bytes(&trailer, object_bytes).map_err(|error| damaged(&error))?;
    let bytes = bucket.read(&name, tail(bytes)).await?;
    let footer = Footer::parse(&bytes, object_bytes).map_err(|error| damaged(&error))?;
    Ok(footer.runs.into_iter().find(|entry| {
        let is_place = entry.position == place.position && entry.length == run.length;
        entry.partition == partition && is_place
    }))
}
