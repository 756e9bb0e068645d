//! Record batches, made and broken by hand.

use bytes::{BufMut, Bytes, BytesMut};

/// When the first record was made.
pub(crate) const TIME: i64 = 1_700_000_000_000;

/// A batch to be.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) values: Vec<Bytes>,
    pub(crate) attributes: i16,
    pub(crate) producer: (i64, i16),
    pub(crate) sequence: i32,
    /// Milliseconds of the first record; each is one later than the one before.
    pub(crate) time: i64,
}

impl Batch {
    /// `count` records that are told apart by their values.
    pub(crate) fn of(count: usize) -> Self {
        let values = (0..count)
            .map(|index| format!("value {index}").into())
            .collect();
        Self {
            values,
            attributes: 0,
            producer: (-1, -1),
            sequence: -1,
            time: TIME,
        }
    }

    pub(crate) fn sized(bytes: usize) -> Self {
        Self {
            values: vec![vec![b'x'; bytes].into()],
            ..Self::of(0)
        }
    }

    pub(crate) fn from(mut self, producer: (i64, i16), sequence: i32) -> Self {
        self.producer = producer;
        self.sequence = sequence;
        self
    }

    pub(crate) fn at(mut self, time: i64) -> Self {
        self.time = time;
        self
    }

    pub(crate) fn bytes(&self) -> Bytes {
        let last = i32::try_from(self.values.len()).unwrap() - 1;
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(0);
        batch.put_i32(-1);
        batch.put_i8(2);
        batch.put_u32(0);
        batch.put_i16(self.attributes);
        batch.put_i32(last);
        batch.put_i64(self.time);
        batch.put_i64(self.time + i64::from(last));
        batch.put_i64(self.producer.0);
        batch.put_i16(self.producer.1);
        batch.put_i32(self.sequence);
        batch.put_i32(last + 1);
        for (index, value) in (0..).zip(&self.values) {
            let mut record = BytesMut::new();
            record.put_i8(0);
            varint(&mut record, index);
            varint(&mut record, index);
            varint(&mut record, -1);
            varint(&mut record, i64::try_from(value.len()).unwrap());
            record.put_slice(value);
            varint(&mut record, 0);
            varint(&mut batch, i64::try_from(record.len()).unwrap());
            batch.put_slice(&record);
        }
        let length = u32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        sealed(batch)
    }

    /// The bytes with some of them changed, and the checksum right again.
    pub(crate) fn patched(&self, at: usize, bytes: &[u8]) -> Bytes {
        let mut batch = BytesMut::from(self.bytes());
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        sealed(batch)
    }

    /// The same with a checksum that is wrong.
    pub(crate) fn corrupt(&self) -> Bytes {
        let mut batch = BytesMut::from(self.bytes());
        let last = batch.len() - 2;
        batch[last] ^= 1;
        batch.freeze()
    }
}

fn sealed(mut batch: BytesMut) -> Bytes {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

fn varint(buffer: &mut BytesMut, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        buffer.put_u8(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    buffer.put_u8(u8::try_from(left).unwrap());
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A message set as clients wrote before version 3 of Produce: magic 0 or 1.
pub(crate) fn message_set(magic: u8) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(magic);
    message.put_u8(0);
    if magic == 1 {
        message.put_i64(TIME);
    }
    message.put_i32(-1);
    message.put_i32(5);
    message.put_slice(b"value");
    let mut set = BytesMut::new();
    set.put_i64(0);
    set.put_i32(i32::try_from(message.len()).unwrap() + 4);
    set.put_u32(crc32(&message));
    set.put_slice(&message);
    set.freeze()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// (base offset, record count) of every whole batch; what is behind the last one is to be nothing.
pub(crate) fn offsets(mut records: &[u8]) -> Vec<(i64, i32)> {
    let mut found = Vec::new();
    while !records.is_empty() {
        let base = i64::from_be_bytes(records[..8].try_into().unwrap());
        let length = i32::from_be_bytes(records[8..12].try_into().unwrap());
        let count = i32::from_be_bytes(records[57..61].try_into().unwrap());
        let end = 12 + usize::try_from(length).unwrap();
        assert!(end <= records.len(), "a batch is cut short");
        found.push((base, count));
        records = &records[end..];
    }
    found
}
