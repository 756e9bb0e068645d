//! Control batches: the markers that end a transaction in a partition.
//!
//! One record batch of magic 2 with the transactional and the control bit, of 78 bytes: the header (61
//! bytes), and a record whose key is a version (0) and the type (0 abort, 1 commit), and whose value is a
//! version (0) and the coordinator's epoch (KIP-98, `EndTxnMarker.json`). Transactions have no
//! coordinator with an epoch here; it is 0.

use alluvium_types::{Millis, ProducerId};
use bytes::{BufMut, Bytes, BytesMut};

/// Length of a marker.
const BYTES: usize = 78;

/// Where the checksum is, and from where on it counts.
const CRC_AT: usize = 17;
const CHECKED_FROM: usize = 21;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The marker with which a producer's transaction is committed or aborted, at offset 0.
pub(crate) fn marker(producer: ProducerId, epoch: i16, commit: bool, at: Millis) -> Bytes {
    let mut batch = BytesMut::with_capacity(BYTES);
    batch.put_i64(0);
    // What follows the length.
    batch.put_i32(66);
    batch.put_i32(0);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(TRANSACTIONAL | CONTROL);
    // Offset of the last record, and the two timestamps.
    batch.put_i32(0);
    batch.put_i64(at);
    batch.put_i64(at);
    batch.put_i64(producer);
    batch.put_i16(epoch);
    // No sequence, one record.
    batch.put_i32(-1);
    batch.put_i32(1);
    // Length 16, attributes, timestamp and offset deltas, then a key of 4 bytes; lengths are zigzag.
    batch.put_slice(&[32, 0, 0, 0, 8]);
    batch.put_i16(0);
    batch.put_i16(i16::from(commit));
    // A value of 6 bytes, and no headers behind it.
    batch.put_u8(12);
    batch.put_i16(0);
    batch.put_i32(0);
    batch.put_u8(0);
    let crc = crc_fast::crc32_iscsi(batch.get(CHECKED_FROM..).unwrap_or_default());
    if let Some(place) = batch.get_mut(CRC_AT..CHECKED_FROM) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_as_long_as_it_says() {
        let marker = marker(7, 3, true, 1_700_000_000_000);
        assert_eq!(marker.len(), BYTES);
        assert_eq!(usize::from(marker[11]) + 12, BYTES);
    }
}
