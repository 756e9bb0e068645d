//! What is to be merged next.
//!
//! The planner keeps the groups of partitions that may hold something to merge: those that changed
//! since it looked, and at the start, when agents come or go, and now and then, all of them, a few at
//! a time. Each look takes the metadata's lock for a short while and counts what there is of each
//! level. A group is ready when a partition has many small runs, when there are bytes enough for an
//! object of its own, or when it has waited long. A job takes a ready group and fills its object with
//! groups of the same retention that have waited half as long, so that quiet partitions share objects
//! whose bytes expire together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use alluvium_metadata::{Change, State, Topic};
use alluvium_types::{AgentId, ObjectId, Offset, PartitionIndex, TopicId, TopicPartition};
use tokio::time::Instant;

use super::backlog::{Damaged, Figures, Rules, Stretch};
use crate::CompactionConfig;
use crate::ownership::{GROUP_PARTITIONS, group_of, owns_partitions};
use crate::policy::{Policies, TopicPolicy};

/// Groups that are looked at in one go, under the lock.
const GROUPS_AT_ONCE: usize = 8;

/// Groups that are looked at before the next job is chosen, most.
const GROUPS_A_TICK: usize = 1024;

/// Groups that one round of the scan brings in, most.
const SCANNED_A_TICK: usize = 2048;

/// Pieces of one job, most: its commands and reads stay few.
pub(super) const JOB_PIECES: usize = 16_384;

/// Damaged runs that are remembered.
const DAMAGED: usize = 65_536;

/// Bytes alone make a group ready only when so many pieces become one, on the average.
const WORTH: usize = 4;

/// Neighbouring partitions of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    topic: TopicId,
    index: PartitionIndex,
}

impl Group {
    fn of(at: TopicPartition) -> Self {
        Self {
            topic: at.topic,
            index: group_of(at.partition),
        }
    }

    fn places(self, topic: &Topic) -> impl Iterator<Item = TopicPartition> + use<> {
        let first = self.index.saturating_mul(GROUP_PARTITIONS);
        let count = PartitionIndex::try_from(topic.partitions.len()).unwrap_or(PartitionIndex::MAX);
        let last = first.saturating_add(GROUP_PARTITIONS).min(count);
        (first..last).map(move |index| TopicPartition::new(self.topic, index))
    }
}

/// Records of one class expire alike, so they may share objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    compact: bool,
    delete: bool,
    retention: Option<Duration>,
    retention_bytes: Option<u64>,
}

impl From<TopicPolicy> for Class {
    fn from(policy: TopicPolicy) -> Self {
        Self {
            compact: policy.compact,
            delete: policy.delete,
            retention: policy.retention,
            retention_bytes: policy.retention_bytes,
        }
    }
}

/// What is known of a group.
#[derive(Clone, Debug, Default)]
struct Known {
    class: Class,
    figures: [Figures; 2],
    /// Since when there is something of level 0.
    since: Option<Instant>,
    /// Below these offsets, by partition, nothing will ever be merged.
    final_to: Vec<Offset>,
}

/// Pieces that become one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The level of the pieces; the object's is one more.
    pub(crate) level: u8,
    /// Sorted by partition and offset.
    pub(crate) stretches: Vec<Stretch>,
    /// Bytes of all pieces.
    pub(crate) bytes: u64,
    groups: Vec<Group>,
}

/// Which groups are still to be looked through.
#[derive(Clone, Copy, Debug)]
enum Scan {
    /// From this group on; from the first where there is none.
    From(Option<Group>),
    /// Not before this time.
    At(Instant),
}

/// Keeps what may be merged and chooses what is.
#[derive(Debug)]
pub(crate) struct Planner {
    target_bytes: u64,
    large_run: u64,
    merge_runs: usize,
    merge_age: Duration,
    pending: BTreeMap<Group, Known>,
    /// Groups up to this one were looked at last.
    looked_to: Option<Group>,
    scan: Scan,
    damaged: Damaged,
}

impl Planner {
    pub(crate) fn new(config: &CompactionConfig) -> Self {
        Self {
            target_bytes: config.object_bytes(),
            large_run: config.large_run_bytes.min(config.object_bytes()),
            merge_runs: config.merge_runs.max(2),
            merge_age: config.merge_age,
            pending: BTreeMap::new(),
            looked_to: None,
            scan: Scan::From(None),
            damaged: Damaged::default(),
        }
    }

