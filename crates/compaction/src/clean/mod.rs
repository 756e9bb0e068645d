//! Log compaction: of each key the newest record stays.
//!
//! Every agent looks at the partitions it owns whose `cleanup.policy` has `compact`. Where the share
//! that was not cleaned yet is greater than `min.cleanable.dirty.ratio`, or its oldest record older
//! than `max.compaction.lag.ms`, the partition is cleaned (`job`): the dirty part is read, and the
//! newest offset of each key noted in a table of bounded size (`map`); then the log is read from its
//! start, judged record by record (`filter`), and what stays goes into new objects (`output`), a
//! stretch of the manifest at a time.
//!
//! Offsets never change. A tombstone stays for `delete.retention.ms` after it was first met: the time
//! at which it may go stands in its batch (KIP-534). Batches that are left empty go; what must be known
//! of their producers is in the quorum.
//!
//! The log is cleaned up to its last stable offset at most, so how each transaction in it ended is known.
//! Records of aborted ones go, whatever their keys, and make nothing older go. When all are gone below
//! where the log is clean, the command that says so also ends that readers are told of the transactions
//! which ended there; their markers go with the next cleaning, never before. Where damage hides whether
//! records of an aborted transaction are left, the log is not clean, and waits for its repair.
//!
//! A crash leaves the log as it was before the last command, and an object that no run names. Memory:
//! the table, and half as much again at most: the object that is gathered, one run's output of at most
//! an object's size, and a few pieces being read.

mod aborted;
mod filter;
mod job;
mod map;
mod output;
mod plan;
mod read;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium_metadata::State;
use alluvium_storage::bucket::{Bucket, Cause};
use alluvium_types::{Millis, Offset, TopicId, TopicPartition};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ownership::owns_partitions;
use crate::{CompactionConfig, Context, TopicPolicy};
use job::{CleanError, Job};
use output::{Output, Throttle};
use plan::{Standing, standing};

pub use job::Cleaned;

/// Less than this waits for more, for a while: each cleaning costs requests.
const SMALL_BYTES: u64 = 1 << 20;

/// How many intervals it waits.
const SMALL_WAIT: u32 = 8;

/// Objects that hold what was cleaned are not smaller, where there is so much, and not larger.
const LEAST_OBJECT_BYTES: u64 = 64 << 10;
const MOST_OBJECT_BYTES: u64 = 64 << 20;

/// Longest that a log which could not be read is left alone.
const MOST_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Partitions looked at under one lock of the metadata.
const SLICE: usize = 512;

/// Cleans what this agent owns until it is told to stop.
pub(crate) async fn run(context: Context, config: CompactionConfig, stop: CancellationToken) {
    let mut ticks = interval(config.clean_interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cleaner = Cleaner::new(context, &config);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // What is dropped here leaves an object without a run at most.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = cleaner.round() => {}
        }
    }
}

/// What is remembered of a partition that is dirty.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    first: Offset,
    /// The time of its oldest dirty record, as well as it is known: merged runs tell less.
    since: Millis,
    /// When it was first seen to be due.
    due: Option<Instant>,
}

/// Cleans partitions, one at a time.
#[derive(Debug)]
pub struct Cleaner {
    context: Context,
    bucket: Bucket,
    map_bytes: u64,
    object_bytes: u64,
    small_wait: Duration,
    throttle: Throttle,
    dirty: BTreeMap<TopicPartition, Dirty>,
    /// Logs that could not be read.
    unreadable: BTreeMap<TopicPartition, Unreadable>,
    first_patience: Duration,
}

/// A log that could not be read: an object is missing, say. Each try reads all that is before it.
#[derive(Clone, Copy, Debug)]
struct Unreadable {
    again_at: Instant,
    patience: Duration,
}

impl Cleaner {
    /// For this agent's share.
    #[must_use]
    pub fn new(context: Context, config: &CompactionConfig) -> Self {
        let bucket = context.bucket.for_cause(Cause::Compaction);
        let object_bytes = config.target_bytes.min(config.clean_memory_bytes / 8);
        Self {
            context,
            bucket,
            map_bytes: config.clean_memory_bytes,
            object_bytes: object_bytes.clamp(LEAST_OBJECT_BYTES, MOST_OBJECT_BYTES),
            small_wait: config.clean_interval.saturating_mul(SMALL_WAIT),
            throttle: Throttle::new(config.bytes_per_second),
            dirty: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            first_patience: config.clean_interval,
        }
    }

