//! The records inside a batch, where somebody must look: by time, on recompression, in the tool.
//!
//! A batch's own header names its base offset; the callers that want offsets of the partition pass
//! batches whose header has been patched ([`crate::batch::patched_head`]).

mod build;
mod clean;
mod marker;
mod walk;

use bytes::Bytes;

use alluvium_types::limits::BATCH_HEADER_BYTES;
use alluvium_types::{ErrorCode, Millis, Offset};

use crate::batch::{BatchError, BatchHeader};
use crate::compression::decompress;

pub use build::{BatchOptions, encode, recompress};
pub use clean::{RecordView, Retained, UnpackedBatch};
pub use marker::Marker;
use walk::{RawRecord, Records};

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
    /// Its headers in order; a name may come more than once. Names that are not UTF-8 are shown
    /// with replacement characters.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// One whole batch with its records decompressed.
struct Opened {
    header: BatchHeader,
    payload: Bytes,
}

impl Opened {
    fn new(batch: &Bytes, limit: usize) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(batch)?;
        if header.bytes != batch.len() {
            return Err(BatchError::corrupt(format!(
                "the batch says it has {} bytes but {} are there",
                header.bytes,
                batch.len()
            )));
        }
        let payload = batch.slice(BATCH_HEADER_BYTES..);
        if payload.is_empty() && header.record_count == 0 {
            // Emptied by compaction; whatever the codec was, nothing is left to decompress.
            return Ok(Self { header, payload });
        }
        let payload = decompress(header.codec()?, &payload, limit)?;
        Ok(Self { header, payload })
    }

    fn records(&self) -> Records<'_> {
        Records::new(&self.payload, self.header.record_count)
    }

    fn offset(&self, record: &RawRecord) -> Offset {
        self.header
            .base_offset
            .saturating_add(i64::from(record.offset_delta))
    }

    fn timestamp(&self, record: &RawRecord) -> Millis {
        if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            self.header
                .base_timestamp
                .wrapping_add(record.timestamp_delta)
        }
    }
}

/// Decompresses (to at most `limit` bytes) and decodes the records of one whole batch. Keys and
/// values are slices of the decompressed bytes. The CRC is not looked at.
///
/// # Errors
/// Damaged data, counts that lie (`InvalidRecord`), or too many bytes (`MessageTooLarge`).
pub fn decode(batch: &Bytes, limit: usize) -> Result<Vec<Record>, BatchError> {
    let opened = Opened::new(batch, limit)?;
    let mut records = Vec::new();
    for raw in opened.records() {
        let raw = raw?;
        let mut headers = Vec::new();
        for header in raw.headers(&opened.payload) {
            let (name, value) = header?;
            let name = opened.payload.get(name).unwrap_or_default();
            let value = value.map(|range| opened.payload.slice(range));
            headers.push((String::from_utf8_lossy(name).into_owned(), value));
        }
        records.push(Record {
            offset: opened.offset(&raw),
            timestamp: opened.timestamp(&raw),
            key: raw.key.map(|range| opened.payload.slice(range)),
            value: raw.value.map(|range| opened.payload.slice(range)),
            headers,
        });
    }
    Ok(records)
}

/// What [`validate_records`] saw on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    /// Smallest timestamp among the records, those of -1 ("none") left out; -1 if there is none.
    pub min_timestamp: Millis,
    /// Greatest timestamp of the records. Kafka puts it into the header where that says otherwise.
    pub max_timestamp: Millis,
    /// Whether every record has a key, as a compacted topic demands.
    pub all_keyed: bool,
    /// Bytes of the records when decompressed.
    pub bytes: usize,
}

