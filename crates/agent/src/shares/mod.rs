//! Share groups: queues over partitions (KIP-932).
//!
//! Who has acquired which records, how often each was delivered and what is done with lies in the quorum
//! ([`alluvium_metadata::SharePartition`]): an acquisition and an acknowledgement are one command each, so any
//! agent serves any member, and nothing is lost or given to two when an agent dies. In this agent's
//! memory are only the `membership` of the groups that it coordinates and the `sessions` of the members that
//! read through it.
//!
//! A fetch acquires first, as many records as fit by the average size of those around, and then reads what
//! it got (`reading`). Where there is nothing to acquire it waits for new records, for records that
//! are let go of, and for locks to run out.

mod delivery;
mod membership;
mod reading;
mod sessions;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{
    Acknowledgements, Acquired, Command, Outcome, SharePartition, ShareReset, State,
};
use alluvium_types::{Clock, ErrorCode, Offset, TopicPartition};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::fetch::Fetch;
use crate::freshness::Freshness;
use crate::groups::{GroupListing, GroupState, GroupType};
use crate::proposal;
use crate::registration::Registration;
use crate::task::ended;
use crate::topics::Topics;

use membership::Memberships;
use sessions::{FIRST, LAST, Sessions};
use settings::Settings;

pub use membership::{Assignment, ShareHeartbeat, ShareMember, ShareMembership};

/// How long the quorum may take for one command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// How often sessions are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// The share groups of an agent.
#[derive(Debug)]
pub struct Shares {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    metadata: Metadata,
    freshness: Freshness,
    registration: Registration,
    topics: Topics,
    clock: Arc<dyn Clock>,
    memberships: Mutex<Memberships>,
    sessions: Mutex<Sessions>,
}

/// What a member asks for.
#[derive(Clone, Debug)]
pub struct ShareFetch {
    /// Which group.
    pub group: String,
    /// Who.
    pub member: String,
    /// 0 opens a session, -1 ends it, else one more than before.
    pub session_epoch: i32,
    /// How long to wait when there is nothing.
    pub max_wait: Duration,
    /// Most bytes, about.
    pub max_bytes: usize,
    /// Most records.
    pub max_records: u32,
    /// Partitions that the session gets, with the bytes that each may give.
    pub added: Vec<(TopicPartition, usize)>,
    /// Partitions that it gives up.
    pub forgotten: Vec<TopicPartition>,
    /// What became of records that were acquired before.
    pub acknowledged: Vec<(TopicPartition, Vec<Acknowledgements>)>,
}

/// What a member gets of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SharedRecords {
    /// Why nothing could be read, if so.
    pub error: Option<ErrorCode>,
    /// What became of the acknowledgements, if there were any.
    pub acknowledged: Option<ErrorCode>,
    /// Whole batches; what was not acquired in them is not the member's.
    pub records: Bytes,
    /// What it has acquired.
    pub acquired: Vec<Acquired>,
}

/// The answer to a [`ShareFetch`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareFetched {
    /// For how many milliseconds the records are the member's.
    pub lock: i32,
    /// By partition; those with nothing to say are left out.
    pub partitions: BTreeMap<TopicPartition, SharedRecords>,
}

/// A share group's place in a partition, for tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOffset {
    /// The first offset that is not done with; -1 when the group has not begun there.
    pub start: Offset,
    /// Records from there to the high watermark that are not done with.
    pub lag: Offset,
}

