//! Which objects the manifests name, and how often.

use std::collections::BTreeMap;

use alluvium_types::{Millis, ObjectId};
use serde::{Deserialize, Serialize};

/// Counts of references. An object nobody names any more is dead for good: whoever sweeps the
/// bucket may be deleting it at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Objects {
    pub(crate) live: BTreeMap<ObjectId, Live>,
    pub(crate) dead: BTreeMap<ObjectId, Dead>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Live {
    /// Whole length.
    pub(crate) bytes: u64,
    /// How often its bytes were compacted.
    pub(crate) level: u8,
    /// Runs that name it; counted from the manifests when a snapshot is read.
    #[serde(skip)]
    pub(crate) runs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dead {
    /// Whole length.
    pub(crate) bytes: u64,
    /// The state's clock when the last run let go of it.
    pub(crate) died_at: Millis,
}

impl Objects {
    pub(crate) fn bytes(&self, object: ObjectId) -> Option<u64> {
        let live = self.live.get(&object).map(|live| live.bytes);
        live.or_else(|| self.dead.get(&object).map(|dead| dead.bytes))
    }

    pub(crate) fn level(&self, object: ObjectId) -> Option<u8> {
        self.live.get(&object).map(|live| live.level)
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.live.iter().map(|(object, live)| (*object, live.bytes))
    }

    pub(crate) fn dead(&self) -> impl Iterator<Item = (ObjectId, u64, Millis)> {
        let dead = self.dead.iter();
        dead.map(|(object, dead)| (*object, dead.bytes, dead.died_at))
    }

    /// Whether runs may name `object` of `bytes`; if not, says why.
    pub(crate) fn admit(&self, object: ObjectId, bytes: u64) -> Result<(), String> {
        if self.dead.contains_key(&object) {
            return Err(format!(
                "Object {object} was let go already and may be deleted."
            ));
        }
        match self.live.get(&object) {
            Some(live) if live.bytes != bytes => Err(format!(
                "Object {object} has {} bytes, not {bytes}.",
                live.bytes
            )),
            _ => Ok(()),
        }
    }

    /// Keeps an admitted object while a command that may name it is under way; it ends with
    /// [`Self::release`].
    pub(crate) fn hold(&mut self, object: ObjectId, bytes: u64, level: u8) {
        let live = self.live.entry(object).or_insert(Live {
            bytes,
            level,
            runs: 0,
        });
        live.runs += 1;
    }

    /// Ends [`Self::hold`]. An object that no run ever named is forgotten.
    pub(crate) fn release(&mut self, object: ObjectId, was_named: bool, at: Millis) {
        self.remove(object, at);
        if !was_named {
            self.dead.remove(&object);
        }
    }

    /// Counts new runs that name an object which is live.
    pub(crate) fn add(&mut self, object: ObjectId, runs: u64) {
        if let Some(live) = self.live.get_mut(&object) {
            live.runs += runs;
        }
    }

    /// Counts a run that names an object no longer.
    pub(crate) fn remove(&mut self, object: ObjectId, at: Millis) {
        let Some(live) = self.live.get_mut(&object) else {
            return;
        };
        live.runs = live.runs.saturating_sub(1);
        if live.runs == 0 {
            let (bytes, died_at) = (live.bytes, at);
            self.live.remove(&object);
            self.dead.insert(object, Dead { bytes, died_at });
        }
    }

    /// The object is deleted from the bucket.
    pub(crate) fn forget(&mut self, object: ObjectId) {
        self.dead.remove(&object);
    }

    pub(crate) fn check(
        &self,
        named: &BTreeMap<ObjectId, Named>,
        clock: Millis,
    ) -> Result<(), String> {
        for (object, found) in named {
            let Some(live) = self.live.get(object) else {
                return Err(format!("object {object} is named and not known"));
            };
            if live.runs != found.runs || live.bytes < found.end {
                return Err(format!("object {object} is {live:?}, found {found:?}"));
            }
        }
        if let Some(object) = self.live.keys().find(|object| !named.contains_key(object)) {
            return Err(format!("object {object} is live and not named"));
        }
        for (object, dead) in &self.dead {
            if self.live.contains_key(object) {
                return Err(format!("object {object} is live and dead"));
            }
            if dead.died_at > clock {
                return Err(format!("object {object} died after {clock}: {dead:?}"));
            }
        }
        Ok(())
    }
}

/// What the manifests say of an object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Named {
    pub(crate) runs: u64,
    /// One past the last byte that a run names.
    pub(crate) end: u64,
}
