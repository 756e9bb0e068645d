use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;

use proptest::prelude::*;

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

/// What a journal holds, as its user sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    range: Range<u64>,
    entries: BTreeMap<u64, Bytes>,
    notes: BTreeMap<u8, Bytes>,
    purged: u64,
}

impl Model {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Append { index, payload } => {
                if self.entries.is_empty() {
                    self.range.start = *index;
                }
                self.range.end = index + 1;
                self.entries.insert(*index, join(payload));
            }
            Write::TruncateAfter { index } => {
                self.entries.split_off(&(index + 1));
                self.range.end = self.range.end.min((index + 1).max(self.purged));
                self.range.start = self.range.start.min(self.range.end);
            }
            Write::PurgeTo { index } => {
                self.entries = self.entries.split_off(&(index + 1));
                self.purged = self.purged.max(index + 1);
                self.range.start = self.range.start.max(index + 1);
                self.range.end = self.range.end.max(self.range.start);
            }
            Write::Note { slot, value } => {
                self.notes.insert(*slot, value.clone());
            }
        }
    }

    /// Lengths and first bytes, which are serial numbers.
    fn sketch(&self) -> String {
        let short = |bytes: &Bytes| (bytes.len(), bytes.first().copied());
        let entries: Vec<_> = self.entries.iter().map(|(n, b)| (n, short(b))).collect();
        let notes: Vec<_> = self.notes.iter().map(|(n, b)| (n, short(b))).collect();
        format!("{:?} {entries:?} notes {notes:?}", self.range)
    }

    fn of(journal: &Journal, purged: u64) -> Self {
        let notes = (0..16)
            .filter_map(|slot| Some((slot, journal.note(slot)?)))
            .collect();
        Self {
            range: journal.range(),
            entries: entries(journal).into_iter().collect(),
            notes,
            purged,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u16),
    LargeAppend,
    Truncate(u8),
    Purge(u8),
    Note(u8, u16),
    /// Ends a submission.
    Submit,
    /// Waits until all is durable.
    Wait,
    Crash(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..1500_u16).prop_map(Step::Append),
        1 => Just(Step::LargeAppend),
        2 => (0..6_u8).prop_map(Step::Truncate),
        3 => (0..8_u8).prop_map(Step::Purge),
        3 => (0..3_u8, 0..600_u16).prop_map(|(slot, bytes)| Step::Note(slot, bytes)),
        8 => Just(Step::Submit),
        2 => Just(Step::Wait),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Reopen),
    ]
}

/// Runs steps against the model. Each write in a run has its own bytes.
struct Run {
    disk: ForgetfulDisk,
    journal: Journal,
    /// The state after every single write since the last open.
    states: Vec<Model>,
    pending: Vec<Write>,
    serial: u64,
    acknowledged: mpsc::Receiver<usize>,
    sender: mpsc::Sender<usize>,
    submitted: usize,
    durable: usize,
}

impl Run {
    fn new() -> Self {
        let disk = ForgetfulDisk::default();
        let journal = open(&disk).unwrap();
        let (sender, acknowledged) = mpsc::channel();
        let states = vec![Model::default()];
        let pending = Vec::new();
        let (serial, submitted, durable) = (0, 0, 0);
        Self {
            disk,
            journal,
            states,
            pending,
            serial,
            acknowledged,
            sender,
            submitted,
            durable,
        }
    }

    fn model(&self) -> &Model {
        self.states.last().unwrap()
    }

    fn write(&mut self, write: Write) {
        let mut next = self.model().clone();
        next.apply(&write);
        self.states.push(next);
        self.pending.push(write);
    }

    fn payload(&mut self, bytes: usize) -> Bytes {
        self.serial += 1;
        let mut payload = self.serial.to_le_bytes().to_vec();
        payload.resize(8 + bytes, self.serial as u8);
        payload.into()
    }

    fn submit(&mut self) {
        let (sender, count) = (self.sender.clone(), self.states.len() - 1);
        self.submitted = count;
        let tell = move |result: Result<(), JournalError>| {
            if result.is_ok() {
                let _ = sender.send(count);
            }
        };
        self.journal
            .submit(std::mem::take(&mut self.pending), Box::new(tell));
        assert_eq!(
            &Model::of(&self.journal, self.model().purged),
            self.model(),
            "visible state"
        );
    }

    fn wait(&mut self) {
        while self.durable < self.submitted {
            self.durable = self.acknowledged.recv().unwrap();
        }
    }

    /// After a restart the state is that after some write, at the earliest the last acknowledged one.
    fn check_restart(&mut self) {
        self.durable = self.acknowledged.try_iter().last().unwrap_or(self.durable);
        self.journal = open(&self.disk).unwrap();
        let candidates = &self.states[self.durable..=self.submitted];
        let found = candidates
            .iter()
            .find(|m| Model::of(&self.journal, m.purged) == **m);
        let found = found.unwrap_or_else(|| {
            let candidates: Vec<String> = candidates.iter().map(Model::sketch).collect();
            let found = Model::of(&self.journal, 0).sketch();
            panic!("found {found}, not one of:\n{}", candidates.join("\n"))
        });
        self.states = vec![found.clone()];
        (self.submitted, self.durable) = (0, 0);
        (self.sender, self.acknowledged) = mpsc::channel();
        self.pending.clear();
    }

    fn step(&mut self, step: Step) {
        let range = self.model().range.clone();
        match step {
            Step::Append(_) | Step::LargeAppend => {
                let bytes = if let Step::Append(bytes) = step {
                    usize::from(bytes)
                } else {
                    9000
                };
                let payload = self.payload(bytes);
                let middle = payload.len() / 2;
                let payload = vec![payload.slice(..middle), payload.slice(middle..)];
                self.write(Write::Append {
                    index: range.end,
                    payload,
                });
            }
            Step::Truncate(back) if range.end > u64::from(back) => {
                self.write(Write::TruncateAfter {
                    index: range.end - u64::from(back),
                });
            }
            Step::Purge(ahead) => {
                self.write(Write::PurgeTo {
                    index: range.start + u64::from(ahead),
                });
            }
            Step::Note(slot, bytes) => {
                let value = self.payload(bytes.into());
                self.write(Write::Note { slot, value });
            }
            Step::Truncate(_) => {}
            Step::Submit => self.submit(),
            Step::Wait => self.wait(),
            Step::Crash(seed) => {
                self.disk = self.disk.crash_torn(seed);
                self.journal.close();
                self.check_restart();
            }
            Step::Reopen => {
                self.states.truncate(self.submitted + 1);
                self.journal.close();
                self.check_restart();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_finds_a_prefix_that_holds_all_that_was_acknowledged(
        steps in proptest::collection::vec(step(), 1..120),
        seed in any::<u64>(),
    ) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.step(Step::Crash(seed));
    }
}
