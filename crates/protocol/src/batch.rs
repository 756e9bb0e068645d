//! The header of a v2 record batch (KIP-98): read, checked, and patched in place.

use bytes::{Bytes, BytesMut};

use alluvium_types::{ErrorCode, Millis, Offset, ProducerId};

use crate::compression::Codec;

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

impl BatchHeader {
    /// Reads the header at the start of `bytes` without checking the CRC. The batch may be cut
    /// short: [`Self::bytes`] says how long it is.
    ///
    /// # Errors
    /// Fewer than 61 bytes, an impossible length, or a magic other than 2.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let _ = bytes;
        todo!()
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// An unknown codec number.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        todo!()
    }

    /// Timestamps are the broker's (attribute bit 3).
    #[must_use]
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    /// Part of a transaction (attribute bit 4).
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// A control batch (attribute bit 5).
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

/// Checks a batch that a producer sent, `bytes` being exactly one whole batch: lengths, magic 2,
/// CRC32C, codec known, record count positive and equal to last offset delta + 1, producer fields
/// consistent, no control bit, no delete-horizon bit.
///
/// # Errors
/// As Kafka's `LogValidator` refuses.
pub fn check_produced(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let _ = bytes;
    todo!()
}

/// Splits a record set into its batches without copying.
///
/// # Errors
/// A length that does not fit, or a magic other than 2 (`UnsupportedForMessageFormat`).
pub fn split(records: &Bytes) -> Result<Vec<Bytes>, BatchError> {
    let _ = records;
    todo!()
}

/// The first 16 bytes of a batch under another base offset and leader epoch; the rest of the batch
/// follows unchanged, for these lie outside the CRC.
#[must_use]
pub fn patched_head(batch: &[u8; 16], base_offset: Offset, leader_epoch: i32) -> [u8; 16] {
    let _ = (batch, base_offset, leader_epoch);
    todo!()
}

/// Stamps a batch with the broker's time: attribute bit 3, max timestamp, new CRC.
pub fn stamp_log_append_time(batch: &mut BytesMut, now: Millis) {
    let _ = (batch, now);
    todo!()
}