/// Checks the records of a batch whose header has been checked: as many as the header says, each
/// well-formed, offsets counting up from 0, nothing left over. Without compression nothing is
/// allocated.
///
/// # Errors
/// `InvalidRecord` for the records, `CorruptMessage` for damaged compression, `MessageTooLarge` when
/// they decompress to more than `limit` bytes.
pub fn validate_records(batch: &Bytes, limit: usize) -> Result<RecordsSummary, BatchError> {
    let opened = Opened::new(batch, limit)?;
    let mut summary = RecordsSummary {
        min_timestamp: -1,
        max_timestamp: -1,
        all_keyed: true,
        bytes: opened.payload.len(),
    };
    for (index, raw) in (0i32..).zip(opened.records()) {
        let raw = raw?;
        if raw.offset_delta != index {
            return Err(BatchError::invalid(format!(
                "record {index} has offset delta {}",
                raw.offset_delta
            )));
        }
        for header in raw.headers(&opened.payload) {
            header?;
        }
        let timestamp = opened.timestamp(&raw);
        if timestamp != -1 && (summary.min_timestamp == -1 || timestamp < summary.min_timestamp) {
            summary.min_timestamp = timestamp;
        }
        summary.max_timestamp = summary.max_timestamp.max(timestamp);
        summary.all_keyed &= raw.key.is_some();
    }
    Ok(summary)
}

/// Checks timestamps against `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`.
/// -1 is "no timestamp" and always within.
///
/// # Errors
/// `InvalidTimestamp`.
pub fn check_timestamps(
    min_and_max: (Millis, Millis),
    now: Millis,
    before_max_ms: i64,
    after_max_ms: i64,
) -> Result<(), BatchError> {
    let (min, max) = min_and_max;
    let earliest = now.saturating_sub(before_max_ms);
    let latest = now.saturating_add(after_max_ms);
    let out = [min, max]
        .into_iter()
        .find(|at| *at != -1 && !(earliest..=latest).contains(at));
    match out {
        None => Ok(()),
        Some(timestamp) => Err(BatchError::new(
            ErrorCode::InvalidTimestamp,
            format!("timestamp {timestamp} is not within [{earliest}, {latest}]"),
        )),
    }
}

/// The same without looking at the records: by the header's first and greatest timestamp. A record
/// in between that is older than the first is not seen.
///
/// # Errors
/// `InvalidTimestamp`.
pub fn timestamps_within(
    header: &BatchHeader,
    now: Millis,
    before_max_ms: i64,
    after_max_ms: i64,
) -> Result<(), BatchError> {
    let both = (header.base_timestamp, header.max_timestamp);
    check_timestamps(both, now, before_max_ms, after_max_ms)
}

/// The first record of a batch whose timestamp is `at` or later, as ListOffsets by time asks:
/// (offset, timestamp).
///
/// # Errors
/// As [`decode`].
pub fn first_at_or_after(
    batch: &Bytes,
    at: Millis,
    limit: usize,
) -> Result<Option<(Offset, Millis)>, BatchError> {
    let opened = Opened::new(batch, limit)?;
    if opened.header.max_timestamp < at {
        return Ok(None);
    }
    for raw in opened.records() {
        let raw = raw?;
        let timestamp = opened.timestamp(&raw);
        if timestamp >= at {
            return Ok(Some((opened.offset(&raw), timestamp)));
        }
    }
    Ok(None)
}

/// The first record that has the greatest timestamp of the batch (KIP-734): (offset, timestamp).
/// `None` for a batch that compaction has emptied.
///
/// # Errors
/// As [`decode`].
pub fn greatest_timestamp(
    batch: &Bytes,
    limit: usize,
) -> Result<Option<(Offset, Millis)>, BatchError> {
    let opened = Opened::new(batch, limit)?;
    let mut greatest: Option<(Offset, Millis)> = None;
    for raw in opened.records() {
        let raw = raw?;
        let timestamp = opened.timestamp(&raw);
        if greatest.is_none_or(|(_, known)| timestamp > known) {
            greatest = Some((opened.offset(&raw), timestamp));
        }
    }
    Ok(greatest)
}

#[cfg(test)]
mod tests;
