//! The header of a v2 record batch (KIP-98): read, checked, and patched in place.

use bytes::{Bytes, BytesMut};

use alluvium_types::limits::BATCH_HEADER_BYTES;
use alluvium_types::{ErrorCode, Millis, Offset, ProducerId};

use crate::compression::Codec;

// Where the header's fields begin.
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

/// Bytes that the length field does not count: the base offset and itself.
const UNCOUNTED_BYTES: usize = 12;

pub(crate) const CODEC_BITS: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(crate) const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
pub(crate) const DELETE_HORIZON_BIT: i16 = 0x40;

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Length of the whole batch in bytes, the first 12 included.
    pub bytes: usize,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// CRC32C over everything from the attributes on.
    pub crc: u32,
    /// Attribute bits.
    pub attributes: i16,
    /// Offset of the last record, counted from the first.
    pub last_offset_delta: i32,
    /// Timestamp of the first record.
    pub base_timestamp: Millis,
    /// Greatest timestamp.
    pub max_timestamp: Millis,
    /// -1 for none.
    pub producer_id: ProducerId,
    /// -1 for none.
    pub producer_epoch: i16,
    /// -1 for none.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

/// Why a batch is refused: the protocol's code and the reason for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct BatchError {
    /// The protocol's code.
    pub code: ErrorCode,
    /// What was wrong.
    pub reason: String,
}

impl BatchError {
    pub(crate) fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    pub(crate) fn corrupt(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::CorruptMessage, reason)
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRecord, reason)
    }
}

/// The `N` bytes at `at`. The callers have checked that the header is there; zeros otherwise.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

