use proptest::prelude::*;

use super::*;
use crate::oracle::golden_batch as golden;
use crate::records::{BatchOptions, Record, encode};

/// A batch changed in its header and given a CRC that fits.
fn altered(change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut batch = BytesMut::from(&golden()[..]);
    change(&mut batch);
    seal(&mut batch);
    batch.freeze()
}

fn refused(batch: &Bytes) -> ErrorCode {
    check_produced(batch).unwrap_err().code
}

#[test]
fn a_batch_of_another_client_is_read() {
    let header = check_produced(&golden()).unwrap();
    let expected = BatchHeader {
        base_offset: 0,
        bytes: golden().len(),
        leader_epoch: 0,
        crc: 0x8809_99ed,
        attributes: 0,
        last_offset_delta: 1,
        base_timestamp: 1_700_000_000_000,
        max_timestamp: 1_700_000_000_005,
        producer_id: 7,
        producer_epoch: 1,
        base_sequence: 5,
        record_count: 2,
    };
    assert_eq!(header, expected);
    assert_eq!((header.last_offset(), header.last_sequence()), (1, 6));
    assert_eq!(header.codec(), Ok(Codec::None));
    assert_eq!(check_produced_set(Some(&golden()), 3), Ok(expected));
}

#[test]
fn sequences_wrap_to_zero() {
    let header = BatchHeader::parse(&golden()).unwrap();
    let header = BatchHeader {
        base_sequence: i32::MAX,
        ..header
    };
    assert_eq!(header.last_sequence(), 0);
    assert_eq!(
        BatchHeader {
            base_sequence: -1,
            ..header
        }
        .last_sequence(),
        -1
    );
}

