//! Object compaction: small objects become large ones in which a partition's bytes lie together.
//!
//! What was flushed or settled is level 0; each merge is one level more, and beyond level 2 nothing is
//! merged, so that no byte is written more than three times. Bytes of batches do not change, but for
//! the offset in their headers; offsets do not change at all.
//!
//! - `backlog`: what of a partition can be merged. `plan`: which of it is merged next.
//! - `read`: few large reads. `copy`: batches, checked one by one. `work`: one job from the reads to
//!   the command.
//! - `pace`: the byte budget, and slowing down for a store that has enough to do.
//!
//! Metrics: `alluvium_compaction_jobs_total{result}`, `alluvium_compaction_stretches_total{result}`,
//! `alluvium_compaction_runs_gone_total`, `alluvium_compaction_bytes_read_total`,
//! `alluvium_compaction_bytes_written_total{level}`, `alluvium_compaction_damaged_runs_total`,
//! `alluvium_compaction_write_amplification` (bytes that this process wrote for records, in all, by
//! those that it flushed and settled).

mod backlog;
mod copy;
pub(crate) mod pace;
mod plan;
mod read;
mod work;

use alluvium_metadata::{AgentOrigin, Change, RunLocation, State};
use alluvium_storage::bucket::{Bucket, Cause};
use alluvium_types::{ErrorCode, ObjectId};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{CompactionConfig, Context};
use pace::Backoff;
use plan::{Job, Planner};
use work::{Report, WorkError, Worker};

/// Merges this agent's share until it is told to stop.
pub(crate) async fn run(context: Context, config: CompactionConfig, stop: CancellationToken) {
    let merging = Merging::new(context, &config);
    tokio::select! {
        biased;
        // A job cut short leaves an object that no run names, at worst.
        () = stop.cancelled() => {}
        () = merging.run(config.interval) => {}
    }
}

/// The task.
struct Merging {
    context: Context,
    changes: tokio::sync::broadcast::Receiver<std::sync::Arc<[Change]>>,
    planner: Planner,
    worker: Worker,
}

impl Merging {
    fn new(context: Context, config: &CompactionConfig) -> Self {
        let bucket = context.bucket.for_cause(Cause::Compaction);
        Self {
            changes: context.metadata.subscribe(),
            planner: Planner::new(config),
            worker: Worker::new(&context, config, bucket),
            context,
        }
    }

    async fn run(mut self, every: std::time::Duration) {
        let mut ticks = interval(every.max(std::time::Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backoff = Backoff::default();
        loop {
            ticks.tick().await;
            while let Some(outcome) = self.round().await {
                match outcome {
                    Ok(()) => backoff.reset(),
                    Err(error) => {
                        let pause = backoff.next();
                        metrics::counter!("alluvium_compaction_jobs_total", "result" => "failed")
                            .increment(1);
                        tracing::warn!(%error, ?pause, "objects could not be merged; trying again");
                        sleep(pause).await;
                    }
                }
            }
        }
    }

    /// Does the next job, if there is one.
    async fn round(&mut self) -> Option<Result<(), WorkError>> {
        self.follow();
        let origin = self.context.owner.origin()?;
        let job = self.plan(origin)?;
        let started = Instant::now();
        let outcome = self.worker.work(&job, origin).await;
        Some(match outcome {
            Ok(report) => {
                tracing::debug!(level = job.level, ?report, took = ?started.elapsed(), "merged");
                self.settle(&job, &report);
                match report.refused {
                    refused if refused > 0 && report.replaced == 0 => {
                        Err(WorkError::Overtaken(refused))
                    }
                    _ => Ok(()),
                }
            }
            Err(WorkError::Refused(refusal)) if refusal.code == ErrorCode::StaleBrokerEpoch => {
                // The lease is looked after elsewhere.
                Err(WorkError::Refused(refusal))
            }
            Err(error) => {
                self.planner.failed(&job);
                Err(error)
            }
        })
    }

    fn plan(&mut self, origin: AgentOrigin) -> Option<Job> {
        let (metadata, now) = (&self.context.metadata, Instant::now());
        let read = |look: &mut dyn FnMut(&State)| metadata.read(|state| look(state));
        let policies = self.context.policies.as_ref();
        self.planner.look(&read, policies, origin.agent, now);
        self.planner.choose(&read, now)
    }

    /// Takes in what changed.
    fn follow(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(changes) => self.planner.note(&changes),
                Err(TryRecvError::Lagged(_)) => self.planner.rescan(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn settle(&mut self, job: &Job, report: &Report) {
        self.planner.done(job);
        for (object, position) in &report.damaged {
            self.planner.avoid(*object, *position);
        }
        count(job.level, report);
        let all = written(&self.context.bucket);
        metrics::gauge!("alluvium_compaction_write_amplification").set(all);
    }
}

fn count(level: u8, report: &Report) {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    metrics::counter!("alluvium_compaction_jobs_total", "result" => "done").increment(1);
    for (result, count) in [
        ("replaced", report.replaced),
        ("refused", report.refused),
        ("damaged", report.damaged.len()),
    ] {
        metrics::counter!("alluvium_compaction_stretches_total", "result" => result)
            .increment(number(count));
    }
    metrics::counter!("alluvium_compaction_runs_gone_total").increment(number(report.runs_gone));
    metrics::counter!("alluvium_compaction_bytes_read_total").increment(report.bytes_read);
    let level = if level == 0 { "1" } else { "2" };
    metrics::counter!("alluvium_compaction_bytes_written_total", "level" => level)
        .increment(report.bytes_written);
}

/// How often each byte that came in was written, by what this process wrote.
#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn written(bucket: &Bucket) -> f64 {
    let (mut first, mut all) = (0u64, 0u64);
    for (cause, requests) in bucket.requests_by_cause() {
        match cause {
            Cause::Flush | Cause::Settle => {
                first += requests.bytes_written;
                all += requests.bytes_written;
            }
            Cause::Compaction => all += requests.bytes_written,
            _ => {}
        }
    }
    all as f64 / first.max(1) as f64
}

/// The object that a run lies in.
fn object_of(location: &RunLocation) -> Option<ObjectId> {
    match location {
        RunLocation::Object { object, .. } | RunLocation::Sparse { object, .. } => Some(*object),
        RunLocation::Inline(_) | RunLocation::Journal { .. } | RunLocation::Gap => None,
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
