//! Which objects the manifests name, and how often.

use std::collections::BTreeMap;

use alluvium_types::ObjectId;
use serde::{Deserialize, Serialize};

use crate::runs::{Run, RunLocation};

/// Counts of references. An object nobody names any more is dead for good: whoever sweeps the
/// bucket may be deleting it at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Objects {
    live: BTreeMap<ObjectId, Live>,
    dead: BTreeMap<ObjectId, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Live {
    /// Whole length.
    bytes: u64,
    /// Runs that name it; counted from the manifests when a snapshot is read.
    #[serde(skip)]
    runs: u64,
}

impl Objects {
    pub(crate) fn bytes(&self, object: ObjectId) -> Option<u64> {
        let live = self.live.get(&object).map(|live| live.bytes);
        live.or_else(|| self.dead.get(&object).copied())
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.live.iter().map(|(object, live)| (*object, live.bytes))
    }

    pub(crate) fn dead(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.dead.iter().map(|(object, bytes)| (*object, *bytes))
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

    /// Counts new runs that name an admitted object.
    pub(crate) fn add(&mut self, object: ObjectId, bytes: u64, runs: u64) {
        if runs > 0 {
            self.live
                .entry(object)
                .or_insert(Live { bytes, runs: 0 })
                .runs += runs;
        }
    }

    /// Counts runs that name an object no longer.
    pub(crate) fn remove(&mut self, object: ObjectId, runs: u64) {
        let Some(live) = self.live.get_mut(&object) else {
            return;
        };
        live.runs = live.runs.saturating_sub(runs);
        if live.runs == 0 {
            let bytes = live.bytes;
            self.live.remove(&object);
            self.dead.insert(object, bytes);
        }
    }

    /// Counts a run of a snapshot.
    pub(crate) fn count(&mut self, run: &Run) {
        if let RunLocation::Object { object, .. } = &run.location
            && let Some(live) = self.live.get_mut(object)
        {
            live.runs += 1;
        }
    }

    pub(crate) fn check(&self, named: &BTreeMap<ObjectId, Named>) -> Result<(), String> {
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
        match self
            .dead
            .keys()
            .find(|object| self.live.contains_key(object))
        {
            Some(object) => Err(format!("object {object} is live and dead")),
            None => Ok(()),
        }
    }
}

/// What the manifests say of an object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Named {
    pub(crate) runs: u64,
    /// One past the last byte that a run names.
    pub(crate) end: u64,
}
