//! Builds batches: from records, and from a batch in another codec.

use bytes::{BufMut, Bytes, BytesMut};

use alluvium_types::limits::BATCH_HEADER_BYTES;

use super::{Opened, Record};
use crate::batch::{BatchError, BatchHeader, CODEC_BITS, TRANSACTIONAL_BIT, seal};
use crate::compression::{Codec, compress};

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
/// No records, more than an `int32` counts, or the codec's error.
pub fn encode(records: &[Record], options: BatchOptions) -> Result<Bytes, BatchError> {
    let Some(first) = records.first() else {
        return Err(BatchError::invalid("a batch needs a record"));
    };
    let too_many = |_| BatchError::invalid(format!("{} records are too many", records.len()));
    let record_count = i32::try_from(records.len()).map_err(too_many)?;
    let mut payload = Vec::with_capacity(records.iter().map(estimate).sum());
    for (offset_delta, record) in (0i64..).zip(records) {
        write_record(&mut payload, offset_delta, first.timestamp, record)?;
    }
    let (producer_id, producer_epoch, base_sequence) = options.producer.unwrap_or((-1, -1, -1));
    let transactional = if options.transactional {
        TRANSACTIONAL_BIT
    } else {
        0
    };
    let header = BatchHeader {
        base_offset: 0,
        bytes: 0,
        leader_epoch: -1,
        crc: 0,
        attributes: options.codec.number() | transactional,
        last_offset_delta: record_count - 1,
        base_timestamp: first.timestamp,
        max_timestamp: records
            .iter()
            .map(|record| record.timestamp)
            .max()
            .unwrap_or(-1),
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
    };
    assemble(header, options.codec, &payload)
}

/// The same batch with its records in another codec, everything else (offsets, timestamps,
/// producer, sequence) kept.
///
/// # Errors
/// As [`super::decode`].
pub fn recompress(batch: &Bytes, codec: Codec, limit: usize) -> Result<Bytes, BatchError> {
    let Opened {
        mut header,
        payload,
    } = Opened::new(batch, limit)?;
    header.attributes = (header.attributes & !CODEC_BITS) | codec.number();
    assemble(header, codec, &payload)
}

/// Puts the header in front of the compressed records; its length and CRC are filled in here.
pub(super) fn assemble(
    mut header: BatchHeader,
    codec: Codec,
    payload: &[u8],
) -> Result<Bytes, BatchError> {
    let compressed;
    let payload = if codec == Codec::None {
        payload
    } else {
        compressed = compress(codec, payload)?;
        &compressed[..]
    };
    header.bytes = BATCH_HEADER_BYTES + payload.len();
    if i32::try_from(header.bytes).is_err() {
        return Err(BatchError::invalid(format!(
            "a batch of {} bytes",
            header.bytes
        )));
    }
    let mut batch = BytesMut::with_capacity(header.bytes);
    batch.put_bytes(0, BATCH_HEADER_BYTES);
    header.write(&mut batch);
    batch.put_slice(payload);
    seal(&mut batch);
    Ok(batch.freeze())
}

/// Bytes of a record in a batch without compression, at most.
fn estimate(record: &Record) -> usize {
    // Seven numbers of the record, two of each header, all of ten bytes or fewer.
    let headers = record
        .headers
        .iter()
        .map(|(name, value)| 10 + name.len() + value.as_ref().map_or(0, Bytes::len));
    40 + record.key.as_ref().map_or(0, Bytes::len)
        + record.value.as_ref().map_or(0, Bytes::len)
        + headers.sum::<usize>()
}

fn write_record(
    out: &mut Vec<u8>,
    offset_delta: i64,
    base_timestamp: i64,
    record: &Record,
) -> Result<(), BatchError> {
    let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
    let length = 1
        + number_bytes(timestamp_delta)
        + number_bytes(offset_delta)
        + field_bytes(record.key.as_deref())?
        + field_bytes(record.value.as_deref())?
        + number_bytes(length_number(record.headers.len())?)
        + record.headers.iter().try_fold(0, |sum, (name, value)| {
            Ok(sum + field_bytes(Some(name.as_bytes()))? + field_bytes(value.as_deref())?)
        })?;
    put_number(out, length_number(length)?);
    out.push(0);
    put_number(out, timestamp_delta);
    put_number(out, offset_delta);
    put_field(out, record.key.as_deref())?;
    put_field(out, record.value.as_deref())?;
    put_number(out, length_number(record.headers.len())?);
    for (name, value) in &record.headers {
        put_field(out, Some(name.as_bytes()))?;
        put_field(out, value.as_deref())?;
    }
    Ok(())
}

pub(super) fn length_number(length: usize) -> Result<i64, BatchError> {
    i32::try_from(length)
        .map(i64::from)
        .map_err(|_| BatchError::invalid(format!("{length} does not fit into a record")))
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(super) fn number_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(10)
}

pub(super) fn put_number(out: &mut Vec<u8>, value: i64) {
    let mut value = zigzag(value);
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn field_bytes(field: Option<&[u8]>) -> Result<usize, BatchError> {
    match field {
        None => Ok(1),
        Some(bytes) => Ok(number_bytes(length_number(bytes.len())?) + bytes.len()),
    }
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) -> Result<(), BatchError> {
    match field {
        None => put_number(out, -1),
        Some(bytes) => {
            put_number(out, length_number(bytes.len())?);
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}
