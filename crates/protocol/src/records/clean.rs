//! Takes records out of a batch, as log compaction does: what stays keeps its offset.

use bytes::Bytes;

use alluvium_types::{Millis, Offset};

use super::build::{assemble, length_number, number_bytes, put_number};
use super::{Opened, RawRecord};
use crate::batch::{BatchError, BatchHeader, DELETE_HORIZON_BIT};

/// A whole batch with its records decompressed, at its place in the partition.
pub struct UnpackedBatch {
    opened: Opened,
}

/// What compaction must know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Millis,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Whether it has no value: it says that the key is gone.
    pub is_tombstone: bool,
}

/// A batch from which records were taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The whole batch.
    pub bytes: Bytes,
    /// The greatest timestamp in it.
    pub max_timestamp: Millis,
}

impl std::fmt::Debug for UnpackedBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnpackedBatch")
            .field("header", &self.opened.header)
            .finish_non_exhaustive()
    }
}

impl UnpackedBatch {
    /// Decompresses one whole batch, to at most `limit` bytes. `base_offset` is where it lies in its
    /// partition, whatever its header says. The CRC is not looked at.
    ///
    /// # Errors
    /// As [`super::decode`].
    pub fn open(batch: &Bytes, base_offset: Offset, limit: usize) -> Result<Self, BatchError> {
        let mut opened = Opened::new(batch, limit)?;
        opened.header.base_offset = base_offset;
        Ok(Self { opened })
    }

