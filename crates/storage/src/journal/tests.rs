mod model;

use std::path::PathBuf;
use std::sync::mpsc;

use super::segment::Segment;
use super::*;
use crate::disk::{ForgetfulDisk, LocalDisk};

const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes: 4096,
    tail_bytes: 1500,
};

fn open(disk: &ForgetfulDisk) -> Result<Journal, JournalError> {
    Journal::open(disk.shared(), Path::new("/data/journal"), OPTIONS)
}

fn append(index: u64, payload: &[u8]) -> Write {
    Write::Append {
        index,
        payload: vec![Bytes::copy_from_slice(payload)],
    }
}

fn note(slot: u8, value: &str) -> Write {
    Write::Note {
        slot,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

/// Submits and waits until it is durable.
fn submit(journal: &Journal, writes: Vec<Write>) -> Result<(), JournalError> {
    let (sender, receiver) = mpsc::channel();
    journal.submit(writes, Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap()
}

fn entries(journal: &Journal) -> Vec<(u64, Bytes)> {
    journal.read(journal.range(), usize::MAX).unwrap()
}

fn files(disk: &ForgetfulDisk, kind: &str) -> Vec<PathBuf> {
    let names = disk.shared().list(Path::new("/data/journal")).unwrap();
    let named = names.into_iter().map(|entry| entry.path);
    named
        .filter(|path| path.extension().is_some_and(|found| found == kind))
        .collect()
}

#[test]
fn acknowledged_writes_survive_a_power_cut_in_order() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    submit(
        &journal,
        vec![note(0, "vote 1"), append(5, b"five"), append(6, b"six")],
    )
    .unwrap();
    let halves = vec![
        Bytes::from_static(b"sev"),
        Bytes::new(),
        Bytes::from_static(b"en"),
    ];
    submit(
        &journal,
        vec![Write::Append {
            index: 7,
            payload: halves,
        }],
    )
    .unwrap();
    submit(
        &journal,
        vec![Write::TruncateAfter { index: 5 }, append(6, b"six again")],
    )
    .unwrap();
    submit(&journal, vec![append(7, b""), note(1, "committed 5")]).unwrap();

    let journal = open(&disk.crash()).unwrap();
    assert_eq!(journal.range(), 5..8);
    let expected = [(5, "five"), (6, "six again"), (7, "")];
    assert_eq!(
        entries(&journal),
        expected.map(|(index, text)| (index, Bytes::from(text)))
    );
    assert_eq!(journal.note(0).unwrap(), "vote 1");
    assert_eq!(journal.note(1).unwrap(), "committed 5");
    assert_eq!(journal.note(2), None);
}

/// Shows that the test above sees a missing sync.
#[test]
fn without_the_sync_acknowledged_writes_are_lost() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    disk.ignore_file_syncs(true);
    submit(&journal, vec![append(1, b"one")]).unwrap();
    assert_eq!(open(&disk.crash()).unwrap().range(), 0..0);
}

#[test]
fn works_on_the_machines_disk() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("raft/log");
    let options = JournalOptions {
        segment_bytes: 64 << 10,
        tail_bytes: 0,
    };
    let payload = |index: u64| vec![index as u8; 5000 + index as usize];
    let journal = Journal::open(LocalDisk::shared(), &dir, options).unwrap();
    for index in 1..=40 {
        submit(&journal, vec![append(index, &payload(index))]).unwrap();
    }
    for journal in [journal.clone(), {
        journal.close();
        Journal::open(LocalDisk::shared(), &dir, options).unwrap()
    }] {
        assert_eq!(journal.range(), 1..41);
        for (index, bytes) in entries(&journal) {
            assert_eq!(bytes, payload(index));
        }
        let some = journal.read(30..41, 12_000).unwrap();
        assert_eq!(
            some.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            [30, 31, 32]
        );
        assert_eq!(journal.read(30..41, 0).unwrap().len(), 1);
    }
}

