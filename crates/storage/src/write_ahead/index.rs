//! Which chunks there are, and where in the journal.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ChunkName;

/// A chunk that is here.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Its entry.
    pub(super) index: u64,
    /// Where its bytes begin in the entry.
    pub(super) at: usize,
    /// How many there are.
    pub(super) bytes: u64,
    pub(super) mark: Option<Bytes>,
    /// How many bytes had been written before it.
    begin: u64,
}

/// The chunks, and what has been written so far.
#[derive(Debug)]
pub(super) struct Index {
    slots: BTreeMap<ChunkName, Slot>,
    /// The same by entry, for the oldest.
    by_entry: BTreeMap<u64, ChunkName>,
    next: u64,
    purged_to: u64,
    /// Bytes of all entries since the buffer was opened.
    written: u64,
    lost: u64,
}

impl Index {
    /// Nothing; the next entry is this.
    pub(super) fn new(next: u64) -> Self {
        Self {
            slots: BTreeMap::new(),
            by_entry: BTreeMap::new(),
            next,
            purged_to: next,
            written: 0,
            lost: 0,
        }
    }

    pub(super) fn get(&self, name: ChunkName) -> Option<&Slot> {
        self.slots.get(&name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = ChunkName> {
        self.slots.keys().copied()
    }

    /// Adds a chunk under the next entry, which is returned.
    pub(super) fn insert(&mut self, name: ChunkName, at: usize, bytes: u64) -> u64 {
        let begin = self.written;
        let index = self.count(bytes.saturating_add(at as u64));
        let slot = Slot {
            index,
            at,
            bytes,
            mark: None,
            begin,
        };
        if let Some(before) = self.slots.insert(name, slot) {
            self.by_entry.remove(&before.index);
        }
        self.by_entry.insert(index, name);
        index
    }

    /// Counts an entry, which is returned.
    pub(super) fn count(&mut self, bytes: u64) -> u64 {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        self.written = self.written.saturating_add(bytes);
        index
    }

    /// The next entry is this one.
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// False when there is no such chunk.
    pub(super) fn mark(&mut self, name: ChunkName, mark: Bytes) -> bool {
        let slot = self.slots.get_mut(&name);
        slot.map(|slot| slot.mark = Some(mark)).is_some()
    }

    /// False when there is no such chunk.
    pub(super) fn remove(&mut self, name: ChunkName) -> bool {
        let slot = self.slots.remove(&name);
        slot.map(|slot| self.by_entry.remove(&slot.index)).is_some()
    }

    /// The last entry that nobody needs any more, if that has changed.
    pub(super) fn purge(&mut self) -> Option<u64> {
        let oldest = self.by_entry.keys().next().copied().unwrap_or(self.next);
        if oldest <= self.purged_to {
            return None;
        }
        self.purged_to = oldest;
        oldest.checked_sub(1)
    }

    /// Bytes from the oldest chunk on.
    pub(super) fn used(&self) -> u64 {
        let oldest = self.by_entry.values().next();
        let begin = oldest
            .and_then(|name| self.slots.get(name))
            .map(|slot| slot.begin);
        begin.map_or(0, |begin| self.written.saturating_sub(begin))
    }

    /// An entry could not be read.
    pub(super) fn lose(&mut self) {
        self.lost += 1;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
