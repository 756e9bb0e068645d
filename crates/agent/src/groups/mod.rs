//! Consumer groups that this agent coordinates (the classic protocol).
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
//! Memory is bounded: bytes of subscriptions and assignments per member, group and agent, members per
//! group, bytes of commits that wait to be written. A group that is empty and durable is not held in
//! memory at all. Waiting is bounded by rebalance and session timeouts; an answer whose connection is
//! gone is dropped, and its member falls to its session timeout.

mod coordinator;
mod group;
mod join;
mod member;
mod offsets;
mod rebalance;
mod request;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_cluster::{Applied, Metadata, ProposeError};
use alluvium_metadata::{AgentOrigin, GroupRecord, Outcome, State};
use alluvium_types::{Clock, ErrorCode, Millis};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::request::{
    CommitPartition, CommitTopic, Committer, FetchTopic, FetchedOffset, FetchedTopic,
    GroupDescription, GroupListing, GroupState, Heartbeat, JoinAnswer, JoinGroup, JoinRefused,
    Joined, JoinedMember, Leaver, SyncAnswer, SyncGroup, Synced,
};

use self::coordinator::{Coordinator, Durable};
use self::member::Waiter;
use self::settings::Settings;
use crate::budget::ByteBudget;
use crate::topics::Topics;

/// Commands that are proposed together.
const WRITES_AT_ONCE: usize = 1000;

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
    coordinator: Mutex<Coordinator>,
    timers_changed: Notify,
    writes_waiting: Notify,
    commits: ByteBudget,
    origin: AgentOrigin,
    metadata: Metadata,
    clock: Arc<dyn Clock>,
    topics: Topics,
    started: Instant,
}

impl Durable for Metadata {
    fn group(&self, id: &str) -> Option<Option<GroupRecord>> {
        self.read(|state| state.group(id).map(|group| group.record.clone()))
    }
}

