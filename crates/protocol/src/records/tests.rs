use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::*;

use super::*;
use crate::batch::{self, check_crc, check_produced};
use crate::compression::Codec;
use crate::oracle::golden_batch as golden;

const LIMIT: usize = 1 << 20;
const PLAIN: BatchOptions = BatchOptions {
    codec: Codec::None,
    producer: None,
    transactional: false,
};

fn record(offset: i64, timestamp: i64) -> Record {
    Record {
        offset,
        timestamp,
        value: Some(Bytes::from_static(b"value")),
        ..Record::default()
    }
}

/// A batch around record bytes that may be anything.
fn around(payload: &[u8], record_count: i32) -> Bytes {
    let header = BatchHeader::parse(&golden()).unwrap();
    let header = BatchHeader {
        bytes: BATCH_HEADER_BYTES + payload.len(),
        record_count,
        last_offset_delta: record_count.saturating_sub(1),
        ..header
    };
    let mut batch = vec![0; BATCH_HEADER_BYTES];
    header.write(&mut batch);
    batch.extend_from_slice(payload);
    batch::seal(&mut batch);
    Bytes::from(batch)
}

fn records(timestamps: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<Record>> {
    let bytes = || {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from))
    };
    let headers = proptest::collection::vec(("[a-zé]{0,6}", bytes()), 0..4);
    let record = (timestamps, bytes(), bytes(), headers);
    proptest::collection::vec(record, 1..20).prop_map(|records| {
        let numbered = (0..).zip(records);
        let record = |(offset, (timestamp, key, value, headers))| Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        };
        numbered.map(record).collect()
    })
}

fn codec() -> impl Strategy<Value = Codec> {
    (0i16..5).prop_map(|number| Codec::from_number(number).unwrap())
}

#[test]
fn records_of_another_client_are_read() {
    let records = decode(&golden(), LIMIT).unwrap();
    let first = Record {
        offset: 0,
        timestamp: 1_700_000_000_000,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"v")),
        headers: vec![
            ("h".to_owned(), Some(Bytes::from_static(b"1"))),
            ("h".to_owned(), None),
        ],
    };
    let second = Record {
        offset: 1,
        timestamp: 1_700_000_000_005,
        value: Some(Bytes::new()),
        ..Record::default()
    };
    assert_eq!(records, [first, second]);
    let summary = validate_records(&golden(), LIMIT).unwrap();
    let expected = RecordsSummary {
        min_timestamp: 1_700_000_000_000,
        max_timestamp: 1_700_000_000_005,
        all_keyed: false,
        bytes: golden().len() - BATCH_HEADER_BYTES,
    };
    assert_eq!(summary, expected);
}

#[test]
fn writing_the_golden_records_gives_the_golden_bytes() {
    let options = BatchOptions {
        codec: Codec::None,
        producer: Some((7, 1, 5)),
        transactional: false,
    };
    let ours = encode(&decode(&golden(), LIMIT).unwrap(), options).unwrap();
    // But for the leader epoch, which is -1 from a producer here and 0 from that client.
    assert_eq!(ours[16..], golden()[16..]);
}

#[test]
fn counts_that_lie_are_refused() {
    let payload = golden().slice(BATCH_HEADER_BYTES..);
    for count in [1, 3, 1000, i32::MAX] {
        let batch = around(&payload, count);
        assert!(
            check_produced(&batch).is_ok(),
            "the header alone is in order"
        );
        let error = validate_records(&batch, LIMIT).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRecord, "count {count}");
        assert_eq!(
            decode(&batch, LIMIT).unwrap_err().code,
            ErrorCode::InvalidRecord
        );
    }
    assert!(validate_records(&around(&payload, 2), LIMIT).is_ok());
}

#[test]
fn malformed_records_are_refused() {
    // Length, attributes, timestamp delta, offset delta, key, value, headers; numbers are zigzag.
    let cases: [(&str, &[u8]); 10] = [
        ("good", &[12, 0, 0, 0, 1, 1, 0]),
        ("empty", &[0]),
        ("negative length", &[1]),
        ("longer than the batch", &[40, 0, 0, 0, 1, 1, 0]),
        ("bytes left over in the record", &[14, 0, 0, 0, 1, 1, 0, 9]),
        ("key beyond the record", &[12, 0, 0, 0, 80, 1, 0]),
        ("key length -2", &[12, 0, 0, 0, 3, 1, 0]),
        ("a million headers", &[16, 0, 0, 0, 1, 1, 0x80, 0x89, 0x7a]),
        ("header without a name", &[16, 0, 0, 0, 1, 1, 2, 1, 1]),
        ("offset delta 1", &[12, 0, 0, 2, 1, 1, 0]),
    ];
    for (index, (what, payload)) in cases.into_iter().enumerate() {
        let checked = validate_records(&around(payload, 1), LIMIT);
        assert_eq!(checked.is_ok(), index == 0, "{what}: {checked:?}");
    }
}

#[test]
fn bombs_are_refused() {
    let large = Record {
        value: Some(Bytes::from(vec![0; LIMIT])),
        ..Record::default()
    };
    for codec in Codec::ALL {
        let batch = encode(
            std::slice::from_ref(&large),
            BatchOptions { codec, ..PLAIN },
        )
        .unwrap();
        let error = validate_records(&batch, LIMIT).unwrap_err();
        assert_eq!(error.code, ErrorCode::MessageTooLarge, "{codec:?}");
        assert!(validate_records(&batch, LIMIT + 100).is_ok());
    }
}