#[test]
fn any_flipped_bit_is_noticed() {
    let batch = golden();
    // Base offset and leader epoch lie outside the CRC; of these only the offset is checked.
    for at in (0..12).chain(16..batch.len()) {
        for bit in 0..8 {
            let mut damaged = batch.to_vec();
            damaged[at] ^= 1 << bit;
            assert!(check_produced(&damaged).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn lies_in_the_header_are_refused_as_kafka_refuses_them() {
    use ErrorCode::{InvalidRecord, InvalidTimestamp, UnsupportedCompressionType};
    let cases: [(&str, usize, &[u8], ErrorCode); 12] = [
        ("base offset", 7, &[1], InvalidRecord),
        (
            "record count 0",
            RECORD_COUNT_AT,
            &[0, 0, 0, 0],
            InvalidRecord,
        ),
        ("negative count", RECORD_COUNT_AT, &[0xff; 4], InvalidRecord),
        (
            "count and delta",
            RECORD_COUNT_AT,
            &[0, 0, 0, 3],
            InvalidRecord,
        ),
        (
            "greatest delta",
            LAST_OFFSET_DELTA_AT,
            &[0x7f, 0xff, 0xff, 0xff],
            InvalidRecord,
        ),
        ("control", ATTRIBUTES_AT, &[0, 0x20], InvalidRecord),
        ("delete horizon", ATTRIBUTES_AT, &[0, 0x40], InvalidRecord),
        (
            "log append time",
            ATTRIBUTES_AT,
            &[0, 0x08],
            InvalidTimestamp,
        ),
        (
            "codec 5",
            ATTRIBUTES_AT,
            &[0, 0x05],
            UnsupportedCompressionType,
        ),
        ("no sequence", BASE_SEQUENCE_AT, &[0xff; 4], InvalidRecord),
        ("no epoch", PRODUCER_EPOCH_AT, &[0xff; 2], InvalidRecord),
        ("magic 3", MAGIC_AT, &[3], ErrorCode::CorruptMessage),
    ];
    for (what, at, bytes, code) in cases {
        assert_eq!(
            refused(&altered(|batch| put(batch, at, bytes))),
            code,
            "{what}"
        );
    }
    let orphan = altered(|batch| {
        put(batch, PRODUCER_ID_AT, &[0xff; 8]);
        put(batch, ATTRIBUTES_AT, &[0, 0x10]);
    });
    assert_eq!(
        refused(&orphan),
        InvalidRecord,
        "transactional without a producer"
    );
    let transactional = altered(|batch| put(batch, ATTRIBUTES_AT, &[0, 0x10]));
    assert!(check_produced(&transactional).unwrap().is_transactional());
}

#[test]
fn old_message_formats_are_refused() {
    for magic in [0, 1] {
        let old = altered(|batch| put(batch, MAGIC_AT, &[magic]));
        assert_eq!(refused(&old), ErrorCode::InvalidRecord);
        assert_eq!(
            refused(&old.slice(..30)),
            ErrorCode::InvalidRecord,
            "shorter than a v2 header"
        );
        assert_eq!(split(&old).unwrap_err().code, ErrorCode::InvalidRecord);
    }
}

#[test]
fn a_record_set_is_one_batch() {
    let two = Bytes::from([golden(), golden()].concat());
    let code = |set: Option<&Bytes>| check_produced_set(set, 9).unwrap_err().code;
    assert_eq!(code(Some(&two)), ErrorCode::InvalidRecord);
    assert_eq!(code(Some(&Bytes::new())), ErrorCode::InvalidRecord);
    assert_eq!(code(None), ErrorCode::InvalidRecord);
    assert_eq!(code(Some(&golden().slice(..70))), ErrorCode::CorruptMessage);
}

#[test]
fn zstd_needs_produce_version_7() {
    let options = BatchOptions {
        codec: Codec::Zstd,
        producer: None,
        transactional: false,
    };
    let batch = encode(&[Record::default()], options).unwrap();
    let error = check_produced_set(Some(&batch), 6).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedCompressionType);
    assert!(check_produced_set(Some(&batch), 7).is_ok());
}

#[test]
fn record_sets_split_without_copying() {
    let set = Bytes::from([golden(), golden(), golden()].concat());
    let batches = split(&set).unwrap();
    assert_eq!(batches, [golden(), golden(), golden()]);
    assert_eq!(batches[1].as_ptr(), set[golden().len()..].as_ptr());
    assert_eq!(split(&Bytes::new()), Ok(vec![]));
    for length in 1..set.len() {
        let whole = length % golden().len() == 0;
        assert_eq!(split(&set.slice(..length)).is_ok(), whole, "{length} bytes");
    }
}

#[test]
fn offsets_and_epochs_are_patched_outside_the_crc() {
    let batch = golden();
    let head = patched_head(batch[..16].try_into().unwrap(), 123_456_789_012, 42);
    let patched = [&head[..], &batch[16..]].concat();
    let header = BatchHeader::parse(&patched).unwrap();
    assert_eq!(
        (header.base_offset, header.leader_epoch),
        (123_456_789_012, 42)
    );
    assert_eq!(header.bytes, batch.len());
    assert_eq!(check_crc(&patched), Ok(()));
}

#[test]
fn log_append_time_is_stamped_with_a_new_crc() {
    let mut batch = BytesMut::from(&golden()[..]);
    stamp_log_append_time(&mut batch, 1_800_000_000_000);
    assert_eq!(check_crc(&batch), Ok(()));
    let header = BatchHeader::parse(&batch).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp, 1_800_000_000_000);
    assert_eq!(header.base_timestamp, 1_700_000_000_000);
    let records = crate::records::decode(&batch.freeze(), 1000).unwrap();
    assert!(
        records
            .iter()
            .all(|record| record.timestamp == 1_800_000_000_000)
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..150),
        magic in 0u8..4,
        length in any::<u8>(),
    ) {
        let mut bytes = bytes;
        for bytes in [bytes.clone(), {
            put(&mut bytes, 8, &[0, 0, 0, length]);
            put(&mut bytes, MAGIC_AT, &[magic]);
            seal(&mut bytes);
            bytes
        }] {
            let _ = check_produced(&bytes);
            let _ = split(&Bytes::from(bytes));
        }
        stamp_log_append_time(&mut BytesMut::new(), 1);
    }
}
