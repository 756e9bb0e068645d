//! Walks over the batches of one run, reading as it goes.

use std::ops::Range;

use bytes::Bytes;

use alluvium_protocol::batch::{BatchError, BatchHeader};
use alluvium_types::{Offset, TopicPartition, limits::BATCH_HEADER_BYTES};

use super::chain::Chain;
use super::plan::{Place, PlannedRun};
use super::source::{Piece, ReadError, Source, Way};

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
    way: Way,
    /// Where a batch was read again.
    suspect: Option<u64>,
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
            way: Way::PLAIN,
            suspect: None,
        }
    }

    /// Has it read on in this way.
    pub(super) const fn in_way(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// Where the next batch begins, counted from the run's first byte.
    pub(super) const fn position(&self) -> u64 {
        self.read_to.saturating_sub(self.chain.len() as u64)
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
        match self.parse().await {
            Err(ReadError::Damaged { .. }) if self.can_read_again() => {
                self.read_again(BATCH_HEADER_BYTES).await?;
                Ok(Some(self.parse().await?))
            }
            parsed => parsed.map(Some),
        }
    }

    async fn parse(&mut self) -> Result<BatchHeader, ReadError> {
        self.fill(BATCH_HEADER_BYTES).await?;
        let bytes = self
            .chain
            .peek::<BATCH_HEADER_BYTES>()
            .unwrap_or([0; BATCH_HEADER_BYTES]);
        let mut header = BatchHeader::parse(&bytes).map_err(|error| self.damaged(&error))?;
        if !matches!(self.run.place, Place::Object { sparse: true, .. }) {
            header.base_offset = self.base_offset;
        }
        let end = header.last_offset().saturating_add(1);
        let is_within = header.base_offset >= self.base_offset && end <= self.run.end_offset;
        if header.last_offset_delta < 0 || !is_within {
            return Err(self.damaged(&"a batch has offsets that are not the run's"));
        }
        let left = self.run.length.saturating_sub(self.position());
        if header.bytes as u64 > left {
            return Err(self.damaged(&"a batch reaches past the end of its run"));
        }
        Ok(header)
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
        self.base_offset = after(header);
    }

    /// Takes the batch of `header`, which came last. Bytes from outside are checked; when they are bad
    /// they are read again, and when it was the header that was bad, nothing is taken and the next
    /// header is to be asked for anew.
    pub(super) async fn take(
        &mut self,
        header: &BatchHeader,
    ) -> Result<Option<Vec<Bytes>>, ReadError> {
        self.fill(header.bytes).await?;
        if !self.is_sound(header) {
            let at = self.position();
            if !self.can_read_again() || self.suspect.replace(at) == Some(at) {
                return Err(self.damaged(&BAD_CHECKSUM));
            }
            self.read_again(header.bytes).await?;
            if self.parse().await? != *header {
                return Ok(None);
            }
            self.fill(header.bytes).await?;
            if !self.is_sound(header) {
                return Err(self.damaged(&BAD_CHECKSUM));
            }
        }
        let parts = self.chain.split(header.bytes);
        self.base_offset = after(header);
        Ok(Some(parts))
    }

    fn is_sound(&self, header: &BatchHeader) -> bool {
        self.trusted || checksum(&self.chain.clone().split(header.bytes)) == header.crc
    }

    const fn can_read_again(&self) -> bool {
        matches!(self.run.place, Place::Object { .. } | Place::Journal { .. })
    }

    /// Reads the next batch again, from the store or another copy: what came was not what was written.
    async fn read_again(&mut self, bytes: usize) -> Result<(), ReadError> {
        let start = self.position();
        let end = start.saturating_add((bytes as u64).max(READ_BYTES));
        let end = end.min(self.run.length);
        tracing::warn!(
            partition = ?self.partition, offset = self.base_offset, place = self.place(),
            "bytes are not what was written; they are read again from where they are kept"
        );
        metrics::counter!("alluvium_fetch_damaged_reads_total").increment(1);
        let piece = match &self.run.place {
            Place::Object {
                object, position, ..
            } => {
                let range = position.saturating_add(start)..position.saturating_add(end);
                self.source.read_afresh(*object, range).await?
            }
            Place::Journal { chunk, position } => {
                let range = position.saturating_add(start)..position.saturating_add(end);
                self.source.read_chunk(chunk, range, false).await?
            }
            _ => return Ok(()),
        };
        self.trusted = false;
        self.chain = Chain::from(piece.parts);
        self.read_to = start.saturating_add(self.chain.len() as u64);
        Ok(())
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
            let piece = read_range(self.source, self.run, self.read_to..end, self.way).await?;
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

    fn place(&self) -> String {
        let at = self.position();
        match &self.run.place {
            Place::Inline(_) => format!("inline bytes at {at}"),
            Place::Object {
                object, position, ..
            } => {
                let at = position.saturating_add(at);
                format!("object {} at byte {at}", object.object)
            }
            Place::Journal { chunk, position } => {
                let at = position.saturating_add(at);
                format!("write-ahead chunk {:?} at byte {at}", chunk.chunk)
            }
            Place::Gap => "a gap".to_owned(),
            Place::Nowhere(object) => format!("object {object}"),
            Place::NoChunk(chunk) => format!("write-ahead chunk {chunk:?}"),
        }
    }

    fn damaged(&self, reason: &dyn std::fmt::Display) -> ReadError {
        ReadError::Damaged {
            place: self.place(),
            partition: self.partition,
            reason: format!(
                "batch at offset {}: {reason}; `alluvium fsck` tells what else is damaged, and readers \
                 can go on behind it",
                self.base_offset
            ),
        }
    }
}

const BAD_CHECKSUM: &str = "its checksum does not match its bytes";

/// The first offset behind a batch.
fn after(header: &BatchHeader) -> Offset {
    header.last_offset().saturating_add(1)
}

/// Reads bytes of a run, counted from its first.
pub(super) async fn read_range(
    source: &Source,
    run: &PlannedRun,
    range: Range<u64>,
    way: Way,
) -> Result<Piece, ReadError> {
    let within =
        |position: &u64| position.saturating_add(range.start)..position.saturating_add(range.end);
    match &run.place {
        Place::Inline(bytes) => {
            let len = bytes.len();
            let at = |position: u64| usize::try_from(position).unwrap_or(len).min(len);
            let slice = bytes.slice(at(range.start)..at(range.end).max(at(range.start)));
            Ok(Piece {
                parts: vec![slice],
                trusted: true,
            })
        }
        Place::Object {
            object, position, ..
        } => source.read(*object, within(position), way).await,
        Place::Journal { chunk, position } => {
            source.read_chunk(chunk, within(position), true).await
        }
        Place::Gap => Ok(Piece {
            parts: Vec::new(),
            trusted: true,
        }),
        Place::Nowhere(object) => Err(ReadError::UnknownObject { object: *object }),
        Place::NoChunk(chunk) => Err(ReadError::UnknownChunk { chunk: *chunk }),
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