    /// Something changed.
    pub(crate) fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Partition(at) => _ = self.pending.entry(Group::of(*at)).or_default(),
                Change::Agents => self.rescan(),
                Change::Topics | Change::Groups | Change::Share(_) => {}
            }
        }
    }

    /// Anything may have changed.
    pub(crate) fn rescan(&mut self) {
        self.scan = Scan::From(None);
    }

    /// A run must not be touched any more.
    pub(crate) fn avoid(&mut self, object: ObjectId, position: u64) {
        if self.damaged.len() >= DAMAGED {
            self.damaged.clear();
        }
        self.damaged.insert((object, position));
    }

    /// The job was done, or somebody else did it: what is left of its groups waits anew.
    pub(crate) fn done(&mut self, job: &Job) {
        for group in &job.groups {
            if let Some(known) = self.pending.get_mut(group) {
                known.since = None;
                known.figures = Default::default();
            }
        }
    }

    /// The job could not be done: it is found again.
    pub(crate) fn failed(&mut self, job: &Job) {
        for group in &job.groups {
            self.pending.entry(*group).or_default();
        }
    }

    /// Looks at what is pending. `read` reads the state; each call of it is short.
    pub(crate) fn look(
        &mut self,
        read: &impl Fn(&mut dyn FnMut(&State)),
        policies: &dyn Policies,
        me: AgentId,
        now: Instant,
    ) {
        let mut scanned = 0;
        while scanned < SCANNED_A_TICK
            && let Some(count) = self.scan_on(read, me, now)
        {
            scanned += count;
        }
        let mut looked = 0;
        let mut from = self.looked_to;
        while looked < GROUPS_A_TICK.min(self.pending.len()) {
            let bound = from.map_or(Bound::Unbounded, Bound::Excluded);
            let groups = self.pending.range((bound, Bound::Unbounded));
            let groups: Vec<_> = groups
                .map(|(group, _)| *group)
                .take(GROUPS_AT_ONCE)
                .collect();
            // At the end, it goes on at the beginning.
            from = groups.last().copied();
            looked += groups.len();
            self.count(read, &groups, policies, me, now);
        }
        self.looked_to = from;
    }

    /// Goes on through all groups; how many it came by, or nothing where it is through.
    fn scan_on(
        &mut self,
        read: &impl Fn(&mut dyn FnMut(&State)),
        me: AgentId,
        now: Instant,
    ) -> Option<usize> {
        let after = match self.scan {
            Scan::From(after) => after,
            Scan::At(time) if now >= time => None,
            Scan::At(_) => return None,
        };
        let mut found = Vec::new();
        let mut count = 0;
        read(&mut |state| {
            let groups = all_groups(state, after).take(GROUPS_AT_ONCE * 8);
            for group in groups {
                count += 1;
                let first = group.index.saturating_mul(GROUP_PARTITIONS);
                let mine = owns_partitions(state, me, group.topic, first);
                found.push((group, mine));
            }
        });
        self.scan = match found.last() {
            Some((last, _)) => Scan::From(Some(*last)),
            None => Scan::At(now + self.merge_age),
        };
        for (group, mine) in &found {
            if *mine {
                // What was final may have become something else.
                self.pending.entry(*group).or_default().final_to.clear();
            }
        }
        (count > 0).then_some(count)
    }

    /// Counts what there is to merge in some groups; lets go of those with nothing.
    fn count(
        &mut self,
        read: &impl Fn(&mut dyn FnMut(&State)),
        groups: &[Group],
        policies: &dyn Policies,
        me: AgentId,
        now: Instant,
    ) {
        let rules = Rules {
            large_run: self.large_run,
            damaged: &self.damaged,
        };
        let pending = &mut self.pending;
        read(&mut |state| {
            for group in groups {
                let known = pending.get_mut(group);
                let topic = state.topic(group.topic);
                let (Some(known), Some(topic)) = (known, topic) else {
                    pending.remove(group);
                    continue;
                };
                let first = group.index.saturating_mul(GROUP_PARTITIONS);
                let mine = owns_partitions(state, me, group.topic, first);
                if !mine || !known.count(*group, &rules, state, topic, now) {
                    pending.remove(group);
                    continue;
                }
                known.class = policies.policy(state, topic).into();
            }
        });
    }

    /// What to do next, if there is anything.
    pub(crate) fn choose(
        &self,
        read: &impl Fn(&mut dyn FnMut(&State)),
        now: Instant,
    ) -> Option<Job> {
        [0, 1].into_iter().find_map(|level: u8| {
            let mut ready = self
                .pending
                .iter()
                .filter(|(_, known)| self.is_ready(known, level, now));
            let (first, known) = ready.next()?;
            let class = known.class;
            let mates = self.pending.iter().filter(|(group, known)| {
                let fills = known.class == class && self.may_fill(known, level, now);
                *group != first && fills
            });
            let mut groups: Vec<_> = std::iter::once(first)
                .chain(mates.map(|(group, _)| group))
                .collect();
            let mut job = self.fill(read, &mut groups, level, now);
            job.stretches
                .sort_by_key(|stretch| (stretch.partition, first_offset(stretch)));
            let pieces: usize = job.stretches.iter().map(|it| it.pieces.len()).sum();
            (pieces > job.stretches.len()).then_some(job)
        })
    }

    fn fill(
        &self,
        read: &impl Fn(&mut dyn FnMut(&State)),
        groups: &mut Vec<&Group>,
        level: u8,
        now: Instant,
    ) -> Job {
        let mut job = Job {
            level,
            stretches: Vec::new(),
            bytes: 0,
            groups: Vec::new(),
        };
        let mut room = Room {
            bytes: self.target_bytes,
            pieces: JOB_PIECES,
        };
        let rules = Rules {
            large_run: self.large_run,
            damaged: &self.damaged,
        };
        for group in groups.drain(..) {
            if room.is_full() {
                break;
            }
            let Some(known) = self.pending.get(group) else {
                continue;
            };
            // What stands alone goes along when it has waited, so that its object can go.
            let least = if self.has_waited(known, level, now) {
                1
            } else {
                2
            };
            read(&mut |state| {
                let Some(topic) = state.topic(group.topic) else {
                    return;
                };
                for (place, from) in group.places(topic).zip(known.from()) {
                    let Some(partition) = state.partition(place) else {
                        continue;
                    };
                    for stretch in rules.stretches(state, place, partition, from, level) {
                        if let Some(taken) = room.take(stretch, least) {
                            job.bytes = job.bytes.saturating_add(taken.bytes());
                            job.stretches.push(taken);
                        }
                    }
                }
            });
            job.groups.push(*group);
        }
        job
    }

    fn is_ready(&self, known: &Known, level: u8, now: Instant) -> bool {
        let Some(figures) = known.figures.get(usize::from(level)) else {
            return false;
        };
        if figures.shrinks_by() == 0 {
            return false;
        }
        let is_old = level == 0
            && known
                .since
                .is_some_and(|since| now >= since + self.merge_age);
        let is_much =
            figures.bytes >= self.target_bytes && figures.pieces >= WORTH * figures.stretches;
        figures.longest >= self.merge_runs || is_much || is_old
    }

    /// Whether a group joins a job of another: it would be ready soon.
    fn may_fill(&self, known: &Known, level: u8, now: Instant) -> bool {
        let Some(figures) = known.figures.get(usize::from(level)) else {
            return false;
        };
        let is_half = figures.longest * 2 >= self.merge_runs && figures.shrinks_by() > 0;
        figures.pieces > 0 && (is_half || self.has_waited(known, level, now))
    }

    fn has_waited(&self, known: &Known, level: u8, now: Instant) -> bool {
        level == 0
            && known
                .since
                .is_some_and(|since| now >= since + self.merge_age / 2)
    }
}