    /// Cleans every partition that is due, once. Failures are logged; the next round tries again.
    /// Returns what was done to each.
    pub async fn round(&mut self) -> Vec<(TopicPartition, Cleaned)> {
        let due = self.due().await;
        let (dirty, now) = (&self.dirty, Instant::now());
        if self.context.owner.origin().is_some() {
            self.unreadable.retain(|at, _| dirty.contains_key(at));
        }
        let throttle = &mut self.throttle;
        let mut output = Output::new(&self.context, &self.bucket, self.object_bytes, throttle);
        let mut done = Vec::with_capacity(due.len());
        for (partition, policy) in due {
            let known = self.unreadable.get(&partition).copied();
            if known.is_some_and(|known| known.again_at > now) {
                continue;
            }
            let started = Instant::now();
            let mut job = Job {
                context: &self.context,
                bucket: &self.bucket,
                partition,
                policy: &policy,
                map_bytes: self.map_bytes,
                cleaned: Cleaned::default(),
                open: BTreeSet::new(),
            };
            let result = job.run(&mut output).await;
            let cleaned = job.cleaned;
            count(&cleaned, started);
            match result {
                Ok(()) => {
                    self.unreadable.remove(&partition);
                    done.push((partition, cleaned));
                }
                Err(error) => {
                    failed(Some(partition), &error);
                    match error {
                        CleanError::Output(error) if !error.is_of_one_log() => return done,
                        CleanError::Read(error) if error.may_pass() => {}
                        CleanError::Output(_) | CleanError::Read(_) => {
                            let patience = known.map_or(self.first_patience, |known| {
                                known.patience.saturating_mul(2).min(MOST_PATIENCE)
                            });
                            let again_at = Instant::now() + patience;
                            let unreadable = Unreadable { again_at, patience };
                            self.unreadable.insert(partition, unreadable);
                        }
                        CleanError::Changed => {}
                    }
                }
            }
        }
        if let Err(error) = output.flush().await {
            failed(None, &error.into());
        }
        done
    }

    /// The partitions to clean now, in order.
    async fn due(&mut self) -> Vec<(TopicPartition, TopicPolicy)> {
        let now = self.context.clock.now();
        let before = std::mem::take(&mut self.dirty);
        let mut due = Vec::new();
        let mut dirtiest = 0f64;
        let mut next = Some(TopicPartition::new(TopicId::ZERO, 0));
        while let Some(from) = next {
            let Some(origin) = self.context.owner.origin() else {
                break;
            };
            let (context, dirty) = (&self.context, &mut self.dirty);
            let small_wait = self.small_wait;
            next = context.metadata.read(|state| {
                slice(context, state, from, |at, standing, policy| {
                    if !owns_partitions(state, origin.agent, at.topic, at.partition) {
                        return;
                    }
                    dirtiest = dirtiest.max(standing.dirty_ratio());
                    let known = before
                        .get(&at)
                        .filter(|it| it.first == standing.first_dirty);
                    let mut seen = Dirty {
                        first: standing.first_dirty,
                        since: known.map_or(standing.dirty_since, |known| {
                            known.since.min(standing.dirty_since)
                        }),
                        due: known.and_then(|known| known.due),
                    };
                    if standing.is_due(policy, now, seen.since) {
                        let since = *seen.due.get_or_insert_with(Instant::now);
                        let is_small = standing.dirty_bytes < SMALL_BYTES;
                        if !is_small || since.elapsed() >= small_wait {
                            due.push((at, policy.clone()));
                        }
                    }
                    if standing.dirty_bytes > 0 {
                        dirty.insert(at, seen);
                    }
                })
            });
            tokio::task::yield_now().await;
        }
        metrics::gauge!("alluvium_clean_max_dirty_ratio").set(dirtiest);
        due
    }
}

/// Looks at some partitions of compacted topics from one on; the one that comes next.
fn slice(
    context: &Context,
    state: &State,
    from: TopicPartition,
    mut look: impl FnMut(TopicPartition, Standing, &TopicPolicy),
) -> Option<TopicPartition> {
    let now = context.clock.now();
    let mut left = SLICE;
    for topic in state.topics_from(from.topic) {
        let first = if topic.id == from.topic {
            from.partition
        } else {
            0
        };
        if left == 0 {
            return Some(TopicPartition::new(topic.id, first));
        }
        left -= 1;
        let policy = context.policies.policy(state, topic);
        if !policy.compact {
            continue;
        }
        let skipped = usize::try_from(first).unwrap_or(usize::MAX);
        for (at, partition) in (0..).zip(&topic.partitions).skip(skipped) {
            let at = TopicPartition::new(topic.id, at);
            if left == 0 {
                return Some(at);
            }
            left -= 1;
            if let Some(standing) = standing(partition, &policy, now) {
                look(at, standing, &policy);
            }
        }
    }
    None
}

fn count(cleaned: &Cleaned, started: Instant) {
    metrics::counter!("alluvium_clean_partitions_total").increment(1);
    metrics::counter!("alluvium_clean_passes_total").increment(u64::from(cleaned.passes));
    metrics::counter!("alluvium_clean_read_bytes_total").increment(cleaned.read_bytes);
    metrics::counter!("alluvium_clean_records_removed_total").increment(cleaned.removed);
    metrics::histogram!("alluvium_clean_seconds").record(started.elapsed().as_secs_f64());
}

fn failed(partition: Option<TopicPartition>, error: &CleanError) {
    metrics::counter!("alluvium_clean_failures_total").increment(1);
    tracing::warn!(?partition, %error, "a log could not be cleaned; trying again");
}
