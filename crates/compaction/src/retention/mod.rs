//! Log starts rise as records grow old or many.
//!
//! Every agent looks through the partitions it owns, slice by slice, and proposes the log starts that
//! their policy asks for, many to a command. A run goes whole or not at all, oldest first: when its
//! newest record is older than `retention.ms`, or when what lies behind it is still `retention.bytes`
//! or more. A run with a timestamp in the future keeps itself and all that lies behind it, as a
//! segment does in Kafka. The bytes go later, when no manifest names their object ([`crate::sweep`]).

mod due;
mod scan;

#[cfg(test)]
mod tests;

use std::time::Duration;

use alluvium_cluster::ProposeError;
use alluvium_metadata::{AdvanceLogStart, Change, Command, Outcome, Refusal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{CompactionConfig, Context};
use scan::{Overdue, Scan};

/// Most log starts in one command: about 256 KiB.
const STARTS: usize = 8192;

/// After a change of a topic's settings nobody waits longer than this for what it means.
const AFTER_CHANGE: Duration = Duration::from_secs(1);

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetentionError {
    #[error("{0}")]
    Propose(#[from] ProposeError),
    #[error("the quorum refused it: {0}")]
    Refused(Refusal),
    #[error("the quorum answered something else: {0:?}")]
    Unexpected(Outcome),
}

/// Raises log starts until it is told to stop.
pub(crate) async fn run(context: Context, config: CompactionConfig, stop: CancellationToken) {
    let mut changes = context.metadata.subscribe();
    let mut next = Instant::now() + config.retention_interval.min(AFTER_CHANGE);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(next) => {}
            changed = topics_changed(&mut changes) => {
                if !changed {
                    return;
                }
                next = next.min(Instant::now() + config.retention_interval.min(AFTER_CHANGE));
                continue;
            }
        }
        let failed = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            done = round(&context) => done.err(),
        };
        if let Some(error) = failed {
            metrics::counter!("alluvium_retention_failures_total").increment(1);
            tracing::warn!(%error, "log starts could not be raised; trying again");
        }
        next = Instant::now() + config.retention_interval;
    }
}

/// Resolves when topics changed; false when nothing will change any more.
async fn topics_changed(changes: &mut Receiver<std::sync::Arc<[Change]>>) -> bool {
    loop {
        match changes.recv().await {
            Ok(batch) if batch.contains(&Change::Topics) => return true,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        }
    }
}

/// Looks at every partition once. Says how much was overdue.
pub(crate) async fn round(context: &Context) -> Result<Overdue, RetentionError> {
    let mut scan = Scan::default();
    let mut starts = Vec::new();
    let now = context.clock.now();
    let mut result = Ok(());
    while scan.slice(context, now, &mut starts) {
        if starts.len() >= STARTS && result.is_ok() {
            result = advance(context, &mut starts).await;
        }
        // What cannot be proposed now is found again; until then only the lag is told.
        if result.is_err() {
            starts.clear();
        }
        tokio::task::yield_now().await;
    }
    let overdue = scan.overdue;
    metrics::gauge!("alluvium_retention_lag_seconds").set(overdue.lag.as_secs_f64());
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
    metrics::gauge!("alluvium_retention_lag_bytes").set(overdue.bytes as f64);
    result?;
    advance(context, &mut starts).await?;
    metrics::counter!("alluvium_retention_removed_bytes_total").increment(overdue.bytes);
    Ok(overdue)
}

async fn advance(
    context: &Context,
    starts: &mut Vec<AdvanceLogStart>,
) -> Result<(), RetentionError> {
    while !starts.is_empty() {
        let rest = starts.split_off(starts.len().min(STARTS));
        let command = Command::AdvanceLogStarts(std::mem::replace(starts, rest));
        match context.metadata.propose(command).await?.outcome {
            Outcome::LogStarts(_) => {}
            Outcome::Refused(refusal) => return Err(RetentionError::Refused(refusal)),
            other => return Err(RetentionError::Unexpected(other)),
        }
    }
    Ok(())
}
