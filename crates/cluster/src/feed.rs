//! What was applied here lately, for those who follow.
//!
//! The state machine puts every entry in as it is applied; [`subscription`] streams from here to the
//! observers, which share the bytes. What is older than the feed's bound is read from the log, and
//! what was purged from that is in a [`snapshot`] of the state. A subscriber costs the node little
//! more than its place in the log: it is sent the next bytes when it has taken the last.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

mod snapshot;
mod subscription;

pub(crate) use snapshot::SharedSnapshot;
pub(crate) use subscription::{Source, Standing, subscribe};

/// Bytes of entries that are kept.
pub(crate) const FEED_BYTES: usize = 32 << 20;
/// What an entry costs beyond its bytes.
const ENTRY_BYTES: usize = 64;

/// The newest entries, contiguous. A command is kept as it was encoded, anything else as `None`.
#[derive(Debug)]
pub(crate) struct Feed {
    entries: Mutex<Entries>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Entries {
    first: u64,
    commands: VecDeque<Option<Bytes>>,
    bytes: usize,
}

/// What lies at a place of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// The entries from there on, at least one.
    Entries(Vec<Option<Bytes>>),
    /// Nothing yet.
    End,
    /// It was there, if ever, and is no more.
    Gone,
}

impl Default for Feed {
    fn default() -> Self {
        Self::new(FEED_BYTES)
    }
}

impl Feed {
    /// Keeps at most `limit` bytes, and the newest entry in any case.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: Mutex::default(),
            limit,
        }
    }

    /// Adds an entry that is committed. One that does not follow the last begins the feed anew.
    pub(crate) fn push(&self, index: u64, command: Option<Bytes>) {
        let mut entries = self.entries();
        if entries.next_index() != index {
            *entries = Entries {
                first: index,
                ..Entries::default()
            };
        }
        entries.bytes += cost(command.as_ref());
        entries.commands.push_back(command);
        while entries.bytes > self.limit && entries.commands.len() > 1 {
            if let Some(oldest) = entries.commands.pop_front() {
                entries.bytes -= cost(oldest.as_ref());
                entries.first += 1;
            }
        }
    }

    /// Entries from index `from`, at least one and about `max_bytes`.
    pub(crate) fn read(&self, from: u64, max_bytes: usize) -> Stretch {
        let entries = self.entries();
        let Some(skip) = from.checked_sub(entries.first) else {
            return Stretch::Gone;
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        if skip >= entries.commands.len() {
            return Stretch::End;
        }
        let mut bytes = 0_usize;
        let stretch = entries
            .commands
            .range(skip..)
            .take_while(|command| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(cost(command.as_ref()));
                first || bytes <= max_bytes
            })
            .cloned()
            .collect();
        Stretch::Entries(stretch)
    }

    /// From where on a node that has applied what lies below `reached` can go on by entries.
    pub(crate) fn begin(&self, reached: u64) -> u64 {
        let entries = self.entries();
        if entries.next_index() < reached {
            return reached;
        }
        entries.first
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn next_index(&self) -> u64 {
        self.first
            .saturating_add(u64::try_from(self.commands.len()).unwrap_or(u64::MAX))
    }
}

fn cost(command: Option<&Bytes>) -> usize {
    command.map_or(0, Bytes::len).saturating_add(ENTRY_BYTES)
}

#[cfg(test)]
mod tests;
