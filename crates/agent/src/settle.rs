//! Gathers inline bytes into objects in the background.
//!
//! What is inline lies in the metadata's memory, log and snapshots, so it must not stay there. When
//! there is enough of it, or it is old enough, its batches are written into one object, sorted and
//! with their offsets in place, and one command moves the runs there. A run that changed meanwhile
//! (its topic was deleted, its log start moved) stays as it is; an object that no run moved to is an
//! orphan. Nothing that fails here ends the task: the next round tries again.
//!
//! Each partition is settled by one of the live agents, by rendezvous hashing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_metadata::{
    Command, Outcome, Partition, Refusal, RunLocation, Settle, SettleRun, State, rendezvous,
};
use alluvium_objects::{BuiltObject, Level, ObjectWriter, key};
use alluvium_protocol::batch::{self, BatchError, BatchHeader};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::hash::HashMap;
use alluvium_types::{AgentId, Clock, ErrorCode, ObjectId, Offset, TopicPartition};

use crate::AgentConfig;
use crate::backoff::Backoff;
use crate::registration::Registration;
use crate::task::ended;

/// Most bytes of one settled object.
const OBJECT_BYTES: u64 = 64 << 20;

/// Most runs of one settled object: its command stays well below a MiB.
const OBJECT_RUNS: usize = 8192;

/// Every partition has had one leader: the cluster itself.
const LEADER_EPOCH: i32 = 0;

/// How long one attempt may take, and how long a shutdown waits for the last one.
const ROUND_DEADLINE: Duration = Duration::from_secs(60);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// The settling task.
#[derive(Debug)]
pub struct Settler {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Settler {
    pub(crate) fn start(
        config: &AgentConfig,
        registration: Registration,
        metadata: Metadata,
        bucket: Bucket,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let stop = CancellationToken::new();
        let settling = Settling {
            settle_bytes: config.settle_bytes.max(1),
            settle_interval: config.settle_interval,
            registration,
            metadata,
            bucket,
            clock,
            settled_to: HashMap::default(),
        };
        let task = tokio::spawn(settling.run(stop.clone()));
        Self {
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// Settles what there is and stops.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        ended(&self.task, "settles").await;
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.stop.cancel();
        let task = self
            .task
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("{0}")]
    Propose(#[from] ProposeError),
    #[error("the quorum refused it: {0}")]
    Refused(Refusal),
    #[error("the quorum answered something else: {0:?}")]
    Unexpected(Outcome),
    #[error("no answer within {ROUND_DEADLINE:?}")]
    TimedOut,
}

struct Settling {
    settle_bytes: u64,
    settle_interval: Duration,
    registration: Registration,
    metadata: Metadata,
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    /// Below these offsets nothing is inline any more, so nobody need look there again.
    settled_to: HashMap<TopicPartition, Offset>,
}

/// Inline runs of one partition that follow one another.
#[derive(Debug)]
struct Stretch {
    partition: TopicPartition,
    base_offset: Offset,
    end_offset: Offset,
    bytes: Vec<Bytes>,
}

impl Settling {
    async fn run(mut self, stop: CancellationToken) {
        let tick =
            (self.settle_interval / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let mut since: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let inline = self.inline_bytes();
            if inline == 0 {
                since = None;
                continue;
            }
            let oldest = *since.get_or_insert_with(Instant::now);
            if inline < self.settle_bytes && oldest.elapsed() < self.settle_interval {
                continue;
            }
            tokio::select! {
                biased;
                // A round cut short leaves an orphan at most; the last rounds begin anew.
                () = stop.cancelled() => break,
                is_well = self.round_or_backoff(&mut backoff) => if is_well {
                    since = None;
                },
            }
        }
        self.finish().await;
    }

    fn inline_bytes(&self) -> u64 {
        self.metadata.read(State::inline_bytes)
    }

    /// True when the round went well; else after a pause.
    async fn round_or_backoff(&mut self, backoff: &mut Backoff) -> bool {
        match self.round().await {
            Ok(_) => {
                backoff.reset();
                true
            }
            Err(error) => {
                metrics::counter!("alluvium_settle_failures_total").increment(1);
                let pause = backoff.next();
                tracing::warn!(%error, ?pause, "inline bytes could not be settled; trying again");
                sleep(pause).await;
                false
            }
        }
    }

    /// The last rounds, before the process ends. What is left over is safe where it is.
    async fn finish(&mut self) {
        let rounds = async {
            while self.inline_bytes() > 0 {
                if self.round().await? == 0 {
                    break;
                }
            }
            Ok::<_, SettleError>(())
        };
        match timeout(SHUTDOWN_DEADLINE, rounds).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "inline bytes stay in the metadata log"),
            Err(_) => tracing::warn!("no time to settle; inline bytes stay in the metadata log"),
        }
    }

    /// Moves what is inline to one object. Returns how many runs moved.
    async fn round(&mut self) -> Result<usize, SettleError> {
        let stretches = self.gather();
        if stretches.is_empty() {
            return Ok(0);
        }
        let started = Instant::now();
        let (built, runs) = build(
            ObjectId(alluvium_types::random::value()),
            self.clock.now(),
            &stretches,
        );
        drop(stretches);
        if runs.is_empty() {
            return Ok(0);
        }
        let origin = self.registration.origin();
        let settle = Settle {
            origin,
            object: built.object,
            bytes: built.bytes,
            runs: runs.clone(),
        };
        let name = key(built.object);
        let written = timeout(ROUND_DEADLINE, self.bucket.create(&name, built.parts));
        written.await.map_err(|_| SettleError::TimedOut)??;
        let proposed = self.metadata.propose(Command::Settle(settle)).await?;
        let moved = match proposed.outcome {
            Outcome::Settled(moved) => moved,
            Outcome::Refused(refusal) => {
                if refusal.code == ErrorCode::StaleBrokerEpoch {
                    self.registration.lost(origin);
                }
                return Err(SettleError::Refused(refusal));
            }
            other => return Err(SettleError::Unexpected(other)),
        };
        for run in &runs {
            self.settled_to.insert(run.partition, run.end_offset);
        }
        // What did not move lies before what may have: it must be looked at again.
        for (run, _) in runs.iter().zip(&moved).filter(|(_, moved)| !**moved) {
            self.settled_to.remove(&run.partition);
        }
        metrics::counter!("alluvium_settle_bytes_total").increment(built.bytes);
        metrics::histogram!("alluvium_settle_seconds").record(started.elapsed().as_secs_f64());
        Ok(moved.iter().filter(|moved| **moved).count())
    }

