//! Which groups this agent coordinates: claiming them, taking them up, letting go of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_metadata::{AgentOrigin, Command, Group, Outcome, State};
use alluvium_types::{ErrorCode, Millis};
use tracing::{debug, info, warn};

use super::coordinator::Coordinator;
use super::{Moment, Shared};

/// How often a request tries to find its group in order. Each further time something changed under
/// it: another agent came, the lease ended.
const ATTEMPTS: usize = 5;

/// Longest group id in bytes. Kafka has no limit of its own; one is needed where every id that is
/// asked for may be remembered.
const GROUP_ID_BYTES: usize = 1024;

/// Groups that are claimed with one wait.
const CLAIMS_AT_ONCE: usize = 256;

/// Why a group cannot be served at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// It is another agent's, as the view says.
    Elsewhere,
    /// There is no such group, as the view says.
    Missing,
    /// It must be claimed first.
    Unclaimed,
    /// It must be taken into memory first.
    Unloaded,
    /// This agent coordinates nothing now.
    Unavailable,
}

impl Shared {
    /// Does something to a group that this agent coordinates; claims it, and takes it up, before.
    /// Only what `makes` a group claims one that holds nothing yet.
    ///
    /// # Errors
    /// What a Kafka client is told; all but `INVALID_GROUP_ID` make it try again.
    pub(super) async fn on<R>(
        &self,
        id: &str,
        makes: bool,
        act: impl FnOnce(&mut Coordinator, Millis) -> R,
    ) -> Result<R, ErrorCode> {
        if id.len() > GROUP_ID_BYTES {
            return Err(ErrorCode::InvalidGroupId);
        }
        let mut act = Some(act);
        // The view may lag behind what a client was told elsewhere.
        let mut is_fresh = false;
        for _ in 0..ATTEMPTS {
            let attempt = self.with(|coordinator, at| {
                match self.obstacle(coordinator, at, id) {
                    None => {}
                    Some(Obstacle::Missing) if is_fresh && !makes => {}
                    Some(Obstacle::Missing) if makes => return Err(Obstacle::Unclaimed),
                    Some(obstacle) => return Err(obstacle),
                }
                let act = act.take().ok_or(Obstacle::Unavailable)?;
                Ok(act(coordinator, at.now))
            });
            let obstacle = match attempt {
                Ok(result) => return Ok(result),
                Err(obstacle) => obstacle,
            };
            match obstacle {
                Obstacle::Unavailable => return Err(ErrorCode::CoordinatorNotAvailable),
                Obstacle::Elsewhere | Obstacle::Missing if is_fresh => {
                    return Err(ErrorCode::NotCoordinator);
                }
                Obstacle::Elsewhere => {
                    let caught_up = self.freshness.catch_up().await;
                    caught_up.map_err(|_| ErrorCode::NotCoordinator)?;
                    is_fresh = true;
                }
                Obstacle::Missing => {
                    let caught_up = self.freshness.catch_up().await;
                    caught_up.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
                    is_fresh = true;
                }
                Obstacle::Unclaimed => self.claim(id).await?,
                Obstacle::Unloaded => self.load_again(id).await?,
            }
        }
        debug!(
            group = id,
            "a group's coordinator changes too often to serve it"
        );
        Err(ErrorCode::CoordinatorLoadInProgress)
    }

    /// What stands in the way of serving a group. One that is not this agent's leaves memory.
    fn obstacle(&self, coordinator: &mut Coordinator, at: Moment, id: &str) -> Option<Obstacle> {
        if coordinator.is_closed() || !at.is_valid {
            return Some(Obstacle::Unavailable);
        }
        let is_held = coordinator.holds(id);
        let obstacle = self
            .metadata
            .read(|state| obstacle(state, at.origin, id, is_held));
        let lost = matches!(
            obstacle,
            Some(Obstacle::Elsewhere | Obstacle::Missing | Obstacle::Unclaimed)
        );
        if lost && is_held {
            let ids = BTreeSet::from([Arc::from(id)]);
            coordinator.abandon(at.now, &ids, ErrorCode::NotCoordinator);
        }
        obstacle
    }

    /// Claims a group and takes it up. Of many who ask at once one does it.
    async fn claim(&self, id: &str) -> Result<(), ErrorCode> {
        let turn = self.flights.enter(id);
        let _turn = turn.turn().await;
        let origin = self.registration.origin();
        let is_claimed = |state: &State| state.claimed_by(id) == Some(origin);
        if !self.metadata.read(is_claimed) {
            let group = id.to_owned();
            let command = Command::ClaimGroup { origin, group };
            match self.metadata.propose(command).await {
                Ok(applied) => self.claimed(origin, id, applied.outcome)?,
                Err(error) => {
                    warn!(group = id, %error, "a group could not be claimed");
                    return Err(ErrorCode::CoordinatorNotAvailable);
                }
            }
        }
        self.take_up(origin, id);
        Ok(())
    }

