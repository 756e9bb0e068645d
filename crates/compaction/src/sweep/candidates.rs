//! Objects that no manifest names, and how old they are known to be.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_types::{Millis, ObjectId};
use tokio::time::Instant;

/// Most that are kept. Those beyond wait until there is room.
const MOST: usize = 65_536;

/// What a listing showed and no manifest named.
#[derive(Debug)]
pub(super) struct Candidates {
    age: Duration,
    seen: BTreeMap<ObjectId, Seen>,
    /// The newest time that the store has shown. The store's clock is at least there.
    newest: Millis,
    pass: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When this process saw it for the first time.
    since: Instant,
    /// In which pass it was seen last.
    pass: u64,
}

impl Candidates {
    pub(super) const fn new(age: Duration) -> Self {
        Self {
            age,
            seen: BTreeMap::new(),
            newest: Millis::MIN,
            pass: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Something in the bucket was written at this time of the store's.
    pub(super) fn store_showed(&mut self, modified: Millis) {
        self.newest = self.newest.max(modified);
    }

    /// A caught-up view does not name it. True when it is new here.
    pub(super) fn note(&mut self, object: ObjectId, now: Instant) -> bool {
        let pass = self.pass;
        if let Some(seen) = self.seen.get_mut(&object) {
            seen.pass = pass;
            return false;
        }
        let has_room = self.seen.len() < MOST;
        if has_room {
            self.seen.insert(object, Seen { since: now, pass });
        }
        has_room
    }

    /// Whether an object that was noted is old enough to be deleted: for certain half its age here, and
    /// its whole age here or by the store's clock.
    pub(super) fn is_ripe(&self, object: ObjectId, modified: Millis, now: Instant) -> bool {
        let Some(seen) = self.seen.get(&object) else {
            return false;
        };
        let here = now - seen.since;
        let by_store = u64::try_from(self.newest.saturating_sub(modified)).unwrap_or(0);
        here >= self.age / 2 && here.max(Duration::from_millis(by_store)) >= self.age
    }

    pub(super) fn remove(&mut self, object: ObjectId) {
        self.seen.remove(&object);
    }

    /// The whole bucket was seen: what was not is gone, or named by now.
    pub(super) fn end_pass(&mut self) {
        let pass = self.pass;
        self.seen.retain(|_, seen| seen.pass == pass);
        self.pass += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MILLIS: Millis = 3_600_000;
    const OBJECT: ObjectId = ObjectId(1);

    #[tokio::test(start_paused = true)]
    async fn age_is_told_by_the_store_but_never_by_it_alone() {
        let mut candidates = Candidates::new(HOUR);
        let begun = Instant::now();
        candidates.store_showed(10 * MILLIS);
        assert!(candidates.note(OBJECT, begun));
        assert!(!candidates.note(OBJECT, begun));
        // Days old by the store's clock, which may have jumped.
        assert!(!candidates.is_ripe(OBJECT, 0, begun));
        assert!(!candidates.is_ripe(OBJECT, 0, begun + HOUR / 2 - Duration::from_millis(1)));
        assert!(candidates.is_ripe(OBJECT, 0, begun + HOUR / 2));
        // Young by the store's clock: this process must have seen all of its age.
        assert!(!candidates.is_ripe(OBJECT, 10 * MILLIS, begun + HOUR / 2));
        assert!(candidates.is_ripe(OBJECT, 10 * MILLIS, begun + HOUR));
        // The store's clock went back, or the object is from its future.
        assert!(!candidates.is_ripe(OBJECT, Millis::MAX, begun + HOUR / 2));
        assert!(!candidates.is_ripe(ObjectId(2), 0, begun + HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_pass_does_not_show_begins_anew() {
        let mut candidates = Candidates::new(HOUR);
        let begun = Instant::now();
        candidates.note(OBJECT, begun);
        candidates.note(ObjectId(2), begun);
        candidates.end_pass();
        candidates.note(OBJECT, begun + HOUR);
        candidates.end_pass();
        assert_eq!(candidates.len(), 1);
        assert!(candidates.is_ripe(OBJECT, 0, begun + HOUR));
        assert!(candidates.note(ObjectId(2), begun + HOUR));
        assert!(!candidates.is_ripe(ObjectId(2), 0, begun + HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let mut candidates = Candidates::new(HOUR);
        let now = Instant::now();
        for id in 0..MOST as u128 + 100 {
            candidates.note(ObjectId(id), now);
        }
        assert_eq!(candidates.len(), MOST);
        candidates.remove(OBJECT);
        assert!(candidates.note(ObjectId(u128::MAX), now));
    }
}
