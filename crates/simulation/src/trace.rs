//! Everything that happens, as a hash, so that two runs can be compared.

use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Takes note of what happens and when.
#[derive(Debug)]
pub(crate) struct Trace {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hasher: DefaultHasher,
    events: u64,
    /// What was noted, where somebody wants to read it.
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            started: Instant::now(),
            state: Mutex::new(State {
                hasher: DefaultHasher::new(),
                events: 0,
                lines: keep.then(Vec::new),
            }),
        }
    }

    /// Microseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn note(&self, what: Arguments<'_>) {
        let line = format!("{:>10} {what}", self.now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        line.hash(&mut state.hasher);
        state.events += 1;
        if let Some(lines) = &mut state.lines {
            lines.push(line);
        }
    }

    /// The hash over all of it, and how many notes.
    pub(crate) fn finish(&self) -> (u64, u64, Vec<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = state.lines.take().unwrap_or_default();
        (state.hasher.finish(), state.events, lines)
    }
}

/// A short name for bytes.
pub(crate) fn digest(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(
        crc_fast::CrcAlgorithm::Crc32Iscsi,
        bytes,
    ))
    .unwrap_or(0)
}
