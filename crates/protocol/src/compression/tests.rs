use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn unhex(hex: &str) -> Bytes {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// What [`GOLDEN`] decompress to.
fn plain() -> Vec<u8> {
    b"alluvium ".repeat(12)
}

/// Made by a Python client: snappy with xerial framing in two chunks, bare snappy, an lz4 frame
/// with its content size, and gzip.
const GOLDEN: [(Codec, &str); 4] = [
    (
        Codec::Snappy,
        "82534e415050590000000001000000010000000e4020616c6c757669756d20da09000000000e2c206c6c7576\
         69756d20618a0900",
    ),
    (Codec::Snappy, "6c20616c6c757669756d20fe09008a0900"),
    (
        Codec::Lz4,
        "04224d1868406c0000000000000055130000009f616c6c757669756d2009004b507669756d2000000000",
    ),
    (
        Codec::Gzip,
        "1f8b080069bf016b02ff4bccc9292dcb2ccd5548a43d03000ec1f0826c000000",
    ),
];

#[test]
fn what_other_clients_write_is_read() {
    for (codec, hex) in GOLDEN {
        let hex: String = hex.split_whitespace().collect();
        assert_eq!(
            decompress(codec, &unhex(&hex), LIMIT).unwrap(),
            plain(),
            "{codec:?} {hex}"
        );
    }
}

#[test]
fn snappy_is_written_with_the_header_that_java_looks_for() {
    let written = compress(Codec::Snappy, &plain()).unwrap();
    assert!(written.starts_with(&unhex("82534e41505059000000000100000001")));
    let empty = compress(Codec::Snappy, b"").unwrap();
    assert_eq!(
        decompress(Codec::Snappy, &empty, LIMIT).unwrap(),
        Bytes::new()
    );
}

#[test]
fn lz4_is_written_in_the_frames_that_java_reads() {
    let written = compress(Codec::Lz4, &vec![5; 200_000]).unwrap();
    // Magic; version 1, independent blocks, nothing else; blocks of 64 KiB.
    assert!(written.starts_with(&unhex("04224d186040")));
}

#[test]
fn members_and_streams_may_follow_one_another() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
        let twice = [
            compress(codec, b"one ").unwrap(),
            compress(codec, b"two").unwrap(),
        ]
        .concat();
        assert_eq!(
            decompress(codec, &Bytes::from(twice), LIMIT).unwrap(),
            "one two",
            "{codec:?}"
        );
    }
}

#[test]
fn bombs_are_refused() {
    for codec in Codec::ALL {
        let bomb = compress(codec, &vec![0; 2 * LIMIT]).unwrap();
        let error = decompress(codec, &bomb, LIMIT).unwrap_err();
        assert_eq!(error.code, ErrorCode::MessageTooLarge, "{codec:?}");
        assert!(
            decompress(codec, &bomb, 2 * LIMIT).is_ok(),
            "{codec:?} at its size"
        );
    }
}

#[test]
fn a_length_that_lies_is_refused() {
    // Four bytes that claim two GiB less one.
    let claim = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x07, 0]);
    let error = decompress(Codec::Snappy, &claim, usize::MAX).unwrap_err();
    assert_eq!(error.code, ErrorCode::CorruptMessage);
    // A zstd frame whose window is beyond any limit.
    let window = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00]);
    assert!(decompress(Codec::Zstd, &window, LIMIT).is_err());
}

#[test]
fn every_truncation_is_refused() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd, Codec::Lz4] {
        let whole = compress(codec, &plain()).unwrap();
        // An lz4 frame that lacks only its end mark is let pass: all its data is there.
        let end_mark = if codec == Codec::Lz4 { 4 } else { 0 };
        for length in 1..whole.len() - end_mark {
            let read = decompress(codec, &whole.slice(..length), LIMIT);
            // What is cut between two parts may look whole; it is never all there.
            assert!(
                read.is_err() || read.unwrap() != plain(),
                "{codec:?} at {length}"
            );
        }
    }
}

#[test]
fn codecs_have_their_numbers_and_names() {
    for codec in Codec::ALL {
        assert_eq!(Codec::from_number(codec.number()), Some(codec));
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    assert_eq!(Codec::from_name("uncompressed"), Some(Codec::None));
    assert_eq!(Codec::from_name("producer"), None);
    assert_eq!(Codec::from_number(5), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(
        seed in proptest::collection::vec(any::<u8>(), 0..500),
        times in 0usize..400,
    ) {
        let data = seed.repeat(times);
        for codec in Codec::ALL {
            let compressed = compress(codec, &data).unwrap();
            prop_assert_eq!(&decompress(codec, &compressed, LIMIT).unwrap()[..], &data[..]);
        }
    }

    #[test]
    fn damage_never_panics_nor_exceeds_the_limit(
        data in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<proptest::sample::Index>(),
        bit in 0u8..8,
        noise in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        for codec in Codec::ALL {
            let mut compressed = compress(codec, &data.repeat(3)).unwrap().to_vec();
            if !compressed.is_empty() {
                let at = at.index(compressed.len());
                compressed[at] ^= 1 << bit;
            }
            for input in [compressed, noise.clone()] {
                if let Ok(out) = decompress(codec, &Bytes::from(input), 1000) {
                    prop_assert!(out.len() <= 1000);
                }
            }
        }
    }
}
