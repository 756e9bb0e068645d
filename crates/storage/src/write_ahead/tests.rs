//! What a write-ahead buffer keeps, over restarts, power cuts and damage.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::disk::ForgetfulDisk;

const DIR: &str = "/data/journal";

const OPTIONS: WriteAheadOptions = WriteAheadOptions {
    bytes: 16 << 20,
    tail_bytes: 1 << 10,
};

async fn open(disk: &ForgetfulDisk) -> WriteAhead {
    WriteAhead::open(disk.shared(), Path::new(DIR), OPTIONS)
        .await
        .unwrap()
}

fn name(chunk: u64) -> ChunkName {
    ChunkName {
        agent: AgentId(1),
        epoch: AgentEpoch(2),
        chunk: ChunkNumber(chunk),
    }
}

fn bytes(seed: u64, length: usize) -> Bytes {
    let byte = |at: usize| (seed as usize * 31 + at * 7) as u8;
    (0..length).map(byte).collect()
}

async fn append(buffer: &WriteAhead, chunk: u64, length: usize) -> Result<(), WriteAheadError> {
    let whole = bytes(chunk, length);
    let parts = vec![whole.slice(..length / 3), whole.slice(length / 3..)];
    let about = format!("about {chunk}");
    buffer.append(name(chunk), about.as_bytes(), parts).await
}

async fn read(buffer: &WriteAhead, chunk: u64, length: usize) -> Bytes {
    buffer.read(name(chunk), 0..length as u64).await.unwrap()
}

#[tokio::test]
async fn chunks_with_what_is_said_about_them_outlive_a_power_cut_and_trimmed_ones_are_gone() {
    let disk = ForgetfulDisk::default();
    let buffer = open(&disk).await;
    let incarnation = buffer.incarnation();
    for chunk in 1..=4 {
        append(&buffer, chunk, 3000).await.unwrap();
    }
    buffer
        .mark(name(3), Bytes::from_static(b"at 70"))
        .await
        .unwrap();
    buffer.trim(&[name(2), name(9)]);
    // What is durable behind it says that the trim is.
    append(&buffer, 5, 0).await.unwrap();
    let again = append(&buffer, 5, 1).await;
    assert!(matches!(again, Err(WriteAheadError::Known(known)) if known == name(5)));

    let disk = disk.crash();
    let buffer = open(&disk).await;
    assert_eq!(buffer.incarnation(), incarnation);
    assert!(buffer.damages().is_empty());
    assert_eq!(buffer.names(), [1, 3, 4, 5].map(name));
    assert_eq!(buffer.about(name(3)).await.unwrap(), "about 3");
    assert_eq!(buffer.marked(name(3)).unwrap(), "at 70");
    assert_eq!(buffer.marked(name(1)), None);
    assert_eq!(read(&buffer, 4, 3000).await, bytes(4, 3000));
    let piece = buffer.read(name(4), 900..1200).await.unwrap();
    assert_eq!(piece, bytes(4, 3000).slice(900..1200));
    let behind = buffer.read(name(4), 2999..3001).await;
    assert!(matches!(behind, Err(WriteAheadError::OutOfRange { .. })));
    let gone = buffer.read(name(2), 0..1).await;
    assert!(matches!(gone, Err(WriteAheadError::NotHere(_))));

    let other = open(&ForgetfulDisk::default()).await;
    assert_ne!(other.incarnation(), incarnation);
}

#[tokio::test]
async fn a_full_buffer_says_so_and_takes_more_when_the_oldest_is_trimmed() {
    let disk = ForgetfulDisk::default();
    let buffer = open(&disk).await;
    let mut last = 0;
    let full = loop {
        last += 1;
        match append(&buffer, last, 1 << 20).await {
            Ok(()) => assert!(last < 20, "it is bounded"),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, WriteAheadError::Full { .. }), "{full}");
    assert!(!buffer.has_room(1 << 20));
    // What is younger frees nothing while the oldest stays.
    buffer.trim(&[name(2), name(3)]);
    assert!(append(&buffer, 100, 1 << 20).await.is_err());
    buffer.trim(&[name(1)]);
    for chunk in 101..104 {
        append(&buffer, chunk, 1 << 20).await.unwrap();
    }
    assert_eq!(read(&buffer, 4, 1 << 20).await, bytes(4, 1 << 20));
    // Round and round: files are recycled, and their number stays what it was.
    for chunk in 200..260 {
        let oldest = buffer.names()[0];
        buffer.trim(&[oldest]);
        append(&buffer, chunk, 1 << 20).await.unwrap();
    }
    buffer.close();
    let files = disk.shared().list(Path::new(DIR)).unwrap().len();
    assert!(files <= 18, "{files} files");
}