#[test]
fn writes_are_visible_before_they_are_durable_and_called_back_in_order() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    let (sender, receiver) = mpsc::channel();
    for index in 1..=100 {
        let sender = sender.clone();
        let tell = move |result: Result<(), JournalError>| sender.send((index, result)).unwrap();
        journal.submit(vec![append(index, &index.to_le_bytes())], Box::new(tell));
        assert_eq!(journal.range(), 1..index + 1);
        assert_eq!(journal.read(index..index + 1, 100).unwrap().len(), 1);
    }
    journal.close();
    let called: Vec<u64> = receiver
        .try_iter()
        .map(|(index, result)| {
            result.unwrap();
            index
        })
        .collect();
    assert_eq!(called, (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_failed_sync_closes_the_journal_for_good() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    submit(&journal, vec![append(1, b"one")]).unwrap();
    disk.fail_syncs(1);
    let error = submit(&journal, vec![append(2, b"two")]).unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    let error = submit(&journal, vec![append(3, b"three")]).unwrap_err();
    assert!(matches!(error, JournalError::Closed(_)), "{error}");
    drop(journal);
    assert_eq!(open(&disk.crash()).unwrap().range(), 1..2);
}

#[test]
fn what_a_failed_sync_left_is_durable_before_it_is_shown() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    submit(&journal, vec![append(1, b"one")]).unwrap();
    disk.fail_syncs(1);
    submit(&journal, vec![append(2, b"two")]).unwrap_err();
    drop(journal);
    // The process starts again, the machine does not: the write is still in its memory.
    let journal = open(&disk).unwrap();
    let shown = journal.range();
    drop(journal);
    assert_eq!(open(&disk.crash()).unwrap().range(), shown);
}

#[test]
fn a_full_disk_closes_the_journal() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    disk.fail_writes(1);
    assert!(submit(&journal, vec![append(1, b"one")]).is_err());
    assert!(matches!(
        submit(&journal, vec![append(1, b"one")]),
        Err(JournalError::Closed(_))
    ));
}

#[test]
fn what_makes_no_sense_is_refused_as_a_whole() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    submit(&journal, vec![append(1, b"one")]).unwrap();
    let gap = submit(&journal, vec![append(2, b"two"), append(4, b"four")]).unwrap_err();
    assert!(matches!(gap, JournalError::Refused(_)), "{gap}");
    assert_eq!(journal.range(), 1..2);
    assert!(submit(&journal, vec![note(16, "x")]).is_err());
    assert!(submit(&journal, vec![note(0, &"x".repeat(NOTE_BYTES + 1))]).is_err());
    submit(&journal, vec![Write::PurgeTo { index: 9 }]).unwrap();
    assert!(submit(&journal, vec![append(9, b"nine")]).is_err());
    submit(&journal, vec![append(10, b"ten")]).unwrap();
    let purged = journal.read(9..11, 100).unwrap_err();
    assert!(
        matches!(
            purged,
            JournalError::Purged {
                index: 9,
                first: 10
            }
        ),
        "{purged}"
    );
}

#[test]
fn purged_segments_are_recycled_and_their_old_bytes_ignored() {
    let disk = ForgetfulDisk::default();
    let mut disk = disk.clone();
    let mut journal = open(&disk).unwrap();
    submit(&journal, vec![note(3, "kept")]).unwrap();
    for index in 1..=300_u64 {
        // Equal lengths, so that old records lie exactly where new ones would follow.
        submit(&journal, vec![append(index, &[index as u8; 1000])]).unwrap();
        if index % 10 == 0 {
            submit(&journal, vec![Write::PurgeTo { index: index - 2 }]).unwrap();
        }
        if index % 50 == 7 {
            drop(journal);
            disk = disk.crash();
            journal = open(&disk).unwrap();
            let first = (index / 10 * 10).saturating_sub(1).max(1);
            assert_eq!(journal.range(), first..index + 1);
            assert_eq!(entries(&journal).last().unwrap().1, vec![index as u8; 1000]);
        }
    }
    drop(journal);
    assert!(
        files(&disk, "segment").len() <= 3,
        "purged segments stay behind"
    );
    assert_eq!(files(&disk, "spare").len(), 1);
    assert_eq!(files(&disk, "new").len(), 0);
    let journal = open(&disk.crash()).unwrap();
    assert_eq!(journal.range(), 299..301);
    assert_eq!(journal.note(3).unwrap(), "kept");
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    let large = vec![7; 100_000];
    submit(
        &journal,
        vec![append(1, b"small"), append(2, &large), append(3, b"small")],
    )
    .unwrap();
    let journal = open(&disk.crash()).unwrap();
    assert_eq!(entries(&journal)[1].1, large);
    submit(
        &journal,
        vec![Write::PurgeTo { index: 3 }, append(4, &[1; 4000])],
    )
    .unwrap();
    submit(
        &journal,
        vec![Write::PurgeTo { index: 4 }, append(5, &[1; 4000])],
    )
    .unwrap();
    assert_eq!(journal.range(), 5..6);
}