    /// The inline bytes of this agent's share, sorted by partition and offset.
    fn gather(&mut self) -> Vec<Stretch> {
        let settled_to = &mut self.settled_to;
        let me = self.registration.id();
        self.metadata.read(|state| {
            settled_to.retain(|partition, _| state.partition(*partition).is_some());
            let mut gathered = Gathered::default();
            for at in state.inline_partitions() {
                if !is_share(state, me, at) {
                    continue;
                }
                let Some(partition) = state.partition(at) else {
                    continue;
                };
                let from = settled_to.get(&at).copied().unwrap_or(0);
                if !gathered.partition(at, partition, from) {
                    break;
                }
            }
            gathered
                .stretches
                .sort_by_key(|stretch| (stretch.partition, stretch.base_offset));
            gathered.stretches
        })
    }
}

/// Whether an agent is the one to settle a partition. Two may think so for a moment, while agents
/// come and go: a run moves once, and the other's object is an orphan. The last agent of all settles
/// everything.
fn is_share(state: &State, agent: AgentId, at: TopicPartition) -> bool {
    let key = rendezvous::partition_key(at.topic, at.partition);
    let live = state.live_agents().map(|agent| agent.id);
    rendezvous::first(key, live).is_none_or(|first| first == agent)
}

#[derive(Default)]
struct Gathered {
    stretches: Vec<Stretch>,
    bytes: u64,
}

impl Gathered {
    /// Adds a partition's inline runs; false when there is no room for more.
    fn partition(&mut self, at: TopicPartition, partition: &Partition, from: Offset) -> bool {
        for run in partition.runs_from(from) {
            let RunLocation::Inline(bytes) = &run.location else {
                continue;
            };
            let is_full = self.bytes.saturating_add(run.length) > OBJECT_BYTES
                || self.stretches.len() >= OBJECT_RUNS;
            if is_full && self.bytes > 0 {
                return false;
            }
            self.bytes = self.bytes.saturating_add(run.length);
            match self.stretches.last_mut() {
                Some(last) if last.partition == at && last.end_offset == run.base_offset => {
                    last.end_offset = run.end_offset;
                    last.bytes.push(bytes.clone());
                }
                _ => self.stretches.push(Stretch {
                    partition: at,
                    base_offset: run.base_offset,
                    end_offset: run.end_offset,
                    bytes: vec![bytes.clone()],
                }),
            }
        }
        true
    }
}

/// The object that holds the stretches, and what lies where in it.
fn build(object: ObjectId, at: i64, stretches: &[Stretch]) -> (BuiltObject, Vec<SettleRun>) {
    let mut writer = ObjectWriter::new(object, Level::Settled, at);
    let mut settled = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        let batches = match stretch.batches() {
            Ok(batches) => batches,
            Err(error) => {
                // They were checked before they were sequenced, so this is a fault of ours.
                tracing::error!(partition = ?stretch.partition, %error, "inline bytes are damaged");
                continue;
            }
        };
        writer.begin_run(stretch.partition, Some(stretch.base_offset));
        for (header, bytes) in batches {
            let records = u32::try_from(i64::from(header.last_offset_delta) + 1).unwrap_or(0);
            writer.batch(&[bytes], records, header.max_timestamp);
        }
        settled.push(stretch);
    }
    let built = writer.finish();
    let runs = settled
        .iter()
        .zip(&built.runs)
        .map(|(stretch, written)| SettleRun {
            partition: stretch.partition,
            base_offset: stretch.base_offset,
            end_offset: stretch.end_offset,
            position: written.position,
            length: written.length,
        });
    let runs = runs.collect();
    (built, runs)
}

impl Stretch {
    /// Its batches with their offsets in place, in one buffer.
    fn batches(&self) -> Result<Vec<(BatchHeader, Bytes)>, BatchError> {
        let mut copy = BytesMut::with_capacity(self.bytes.iter().map(Bytes::len).sum());
        let mut headers = Vec::new();
        let mut offset = self.base_offset;
        for run in &self.bytes {
            for bytes in batch::split(run)? {
                let header = BatchHeader::parse(&bytes)?;
                if let Some((head, rest)) = bytes.split_first_chunk::<16>() {
                    copy.extend_from_slice(&batch::patched_head(head, offset, LEADER_EPOCH));
                    copy.extend_from_slice(rest);
                }
                offset = offset.saturating_add(i64::from(header.last_offset_delta) + 1);
                headers.push(header);
            }
        }
        if offset != self.end_offset {
            let reason = format!("batches end at {offset}, the run at {}", self.end_offset);
            return Err(BatchError {
                code: ErrorCode::CorruptMessage,
                reason,
            });
        }
        let mut copy = copy.freeze();
        let batches = headers.into_iter().map(|header| {
            let bytes = copy.split_to(header.bytes.min(copy.len()));
            (header, bytes)
        });
        Ok(batches.collect())
    }
}

#[cfg(test)]
mod tests;
