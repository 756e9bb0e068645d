//! Gathers what is inline and in write-ahead buffers into objects in the background.
//!
//! What is inline lies in the metadata's memory, log and snapshots, and what is in write-ahead buffers
//! on the disks of agents, so neither must stay there. When there is enough of it, or it is old enough,
//! its batches are written into one object, sorted and with their offsets in place, and one command
//! moves the runs there. A run that changed meanwhile (its topic was deleted, its log start moved) stays
//! as it is; an object that no run moved to is an orphan. Nothing that fails here ends a task: the next
//! round tries again.
//!
//! Chunks that readers wait for (unstable ones), and those that have lost a copy, are settled by a task
//! of their own, at once; what came while one object was written goes into the next (`share` says which
//! these are and who settles what; `gather` and `round` are one round, `build` its object).

mod build;
mod gather;
mod round;
mod share;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use alluvium_cluster::Metadata;
use alluvium_metadata::{Change, State};
use alluvium_storage::bucket::Bucket;
use alluvium_types::Clock;
use alluvium_types::hash::HashMap;

use crate::AgentConfig;
use crate::backoff::Backoff;
use crate::produce::WritePaths;
use crate::registration::Registration;
use crate::task::ended;

use gather::journal_bytes;
use round::{SettleError, Worker};
use share::Urgency;

/// How long a shutdown waits for the last rounds.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// What is inline lies in memory: this much is not left to wait for more.
const INLINE_BYTES: u64 = 8 << 20;

/// The urgent task looks this often even when nobody calls it.
const LOOK: Duration = Duration::from_secs(1);

/// Pauses after a round that failed. A store that is back should be noticed soon.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The settling tasks.
#[derive(Debug)]
pub struct Settler {
    stop: CancellationToken,
    background: Mutex<Option<JoinHandle<()>>>,
    urgent: Mutex<Option<JoinHandle<()>>>,
}

impl Settler {
    pub(crate) fn start(
        config: &AgentConfig,
        registration: Registration,
        metadata: Metadata,
        bucket: Bucket,
        clock: Arc<dyn Clock>,
        paths: WritePaths,
    ) -> Self {
        let stop = CancellationToken::new();
        let settling = || Settling {
            settle_bytes: config.settle_bytes.max(1),
            settle_interval: config.settle_interval,
            spacing: Duration::from_secs(1) / config.early_puts_per_second.max(1),
            worker: Worker {
                registration: registration.clone(),
                metadata: metadata.clone(),
                bucket: bucket.clone(),
                clock: Arc::clone(&clock),
                journal: paths.journal.clone(),
                peers: Arc::clone(&paths.peers),
                health: paths.health.clone(),
                settled_to: HashMap::default(),
                unreadable: Vec::new(),
            },
        };
        let background = tokio::spawn(settling().run(stop.clone()));
        let urgent = tokio::spawn(settling().run_urgent(stop.clone()));
        Self {
            stop,
            background: Mutex::new(Some(background)),
            urgent: Mutex::new(Some(urgent)),
        }
    }

    /// Settles what there is and stops.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        ended(&self.urgent, "settles what readers wait for").await;
        ended(&self.background, "settles").await;
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in [&mut self.background, &mut self.urgent] {
            let task = task
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(task) = task {
                task.abort();
            }
        }
    }
}

struct Settling {
    settle_bytes: u64,
    settle_interval: Duration,
    /// Between the beginnings of two urgent rounds.
    spacing: Duration,
    worker: Worker,
}

impl Settling {
    /// Large objects, in the background.
    async fn run(mut self, stop: CancellationToken) {
        let tick =
            (self.settle_interval / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut since: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let (inline, journal) = self.waiting();
            if inline + journal == 0 {
                since = None;
                continue;
            }
            let oldest = *since.get_or_insert_with(Instant::now);
            let is_enough = inline.saturating_add(journal) >= self.settle_bytes
                || inline >= INLINE_BYTES
                || self.is_crowded();
            if !is_enough && oldest.elapsed() < self.settle_interval {
                continue;
            }
            tokio::select! {
                biased;
                // A round cut short leaves an orphan at most; the last rounds begin anew.
                () = stop.cancelled() => break,
                is_well = self.round_or_backoff(Urgency::Later, &mut backoff) => if is_well {
                    since = None;
                    // What is left may be another agent's share, which nothing here makes less.
                    let left = self.waiting_bytes();
                    if left >= self.settle_bytes && left < inline.saturating_add(journal) {
                        ticks.reset_immediately();
                    }
                },
            }
        }
        self.finish(Urgency::Later).await;
    }

    /// What readers wait for, and what has lost a copy, at once.
    async fn run_urgent(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut changes = self.worker.metadata.subscribe();
        loop {
            let started = Instant::now();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = self.round_or_backoff(Urgency::Now, &mut backoff) => {}
            }
            if backoff.attempts() > 0 || self.urgent_bytes() > 0 {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = sleep_until(started + self.spacing) => {}
                }
                continue;
            }
            let journal = self.worker.journal.clone();
            let unstable = async {
                match &journal {
                    Some(journal) => journal.unstable().await,
                    None => std::future::pending().await,
                }
            };
            let agents_changed = async {
                loop {
                    match changes.recv().await {
                        Ok(changes) if !changes.contains(&Change::Agents) => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = unstable => {}
                () = agents_changed => {}
                () = sleep(LOOK) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(started + self.spacing) => {}
            }
        }
        self.finish(Urgency::Now).await;
    }

    /// Bytes that are inline, of all agents, and in write-ahead buffers, of this one's share.
    fn waiting(&self) -> (u64, u64) {
        let me = self.worker.registration.id();
        self.worker.metadata.read(|state: &State| {
            (
                state.inline_bytes(),
                journal_bytes(state, me, Urgency::Later),
            )
        })
    }

    fn waiting_bytes(&self) -> u64 {
        let (inline, journal) = self.waiting();
        inline.saturating_add(journal)
    }

    /// Whether there is something urgent that can be read.
    fn urgent_bytes(&self) -> u64 {
        if !self.worker.unreadable.is_empty() {
            return 0;
        }
        let me = self.worker.registration.id();
        self.worker
            .metadata
            .read(|state| journal_bytes(state, me, Urgency::Now))
    }

    /// Whether the write-ahead buffer begins to fill up.
    fn is_crowded(&self) -> bool {
        let journal = self.worker.journal.as_ref();
        journal.is_some_and(|journal| !journal.has_room(journal.used()))
    }

    /// True when the round went well; else after a pause.
    async fn round_or_backoff(&mut self, wanted: Urgency, backoff: &mut Backoff) -> bool {
        match self.worker.round(wanted).await {
            Ok(_) => {
                backoff.reset();
                true
            }
            Err(error) => {
                metrics::counter!("alluvium_settle_failures_total").increment(1);
                let pause = backoff.next();
                tracing::warn!(%error, ?pause, "bytes could not be settled; trying again");
                sleep(pause).await;
                false
            }
        }
    }

    /// The last rounds, before the process ends. What is left over is safe where it is; what is unstable
    /// is produced again by the next process.
    async fn finish(&mut self, wanted: Urgency) {
        let rounds = async {
            while self.worker.round(wanted).await? > 0 {}
            Ok::<_, SettleError>(())
        };
        match timeout(SHUTDOWN_DEADLINE, rounds).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "bytes stay inline and in the write-ahead buffer")
            }
            Err(_) => {
                tracing::warn!(
                    "no time to settle; bytes stay inline and in the write-ahead buffer"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
