//! The bucket's objects beside those that the state names.

use alluvium_cluster::is_archive_key;
use alluvium_metadata::State;
use alluvium_objects::{key, parse_key};
use alluvium_storage::bucket::ObjectMeta;
use alluvium_types::{Millis, ObjectId};

use super::report::Counts;
use super::suspects::Suspects;

/// Before the keys that a store was proved with.
const PROOFS: &str = "prove/";

/// What is old enough to be judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Objects that were written by then, by the store's clock, are named or nothing.
    pub(super) settled_before: Millis,
    /// Objects that died by then, by the state's clock, should be deleted.
    pub(super) died_before: Millis,
}

/// Goes through a listing, which must come in the order of keys.
pub(super) struct Comparison {
    terms: Terms,
    /// Objects that nothing names any more, in order, and when they died.
    dead: Vec<(ObjectId, Millis)>,
    /// Objects that should be there, in order.
    live: Vec<(ObjectId, u64)>,
    /// Those before were compared.
    next: usize,
    suspects: Suspects,
}

impl Comparison {
    pub(super) fn new(state: &State, terms: Terms) -> Self {
        Self {
            terms,
            dead: state.dead_objects().map(|it| (it.0, it.2)).collect(),
            live: state.live_objects().collect(),
            next: 0,
            suspects: Suspects::default(),
        }
    }

    /// About how many objects will be listed.
    pub(super) fn expected(&self) -> u64 {
        u64::try_from(self.live.len()).unwrap_or(u64::MAX)
    }

    /// Compares what a listing shows.
    pub(super) fn see(&mut self, meta: ObjectMeta, counts: &mut Counts) {
        counts.listed += 1;
        // Only the very name of an object is one: a copy of it that lies elsewhere is not.
        let object = parse_key(&meta.key).filter(|object| key(*object) == meta.key);
        if let Some(object) = object {
            self.pass(object);
            self.object(object, meta, counts);
        } else if is_archive_key(&meta.key) {
            counts.archive_files += 1;
            counts.archive_bytes = counts.archive_bytes.saturating_add(meta.bytes);
        } else if meta.key.starts_with(PROOFS) {
            counts.proofs += 1;
        } else {
            counts.foreign += 1;
        }
    }

    /// What should have come before an object and did not is missing.
    fn pass(&mut self, object: ObjectId) {
        while let Some(expected) = self.live.get(self.next).filter(|it| it.0 < object) {
            self.suspects.missing.push(*expected);
            self.next += 1;
        }
    }

    fn object(&mut self, object: ObjectId, meta: ObjectMeta, counts: &mut Counts) {
        let named = self.live.get(self.next).filter(|it| it.0 == object);
        if let Some((_, named)) = named {
            self.next += 1;
            if *named != meta.bytes {
                let lengths = (*named, meta.bytes);
                self.suspects.wrong_length.push((object, lengths));
            }
            counts.live_objects += 1;
            counts.live_bytes = counts.live_bytes.saturating_add(meta.bytes);
        } else if let Ok(at) = self.dead.binary_search_by_key(&object, |it| it.0) {
            counts.dead_objects += 1;
            counts.dead_bytes = counts.dead_bytes.saturating_add(meta.bytes);
            let died = self.dead.get(at);
            if died.is_some_and(|(_, died_at)| *died_at < self.terms.died_before) {
                self.suspects.late.push((object, meta.bytes));
            }
        } else if meta.modified < self.terms.settled_before {
            self.suspects.orphans.push((object, meta));
        } else {
            counts.young_objects += 1;
            counts.young_bytes = counts.young_bytes.saturating_add(meta.bytes);
        }
    }

    /// The listing has ended.
    pub(super) fn finish(mut self) -> Suspects {
        let rest = self.live.get(self.next..).unwrap_or_default();
        self.suspects.missing.extend_from_slice(rest);
        self.suspects
    }
}
