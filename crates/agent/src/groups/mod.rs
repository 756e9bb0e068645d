//! Groups that this agent coordinates: those of the classic protocol, and consumer groups of the newer one
//! ([`consumer`], [`consumers`]).
//!
//! Members live in this agent's memory; generations, members, assignments and committed offsets live
//! in the quorum. [`coordinator`] is plain data with the time as an argument; this module is the thin
//! shell around it: one lock, one task for all timers, one task that writes.
//!
//! A rebalance: members join (`join`), the last one or a timer ends the join phase and forms the next
//! generation (`rebalance`), its leader assigns with SyncGroup (`session`), the record with members
//! and assignments is made durable by the writing task, then every member is told its share. So
//! after a restart the group stands where its members believe it to stand, and they go on with no
//! rebalance.
//!
//! Many agents coordinate, each the groups for which it is the first of the live agents by
//! rendezvous hashing. Before it serves a group it claims it in the quorum (`claims`); from then on
//! the quorum takes what is written of the group from it alone. A group leaves memory when another
//! agent is to coordinate it, when this agent's lease has run out, and under a new registration; it
//! is taken up again, with fresh sessions, from what is durable. Members notice no more than that
//! they must look for their coordinator.
//!
//! Memory is bounded: bytes of subscriptions and assignments per member, group and agent, members per
//! group, bytes of commits that wait to be written. A group that is empty and durable is not held in
//! memory at all. Waiting is bounded by rebalance and session timeouts; an answer whose connection is
//! gone is dropped, and its member falls to its session timeout.