    fn claimed(&self, origin: AgentOrigin, id: &str, outcome: Outcome) -> Result<(), ErrorCode> {
        let Outcome::Refused(refusal) = outcome else {
            metrics::counter!("alluvium_group_claims_total").increment(1);
            return Ok(());
        };
        debug!(group = id, %refusal, "a claim on a group was refused");
        match refusal.code {
            ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered => {
                self.registration.lost(origin);
                Err(ErrorCode::CoordinatorNotAvailable)
            }
            _ => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Takes up a group that was claimed before, once the view holds what others wrote of it.
    async fn load_again(&self, id: &str) -> Result<(), ErrorCode> {
        let turn = self.flights.enter(id);
        let _turn = turn.turn().await;
        let origin = self.registration.origin();
        let barrier = self.freshness.current().await;
        barrier.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        self.take_up(origin, id);
        Ok(())
    }

    /// Takes a claimed group with members into memory. The view holds it as it was when it was
    /// claimed, and since then nobody else can have changed it.
    fn take_up(&self, origin: AgentOrigin, id: &str) {
        let settings = self.settings();
        self.with(|coordinator, at| {
            if at.origin != origin || !at.is_valid || coordinator.is_closed() {
                return;
            }
            let group = self.metadata.read(|state| {
                let is_mine = state.claimed_by(id) == Some(origin);
                let group = state.group(id).filter(|group| group.has_members());
                group.filter(|_| is_mine).cloned()
            });
            let Some(group) = group.filter(|_| !coordinator.holds(id)) else {
                return;
            };
            coordinator.configure(settings);
            info!(group = id, epoch = group.epoch(), "group is taken up");
            if let Some(record) = group.consumer {
                coordinator.restore_consumers(at.now, id, &record);
            } else if let Some(record) = group.record {
                coordinator.restore(at.now, id, &record);
            }
        });
    }

    /// Lets go of the groups that are not this agent's any more.
    pub(super) fn review(&self) {
        self.with(|coordinator, at| {
            let gone: BTreeSet<Arc<str>> = self.metadata.read(|state| {
                let is_gone = |id: &&Arc<str>| {
                    state.coordinator_of(id) != Some(at.origin.agent)
                        || state.claimed_by(id) != Some(at.origin)
                };
                coordinator.ids().filter(is_gone).cloned().collect()
            });
            if !gone.is_empty() {
                info!(groups = gone.len(), "groups are handed over");
                coordinator.abandon(at.now, &gone, ErrorCode::NotCoordinator);
            }
        });
    }

    /// Claims and takes up all groups with members that this agent is to coordinate: their members
    /// may be gone for good, and somebody must find out. False when it must be tried again.
    pub(super) async fn adopt(&self) -> bool {
        let held = self.registration.held();
        if !held.is_valid() {
            // It comes again with the lease.
            return true;
        }
        let origin = held.origin;
        let to_adopt: Vec<String> = self.with(|coordinator, _| {
            self.metadata.read(|state| {
                let with_members = state.groups().filter(|(_, group)| group.has_members());
                let is_to_adopt = |id: &&str| {
                    !coordinator.holds(id) && state.coordinator_of(id) == Some(origin.agent)
                };
                let ids = with_members.map(|(id, _)| id).filter(is_to_adopt);
                ids.map(str::to_owned).collect()
            })
        });
        for ids in to_adopt.chunks(CLAIMS_AT_ONCE) {
            let claim = |group: &String| Command::ClaimGroup {
                origin,
                group: group.clone(),
            };
            let commands = ids.iter().map(claim).collect();
            let applied = match self.metadata.propose_many(commands).await {
                Ok(applied) => applied,
                Err(error) => {
                    warn!(%error, "groups could not be claimed; trying again");
                    return false;
                }
            };
            for (id, applied) in ids.iter().zip(applied) {
                if self.claimed(origin, id, applied.outcome).is_ok() {
                    self.take_up(origin, id);
                }
            }
        }
        true
    }
}

fn obstacle(state: &State, origin: AgentOrigin, id: &str, is_held: bool) -> Option<Obstacle> {
    match state.coordinator_of(id) {
        Some(agent) if agent == origin.agent => {}
        Some(_) => return Some(Obstacle::Elsewhere),
        None => return Some(Obstacle::Unavailable),
    }
    if state.claimed_by(id) != Some(origin) {
        let is_there = state.group(id).is_some();
        return Some(if is_there {
            Obstacle::Unclaimed
        } else {
            Obstacle::Missing
        });
    }
    let has_members = state.group(id).is_some_and(Group::has_members);
    (!is_held && has_members).then_some(Obstacle::Unloaded)
}

/// Who is about to claim or load which group.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Arc<Mutex<UnderWay>>,
}

type UnderWay = BTreeMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>;

/// A place among those who want the same group; given up when it is dropped.
#[derive(Debug)]
struct Flight {
    id: Arc<str>,
    gate: Arc<tokio::sync::Mutex<()>>,
    under_way: Arc<Mutex<UnderWay>>,
}

impl Flights {
    fn enter(&self, id: &str) -> Flight {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let id: Arc<str> = id.into();
        let gate = under_way.entry(Arc::clone(&id)).or_default();
        Flight {
            id,
            gate: Arc::clone(gate),
            under_way: Arc::clone(&self.under_way),
        }
    }
}

impl Flight {
    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.gate.lock().await
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The table's and this one.
        if Arc::strong_count(&self.gate) <= 2 {
            under_way.remove(&self.id);
        }
    }
}
