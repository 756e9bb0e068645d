//! What clients did and saw, judged as it comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_checker::{Anomaly, Checker, Entry, Event, Figures, Micros, Observer, Verdict};

use crate::host::Host;
use crate::trace::Trace;

/// Entries that are kept to explain an anomaly; older ones go.
const KEPT: usize = 400_000;

/// Shared by all clients.
#[derive(Debug)]
pub(crate) struct Recorder {
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    checker: Checker,
    observer: Observer,
    entries: Vec<Entry>,
    next: u64,
    writers: u32,
    refusals: BTreeMap<String, u64>,
    /// What is wrong beyond anomalies of the history: somebody hangs, or panicked.
    failures: Vec<String>,
}

/// What came of it.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) figures: Figures,
    pub(crate) failures: Vec<String>,
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) entries: Vec<Entry>,
}

impl Recorder {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        Self {
            trace,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Micros {
        self.trace.now()
    }

    /// A number that nobody else has: for operations and connections.
    pub(crate) fn next(&self) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        state.next
    }

    pub(crate) fn next_writer(&self) -> u32 {
        let mut state = self.lock();
        state.writers += 1;
        state.writers
    }

    pub(crate) fn note(&self, client: u32, event: Event) {
        let entry = Entry {
            at: self.now(),
            client,
            event,
        };
        let mut state = self.lock();
        state.checker.observe(&entry);
        state.observer.observe(&entry);
        if state.entries.len() < KEPT {
            state.entries.push(entry);
        }
    }

    /// Something that happened to the cluster.
    pub(crate) fn tell(&self, text: String) {
        self.trace.note(format_args!("** {text}"));
        tracing::info!(at = self.now() / 1000, "{text}");
        self.note(0, Event::Note { text });
    }

    /// A machine's disk is gone.
    pub(crate) fn disk_lost(&self, host: Host) {
        let keeper = host.to_string();
        self.note(0, Event::DiskLost { keeper });
    }

    pub(crate) fn refused(&self, what: &str) {
        *self.lock().refusals.entry(what.to_owned()).or_default() += 1;
    }

    pub(crate) fn failed(&self, what: String) {
        self.tell(format!("FAILED: {what}"));
        self.lock().failures.push(what);
    }

    pub(crate) fn finish(&self) -> Judged {
        let mut state = self.lock();
        Judged {
            verdict: std::mem::take(&mut state.checker).finish(),
            figures: state.observer.figures(),
            failures: std::mem::take(&mut state.failures),
            refusals: std::mem::take(&mut state.refusals),
            entries: std::mem::take(&mut state.entries),
        }
    }
}

/// The entries that explain an anomaly, with the answers to the produces among them.
pub(crate) fn relevant<'a>(entries: &'a [Entry], anomaly: &Anomaly) -> Vec<&'a Entry> {
    let ops: Vec<u64> = entries
        .iter()
        .filter(|entry| anomaly.concerns(entry))
        .filter_map(|entry| match entry.event {
            Event::ProduceInvoked { op, .. } => Some(op),
            _ => None,
        })
        .collect();
    let answers = |entry: &Entry| match entry.event {
        Event::ProduceAcked { op, .. }
        | Event::ProduceKept { op, .. }
        | Event::ProduceFailed { op }
        | Event::ProduceUnknown { op } => ops.contains(&op),
        _ => false,
    };
    entries
        .iter()
        .filter(|entry| anomaly.concerns(entry) || answers(entry))
        .collect()
}