impl Known {
    /// Where to look from, by partition of the group.
    fn from(&self) -> impl Iterator<Item = Offset> + '_ {
        self.final_to.iter().copied().chain(std::iter::repeat(0))
    }

    /// False when there is nothing, and nothing will come without a change.
    fn count(
        &mut self,
        group: Group,
        rules: &Rules<'_>,
        state: &State,
        topic: &Topic,
        now: Instant,
    ) -> bool {
        let mut figures = [Figures::default(); 2];
        let mut unsettled = false;
        let mut final_to = Vec::with_capacity(self.final_to.len());
        for (place, from) in group.places(topic).zip(self.from()) {
            let Some(partition) = state.partition(place) else {
                continue;
            };
            let walked = Figures::count(&mut figures, rules, state, partition, from);
            unsettled |= walked.unsettled;
            final_to.push(walked.final_to);
        }
        let [new, _] = &figures;
        self.since = match self.since {
            Some(since) if new.pieces > 0 => Some(since),
            _ => (new.pieces > 0).then_some(now),
        };
        self.final_to = final_to;
        self.figures = figures;
        unsettled || new.pieces > 0 || figures.iter().any(|figures| figures.shrinks_by() > 0)
    }
}

/// What a job can still take.
#[derive(Clone, Copy, Debug)]
struct Room {
    bytes: u64,
    pieces: usize,
}

impl Room {
    const fn is_full(&self) -> bool {
        self.bytes == 0 || self.pieces == 0
    }

    /// As much of a stretch as there is room for, if that is at least `least` pieces.
    fn take(&mut self, mut stretch: Stretch, least: usize) -> Option<Stretch> {
        let mut left = self.bytes;
        let fits = stretch.pieces.iter().take(self.pieces).take_while(|piece| {
            let rest = left.checked_sub(piece.length);
            left = rest.unwrap_or(left);
            rest.is_some()
        });
        let count = fits.count();
        // What is left is too little for the next piece, so the job is full.
        let is_full = count < stretch.pieces.len();
        if count >= least {
            self.bytes = left;
            self.pieces -= count;
        }
        if is_full {
            self.bytes = 0;
        }
        stretch.pieces.truncate(count);
        (count >= least).then_some(stretch)
    }
}

fn first_offset(stretch: &Stretch) -> Offset {
    stretch.pieces.first().map_or(0, |piece| piece.base_offset)
}

/// All groups behind one, in order.
fn all_groups(state: &State, after: Option<Group>) -> impl Iterator<Item = Group> + '_ {
    let from = after.map_or(TopicId([0; 16]), |group| group.topic);
    state.topics_from(from).flat_map(move |topic| {
        let count = PartitionIndex::try_from(topic.partitions.len()).unwrap_or(PartitionIndex::MAX);
        let groups = count.saturating_add(GROUP_PARTITIONS - 1) / GROUP_PARTITIONS;
        let first = match after {
            Some(group) if group.topic == topic.id => group.index.saturating_add(1),
            _ => 0,
        };
        (first..groups).map(|index| Group {
            topic: topic.id,
            index,
        })
    })
}

#[cfg(test)]
mod tests;
