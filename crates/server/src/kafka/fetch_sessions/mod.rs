//! Incremental fetch sessions (KIP-227): the client names only what changed, and is told only what
//! changed.

mod session;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_protocol::fetch::{FetchPartition, FetchRequest, FetchResponse};
use alluvium_types::{ErrorCode, Millis};

use session::Session;

/// Epoch of a request that wants no session.
const FINAL_EPOCH: i32 = -1;
/// Epoch of a request that asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// Session id for "none".
const NO_SESSION: i32 = 0;

/// A session that was not used, or did not exist, for this long may be evicted (Kafka's
/// `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_MILLIS: Millis = 120_000;

/// Partitions over all sessions. Past it there are no new sessions, so that their memory has an
/// end, whatever clients ask for.
const PARTITIONS: usize = 500_000;

/// The sessions of all connections.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    sessions: HashMap<i32, Slot>,
    slots: usize,
    partitions: usize,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    partitions: usize,
    created: Millis,
    used: Millis,
}

/// What a request asks for, its session taken into account.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Everything that is to be read.
    pub(crate) partitions: Vec<FetchPartition>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Sessionless,
    /// A session is to be made of this request, if there is room.
    Full {
        by_id: bool,
    },
    Incremental {
        id: i32,
        epoch: i32,
        session: Arc<Mutex<Session>>,
    },
}

impl FetchSessions {
    pub(crate) fn new(slots: usize) -> Self {
        let cache = Cache {
            sessions: HashMap::new(),
            slots,
            partitions: 0,
        };
        Self {
            cache: Mutex::new(cache),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a fetch. `by_id` says that the request names topics by id.
    ///
    /// # Errors
    /// The session is not there, is at another epoch, or names topics the other way. The client
    /// then starts over.
    pub(crate) fn begin(
        &self,
        fetch: FetchRequest,
        by_id: bool,
        now: Millis,
    ) -> Result<Plan, ErrorCode> {
        let FetchRequest {
            session_id,
            session_epoch,
            partitions,
            forgotten,
            ..
        } = fetch;
        if matches!(session_epoch, FINAL_EPOCH | INITIAL_EPOCH) {
            if session_id != NO_SESSION {
                self.cache().remove(session_id);
            }
            let kind = if session_epoch == FINAL_EPOCH {
                Kind::Sessionless
            } else {
                Kind::Full { by_id }
            };
            return Ok(Plan { partitions, kind });
        }
        let mut cache = self.cache();
        let Cache {
            sessions,
            partitions: total,
            ..
        } = &mut *cache;
        let slot = sessions
            .get_mut(&session_id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let shared = Arc::clone(&slot.session);
        let mut session = lock(&shared);
        if session.epoch != session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.update(partitions, &forgotten);
        *total = *total - slot.partitions + session.len();
        slot.partitions = session.len();
        slot.used = now;
        if session.is_empty() || *total > PARTITIONS {
            let is_empty = session.is_empty();
            cache.remove(session_id);
            return if is_empty {
                Ok(Plan {
                    partitions: Vec::new(),
                    kind: Kind::Sessionless,
                })
            } else {
                Err(ErrorCode::FetchSessionIdNotFound)
            };
        }
        session.epoch = next_epoch(session_epoch);
        let partitions = session.partitions();
        let epoch = session.epoch;
        drop(session);
        Ok(Plan {
            partitions,
            kind: Kind::Incremental {
                id: session_id,
                epoch,
                session: shared,
            },
        })
    }

    /// Ends a fetch: makes the session that was asked for, or takes out of the answer what its
    /// session knows already. `asked` are the plan's partitions, in the order of the answer's.
    pub(crate) fn finish(&self, plan: Plan, response: &mut FetchResponse, now: Millis) {
        match plan.kind {
            Kind::Sessionless => response.session_id = NO_SESSION,
            Kind::Full { by_id } => {
                let mut cache = self.cache();
                response.session_id = if cache.make_room(plan.partitions.len(), now) {
                    cache.insert(
                        Session::new(by_id, plan.partitions, &response.partitions),
                        now,
                    )
                } else {
                    NO_SESSION
                };
            }
            Kind::Incremental { id, epoch, session } => {
                let mut session = lock(&session);
                if session.epoch == epoch {
                    response.session_id = id;
                    session.keep_changes(&mut response.partitions);
                } else {
                    // Another request of the same session has overtaken this one.
                    response.error = ErrorCode::InvalidFetchSessionEpoch;
                    response.partitions.clear();
                }
            }
        }
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.sessions.remove(&id) {
            self.partitions -= slot.partitions;
        }
    }

    /// Makes room for a session of `partitions`: evicts the one unused for longest, if that was
    /// long enough; else a smaller one that had its time.
    fn make_room(&mut self, partitions: usize, now: Millis) -> bool {
        if self.slots == 0 || self.partitions + partitions > PARTITIONS {
            return false;
        }
        if self.sessions.len() < self.slots {
            return true;
        }
        let is_past = |since: Millis| now.saturating_sub(since) > EVICTION_MILLIS;
        let stale = self.sessions.iter().min_by_key(|(_, slot)| slot.used);
        let stale = stale
            .filter(|(_, slot)| is_past(slot.used))
            .map(|(id, _)| *id);
        let victim = stale.or_else(|| {
            let old = self
                .sessions
                .iter()
                .filter(|(_, slot)| is_past(slot.created));
            let smallest = old.min_by_key(|(_, slot)| slot.partitions);
            smallest
                .filter(|(_, slot)| slot.partitions < partitions)
                .map(|(id, _)| *id)
        });
        victim.map(|id| self.remove(id)).is_some()
    }

    fn insert(&mut self, session: Session, now: Millis) -> i32 {
        let id = loop {
            let id = rand::random::<i32>() & i32::MAX;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let partitions = session.len();
        self.partitions += partitions;
        let session = Arc::new(Mutex::new(session));
        self.sessions.insert(
            id,
            Slot {
                session,
                partitions,
                created: now,
                used: now,
            },
        );
        id
    }
}

/// Epochs go from 1 to the greatest and begin again at 1.
const fn next_epoch(epoch: i32) -> i32 {
    match epoch.checked_add(1) {
        Some(next) if next > 0 => next,
        _ => 1,
    }
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
