//! Walks over the batches of one run, reading as it goes.

use bytes::Bytes;

use alluvium_protocol::batch::{BatchError, BatchHeader};
use alluvium_types::{Offset, TopicPartition, limits::BATCH_HEADER_BYTES};

use super::chain::Chain;
use super::plan::{Place, PlannedRun};
use super::source::{Piece, ReadError, Source};

/// Read at once where it is not known how much is needed.
const READ_BYTES: u64 = 64 << 10;

/// Where the checksum of a batch lies; what it covers begins behind it.
const CRC_END: usize = 21;

/// Where in a run to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// First byte of a batch, counted from the run's first.
    pub(super) position: u64,
    /// That batch's base offset.
    pub(super) base_offset: Offset,
    /// At most about so many bytes lie between it and what was sought.
    pub(super) slack: u64,
}

/// A place in a run, between two batches.
#[derive(Debug)]
pub(super) struct RunReader<'a> {
    source: &'a Source,
    partition: TopicPartition,
    run: &'a PlannedRun,
    chain: Chain,
    /// Up to where the run was read into the chain.
    read_to: u64,
    base_offset: Offset,
    trusted: bool,
}

impl<'a> RunReader<'a> {
    pub(super) fn new(
        source: &'a Source,
        partition: TopicPartition,
        run: &'a PlannedRun,
        start: Start,
    ) -> Self {
        Self {
            source,
            partition,
            run,
            chain: Chain::default(),
            read_to: start.position,
            base_offset: start.base_offset,
            trusted: true,
        }
    }

    /// Puts in what was read ahead from the start on.
    pub(super) fn read_ahead(&mut self, piece: Piece) {
        self.trusted &= piece.trusted;
        self.chain.append(piece.parts);
        self.read_to = self.read_to.saturating_add(self.chain.len() as u64);
    }

    /// The next batch's header, with the offset that the partition gave it; `None` at the run's end.
    pub(super) async fn header(&mut self) -> Result<Option<BatchHeader>, ReadError> {
        if self.is_at_end() {
            return Ok(None);
        }
        self.fill(BATCH_HEADER_BYTES).await?;
        let bytes = self
            .chain
            .peek::<BATCH_HEADER_BYTES>()
            .unwrap_or([0; BATCH_HEADER_BYTES]);
        let mut header = BatchHeader::parse(&bytes).map_err(|error| self.damaged(&error))?;
        header.base_offset = self.base_offset;
        if header.last_offset_delta < 0 || self.after(&header) > self.run.end_offset {
            return Err(self.damaged(&"a batch has offsets that are not the run's"));
        }
        Ok(Some(header))
    }

    /// Whether the next batch's header is at hand.
    pub(super) const fn has_header(&self) -> bool {
        self.chain.len() >= BATCH_HEADER_BYTES
    }

    /// Whether no batch is left.
    pub(super) const fn is_at_end(&self) -> bool {
        self.chain.len() == 0 && self.read_to >= self.run.length
    }

    /// Whether the whole of the batch is at hand.
    pub(super) const fn is_at_hand(&self, header: &BatchHeader) -> bool {
        self.chain.len() >= header.bytes
    }

    /// Goes past the batch of `header`, which came last.
    pub(super) fn skip(&mut self, header: &BatchHeader) {
        let beyond = header.bytes.saturating_sub(self.chain.len());
        self.chain.skip(header.bytes);
        self.read_to = self
            .read_to
            .saturating_add(beyond as u64)
            .min(self.run.length);
        self.base_offset = self.after(header);
    }

    /// Takes the batch of `header`, which came last. Bytes from the bucket are checked.
    pub(super) async fn take(&mut self, header: &BatchHeader) -> Result<Vec<Bytes>, ReadError> {
        self.fill(header.bytes).await?;
        let parts = self.chain.split(header.bytes);
        if !self.trusted && checksum(&parts) != header.crc {
            return Err(self.damaged(&"a batch's checksum does not match its bytes"));
        }
        self.base_offset = self.after(header);
        Ok(parts)
    }

    fn after(&self, header: &BatchHeader) -> Offset {
        self.base_offset
            .saturating_add(i64::from(header.last_offset_delta))
            .saturating_add(1)
    }

    /// Reads until so many bytes are at hand.
    async fn fill(&mut self, bytes: usize) -> Result<(), ReadError> {
        while self.chain.len() < bytes {
            let missing = (bytes - self.chain.len()) as u64;
            let left = self.run.length.saturating_sub(self.read_to);
            if left < missing {
                return Err(self.damaged(&"a batch reaches past the end of its run"));
            }
            let end = self.read_to + missing.max(READ_BYTES).min(left);
            let piece = read_range(self.source, self.run, self.read_to, end).await?;
            self.trusted &= piece.trusted;
            let before = self.chain.len();
            self.chain.append(piece.parts);
            if self.chain.len() == before {
                return Err(self.damaged(&"the store gave no bytes"));
            }
            self.read_to += (self.chain.len() - before) as u64;
        }
        Ok(())
    }

    fn damaged(&self, reason: &dyn std::fmt::Display) -> ReadError {
        let at = self.read_to.saturating_sub(self.chain.len() as u64);
        let place = match &self.run.place {
            Place::Inline(_) => format!("inline bytes at {at}"),
            Place::Object { object, position } => {
                format!(
                    "object {} at byte {}",
                    object.object,
                    position.saturating_add(at)
                )
            }
            Place::Nowhere(object) => format!("object {object}"),
        };
        let reason = format!("batch at offset {}: {reason}", self.base_offset);
        ReadError::Damaged {
            place,
            partition: self.partition,
            reason,
        }
    }
}

/// Reads bytes of a run, counted from its first.
pub(super) async fn read_range(
    source: &Source,
    run: &PlannedRun,
    start: u64,
    end: u64,
) -> Result<Piece, ReadError> {
    match &run.place {
        Place::Inline(bytes) => {
            let len = bytes.len();
            let at = |position: u64| usize::try_from(position).unwrap_or(len).min(len);
            let slice = bytes.slice(at(start)..at(end).max(at(start)));
            Ok(Piece {
                parts: vec![slice],
                trusted: true,
            })
        }
        Place::Object { object, position } => {
            let range = position.saturating_add(start)..position.saturating_add(end);
            source.read(*object, range).await
        }
        Place::Nowhere(object) => Err(ReadError::UnknownObject { object: *object }),
    }
}

/// CRC32C of a batch, over everything behind the checksum itself.
fn checksum(parts: &[Bytes]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut before = CRC_END;
    for part in parts {
        let skipped = before.min(part.len());
        before -= skipped;
        digest.update(&part[skipped..]);
    }
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
}

/// The error of a batch that cannot be understood, where one is needed outside a run.
pub(super) fn unreadable(partition: TopicPartition, error: &BatchError) -> ReadError {
    ReadError::Damaged {
        place: "batch".to_owned(),
        partition,
        reason: error.to_string(),
    }
}