#[test]
fn timestamps_out_of_range_are_refused() {
    let code = |min, max, before, after| {
        check_timestamps((min, max), 1000, before, after)
            .err()
            .map(|error| error.code)
    };
    assert_eq!(code(900, 1100, 100, 100), None);
    assert_eq!(code(899, 1100, 100, 100), Some(ErrorCode::InvalidTimestamp));
    assert_eq!(code(900, 1101, 100, 100), Some(ErrorCode::InvalidTimestamp));
    assert_eq!(code(-1, -1, 100, 100), None, "no timestamp");
    assert_eq!(
        code(0, i64::MAX, i64::MAX, i64::MAX),
        None,
        "Kafka's defaults"
    );
    let header = BatchHeader::parse(&golden()).unwrap();
    assert!(timestamps_within(&header, 1_700_000_000_010, 10, 0).is_ok());
    assert!(timestamps_within(&header, 1_700_000_000_010, 9, 0).is_err());
}

#[test]
fn records_are_found_by_time() {
    let times = [50, 10, 70, 70, 60];
    let records: Vec<_> = (0..)
        .zip(times)
        .map(|(offset, at)| record(offset, at))
        .collect();
    for codec in Codec::ALL {
        let batch = encode(&records, BatchOptions { codec, ..PLAIN }).unwrap();
        let find = |at| first_at_or_after(&batch, at, LIMIT).unwrap();
        assert_eq!(find(0), Some((0, 50)));
        assert_eq!(find(51), Some((2, 70)));
        assert_eq!(find(71), None);
        assert_eq!(greatest_timestamp(&batch, LIMIT), Ok(Some((2, 70))));
    }
}

#[test]
fn offsets_count_from_the_patched_base() {
    let batch = encode(&[record(0, 5), record(1, 6)], PLAIN).unwrap();
    let head = batch::patched_head(batch[..16].try_into().unwrap(), 1000, 3);
    let patched = Bytes::from([&head[..], &batch[16..]].concat());
    assert_eq!(first_at_or_after(&patched, 6, LIMIT), Ok(Some((1001, 6))));
    assert_eq!(decode(&patched, LIMIT).unwrap()[1].offset, 1001);
}

#[test]
fn a_batch_emptied_by_compaction_has_no_records() {
    let batch = around(&[], 0);
    assert_eq!(decode(&batch, LIMIT), Ok(vec![]));
    assert_eq!(greatest_timestamp(&batch, LIMIT), Ok(None));
}

#[test]
fn nothing_makes_no_batch() {
    assert!(encode(&[], PLAIN).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn records_read_as_they_were_written(records in records(any::<i64>()), codec in codec()) {
        let options =
            BatchOptions { codec, producer: Some((9, 2, 77)), transactional: true };
        let batch = encode(&records, options).unwrap();
        let header = check_produced(&batch).unwrap();
        prop_assert!(header.is_transactional());
        prop_assert_eq!(header.codec().unwrap(), codec);
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 2, 77));
        prop_assert_eq!(&decode(&batch, LIMIT).unwrap(), &records);
        let summary = validate_records(&batch, LIMIT).unwrap();
        prop_assert_eq!(summary.all_keyed, records.iter().all(|record| record.key.is_some()));
        let greatest = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(header.max_timestamp, greatest);
        prop_assert_eq!(summary.max_timestamp, greatest.max(-1));
    }

    #[test]
    fn another_implementation_reads_our_batches(records in records(-1i64..1 << 50)) {
        let batch = encode(&records, PLAIN).unwrap();
        let read = RecordBatchDecoder::decode(&mut batch.clone()).unwrap().records;
        prop_assert_eq!(read.len(), records.len());
        for (ours, theirs) in records.iter().zip(&read) {
            prop_assert_eq!((ours.offset, ours.timestamp), (theirs.offset, theirs.timestamp));
            prop_assert_eq!((&ours.key, &ours.value), (&theirs.key, &theirs.value));
        }
    }

    #[test]
    fn recompression_keeps_everything_else(
        records in records(any::<i64>()), from in codec(), to in codec(), base in 0i64..1 << 40,
    ) {
        let options = BatchOptions { codec: from, producer: Some((1, 2, 3)), transactional: false };
        let mut before = encode(&records, options).unwrap().to_vec();
        before[..8].copy_from_slice(&base.to_be_bytes());
        let before = Bytes::from(before);
        let after = recompress(&before, to, LIMIT).unwrap();
        prop_assert_eq!(check_crc(&after), Ok(()));
        let header = BatchHeader::parse(&after).unwrap();
        let expected = BatchHeader {
            bytes: after.len(),
            crc: header.crc,
            attributes: to.number(),
            ..BatchHeader::parse(&before).unwrap()
        };
        prop_assert_eq!(header, expected);
        prop_assert_eq!(decode(&after, LIMIT), decode(&before, LIMIT));
    }

    #[test]
    fn arbitrary_records_never_panic(
        payload in proptest::collection::vec(prop_oneof![0u8..20, any::<u8>()], 0..100),
        count in prop_oneof![0i32..5, any::<i32>()],
        codec in codec(),
    ) {
        let mut batch = around(&payload, count).to_vec();
        batch[batch::ATTRIBUTES_AT + 1] = u8::try_from(codec.number()).unwrap();
        let batch = Bytes::from(batch);
        let decoded = decode(&batch, 1000);
        if validate_records(&batch, 1000).is_ok() {
            prop_assert!(decoded.is_ok());
        }
        let _ = first_at_or_after(&batch, 5, 1000);
        let _ = greatest_timestamp(&batch, 1000);
        let _ = recompress(&batch, Codec::Snappy, 1000);
    }
}
