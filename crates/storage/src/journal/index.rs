//! Which entries there are, and where.

use std::collections::VecDeque;
use std::ops::Range;

use super::record::ALIGN;

/// Most entries that damage may have taken with it; what claims more is damage itself.
const MOST_LOST: u64 = 1 << 24;

/// First and next index of a log, and what was purged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    first: u64,
    next: u64,
    purged: Option<u64>,
}

impl Bounds {
    pub(super) fn range(&self) -> Range<u64> {
        self.first..self.next
    }

    pub(super) fn purged(&self) -> Option<u64> {
        self.purged
    }

    /// Takes an entry in, or says why it does not fit.
    pub(super) fn append(&mut self, index: u64) -> Result<(), String> {
        if self.first < self.next && index != self.next {
            return Err(format!(
                "entry {index} does not follow entry {}",
                self.next - 1
            ));
        }
        if let Some(purged) = self.purged.filter(|purged| index <= *purged) {
            return Err(format!(
                "entry {index} was purged (all up to {purged} were)"
            ));
        }
        let next = index.checked_add(1).ok_or("the index is out of bounds")?;
        if self.first == self.next {
            self.first = index;
        }
        self.next = next;
        Ok(())
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        let after_purged = self.purged.map_or(0, |purged| purged.saturating_add(1));
        self.next = self.next.min(index.saturating_add(1).max(after_purged));
        // Recovery may not know the first entries, because they were purged later on.
        self.first = self.first.min(self.next);
    }

    pub(super) fn purge_to(&mut self, index: u64) {
        self.purged = self.purged.max(Some(index));
        self.first = self.first.max(index.saturating_add(1));
        self.next = self.next.max(self.first);
    }
}

/// Where an entry lies: 8 bytes each, since there is one for every entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    /// The segment's sequence number.
    pub(super) segment: u32,
    /// Position in units of [`ALIGN`] bytes.
    unit: u32,
}

impl Location {
    pub(super) fn new(segment: u32, position: u64) -> Self {
        Self {
            segment,
            unit: u32::try_from(position / ALIGN).unwrap_or(u32::MAX),
        }
    }

    /// Of an entry that was lost with a damaged piece of its file. No segment has this number.
    const LOST: Self = Self {
        segment: 0,
        unit: 0,
    };

    pub(super) fn position(self) -> u64 {
        u64::from(self.unit) * ALIGN
    }
}

/// The entries that are on disk.
#[derive(Debug, Default)]
pub(super) struct Index {
    bounds: Bounds,
    locations: VecDeque<Location>,
}

impl Index {
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(super) fn append(&mut self, index: u64, location: Location) -> Result<(), String> {
        self.bounds.append(index)?;
        self.locations.push_back(location);
        Ok(())
    }

    /// Counts entries as lost, up to `index`, so that it can be appended. Says how many.
    pub(super) fn lose_to(&mut self, index: u64) -> Result<u64, String> {
        let range = self.bounds.range();
        if range.is_empty() || index <= range.end {
            return Ok(0);
        }
        let lost = index - range.end;
        if lost > MOST_LOST {
            return Err(format!("{lost} entries are missing before entry {index}"));
        }
        for index in range.end..index {
            self.append(index, Location::LOST)?;
        }
        Ok(lost)
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        self.bounds.truncate_after(index);
        let range = self.bounds.range();
        let kept = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        self.locations.truncate(kept);
    }

    pub(super) fn purge_to(&mut self, index: u64) {
        let before = self.bounds.range().start;
        self.bounds.purge_to(index);
        let gone =
            usize::try_from(self.bounds.range().start.saturating_sub(before)).unwrap_or(usize::MAX);
        self.locations.drain(..gone.min(self.locations.len()));
        if self.locations.len() < self.locations.capacity() / 4 {
            self.locations.shrink_to(self.locations.len() * 2);
        }
    }

    pub(super) fn get(&self, index: u64) -> Option<Location> {
        let at = index.checked_sub(self.bounds.range().start)?;
        self.locations.get(usize::try_from(at).ok()?).copied()
    }

    /// The oldest segment that holds an entry.
    pub(super) fn oldest_segment(&self) -> Option<u32> {
        self.locations
            .iter()
            .map(|location| location.segment)
            .find(|segment| *segment != Location::LOST.segment)
    }
}
