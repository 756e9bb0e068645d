//! Deletes what no manifest names.
//!
//! Done by the one agent that [`ownership`](crate::ownership) names for it, in two loops:
//!
//! - [`dead`]: objects that manifests named once. They are deleted a grace time after the last run that
//!   named them has gone, so that readers whose view is a little behind still find them; then the
//!   quorum is told to forget them. Runs of deleted topics are let go piece by piece before that.
//! - [`orphans`]: objects that no manifest ever named: uploads whose chunk was never sequenced, losers
//!   of a hedge or of two agents that did the same job. The bucket is listed slowly, page by page.
//!   [`candidates`] keeps what was seen, and says when it is old enough.
//!
//! # Why nothing that is named is deleted
//!
//! A dead object can never be named again: the quorum refuses that. An orphan could, as long as its
//! writer lives, so it must be old: `Sequence` refuses chunks that were sealed more than half the orphan
//! age ago, and no other job takes nearly as long. Its age is told by the store's clock alone (how much
//! older it is than the newest object seen) or by this process's steady clock, and in any case this
//! process must have seen it unnamed in two views half the orphan age apart: a wall clock that jumps,
//! here or in the store, deletes nothing. Before each deletion the quorum must answer a barrier, and be
//! seen to archive what the deletion is based on ([`clearance`]): a quorum that was restored over, or an
//! archive that is behind, stops the sweep, so what is left in the bucket always rebuilds the cluster.
//!
//! # Metrics
//!
//! `alluvium_sweep_dead_objects`, `alluvium_sweep_dead_bytes`, `alluvium_sweep_purgeable_runs`,
//! `alluvium_sweep_orphan_candidates` (all on the agent that sweeps, 0 elsewhere),
//! `alluvium_sweep_orphans_found_total`, `alluvium_sweep_deleted_total{kind}`,
//! `alluvium_sweep_deleted_bytes_total{kind}`, `alluvium_sweep_failures_total`.

mod candidates;
mod clearance;
mod dead;
mod orphans;
mod pace;

#[cfg(test)]
mod tests;

use std::time::Duration;

use alluvium_cluster::ProposeError;
use alluvium_storage::bucket::{BucketError, Cause};
use alluvium_types::random;
use tokio_util::sync::CancellationToken;

use crate::{CompactionConfig, Context, ownership};
use pace::Pace;

/// The name under which [`ownership`] knows this work.
pub const SWEEP: &str = "sweep";

/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What both loops need.
#[derive(Clone, Debug)]
struct Sweep {
    context: Context,
    config: CompactionConfig,
    pace: Pace,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Store(#[from] BucketError),
    #[error("the metadata quorum does not answer: {0}")]
    Quorum(#[from] ProposeError),
    #[error("the quorum refused a sweeper's command: {0}")]
    Refused(String),
    #[error("the cluster was restored from this bucket elsewhere; nothing is deleted from here on")]
    Fenced,
    /// Another agent sweeps from now on.
    #[error("another agent sweeps")]
    NotMine,
}

/// Runs until it is told to stop.
pub(crate) async fn run(mut context: Context, config: CompactionConfig, stop: CancellationToken) {
    context.bucket = context.bucket.for_cause(Cause::Sweep);
    let sweep = Sweep {
        pace: Pace::new(config.deletes_per_second),
        context,
        config,
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = async { futures::join!(dead::run(&sweep), orphans::run(&sweep)); } => {}
    }
}

impl Sweep {
    /// Whether this agent is the one that sweeps, by its view.
    fn is_mine(&self) -> bool {
        let Some(origin) = self.context.owner.origin() else {
            return false;
        };
        let metadata = &self.context.metadata;
        metadata.read(|state| ownership::owns(state, origin.agent, SWEEP))
    }

    fn still_mine(&self) -> Result<(), Trouble> {
        if self.is_mine() {
            Ok(())
        } else {
            Err(Trouble::NotMine)
        }
    }
}

/// The pauses of a loop: its own while all is well, doubling with chance in them while it is not.
#[derive(Debug)]
struct Pauses {
    usual: Duration,
    failures: u32,
}

impl Pauses {
    const fn new(usual: Duration) -> Self {
        Self { usual, failures: 0 }
    }

    /// How long to wait after a round. Says what went wrong the first time and then now and then.
    fn after(&mut self, round: Result<(), Trouble>, what: &str) -> Duration {
        let error = match round {
            Ok(()) | Err(Trouble::NotMine) => {
                self.failures = 0;
                return self.usual;
            }
            Err(error) => error,
        };
        metrics::counter!("alluvium_sweep_failures_total").increment(1);
        if self.failures.is_power_of_two() || self.failures == 0 {
            tracing::warn!(%error, failures = self.failures, "{what} failed; it is tried again");
        } else {
            tracing::debug!(%error, "{what} failed; it is tried again");
        }
        let doubled = self.usual.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let longest = LONGEST_PAUSE.max(self.usual);
        doubled.min(longest).mul_f64(random::range(0.5..1.0))
    }
}

/// For gauges: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "a gauge that is a little off")]
fn gauge(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}