impl Groups {
    /// Starts with the groups that the quorum remembers.
    pub(crate) fn start(
        origin: AgentOrigin,
        metadata: Metadata,
        clock: Arc<dyn Clock>,
        topics: Topics,
    ) -> Self {
        let shared = Arc::new(Shared {
            coordinator: Mutex::default(),
            timers_changed: Notify::new(),
            writes_waiting: Notify::new(),
            commits: ByteBudget::new(COMMIT_BYTES),
            origin,
            metadata,
            clock,
            topics,
            started: Instant::now(),
        });
        shared.restore();
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(run_timers(Arc::clone(&shared), stop.clone())),
            tokio::spawn(run_writes(Arc::clone(&shared), stop.clone())),
        ];
        Self {
            shared,
            tasks: Mutex::new(tasks),
            stop,
        }
    }

    /// A member joins. Waits until the generation is formed: at most for the rebalance timeout of
    /// the group's members. Dropping the future takes the waiting back, not the membership.
    ///
    /// # Errors
    /// See [`JoinRefused`].
    pub async fn join(&self, request: JoinGroup) -> JoinAnswer {
        let member_id = request.member_id.clone();
        let settings = self.shared.settings();
        let (waiter, answer) = Waiter::new();
        let id_bits = alluvium_types::random::value();
        self.shared.with(|coordinator, now| {
            coordinator.configure(settings);
            coordinator.join(now, request, id_bits, waiter, &self.shared.metadata);
        });
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
        self.shared
            .with(|coordinator, now| coordinator.sync(now, request, waiter));
        answer.await.unwrap_or(Err(ErrorCode::RebalanceInProgress))
    }

    /// A sign of life.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub fn heartbeat(&self, request: &Heartbeat) -> Result<(), ErrorCode> {
        self.shared
            .with(|coordinator, now| coordinator.heartbeat(now, request))
    }

    /// Members leave; one code for each.
    ///
    /// # Errors
    /// What is wrong with the whole request.
    pub fn leave(&self, group: &str, leavers: &[Leaver]) -> Result<Vec<ErrorCode>, ErrorCode> {
        self.shared
            .with(|coordinator, now| coordinator.leave(now, group, leavers))
    }

    /// Commits offsets and waits until they are durable and applied. One code for every partition of
    /// every topic. Commits are applied in the order in which these futures were first polled.
    pub async fn commit(
        &self,
        committer: &Committer,
        topics: Vec<CommitTopic>,
    ) -> Vec<Vec<ErrorCode>> {
        let shared = &self.shared;
        let (mut codes, offsets) = shared.metadata.read(|state| {
            let settings = Settings::read(&shared.topics, state);
            offsets::sort_commit(state, topics, settings.offset_metadata_bytes)
        });
        if offsets.is_empty() {
            return codes;
        }
        let lease = shared.commits.lease(offsets::commit_bytes(&offsets)).await;
        let (waiter, answer) = Waiter::new();
        shared.with(|coordinator, now| {
            coordinator.commit(
                now,
                committer,
                offsets,
                Some(lease),
                waiter,
                &shared.metadata,
            );
        });
        let code = answer.await.unwrap_or(ErrorCode::CoordinatorNotAvailable);
        for of_partition in codes.iter_mut().flatten() {
            if *of_partition == ErrorCode::None {
                *of_partition = code;
            }
        }
        codes
    }

    /// The committed offsets asked for, or all when nothing is asked for by name. Linearizable.
    ///
    /// # Errors
    /// The quorum is not available.
    pub async fn fetch_offsets(
        &self,
        group: &str,
        topics: Option<&[FetchTopic]>,
    ) -> Result<Vec<FetchedTopic>, ErrorCode> {
        let barrier = self.shared.metadata.barrier().await;
        barrier.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        Ok(self.shared.metadata.read(|state| match topics {
            Some(topics) => offsets::fetch(state, group, topics),
            None => offsets::fetch_all(state, group),
        }))
    }

    /// A group as it is; `None` when there is none.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        let described = self
            .shared
            .with(|coordinator, _| coordinator.describe(group));
        described.or_else(|| {
            let record = Durable::group(&self.shared.metadata, group)?.unwrap_or_default();
            Some(GroupDescription {
                state: GroupState::Empty,
                protocol_type: record.protocol_type,
                protocol: String::new(),
                members: Vec::new(),
            })
        })
    }

    /// All groups, by id.
    #[must_use]
    pub fn list(&self) -> Vec<GroupListing> {
        let mut groups: BTreeMap<String, GroupListing> = self.shared.metadata.read(empty_groups);
        self.shared.with(|coordinator, _| {
            groups.extend(
                coordinator
                    .list()
                    .map(|listing| (listing.group.clone(), listing)),
            );
        });
        groups.into_values().collect()
    }

    /// Deletes a group without members, with its offsets. The code says what became of it.
    pub async fn delete(&self, group: &str) -> ErrorCode {
        let (waiter, answer) = Waiter::new();
        self.shared.with(|coordinator, now| {
            coordinator.delete(now, group, waiter, &self.shared.metadata);
        });
        answer.await.unwrap_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// Answers whoever waits, writes what is queued and stops. Nobody loses membership: the sessions
    /// go on, with a fresh timeout, where the groups are taken up again.
    pub async fn shutdown(&self) {
        self.shared.with(|coordinator, now| coordinator.close(now));
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

/// Groups as the quorum knows them. Those with members are in memory and are told from there.
fn empty_groups(state: &State) -> BTreeMap<String, GroupListing> {
    state
        .groups()
        .map(|(id, group)| {
            let protocol_type = group
                .record
                .as_ref()
                .map(|record| record.protocol_type.clone())
                .unwrap_or_default();
            let listing = GroupListing {
                group: id.to_owned(),
                protocol_type,
                state: GroupState::Empty,
            };
            (id.to_owned(), listing)
        })
        .collect()
}

impl Shared {
    /// Milliseconds since the start, by a clock that nobody can set: sessions do not end because the
    /// time of day jumps.
    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn settings(&self) -> Settings {
        self.metadata
            .read(|state| Settings::read(&self.topics, state))
    }

    fn restore(&self) {
        let records: Vec<(String, GroupRecord)> = self.metadata.read(|state| {
            let with_members = state.groups().filter_map(|(id, group)| {
                let record = group
                    .record
                    .as_ref()
                    .filter(|record| !record.members.is_empty())?;
                Some((id.to_owned(), record.clone()))
            });
            with_members.collect()
        });
        let settings = self.settings();
        self.with(|coordinator, now| {
            coordinator.configure(settings);
            for (id, record) in &records {
                info!(
                    group = %id, generation = record.generation, members = record.members.len(),
                    "group is taken up again"
                );
                coordinator.restore(now, id, record);
            }
        });
    }

    /// Does something under the lock and wakes the tasks that have work from it.
    fn with<R>(&self, change: impl FnOnce(&mut Coordinator, Millis) -> R) -> R {
        let mut coordinator = self
            .coordinator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let deadline = coordinator.next_deadline();
        let result = change(&mut coordinator, self.now());
        let sooner = match (coordinator.next_deadline(), deadline) {
            (Some(after), Some(before)) => after < before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let writes = coordinator.has_writes();
        drop(coordinator);
        if sooner {
            self.timers_changed.notify_one();
        }
        if writes {
            self.writes_waiting.notify_one();
        }
        result
    }
}

async fn run_timers(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let deadline = shared.with(|coordinator, now| {
            coordinator.expire(now);
            coordinator.next_deadline()
        });
        let due = async {
            match deadline.and_then(|at| u64::try_from(at).ok()) {
                Some(at) => {
                    tokio::time::sleep_until(shared.started + Duration::from_millis(at)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.timers_changed.notified() => {}
            () = due => {}
        }
    }
}

/// Writes what is queued, one batch after another, so that the queue's order is the log's.
async fn run_writes(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let (commands, done) = shared.with(|coordinator, now| {
            coordinator.take_writes(now, shared.origin, shared.clock.now(), WRITES_AT_ONCE)
        });
        if commands.is_empty() {
            tokio::select! {
                biased;
                () = shared.writes_waiting.notified() => continue,
                () = stop.cancelled() => return,
            }
        }
        let results = codes(shared.metadata.propose_many(commands).await, done.len());
        shared.with(|coordinator, now| {
            for (done, result) in done.into_iter().zip(results) {
                coordinator.finish(now, done, result);
            }
        });
    }
}

/// An agent whose registration is stale does not coordinate any more; its clients look for who does.
const fn as_told(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered => ErrorCode::NotCoordinator,
        other => other,
    }
}

/// What clients are told of the outcomes: everything that may pass if tried again is retriable.
fn codes(applied: Result<Vec<Applied>, ProposeError>, count: usize) -> Vec<Result<(), ErrorCode>> {
    match applied {
        Ok(applied) => applied
            .into_iter()
            .map(|applied| match applied.outcome {
                Outcome::Refused(refusal) => {
                    warn!(%refusal, "the quorum refused a change to a group");
                    Err(as_told(refusal.code))
                }
                _ => Ok(()),
            })
            .chain(std::iter::repeat(Err(ErrorCode::CoordinatorNotAvailable)))
            .take(count)
            .collect(),
        Err(error) => {
            warn!(%error, "changes to groups could not be written");
            vec![Err(ErrorCode::CoordinatorNotAvailable); count]
        }
    }
}
