//! The records inside a batch, where somebody must look: by time, on recompression, in the tool.

use bytes::Bytes;

use alluvium_types::{Millis, Offset};

use crate::batch::BatchError;
use crate::compression::Codec;

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its timestamp (the broker's, where the batch says so).
    pub timestamp: Millis,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers in order; a name may come more than once.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Decompresses (to at most `limit` bytes) and decodes the records of one whole batch.
///
/// # Errors
/// Damaged data, counts that lie, or too many bytes.
pub fn decode(batch: &Bytes, limit: usize) -> Result<Vec<Record>, BatchError> {
    let _ = (batch, limit);
    todo!()
}

/// What a new batch's header says besides its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Codec of the records.
    pub codec: Codec,
    /// (producer id, epoch, base sequence) of an idempotent producer.
    pub producer: Option<(i64, i16, i32)>,
    /// Part of a transaction.
    pub transactional: bool,
}

/// Builds a batch; the records' offsets are ignored and count from 0.
///
/// # Errors
/// No records, or the codec's error.
pub fn encode(records: &[Record], options: BatchOptions) -> Result<Bytes, BatchError> {
    let _ = (records, options);
    todo!()
}

/// The same batch with its records in another codec, everything else (offsets, timestamps,
/// producer, sequence) kept.
///
/// # Errors
/// As [`decode`].
pub fn recompress(batch: &Bytes, codec: Codec, limit: usize) -> Result<Bytes, BatchError> {
    let _ = (batch, codec, limit);
    todo!()
}