impl BatchHeader {
    /// Reads the header at the start of `bytes` without checking the CRC. The batch may be cut
    /// short: [`Self::bytes`] says how long it is.
    ///
    /// # Errors
    /// Fewer than 61 bytes or an impossible length (`CorruptMessage`); a magic of 0 or 1
    /// (`InvalidRecord`, as Kafka refuses old formats from Produce version 3 on) or an unknown one
    /// (`CorruptMessage`).
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic byte is at the same place in every format, and old batches may be shorter.
        match bytes.get(MAGIC_AT) {
            None | Some(2) => {}
            Some(magic @ (0 | 1)) => {
                return Err(BatchError::invalid(format!(
                    "message format {magic} is not accepted, only record batches with magic 2"
                )));
            }
            Some(magic) => {
                return Err(BatchError::corrupt(format!("unknown magic {magic}")));
            }
        }
        if bytes.len() < BATCH_HEADER_BYTES {
            return Err(BatchError::corrupt(format!(
                "{} bytes are too few for a batch header of {BATCH_HEADER_BYTES}",
                bytes.len()
            )));
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            bytes: batch_bytes(bytes)?,
            leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(field(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(bytes, RECORD_COUNT_AT)),
        })
    }

    /// Writes the header into the first 61 bytes of `batch`, all but the CRC, which
    /// [`seal`] computes.
    pub(crate) fn write(&self, batch: &mut [u8]) {
        let length = self.bytes.saturating_sub(UNCOUNTED_BYTES);
        put(batch, 0, &self.base_offset.to_be_bytes());
        put(
            batch,
            LENGTH_AT,
            &i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes(),
        );
        put(batch, LEADER_EPOCH_AT, &self.leader_epoch.to_be_bytes());
        put(batch, MAGIC_AT, &[2]);
        put(batch, ATTRIBUTES_AT, &self.attributes.to_be_bytes());
        put(
            batch,
            LAST_OFFSET_DELTA_AT,
            &self.last_offset_delta.to_be_bytes(),
        );
        put(batch, BASE_TIMESTAMP_AT, &self.base_timestamp.to_be_bytes());
        put(batch, MAX_TIMESTAMP_AT, &self.max_timestamp.to_be_bytes());
        put(batch, PRODUCER_ID_AT, &self.producer_id.to_be_bytes());
        put(batch, PRODUCER_EPOCH_AT, &self.producer_epoch.to_be_bytes());
        put(batch, BASE_SEQUENCE_AT, &self.base_sequence.to_be_bytes());
        put(batch, RECORD_COUNT_AT, &self.record_count.to_be_bytes());
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// An unknown codec number (`UnsupportedCompressionType`).
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_number(self.attributes & CODEC_BITS).ok_or_else(|| {
            BatchError::new(
                ErrorCode::UnsupportedCompressionType,
                format!("unknown compression codec {}", self.attributes & CODEC_BITS),
            )
        })
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence number of the last record; it wraps from `i32::MAX` to 0. -1 for none.
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            -1
        } else {
            self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
        }
    }

    /// Timestamps are the broker's (attribute bit 3).
    #[must_use]
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Part of a transaction (attribute bit 4).
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// A control batch (attribute bit 5).
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// From when on its tombstones may go (KIP-534, attribute bit 6): compaction puts this time in the
    /// place of the base timestamp when it first meets them.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<Millis> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    fn check_produced(&self) -> Result<(), BatchError> {
        self.codec()?;
        if self.base_offset != 0 {
            return Err(BatchError::invalid(format!(
                "the base offset of a produced batch must be 0, not {}",
                self.base_offset
            )));
        }
        if self.record_count <= 0 {
            return Err(BatchError::invalid(format!(
                "record count {}",
                self.record_count
            )));
        }
        if i64::from(self.record_count) != i64::from(self.last_offset_delta) + 1 {
            return Err(BatchError::invalid(format!(
                "record count {} with last offset delta {}",
                self.record_count, self.last_offset_delta
            )));
        }
        if self.is_control() {
            return Err(BatchError::invalid("clients may not write control batches"));
        }
        if self.attributes & DELETE_HORIZON_BIT != 0 {
            return Err(BatchError::invalid(
                "clients may not set the delete horizon",
            ));
        }
        if self.is_log_append_time() {
            return Err(BatchError::new(
                ErrorCode::InvalidTimestamp,
                "producers may not set the timestamp type to LogAppendTime",
            ));
        }
        self.check_producer()
    }

    fn check_producer(&self) -> Result<(), BatchError> {
        if self.producer_id < 0 {
            if self.is_transactional() {
                return Err(BatchError::invalid(
                    "a transactional batch without a producer id",
                ));
            }
            return Ok(());
        }
        if self.producer_epoch < 0 || self.base_sequence < 0 {
            return Err(BatchError::invalid(format!(
                "producer id {} with epoch {} and sequence {}",
                self.producer_id, self.producer_epoch, self.base_sequence
            )));
        }
        Ok(())
    }
}

/// The length of the batch whose header begins `bytes`.
fn batch_bytes(bytes: &[u8]) -> Result<usize, BatchError> {
    let length = i32::from_be_bytes(field(bytes, LENGTH_AT));
    usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(UNCOUNTED_BYTES))
        .filter(|bytes| *bytes >= BATCH_HEADER_BYTES)
        .ok_or_else(|| BatchError::corrupt(format!("impossible batch length {length}")))
}