    /// The header, with the batch's place in its partition.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.opened.header
    }

    /// The records in their order. An error is the last item.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordView<'_>, BatchError>> {
        let mut before = -1;
        self.opened.records().map(move |raw| {
            let raw = raw?;
            self.checked(&raw, before)?;
            before = raw.offset_delta;
            Ok(self.view(&raw))
        })
    }

    fn checked(&self, raw: &RawRecord, before: i32) -> Result<(), BatchError> {
        let delta = raw.offset_delta;
        if delta <= before || delta > self.opened.header.last_offset_delta {
            return Err(BatchError::invalid(format!(
                "a record with offset delta {delta} after {before}, the batch ends with {}",
                self.opened.header.last_offset_delta
            )));
        }
        Ok(())
    }

    fn view(&self, raw: &RawRecord) -> RecordView<'_> {
        let payload = &self.opened.payload;
        let key = raw.key.clone();
        RecordView {
            offset: self.opened.offset(raw),
            timestamp: self.opened.timestamp(raw),
            key: key.map(|range| payload.get(range).unwrap_or_default()),
            is_tombstone: raw.value.is_none(),
        }
    }

    /// The batch with those records that `keep` wants, in its order; `None` when it wants none.
    /// Offsets, timestamps, codec, producer and sequence stay what they were, and so does the
    /// offset that the batch ends with. `delete_horizon` is set unless there is one already.
    ///
    /// # Errors
    /// As [`super::decode`]; or the codec's.
    pub fn retain(
        &self,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
        delete_horizon: Option<Millis>,
    ) -> Result<Option<Retained>, BatchError> {
        let old = self.opened.header;
        let mut header = old;
        if let (Some(horizon), None) = (delete_horizon, old.delete_horizon()) {
            header.attributes |= DELETE_HORIZON_BIT;
            header.base_timestamp = horizon;
        }
        let mut payload = Vec::new();
        let mut max_timestamp = Millis::MIN;
        header.record_count = 0;
        for raw in self.opened.records() {
            let raw = raw?;
            let view = self.view(&raw);
            if !keep(&view) {
                continue;
            }
            max_timestamp = max_timestamp.max(view.timestamp);
            header.record_count += 1;
            if header.base_timestamp == old.base_timestamp {
                payload.extend_from_slice(self.bytes(raw.whole));
            } else {
                // The delta wraps as it does where it is read.
                let timestamp = old.base_timestamp.wrapping_add(raw.timestamp_delta);
                let delta = timestamp.wrapping_sub(header.base_timestamp);
                self.copy_with_delta(&mut payload, &raw, delta)?;
            }
        }
        if header.record_count == 0 {
            return Ok(None);
        }
        if !header.is_log_append_time() {
            header.max_timestamp = max_timestamp;
        }
        let codec = header.codec()?;
        Ok(Some(Retained {
            bytes: assemble(header, codec, &payload)?,
            max_timestamp: header.max_timestamp,
        }))
    }

    fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.opened.payload.get(range).unwrap_or_default()
    }

    fn copy_with_delta(
        &self,
        out: &mut Vec<u8>,
        raw: &RawRecord,
        delta: i64,
    ) -> Result<(), BatchError> {
        let rest = self.bytes(raw.after_timestamp..raw.whole.end);
        let length = 1 + number_bytes(delta) + rest.len();
        put_number(out, length_number(length)?);
        // The record's attributes have no meaning so far.
        out.push(0);
        put_number(out, delta);
        out.extend_from_slice(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BatchOptions, Record, decode, encode};
    use super::*;
    use crate::batch::check_crc;
    use crate::compression::Codec;

    const LIMIT: usize = 1 << 20;

    fn record() -> impl Strategy<Value = Record> {
        let field = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
        (field(), field(), 0i64..1_000_000, field()).prop_map(|(key, value, timestamp, header)| {
            Record {
                offset: 0,
                timestamp,
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: vec![("name".to_owned(), header.map(Bytes::from))],
            }
        })
    }

    proptest! {
        #[test]
        fn what_stays_is_as_it_was(
            records in proptest::collection::vec((record(), any::<bool>()), 1..30),
            codec in proptest::sample::select(Codec::ALL.to_vec()),
            horizon in proptest::option::of(0i64..2_000_000_000),
            base_offset in 0i64..1 << 40,
        ) {
            let (records, kept): (Vec<_>, Vec<_>) = records.into_iter().unzip();
            let options = BatchOptions { codec, producer: Some((7, 1, 30)), transactional: false };
            let batch = encode(&records, options).unwrap();
            let unpacked = UnpackedBatch::open(&batch, base_offset, LIMIT).unwrap();
            let wanted = |offset: Offset| kept[usize::try_from(offset - base_offset).unwrap()];
            let retained = unpacked.retain(|view| wanted(view.offset), horizon).unwrap();
            let expected: Vec<Record> = records
                .into_iter()
                .zip(base_offset..)
                .map(|(record, offset)| Record { offset, ..record })
                .filter(|record| wanted(record.offset))
                .collect();
            let Some(retained) = retained else {
                prop_assert!(expected.is_empty());
                return Ok(());
            };
            prop_assert!(check_crc(&retained.bytes).is_ok());
            let header = BatchHeader::parse(&retained.bytes).unwrap();
            prop_assert_eq!(decode(&retained.bytes, LIMIT).unwrap(), expected);
            prop_assert_eq!(header.delete_horizon(), horizon);
            prop_assert_eq!(header.last_offset(), unpacked.header().last_offset());
            prop_assert_eq!(header.codec().unwrap(), codec);
            prop_assert_eq!((header.producer_id, header.base_sequence), (7, 30));
            prop_assert_eq!(header.max_timestamp, retained.max_timestamp);
            // A horizon that was set stays, and the batch can be cleaned again.
            let again = UnpackedBatch::open(&retained.bytes, base_offset, LIMIT).unwrap();
            let same = again.retain(|_| true, Some(1)).unwrap().unwrap();
            let horizon = horizon.or(Some(1));
            prop_assert_eq!(BatchHeader::parse(&same.bytes).unwrap().delete_horizon(), horizon);
            prop_assert_eq!(
                decode(&same.bytes, LIMIT).unwrap(),
                decode(&retained.bytes, LIMIT).unwrap()
            );
        }
    }

    #[test]
    fn offsets_that_go_back_are_refused() {
        let one = Record {
            key: Some(Bytes::from_static(b"k")),
            ..Record::default()
        };
        let options = BatchOptions {
            codec: Codec::None,
            producer: None,
            transactional: false,
        };
        let batch = encode(&[one.clone(), one], options).unwrap();
        let mut wrong = batch.to_vec();
        // The second record's offset delta, behind its length, attributes and timestamp.
        let at = 61 + (batch.len() - 61) / 2 + 3;
        wrong[at] = 0;
        let unpacked = UnpackedBatch::open(&Bytes::from(wrong), 5, LIMIT).unwrap();
        assert!(unpacked.records().last().unwrap().is_err());
    }
}
