//! What is written is read back; what was changed is noticed; what was released stays readable.

use bytes::Bytes;
use proptest::prelude::*;

use alluvium_types::{AgentEpoch, AgentId, Millis, ObjectId, Offset, TopicId, TopicPartition};

use crate::fields::crc32c;
use crate::{
    BuiltObject, ChunkOrigin, Footer, FormatError, HEADER_BYTES, Header, INDEX_STRIDE_BYTES, Level,
    ObjectWriter, RunEntry, TRAILER_BYTES,
};

/// A batch as far as an object cares: bytes, records, greatest timestamp.
type Batch = (Vec<u8>, u32, Millis);

#[derive(Clone, Debug)]
struct Run {
    partition: TopicPartition,
    base_offset: Option<Offset>,
    batches: Vec<Batch>,
}

fn write(object: ObjectId, level: Level, at: Millis, runs: &[Run]) -> BuiltObject {
    let mut writer = ObjectWriter::new(object, level, at);
    for run in runs {
        writer.begin_run(run.partition, run.base_offset);
        for (bytes, records, max_timestamp) in &run.batches {
            let bytes = Bytes::copy_from_slice(bytes);
            let (head, rest) = (
                bytes.slice(..bytes.len() / 3),
                bytes.slice(bytes.len() / 3..),
            );
            writer.batch(&[head, rest], *records, *max_timestamp);
        }
    }
    writer.finish()
}

fn parse(object: &[u8]) -> Result<(Header, Footer), FormatError> {
    let header = Header::parse(object)?;
    let footer = Footer::parse(object, object.len() as u64)?;
    Ok((header, footer))
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let bytes = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 61..200),
        1 => (61usize..90_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    prop::collection::vec((bytes, 1u32..1000, -1i64..2_000_000_000_000), 1..12)
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let run = (
        (0u8..4, 0i32..4),
        prop::option::of(0i64..1_000_000),
        batches(),
    );
    prop::collection::vec(run, 0..8).prop_map(|runs| {
        let mut runs: Vec<_> = runs
            .into_iter()
            .map(|((topic, partition), base_offset, batches)| Run {
                partition: TopicPartition::new(TopicId([topic; 16]), partition),
                base_offset,
                batches,
            })
            .collect();
        runs.sort_by_key(|run| (run.partition, run.base_offset));
        runs
    })
}

/// Where each batch of a run begins: (records before it, its position, greatest timestamp before).
fn starts(run: &Run) -> Vec<(u64, u64, Millis)> {
    let mut starts = Vec::new();
    let (mut records_before, mut position, mut max_before) = (0, 0, Millis::MIN);
    for (bytes, records, max_timestamp) in &run.batches {
        starts.push((records_before, position, max_before));
        records_before += u64::from(*records);
        position += bytes.len() as u64;
        max_before = max_before.max(*max_timestamp);
    }
    starts
}

