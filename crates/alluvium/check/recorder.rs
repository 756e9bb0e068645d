//! Notes what clients do and see, and judges it as it comes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use alluvium_checker::{Checker, Entry, Event, Figures, Micros, Observer, Verdict, history};
use alluvium_client::ClientError;

use crate::failure::Failure;

/// Shared by all clients. Entries are in the order of their times.
pub(super) struct Recorder {
    started: Instant,
    inner: Mutex<Inner>,
    ops: AtomicU64,
    writers: AtomicU32,
    clients: AtomicU32,
    sessions: AtomicU64,
}

struct Inner {
    checker: Checker,
    observer: Observer,
    file: Option<BufWriter<File>>,
    /// The first error of writing the file; nothing is written after it.
    unwritten: Option<std::io::Error>,
    /// What clients were refused with, by what it was.
    refusals: BTreeMap<String, u64>,
}

/// What is left at the end.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) figures: Figures,
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) unwritten: Option<std::io::Error>,
}

impl Recorder {
    pub(super) fn new(file: Option<&Path>) -> Result<Self, Failure> {
        let file = match file {
            None => None,
            Some(path) => {
                let failed = |error| {
                    Failure::Failed(format!(
                        "cannot write the history {}: {error}",
                        path.display()
                    ))
                };
                let mut out = BufWriter::new(File::create(path).map_err(failed)?);
                history::begin(&mut out).map_err(failed)?;
                Some(out)
            }
        };
        Ok(Self {
            started: Instant::now(),
            inner: Mutex::new(Inner {
                checker: Checker::new(),
                observer: Observer::default(),
                file,
                unwritten: None,
                refusals: BTreeMap::new(),
            }),
            ops: AtomicU64::new(1),
            writers: AtomicU32::new(1),
            clients: AtomicU32::new(1),
            sessions: AtomicU64::new(1),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the beginning.
    pub(super) fn now(&self) -> Micros {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn next_op(&self) -> u64 {
        self.ops.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_writer(&self) -> u32 {
        self.writers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that something happened now.
    pub(super) fn note(&self, client: u32, event: Event) {
        let mut inner = self.lock();
        // Under the lock, so that times and order agree.
        let at = self.now();
        let entry = Entry { at, client, event };
        inner.checker.observe(&entry);
        inner.observer.observe(&entry);
        if let Some(file) = &mut inner.file
            && let Err(error) = history::append(file, &entry)
        {
            inner.file = None;
            inner.unwritten = Some(error);
        }
    }

    /// Counts an error that a client lives with.
    pub(super) fn refused(&self, what: &str, error: &ClientError) {
        let why = match error {
            ClientError::Refused { code, .. } => code.to_string(),
            ClientError::Unreachable { .. } => "unreachable".to_owned(),
            ClientError::Broken { .. } => "connection broken".to_owned(),
            ClientError::TimedOut { .. } => "timed out".to_owned(),
            other => other.to_string(),
        };
        *self
            .lock()
            .refusals
            .entry(format!("{what}: {why}"))
            .or_default() += 1;
    }

    pub(super) fn figures(&self) -> Figures {
        self.lock().observer.figures()
    }

    pub(super) fn has_found(&self) -> bool {
        self.lock().checker.has_found()
    }

    /// Judges; further notes are lost.
    pub(super) fn finish(&self) -> Judged {
        let mut inner = self.lock();
        if let Some(mut file) = inner.file.take()
            && let Err(error) = file.flush()
        {
            inner.unwritten = Some(error);
        }
        Judged {
            figures: inner.observer.figures(),
            verdict: std::mem::take(&mut inner.checker).finish(),
            refusals: std::mem::take(&mut inner.refusals),
            unwritten: inner.unwritten.take(),
        }
    }
}