fn put(batch: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = batch.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// CRC32C over everything from the attributes on.
fn checksum(batch: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(batch.get(ATTRIBUTES_AT..).unwrap_or_default())
}

/// Fills in the CRC of a batch that is otherwise complete.
pub(crate) fn seal(batch: &mut [u8]) {
    let crc = checksum(batch);
    put(batch, CRC_AT, &crc.to_be_bytes());
}

/// Checks the CRC of one whole batch.
///
/// # Errors
/// `CorruptMessage`.
pub fn check_crc(batch: &[u8]) -> Result<(), BatchError> {
    let (found, stated) = (checksum(batch), u32::from_be_bytes(field(batch, CRC_AT)));
    if found == stated {
        Ok(())
    } else {
        Err(BatchError::corrupt(format!(
            "the CRC is {found:#010x}, the header says {stated:#010x}"
        )))
    }
}

/// Checks a batch that a producer sent, `bytes` being exactly one whole batch: lengths, magic 2,
/// CRC32C, codec known, base offset 0, record count positive and equal to last offset delta + 1,
/// producer fields consistent, timestamps the producer's, no control bit, no delete-horizon bit.
/// The records inside are for [`crate::records::validate_records`].
///
/// # Errors
/// As Kafka refuses: `CorruptMessage` for lengths and CRC, `UnsupportedCompressionType`,
/// `InvalidTimestamp` for a claim of LogAppendTime, `InvalidRecord` for the rest.
pub fn check_produced(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    if header.bytes != bytes.len() {
        return Err(BatchError::corrupt(format!(
            "the batch says it has {} bytes but {} are there",
            header.bytes,
            bytes.len()
        )));
    }
    check_crc(bytes)?;
    header.check_produced()?;
    Ok(header)
}

/// Checks a partition's whole record set as Produce of this version carries it: exactly one batch,
/// checked by [`check_produced`], with zstd only from version 7 on (KIP-110).
///
/// # Errors
/// As [`check_produced`]; `InvalidRecord` for none or more than one batch.
pub fn check_produced_set(
    records: Option<&Bytes>,
    api_version: i16,
) -> Result<BatchHeader, BatchError> {
    let Some(records) = records.filter(|records| !records.is_empty()) else {
        return Err(BatchError::invalid("no record batch for the partition"));
    };
    let header = BatchHeader::parse(records)?;
    if api_version < 7 && header.codec()? == Codec::Zstd {
        return Err(BatchError::new(
            ErrorCode::UnsupportedCompressionType,
            format!("zstd needs Produce version 7, this is version {api_version}"),
        ));
    }
    if header.bytes < records.len() {
        return Err(BatchError::invalid(
            "more than one record batch for the partition",
        ));
    }
    check_produced(records)
}

/// Splits a record set into its batches without copying. An empty set has none.
///
/// # Errors
/// A length that does not fit (`CorruptMessage`), or a magic other than 2 (`InvalidRecord`).
pub fn split(records: &Bytes) -> Result<Vec<Bytes>, BatchError> {
    let mut batches = Vec::new();
    let mut rest = records.clone();
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest)?;
        if header.bytes > rest.len() {
            return Err(BatchError::corrupt(format!(
                "a batch of {} bytes with {} bytes left",
                header.bytes,
                rest.len()
            )));
        }
        batches.push(rest.split_to(header.bytes));
    }
    Ok(batches)
}

/// The first 16 bytes of a batch under another base offset and leader epoch; the rest of the batch
/// follows unchanged, for these lie outside the CRC.
#[must_use]
pub fn patched_head(batch: &[u8; 16], base_offset: Offset, leader_epoch: i32) -> [u8; 16] {
    let mut head = *batch;
    put(&mut head, 0, &base_offset.to_be_bytes());
    put(&mut head, LEADER_EPOCH_AT, &leader_epoch.to_be_bytes());
    head
}

/// Stamps a batch with the broker's time: attribute bit 3, max timestamp, new CRC.
pub fn stamp_log_append_time(batch: &mut BytesMut, now: Millis) {
    let attributes = i16::from_be_bytes(field(batch, ATTRIBUTES_AT)) | LOG_APPEND_TIME_BIT;
    put(batch, ATTRIBUTES_AT, &attributes.to_be_bytes());
    set_max_timestamp(batch, now);
}

/// Sets the greatest timestamp, with a new CRC. Kafka does so where a producer's header does not
/// agree with its records.
pub fn set_max_timestamp(batch: &mut BytesMut, max_timestamp: Millis) {
    put(batch, MAX_TIMESTAMP_AT, &max_timestamp.to_be_bytes());
    seal(batch);
}

#[cfg(test)]
mod tests;