fn check_seeks(run: &Run, entry: &RunEntry) {
    let starts = starts(run);
    for found in &entry.index {
        let known = (
            found.records_before,
            found.position,
            found.max_timestamp_before,
        );
        assert!(
            starts.contains(&known),
            "the index points between batches: {found:?}"
        );
    }
    for pair in entry.index.windows(2) {
        assert!(pair[1].position - pair[0].position >= INDEX_STRIDE_BYTES);
    }
    for ((records_before, position, _), (bytes, records, max)) in starts.iter().zip(&run.batches) {
        for record in [*records_before, records_before + u64::from(*records) - 1] {
            let found = entry.seek_record(record).unwrap();
            assert!(found.records_before <= record);
            // No more than a stride and the batch that crosses it lies in between.
            let later = entry
                .index
                .iter()
                .find(|other| other.position > found.position);
            assert!(later.is_none_or(|later| later.records_before > record));
        }
        let found = entry
            .seek_position(*position + bytes.len() as u64 - 1)
            .unwrap();
        assert!(found.position <= *position);
        // Nothing before the batch that is found reaches the time.
        let found = entry.seek_time(*max).unwrap();
        let passed = starts
            .iter()
            .zip(&run.batches)
            .filter(|(start, _)| start.1 < found.position);
        assert!(passed.into_iter().all(|(_, (_, _, other))| other < max));
    }
    assert_eq!(entry.seek_time(Millis::MIN), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(runs in runs(), id: u128, at: i64, settled: bool) {
        let level = if settled { Level::Settled } else { Level::Chunk };
        let built = write(ObjectId(id), level, at, &runs);
        let object = built.parts.concat();
        prop_assert_eq!(object.len() as u64, built.bytes);
        let (header, footer) = parse(&object).unwrap();
        prop_assert_eq!((header.object, header.level), (ObjectId(id), level));
        prop_assert_eq!(header.created_at, at);
        prop_assert_eq!(footer.runs.len(), runs.len());
        for ((run, entry), written) in runs.iter().zip(&footer.runs).zip(&built.runs) {
            let bytes = run.batches.iter().flat_map(|batch| batch.0.clone()).collect::<Vec<_>>();
            let range = usize::try_from(entry.position).unwrap()..;
            prop_assert_eq!(&object[range][..bytes.len()], &bytes);
            prop_assert_eq!((entry.partition, entry.base_offset), (run.partition, run.base_offset));
            prop_assert_eq!((written.position, written.length), (entry.position, entry.length));
            prop_assert_eq!(written.partition, entry.partition);
            prop_assert_eq!(entry.length, bytes.len() as u64);
            prop_assert_eq!(entry.crc, crc32c(&bytes));
            let records = run.batches.iter().map(|batch| u64::from(batch.1)).sum::<u64>();
            prop_assert_eq!(entry.records, records);
            prop_assert_eq!(entry.batches as usize, run.batches.len());
            prop_assert_eq!(Some(entry.max_timestamp), run.batches.iter().map(|it| it.2).max());
            let first_and_last = [entry.position, entry.position + entry.length - 1];
            for position in first_and_last {
                prop_assert_eq!(footer.run_at(entry.partition, position), Some(entry));
            }
            let elsewhere = TopicPartition::new(TopicId([77; 16]), 0);
            prop_assert_eq!(footer.run_at(elsewhere, entry.position), None);
            check_seeks(run, entry);
        }
        let end = footer.runs.last().map_or(HEADER_BYTES, |run| run.position + run.length);
        let any = TopicPartition::new(TopicId([0; 16]), 0);
        prop_assert_eq!(footer.run_at(any, end), None);
        prop_assert_eq!(footer.run_at(any, 0), None);
        // The tail alone is enough, and its length is in the trailer.
        let trailer = &object[object.len() - TRAILER_BYTES as usize..];
        let tail = usize::try_from(Footer::tail_bytes(trailer, built.bytes).unwrap()).unwrap();
        prop_assert_eq!(Footer::parse(&object[object.len() - tail..], built.bytes), Ok(footer));
    }

    #[test]
    fn a_footer_made_up_with_good_checksums_never_panics(body in prop::collection::vec(any::<u8>(), 0..400), count in 0u32..6) {
        let mut body = body;
        if body.len() >= 4 {
            body[..4].copy_from_slice(&count.to_be_bytes());
        }
        let object = with_footer(&body);
        let _ = parse(&object);
    }
}

/// An object without batches whose footer is `body`, under checksums that match.
fn with_footer(body: &[u8]) -> Vec<u8> {
    let empty = write(ObjectId(1), Level::Chunk, 0, &[]).parts.concat();
    let mut object = empty[..HEADER_BYTES as usize].to_vec();
    object.extend_from_slice(body);
    let mut trailer = Vec::new();
    trailer.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    trailer.extend_from_slice(&crc32c(body).to_be_bytes());
    trailer.extend_from_slice(&[0, 1, 0, 0]);
    trailer.extend_from_slice(&crc32c(&trailer).to_be_bytes());
    trailer.extend_from_slice(&empty[empty.len() - 8..]);
    object.extend_from_slice(&trailer);
    object
}

/// The object of the golden file: two partitions, one with a run long enough for three index
/// entries.
fn sample(level: Level) -> BuiltObject {
    let topic = |byte| TopicId([byte; 16]);
    let is_settled = level == Level::Settled;
    let run = |topic, partition, base: Offset, batches| Run {
        partition: TopicPartition::new(topic, partition),
        base_offset: is_settled.then_some(base),
        batches,
    };
    let batch = |length: usize, byte, records, at| (vec![byte; length], records, at);
    let mut long = Vec::new();
    for number in 0u8..5 {
        long.push(batch(
            30_000,
            number,
            10,
            1_700_000_000_000 + i64::from(number),
        ));
    }
    let runs = [
        run(topic(1), 0, 100, vec![batch(61, 9, 1, -1)]),
        run(topic(1), 3, 7, long),
        run(
            topic(2),
            0,
            0,
            vec![batch(100, 8, 2, 5), batch(80, 7, 3, 4)],
        ),
    ];
    write(ObjectId(0x00c0_ffee), level, 1_700_000_000_123, &runs)
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let object = sample(Level::Settled).parts.concat();
    let whole = parse(&object).unwrap();
    let footer_at = {
        let last = whole.1.runs.last().unwrap();
        usize::try_from(last.position + last.length).unwrap()
    };
    for end in (0..object.len()).filter(|end| *end < 200 || *end > footer_at - 10) {
        assert!(parse(&object[..end]).is_err(), "cut at {end}");
    }
    let covered = (0..HEADER_BYTES as usize).chain(footer_at..object.len());
    for at in covered {
        for bit in 0..8 {
            let mut damaged = object.clone();
            damaged[at] ^= 1 << bit;
            assert!(parse(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
    // Batches are covered by their run's checksum.
    for run in &whole.1.runs {
        let range = usize::try_from(run.position).unwrap()
            ..usize::try_from(run.position + run.length).unwrap();
        let mut bytes = object[range].to_vec();
        assert_eq!(crc32c(&bytes), run.crc);
        bytes[17] ^= 4;
        assert_ne!(crc32c(&bytes), run.crc);
    }
    assert_eq!(parse(&[]), Err(FormatError::Short("header")));
    let short = Footer::parse(&object[object.len() - 30..], object.len() as u64);
    assert_eq!(short, Err(FormatError::Short("footer")));
}

#[test]
fn a_later_version_is_named() {
    let object = sample(Level::Chunk).parts.concat();
    let mut later = object.clone();
    let end = later.len();
    later[end - 15] = 9;
    let crc = crc32c(&later[end - 24..end - 12]);
    later[end - 12..end - 8].copy_from_slice(&crc.to_be_bytes());
    let error = Footer::parse(&later, end as u64).unwrap_err();
    assert_eq!(
        error,
        FormatError::Version {
            found: 9,
            newest: 2
        }
    );
    assert!(
        error.to_string().contains("newer than this release"),
        "{error}"
    );
    let mut later = object;
    later[9] = 3;
    let crc = crc32c(&later[..36]);
    later[36..40].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(
        Header::parse(&later),
        Err(FormatError::Version {
            found: 3,
            newest: 2
        })
    );
}

#[test]
fn an_object_without_runs_is_sound_and_foreign_bytes_are_not() {
    let empty = write(ObjectId(5), Level::Chunk, 1, &[]);
    assert!(parse(&empty.parts.concat()).unwrap().1.runs.is_empty());
    assert_eq!(parse(&[b'x'; 500]), Err(FormatError::NotAnObject));
    let foreign = Footer::parse(&[b'x'; 500], 500);
    assert_eq!(foreign, Err(FormatError::NotAnObject));
}

/// What a release wrote is read forever, and written the same way. A new version of the format gets
/// files of its own beside these. (`ALLUVIUM_WRITE_GOLDEN=1` writes files that are missing.)
#[test]
fn golden_files_are_read_and_written_as_they_are() {
    for (name, level) in [
        ("chunk-v1.alv", Level::Chunk),
        ("settled-v1.alv", Level::Settled),
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests-data")
            .join(name);
        let written = sample(level).parts.concat();
        if !path.exists() && std::env::var_os("ALLUVIUM_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, &written).unwrap();
        }
        let golden = std::fs::read(&path).unwrap();
        assert!(golden == written, "{name} differs from what is written now");
        let (header, footer) = parse(&golden).unwrap();
        assert_eq!((header.version, header.level), (1, level));
        assert_eq!(
            (header.object, header.created_at),
            (ObjectId(0x00c0_ffee), 1_700_000_000_123)
        );
        let summary: Vec<_> = footer
            .runs
            .iter()
            .map(|run| {
                (
                    run.partition.partition,
                    run.base_offset,
                    run.records,
                    run.index.len(),
                )
            })
            .collect();
        let base = |offset| (level == Level::Settled).then_some(offset);
        assert_eq!(
            summary,
            [
                (0, base(100), 1, 1),
                (3, base(7), 50, 2),
                (0, base(0), 5, 1)
            ]
        );
        assert_eq!(
            footer.runs[1]
                .seek_record(31)
                .map(|found| found.records_before),
            Some(30)
        );
    }
}

/// The object of the second golden file: as a chunk is written since it says whose it is.
fn chunk_with_origin() -> (ChunkOrigin, Vec<u8>) {
    let origin = ChunkOrigin {
        agent: AgentId(3),
        epoch: AgentEpoch(12),
        seal: 4567,
        sealed_at: 1_700_000_000_077,
    };
    let mut writer = ObjectWriter::chunk(ObjectId(0x00c0_ffee), origin, 1_700_000_000_123);
    writer.begin_run(TopicPartition::new(TopicId([1; 16]), 0), None);
    writer.batch(&[Bytes::from(vec![9; 61])], 1, -1);
    (origin, writer.finish().parts.concat())
}

#[test]
fn a_chunk_says_whose_it_is() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-data/chunk-v2.alv");
    let (origin, written) = chunk_with_origin();
    if !path.exists() && std::env::var_os("ALLUVIUM_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert!(
        golden == written,
        "chunk-v2.alv differs from what is written now"
    );
    let (header, footer) = parse(&golden).unwrap();
    assert_eq!((header.version, header.level), (2, Level::Chunk));
    assert_eq!((footer.origin, footer.runs.len()), (Some(origin), 1));
    for at in golden.len() - 150..golden.len() {
        let mut damaged = golden.clone();
        damaged[at] ^= 1;
        let damaged = parse(&damaged);
        assert!(
            damaged.is_err() || damaged.unwrap().1 == footer,
            "byte {at}"
        );
    }
}