impl Shares {
    pub(crate) fn start(
        registration: Registration,
        freshness: Freshness,
        metadata: Metadata,
        clock: Arc<dyn Clock>,
        topics: Topics,
    ) -> Self {
        let shared = Arc::new(Shared {
            metadata,
            freshness,
            registration,
            topics,
            clock,
            memberships: Mutex::default(),
            sessions: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&shared).expire(stop.clone()));
        Self {
            shared,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// A sign of life, a joining, or a leaving.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub async fn heartbeat(
        &self,
        fetch: &Fetch,
        beat: ShareHeartbeat,
    ) -> Result<ShareMembership, ErrorCode> {
        let shared = &self.shared;
        if beat.group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        if beat.epoch == FIRST {
            // It may name topics of which it has learned from another agent.
            let _ = shared.freshness.catch_up().await;
        }
        let (group, member) = (beat.group.clone(), beat.member.clone());
        let has_left = beat.epoch == LAST;
        let now = shared.clock.now();
        let told = shared.metadata.read(|state| {
            shared.coordinates(state, &group)?;
            let settings = Settings::of(&shared.topics, state, &group);
            let known = |name: &str| {
                let topic = state.topic_by_name(name)?;
                let partitions = alluvium_metadata::Partition::count(&topic.partitions);
                Some((topic.id, partitions))
            };
            let bounds = (settings.session, settings.max_size);
            shared.memberships().heartbeat(beat, bounds, &known, now)
        })?;
        if has_left {
            shared.release(&group, vec![member]).await;
        }
        if let Some(assignment) = &told.assignment {
            // From here on nothing that is produced is missed.
            let places = assignment.iter().flat_map(|(topic, partitions)| {
                partitions
                    .iter()
                    .map(|index| TopicPartition::new(*topic, *index))
            });
            let places: Vec<_> = places.collect();
            shared.begin(fetch, &group, &places).await?;
        }
        Ok(told)
    }

    /// The time between heartbeats of a group's members, in milliseconds.
    #[must_use]
    pub fn heartbeat_interval(&self, group: &str) -> i32 {
        self.shared.settings(group).heartbeat
    }

    /// A share group's epoch and members; none where it has no members.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`; `GROUP_ID_NOT_FOUND` for what is no share group.
    pub fn describe(&self, group: &str) -> Result<(i32, Vec<ShareMember>), ErrorCode> {
        let shared = &self.shared;
        shared.metadata.read(|state| {
            shared.coordinates(state, group)?;
            match shared.memberships().describe(group) {
                Some(known) => Ok(known),
                None if is_share_group(state, group) => Ok((0, Vec::new())),
                None => Err(ErrorCode::GroupIdNotFound),
            }
        })
    }

    /// Whether a group that this agent coordinates has members.
    #[must_use]
    pub fn has_members(&self, group: &str) -> bool {
        self.shared.memberships().has_members(group)
    }

    /// The share groups that this agent coordinates, as the view says.
    #[must_use]
    pub fn list(&self) -> Vec<GroupListing> {
        let shared = &self.shared;
        let me = shared.registration.id();
        shared.metadata.read(|state| {
            let memberships = shared.memberships();
            let durable = state
                .groups()
                .filter(|(id, group)| {
                    !group.shares.is_empty() && state.coordinator_of(id) == Some(me)
                })
                .map(|(id, _)| id);
            let ids: BTreeSet<&str> = durable.chain(memberships.ids()).collect();
            let listing = |id: &str| GroupListing {
                group: id.to_owned(),
                group_type: GroupType::Share,
                protocol_type: "share".to_owned(),
                state: if memberships.has_members(id) {
                    GroupState::Stable
                } else {
                    GroupState::Empty
                },
            };
            ids.into_iter().map(listing).collect()
        })
    }

    /// Notes what became of records, and acquires and reads others.
    ///
    /// # Errors
    /// What is wrong with the whole request.
    pub async fn fetch(
        &self,
        fetch: &Fetch,
        asked: &ShareFetch,
    ) -> Result<ShareFetched, ErrorCode> {
        let shared = &self.shared;
        let ShareFetch { group, member, .. } = asked;
        if group.is_empty() || member.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if asked.session_epoch == FIRST && !asked.acknowledged.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let reading = shared.sessions().request(
            (group, member),
            asked.session_epoch,
            &asked.added,
            &asked.forgotten,
            shared.clock.now(),
        )?;
        let mut answer = ShareFetched {
            lock: shared.settings(group).terms.lock,
            partitions: BTreeMap::new(),
        };
        for (place, code) in shared.acknowledge(group, member, &asked.acknowledged).await {
            answer.partitions.entry(place).or_default().acknowledged = Some(code);
        }
        if reading.ends {
            shared.release(group, vec![member.clone()]).await;
            return Ok(answer);
        }
        let deadline = Instant::now() + asked.max_wait;
        let places: Vec<TopicPartition> =
            reading.partitions.iter().map(|(place, _)| *place).collect();
        shared.begin(fetch, group, &places).await?;
        loop {
            // The seat is taken before the look: nothing is missed in between.
            let seat = fetch.seat(places.iter().copied());
            let last = shared
                .serve(fetch, asked, &reading.partitions, &mut answer)
                .await?;
            if let Some(last) = last {
                shared.sessions().served((group, member), last);
            }
            let is_over = asked.max_records == 0 || Instant::now() >= deadline;
            if !answer.partitions.is_empty() || is_over {
                return Ok(answer);
            }
            let until_lock = shared.until_timeout(group, &places);
            let wait = deadline.saturating_duration_since(Instant::now());
            let _ = timeout(wait.min(until_lock), seat.changed()).await;
        }
    }

    /// Notes what became of records.
    ///
    /// # Errors
    /// What is wrong with the whole request.
    pub async fn acknowledge(
        &self,
        asked: &ShareFetch,
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode> {
        let shared = &self.shared;
        let (group, member) = (asked.group.as_str(), asked.member.as_str());
        if asked.session_epoch == FIRST {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        let now = shared.clock.now();
        let reading =
            shared
                .sessions()
                .request((group, member), asked.session_epoch, &[], &[], now)?;
        let codes = shared.acknowledge(group, member, &asked.acknowledged).await;
        if reading.ends {
            shared.release(group, vec![member.to_owned()]).await;
        }
        Ok(codes)
    }

    /// Where a group stands in partitions, as the view says.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`; `GROUP_ID_NOT_FOUND` for what is no share group.
    pub fn offsets(
        &self,
        group: &str,
        choose: impl FnOnce(&State, &BTreeMap<TopicPartition, SharePartition>) -> Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, ShareOffset)>, ErrorCode> {
        let shared = &self.shared;
        shared.metadata.read(|state| {
            shared.coordinates(state, group)?;
            let known = state.group(group).filter(|group| !group.shares.is_empty());
            let known = known.ok_or(ErrorCode::GroupIdNotFound)?;
            let places = choose(state, &known.shares).into_iter();
            Ok(places
                .map(|place| (place, offset_of(state, known.shares.get(&place), place)))
                .collect())
        })
    }

    /// Has a group without members go on from other offsets; none forgets the partition.
    ///
    /// # Errors
    /// `NON_EMPTY_GROUP`, `GROUP_ID_NOT_FOUND`, `NOT_COORDINATOR`, or the quorum is not available.
    pub async fn reset(
        &self,
        group: &str,
        starts: Vec<(TopicPartition, Option<Offset>)>,
    ) -> Result<(), ErrorCode> {
        let shared = &self.shared;
        shared.metadata.read(|state| {
            shared.coordinates(state, group)?;
            if shared.memberships().has_members(group) {
                return Err(ErrorCode::NonEmptyGroup);
            }
            if is_share_group(state, group) {
                Ok(())
            } else {
                Err(ErrorCode::GroupIdNotFound)
            }
        })?;
        let group = group.to_owned();
        let command = Command::ShareReset(ShareReset { group, starts });
        shared.propose(command).await.map(|_| ())
    }

    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        ended(&self.task, "ends share group sessions").await;
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether a group is one that shares.
#[must_use]
pub fn is_share_group(state: &State, group: &str) -> bool {
    state
        .group(group)
        .is_some_and(|group| !group.shares.is_empty())
}

fn offset_of(state: &State, share: Option<&SharePartition>, place: TopicPartition) -> ShareOffset {
    let end = state
        .partition(place)
        .map_or(0, alluvium_metadata::Partition::high_watermark);
    share.map_or(ShareOffset { start: -1, lag: -1 }, |share| {
        let done = Offset::try_from(share.done()).unwrap_or(Offset::MAX);
        let behind = end.saturating_sub(share.start());
        ShareOffset {
            start: share.start(),
            lag: behind.saturating_sub(done).max(0),
        }
    })
}

impl Shared {
    fn memberships(&self) -> MutexGuard<'_, Memberships> {
        self.memberships
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self, group: &str) -> Settings {
        self.metadata
            .read(|state| Settings::of(&self.topics, state, group))
    }

    /// Whether this agent may speak for a group.
    fn coordinates(&self, state: &State, group: &str) -> Result<(), ErrorCode> {
        if !self.registration.lease_valid() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if state.coordinator_of(group) != Some(self.registration.id()) {
            return Err(ErrorCode::NotCoordinator);
        }
        // An id is one kind of group's.
        let other = state.group(group).is_some_and(|group| {
            group.record.is_some() || group.consumer.is_some() || !group.offsets.is_empty()
        });
        if other {
            return Err(ErrorCode::GroupIdNotFound);
        }
        Ok(())
    }

    async fn propose(&self, command: Command) -> Result<Outcome, ErrorCode> {
        proposal::outcome(&self.metadata, command, COMMAND_DEADLINE).await
    }

    /// Ends sessions that are over, and forgets groups that others coordinate.
    async fn expire(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(sleep(SWEEP)).await.is_some() {
            let me = self.registration.id();
            let is_valid = self.registration.lease_valid();
            let gone = self.metadata.read(|state| {
                let mut memberships = self.memberships();
                memberships.retain(|group| is_valid && state.coordinator_of(group) == Some(me));
                memberships.expire(self.clock.now())
            });
            for (group, members) in gone {
                tracing::info!(
                    group,
                    ?members,
                    "members of a share group were silent too long"
                );
                let release = self.release(&group, members);
                if stop.run_until_cancelled(release).await.is_none() {
                    return;
                }
            }
        }
    }
}