/// A journal of three writes, synced one by one, and where the second record begins and ends.
fn three_writes() -> (ForgetfulDisk, PathBuf, Range<u64>) {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    for index in 1..=3 {
        submit(&journal, vec![append(index, &[index as u8; 40])]).unwrap();
    }
    drop(journal);
    let path = files(&disk, "segment").remove(0);
    (disk, path, 64 + 72..64 + 144)
}

#[test]
fn a_torn_end_is_cut_at_every_byte() {
    let (disk, path, second) = three_writes();
    let end = second.end + 72;
    for torn in second.end..end {
        let copy = disk.crash();
        let file = copy.shared().open(&path).unwrap();
        file.write_at(&[Bytes::from(vec![0; (end - torn) as usize])], torn)
            .unwrap();
        file.sync().unwrap();
        let journal = open(&copy).unwrap();
        assert_eq!(journal.range(), 1..3, "torn at byte {torn}");
        submit(&journal, vec![append(3, b"anew")]).unwrap();
        assert_eq!(entries(&open(&copy.crash()).unwrap())[2].1, "anew");
    }
}

/// Of one write the second record reached the disk and the first did not. What is appended later in the
/// first one's place must not bring the second one back.
#[test]
fn a_record_behind_a_torn_one_never_comes_back() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    submit(&journal, vec![append(1, &[1; 40])]).unwrap();
    submit(&journal, vec![append(2, &[2; 40]), append(3, &[3; 40])]).unwrap();
    drop(journal);
    let path = files(&disk, "segment").remove(0);
    let start = Segment::open(disk.shared().as_ref(), &path, 1)
        .unwrap()
        .kept_end;
    let file = disk.shared().open(&path).unwrap();
    file.write_at(&[Bytes::from(vec![0; 20])], start + 72)
        .unwrap();
    let journal = open(&disk).unwrap();
    assert_eq!(journal.range(), 1..2);
    submit(&journal, vec![append(2, &[9; 40])]).unwrap();
    let journal = open(&disk.crash()).unwrap();
    assert_eq!(journal.range(), 1..3);
    assert_eq!(entries(&journal)[1].1, [9; 40].as_slice());
}

#[test]
fn a_flipped_byte_before_later_records_is_damage() {
    let (disk, path, second) = three_writes();
    for flipped in second.clone() {
        let copy = disk.crash();
        let file = copy.shared().open(&path).unwrap();
        let byte = file.read_at(flipped, 1).unwrap()[0];
        file.write_at(&[Bytes::from(vec![byte ^ 0x10])], flipped)
            .unwrap();
        match open(&copy).unwrap_err() {
            JournalError::Damaged {
                path: file,
                position,
                ..
            } => {
                assert_eq!(
                    (file.as_str(), position),
                    (path.to_str().unwrap(), second.start)
                );
            }
            other => panic!("byte {flipped}: {other}"),
        }
    }
}

#[test]
fn damage_in_an_older_segment_and_a_missing_segment_are_found() {
    let disk = ForgetfulDisk::default();
    let journal = open(&disk).unwrap();
    for index in 1..=12 {
        submit(&journal, vec![append(index, &[index as u8; 1000])]).unwrap();
    }
    drop(journal);
    let segments = files(&disk, "segment");
    assert!(segments.len() > 3);
    for position in [0, 20, 40, 64 + 100, 64 + 2 * 1032 + 500] {
        let copy = disk.crash();
        let file = copy.shared().open(&segments[1]).unwrap();
        file.write_at(&[Bytes::from_static(&[0xff; 8])], position)
            .unwrap();
        let error = open(&copy).unwrap_err();
        assert!(
            matches!(error, JournalError::Damaged { .. }),
            "{position}: {error}"
        );
    }
    let copy = disk.crash();
    copy.shared().remove_file(&segments[1]).unwrap();
    assert!(matches!(open(&copy), Err(JournalError::Damaged { .. })));
    let copy = disk.crash();
    copy.shared()
        .open(&segments[2])
        .unwrap()
        .set_len(2000)
        .unwrap();
    assert!(matches!(open(&copy), Err(JournalError::Damaged { .. })));
}