#[tokio::test]
async fn damage_in_the_middle_is_told_and_costs_what_lay_there_and_nothing_else() {
    let disk = ForgetfulDisk::default();
    let buffer = open(&disk).await;
    let incarnation = buffer.incarnation();
    // Three files' worth.
    for chunk in 1..=6 {
        append(&buffer, chunk, 400 << 10).await.unwrap();
    }
    buffer.close();
    drop(buffer);
    let files = disk.shared().list(Path::new(DIR)).unwrap();
    let segment = |end: &str| {
        let found = files
            .iter()
            .find(|file| file.path.to_string_lossy().ends_with(end));
        disk.shared().open(&found.unwrap().path).unwrap()
    };
    let junk = || [Bytes::from(vec![7; 100])];
    // In the middle of the second chunk, and the whole head of the second file.
    segment("0001.segment")
        .write_at(&junk(), 600 << 10)
        .unwrap();
    segment("0002.segment").write_at(&junk(), 0).unwrap();
    let buffer = open(&disk).await;
    assert_eq!(buffer.damages().len(), 2, "{:?}", buffer.damages());
    assert_eq!(buffer.incarnation(), incarnation);
    let names = buffer.names();
    assert!(
        !names.contains(&name(2)) && names.contains(&name(1)),
        "{names:?}"
    );
    assert!(names.contains(&name(6)), "{names:?}");
    for kept in names {
        assert_eq!(
            read(&buffer, kept.chunk.0, 400 << 10).await,
            bytes(kept.chunk.0, 400 << 10)
        );
    }
    // And it goes on: what is written now is there the next time, without new damage.
    append(&buffer, 7, 1000).await.unwrap();
    drop(buffer);
    let buffer = open(&disk.crash()).await;
    assert_eq!(read(&buffer, 7, 1000).await, bytes(7, 1000));
    assert!(buffer.names().contains(&name(6)));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_more_is_said_to_be_kept() {
    let disk = ForgetfulDisk::default();
    let buffer = open(&disk).await;
    append(&buffer, 1, 100).await.unwrap();
    disk.fail_syncs(1);
    assert!(append(&buffer, 2, 100).await.is_err());
    assert!(append(&buffer, 3, 100).await.is_err());
    assert_eq!(buffer.names(), [name(1)]);
    assert_eq!(open(&disk.crash()).await.names(), [name(1)]);
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Mark(prop::sample::Index),
    Trim(prop::sample::Index),
    Reopen { torn: Option<u64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![0..200_usize, 2_000..60_000_usize, 300_000..700_000_usize];
    let step = prop_oneof![
        6 => length.prop_map(Step::Append),
        2 => any::<prop::sample::Index>().prop_map(Step::Mark),
        4 => any::<prop::sample::Index>().prop_map(Step::Trim),
        1 => prop::option::of(any::<u64>()).prop_map(|torn| Step::Reopen { torn }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_happens_what_was_kept_and_not_trimmed_is_there(steps in steps()) {
        Runtime::new().unwrap().block_on(async {
            let mut disk = ForgetfulDisk::default();
            let mut buffer = open(&disk).await;
            let mut model: BTreeMap<u64, (usize, Option<Bytes>)> = BTreeMap::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Append(length) => {
                        next += 1;
                        if append(&buffer, next, length).await.is_ok() {
                            model.insert(next, (length, None));
                        } else {
                            assert!(!buffer.has_room(length as u64 + 40));
                        }
                    }
                    Step::Mark(which) if !model.is_empty() => {
                        let at = *which.get(&model.keys().copied().collect::<Vec<_>>());
                        let mark = bytes(next, 9);
                        buffer.mark(name(at), mark.clone()).await.unwrap();
                        model.get_mut(&at).unwrap().1 = Some(mark);
                    }
                    Step::Trim(which) if !model.is_empty() => {
                        let at = *which.get(&model.keys().copied().collect::<Vec<_>>());
                        buffer.trim(&[name(at)]);
                        model.remove(&at);
                    }
                    Step::Mark(_) | Step::Trim(_) => {}
                    Step::Reopen { torn } => {
                        // A trim is durable with what comes behind it.
                        next += 1;
                        append(&buffer, next, 1).await.unwrap_or_default();
                        buffer.trim(&[name(next)]);
                        buffer.close();
                        disk = torn.map_or_else(|| disk.crash(), |seed| disk.crash_torn(seed));
                        buffer = open(&disk).await;
                        assert!(buffer.damages().is_empty(), "{:?}", buffer.damages());
                    }
                }
                let names: Vec<_> = buffer.names().iter().map(|name| name.chunk.0).collect();
                assert_eq!(names, model.keys().copied().collect::<Vec<_>>());
            }
            for (chunk, (length, mark)) in model {
                assert_eq!(read(&buffer, chunk, length).await, bytes(chunk, length));
                assert_eq!(buffer.about(name(chunk)).await.unwrap(), format!("about {chunk}"));
                assert_eq!(buffer.marked(name(chunk)), mark);
            }
        });
    }
}
