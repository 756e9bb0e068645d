//! Random writes, restarts and power cuts against a model.

use std::collections::BTreeMap;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;

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
    /// Ends a submission whose write or segment is cut off: some syncs pass, the next one never ends.
    TornCrash {
        passing: u64,
        seed: u64,
    },
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
        2 => (0..4_u64, any::<u64>()).prop_map(|(passing, seed)| Step::TornCrash { passing, seed }),
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
            Step::TornCrash { passing, seed } => {
                self.wait();
                self.disk.fail_syncs_after(passing, 1);
                self.submit();
                self.journal.close();
                self.disk = self.disk.crash_torn(seed);
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
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

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