mod claims;
mod consumer;
mod consumers;
mod coordinator;
mod group;
mod join;
mod member;
mod offsets;
mod rebalance;
mod request;
mod retention;
mod session;
mod settings;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
mod transactional;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{AgentOrigin, Group, OffsetCommit, State};
use alluvium_types::{AgentId, Clock, ErrorCode, Millis, PartitionIndex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use self::request::{
    CommitPartition, CommitTopic, Committer, FetchTopic, FetchedOffset, FetchedTopic,
    GroupDescription, GroupListing, GroupState, GroupType, Heartbeat, JoinAnswer, JoinGroup,
    JoinRefused, Joined, JoinedMember, Leaver, SyncAnswer, SyncGroup, Synced,
};

pub use self::consumer::request::{
    ConsumerAnswer, ConsumerDescription, ConsumerHeartbeat, ConsumerMembership, ConsumerRefused,
};
pub use self::consumers::drawn_member_id;
pub use self::transactional::InTransactionOf;

use self::claims::Flights;
use self::coordinator::{CONSUMER, Coordinator, Durable, Remembered};
use self::member::Waiter;
use self::settings::Settings;
use crate::budget::ByteBudget;
use crate::freshness::Freshness;
use crate::registration::Registration;
use crate::topics::Topics;

/// Bytes of commits that may wait to be written; beyond them, committing clients wait.
const COMMIT_BYTES: usize = 16 << 20;

/// How long a shutdown waits for what is queued.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

/// The groups of an agent.
#[derive(Debug)]
pub struct Groups {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    timers_changed: Notify,
    writes_waiting: Notify,
    flights: Flights,
    commits: ByteBudget,
    registration: Registration,
    freshness: Freshness,
    metadata: Metadata,
    clock: Arc<dyn Clock>,
    topics: Topics,
    started: Instant,
}

/// The groups in memory, and under which registration they were claimed.
#[derive(Debug)]
struct Desk {
    coordinator: Coordinator,
    origin: AgentOrigin,
}

/// When, and as whom, something is done to groups.
#[derive(Clone, Copy, Debug)]
struct Moment {
    now: Millis,
    origin: AgentOrigin,
    /// Whether the lease holds. While it does not, nothing is in memory.
    is_valid: bool,
}

impl Durable for Metadata {
    fn group(&self, id: &str) -> Option<Remembered> {
        self.read(|state| Durable::group(state, id))
    }
}

impl Groups {
    /// Starts, and takes up the groups that this agent is to coordinate.
    pub(crate) fn start(
        registration: Registration,
        freshness: Freshness,
        metadata: Metadata,
        clock: Arc<dyn Clock>,
        topics: Topics,
    ) -> Self {
        let desk = Desk {
            coordinator: Coordinator::default(),
            origin: registration.origin(),
        };
        let shared = Arc::new(Shared {
            desk: Mutex::new(desk),
            timers_changed: Notify::new(),
            writes_waiting: Notify::new(),
            flights: Flights::default(),
            commits: ByteBudget::new(COMMIT_BYTES),
            registration,
            freshness,
            metadata,
            clock,
            topics,
            started: Instant::now(),
        });
        let stop = CancellationToken::new();
        // Subscribed before the first look.
        let changes = shared.metadata.subscribe();
        let tasks = vec![
            tokio::spawn(tasks::run_timers(Arc::clone(&shared), stop.clone())),
            tokio::spawn(tasks::run_writes(Arc::clone(&shared), stop.clone())),
            tokio::spawn(tasks::run_claims(
                Arc::clone(&shared),
                changes,
                stop.clone(),
            )),
            tokio::spawn(retention::run(Arc::clone(&shared), stop.clone())),
        ];
        Self {
            shared,
            tasks: Mutex::new(tasks),
            stop,
        }
    }

    /// The agent that is to coordinate a group, as this agent sees it. None when no agent is live.
    #[must_use]
    pub fn coordinator(&self, group: &str) -> Option<AgentId> {
        self.shared
            .metadata
            .read(|state| state.coordinator_of(group))
    }

    /// A member joins. Waits until the generation is formed: at most for the rebalance timeout of
    /// the group's members. Dropping the future takes the waiting back, not the membership.
    ///
    /// # Errors
    /// See [`JoinRefused`].
    pub async fn join(&self, request: JoinGroup) -> JoinAnswer {
        let shared = &self.shared;
        let (group, member_id) = (request.group.clone(), request.member_id.clone());
        if group.is_empty() {
            let code = ErrorCode::InvalidGroupId;
            return Err(JoinRefused { code, member_id });
        }
        let settings = shared.settings();
        let (waiter, answer) = Waiter::new();
        let id_bits = alluvium_types::random::value();
        let joined = shared.on(&group, true, |coordinator, now| {
            coordinator.configure(settings);
            let join = |state: &State| coordinator.join(now, request, id_bits, waiter, state);
            shared.metadata.read(join);
        });
        if let Err(code) = joined.await {
            return Err(JoinRefused { code, member_id });
        }
        // A channel that closes without an answer means that somebody joined again as this member.
        let unanswered = JoinRefused {
            code: ErrorCode::RebalanceInProgress,
            member_id,
        };
        answer.await.unwrap_or(Err(unanswered))
    }

    /// A member asks for its assignment. Waits until the leader has brought it and it is durable.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub async fn sync(&self, request: SyncGroup) -> SyncAnswer {
        let (waiter, answer) = Waiter::new();
        let group = request.group.clone();
        let metadata = &self.shared.metadata;
        let synced = self.shared.on(&group, false, |coordinator, now| {
            metadata.read(|state| coordinator.sync(now, request, waiter, state));
        });
        synced.await?;
        answer.await.unwrap_or(Err(ErrorCode::RebalanceInProgress))
    }

    /// A sign of life.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub async fn heartbeat(&self, request: &Heartbeat) -> Result<(), ErrorCode> {
        let beaten = self.shared.on(&request.group, false, |coordinator, now| {
            coordinator.heartbeat(now, request)
        });
        beaten.await?
    }

    /// Members leave; one code for each.
    ///
    /// # Errors
    /// What is wrong with the whole request.
    pub async fn leave(
        &self,
        group: &str,
        leavers: &[Leaver],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let left = self.shared.on(group, false, |coordinator, now| {
            coordinator.leave(now, group, leavers)
        });
        left.await?
    }

    /// Commits offsets and waits until they are durable and applied. One code for every partition of
    /// every topic. Commits are applied in the order in which these futures were first polled.
    pub async fn commit(
        &self,
        committer: &Committer,
        topics: Vec<CommitTopic>,
    ) -> Vec<Vec<ErrorCode>> {
        let shared = &self.shared;
        let (mut codes, offsets) = shared.sort(topics).await;
        if offsets.is_empty() {
            return codes;
        }
        let lease = shared.commits.lease(offsets::commit_bytes(&offsets)).await;
        let (waiter, answer) = Waiter::new();
        // One who assigns partitions to itself makes the group by committing.
        let makes = committer.generation < 0;
        let queued = shared.on(&committer.group, makes, |coordinator, now| {
            coordinator.commit(
                now,
                committer,
                offsets,
                Some(lease),
                waiter,
                &shared.metadata,
            );
        });
        let code = match queued.await {
            Ok(()) => answer.await.unwrap_or(ErrorCode::CoordinatorNotAvailable),
            Err(code) => code,
        };
        for of_partition in codes.iter_mut().flatten() {
            if *of_partition == ErrorCode::None {
                *of_partition = code;
            }
        }
        codes
    }

    /// The committed offsets asked for, or all when nothing is asked for by name. Linearizable. A member
    /// of a group of the newer protocol says who it is, and its epoch.
    ///
    /// # Errors
    /// Another agent coordinates the group, or the quorum is not available.
    pub async fn fetch_offsets(
        &self,
        group: &str,
        reader: Option<(&str, i32)>,
        topics: Option<&[FetchTopic]>,
    ) -> Result<Vec<FetchedTopic>, ErrorCode> {
        let shared = &self.shared;
        if let Some((member, epoch)) = reader {
            let checked = shared.on(group, false, |coordinator, _| {
                coordinator.check_reader(group, member, epoch)
            });
            checked.await??;
        }
        let barrier = shared.freshness.current().await;
        barrier.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        let me = shared.registration.id();
        shared.check_lease()?;
        shared.metadata.read(|state| {
            if state.coordinator_of(group) != Some(me) {
                return Err(ErrorCode::NotCoordinator);
            }
            Ok(match topics {
                Some(topics) => offsets::fetch(state, group, topics),
                None => offsets::fetch_all(state, group),
            })
        })
    }

    /// A group as it is; `None` when there is none.
    ///
    /// # Errors
    /// Another agent coordinates the group, or the quorum is not available.
    pub async fn describe(&self, group: &str) -> Result<Option<GroupDescription>, ErrorCode> {
        let metadata = &self.shared.metadata;
        let described = self.shared.on(group, false, |coordinator, _| {
            if let Some(group) = coordinator.describe(group) {
                return Some(group);
            }
            let known = Durable::group(metadata, group).filter(|_| !coordinator.holds(group))?;
            if known.consumer.is_some() {
                return None;
            }
            let record = known.classic.unwrap_or_default();
            Some(GroupDescription {
                state: GroupState::Empty,
                protocol_type: record.protocol_type,
                protocol: String::new(),
                members: Vec::new(),
            })
        });
        described.await
    }

    /// The groups that this agent is to coordinate, by id.
    ///
    /// # Errors
    /// The quorum is not available.
    pub async fn list(&self) -> Result<Vec<GroupListing>, ErrorCode> {
        let shared = &self.shared;
        let barrier = shared.freshness.current().await;
        barrier.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        shared.check_lease()?;
        let me = shared.registration.id();
        Ok(shared.with(|coordinator, _| {
            let mut groups = shared.metadata.read(|state| durable_groups(state, me));
            for listing in coordinator.list() {
                groups.insert(listing.group.clone(), listing);
            }
            groups.into_values().collect()
        }))
    }

    /// Deletes a group without members, with its offsets. The code says what became of it.
    pub async fn delete(&self, group: &str) -> ErrorCode {
        let (waiter, answer) = Waiter::new();
        let metadata = &self.shared.metadata;
        let queued = self.shared.on(group, false, |coordinator, now| {
            coordinator.delete(now, group, waiter, metadata);
        });
        match queued.await {
            Ok(()) => answer.await.unwrap_or(ErrorCode::CoordinatorNotAvailable),
            Err(code) => code,
        }
    }

    /// Has a group forget committed offsets. One code for every topic, which holds for all of its
    /// partitions: those that the members read keep theirs. What was not committed is no error.
    ///
    /// # Errors
    /// What is wrong with the whole request.
    pub async fn delete_offsets(
        &self,
        group: &str,
        topics: Vec<(String, Vec<PartitionIndex>)>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let shared = &self.shared;
        let barrier = shared.freshness.current().await;
        barrier.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        let (mut codes, known) = shared
            .metadata
            .read(|state| coordinator::sort_forgotten(state, topics));
        if known.is_empty() {
            return Ok(codes);
        }
        let (places, known): (Vec<usize>, Vec<_>) = known.into_iter().unzip();
        let (waiter, answer) = Waiter::new();
        let queued = shared.on(group, false, |coordinator, _| {
            coordinator.forget_offsets(group, known, waiter, &shared.metadata)
        });
        let are_read = queued.await??;
        match answer.await.unwrap_or(ErrorCode::CoordinatorNotAvailable) {
            ErrorCode::None => {}
            code => return Err(code),
        }
        for (place, is_read) in places.into_iter().zip(are_read) {
            if let Some(code) = codes.get_mut(place).filter(|_| is_read) {
                *code = ErrorCode::GroupSubscribedToTopic;
            }
        }
        Ok(codes)
    }

    /// Lets go of what other agents are to coordinate, as the view says.
    pub(crate) fn hand_over(&self) {
        self.shared.review();
    }

    /// Answers whoever waits, writes what is queued and stops. Nobody loses membership: the sessions
    /// go on, with a fresh timeout, where the groups are taken up again.
    pub async fn shutdown(&self) {
        self.shared
            .with(|coordinator, at| coordinator.close(at.now));
        self.stop.cancel();
        let tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        for mut task in tasks {
            if tokio::time::timeout(SHUTDOWN_WAIT, &mut task)
                .await
                .is_err()
            {
                warn!("group commits could not be written before the shutdown");
                task.abort();
            }
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An agent's groups as the quorum knows them. How those in memory stand is told from there.
fn durable_groups(state: &State, agent: AgentId) -> BTreeMap<String, GroupListing> {
    let mine = state
        .groups()
        .filter(|(id, _)| state.coordinator_of(id) == Some(agent));
    let listing = |(id, group): (&str, &Group)| {
        let record = group.record.as_ref();
        let is_newer = group.consumer.is_some();
        let protocol_type = record.map(|record| record.protocol_type.clone());
        let listing = GroupListing {
            group: id.to_owned(),
            group_type: if is_newer {
                GroupType::Consumer
            } else {
                GroupType::Classic
            },
            protocol_type: if is_newer {
                CONSUMER.to_owned()
            } else {
                protocol_type.unwrap_or_default()
            },
            state: if group.has_members() {
                GroupState::Stable
            } else {
                GroupState::Empty
            },
        };
        (id.to_owned(), listing)
    };
    mine.map(listing).collect()
}

impl Shared {
    /// Milliseconds since the start, by a clock that nobody can set: sessions do not end because the
    /// time of day jumps.
    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// What of a commit can be committed, and a code for every partition of it.
    async fn sort(&self, topics: Vec<CommitTopic>) -> (Vec<Vec<ErrorCode>>, Vec<OffsetCommit>) {
        let is_known = |state: &State| offsets::are_known(state, &topics);
        if !self.metadata.read(is_known)
            && let Err(error) = self.freshness.catch_up().await
        {
            debug!(%error, "a commit names topics that are not known here (yet)");
        }
        self.metadata.read(|state| {
            let settings = Settings::read(&self.topics, state);
            offsets::sort_commit(state, topics, settings.offset_metadata_bytes)
        })
    }

    fn settings(&self) -> Settings {
        self.metadata
            .read(|state| Settings::read(&self.topics, state))
    }

    /// The same with what a group of the newer protocol has set for itself.
    fn settings_of(&self, group: &str) -> Settings {
        self.metadata
            .read(|state| Settings::of(&self.topics, state, group))
    }

    /// While this agent's lease does not hold, another may coordinate in its place.
    fn check_lease(&self) -> Result<(), ErrorCode> {
        if self.registration.lease_valid() {
            Ok(())
        } else {
            Err(ErrorCode::CoordinatorNotAvailable)
        }
    }

    /// Does something under the lock and wakes the tasks that have work from it. What was claimed
    /// under a registration that is over, or may be, is let go of first: no session ends, and nobody
    /// is answered, in the name of a coordinator that is none.
    fn with<R>(&self, change: impl FnOnce(&mut Coordinator, Moment) -> R) -> R {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = &mut *desk;
        let held = self.registration.held();
        let at = Moment {
            now: self.now(),
            origin: held.origin,
            is_valid: held.is_valid(),
        };
        let coordinator = &mut desk.coordinator;
        if desk.origin != at.origin {
            desk.origin = at.origin;
            coordinator.abandon_all(at.now, ErrorCode::NotCoordinator);
        } else if !at.is_valid && !coordinator.is_closed() {
            coordinator.abandon_all(at.now, ErrorCode::CoordinatorNotAvailable);
        }
        let deadline = coordinator.next_deadline();
        let result = change(coordinator, at);
        let sooner = match (coordinator.next_deadline(), deadline) {
            (Some(after), Some(before)) => after < before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if sooner {
            self.timers_changed.notify_one();
        }
        if coordinator.has_writes() {
            self.writes_waiting.notify_one();
        }
        result
    }
}
