//! Objects that manifests named once, and runs of deleted topics.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_metadata::{Command, Outcome, State};
use alluvium_types::ObjectId;
use tokio::time::{Instant, sleep};

use super::{Pauses, Sweep, Trouble, gauge};

/// Runs that one command lets go of.
const PURGED_AT_ONCE: u32 = 5_000;
/// Between two such commands, so that others come between.
const PURGE_PAUSE: Duration = Duration::from_millis(20);
/// Objects that one command forgets.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// A dead object: its id and its length.
type Dead = (ObjectId, u64);

/// Since when this process has seen objects dead: at most as many as the state holds. The state's clock
/// is not asked: it is that of whoever is ahead of the others, and stands still while nothing happens.
/// Whoever takes the sweep over measures anew; what is dead stays so, and is measured on by whoever
/// loses it for a moment.
#[derive(Debug, Default)]
struct Measured(BTreeMap<ObjectId, Instant>);

pub(super) async fn run(sweep: &Sweep) {
    let mut measured = Measured::default();
    let mut pauses = Pauses::new(sweep.config.sweep_interval);
    loop {
        let round = round(sweep, &mut measured).await;
        if matches!(round, Err(Trouble::NotMine)) {
            show(0, 0, 0);
        }
        sleep(pauses.after(round, "sweeping dead objects")).await;
    }
}

async fn round(sweep: &Sweep, measured: &mut Measured) -> Result<(), Trouble> {
    sweep.still_mine()?;
    purge(sweep).await?;
    let metadata = &sweep.context.metadata;
    let grace = sweep.config.grace;
    let ripe = metadata.read(|state| {
        let dead = state
            .dead_objects()
            .map(|(object, bytes, _)| (object, bytes));
        let dead: Vec<Dead> = dead.collect();
        let bytes = dead.iter().fold(0u64, |sum, it| sum.saturating_add(it.1));
        let objects = u64::try_from(dead.len()).unwrap_or(u64::MAX);
        show(objects, bytes, state.purgeable_runs());
        let now = Instant::now();
        measured.look(&dead, now);
        measured.ripe(&dead, grace, now)
    });
    for piece in ripe.chunks(FORGOTTEN_AT_ONCE) {
        sweep.clearance().await?;
        let bucket = &sweep.context.bucket;
        let (gone, trouble) = sweep.pace.delete(bucket, piece.to_vec(), "dead").await;
        if !gone.is_empty() {
            tracing::debug!(objects = gone.len(), "deleted dead objects");
            forget(sweep, gone).await?;
        }
        trouble?;
    }
    Ok(())
}

/// Lets go of the runs of deleted topics.
async fn purge(sweep: &Sweep) -> Result<(), Trouble> {
    let metadata = &sweep.context.metadata;
    while metadata.read(State::purgeable_runs) > 0 {
        sweep.still_mine()?;
        let purge = Command::Purge {
            most: PURGED_AT_ONCE,
        };
        match metadata.propose(purge).await?.outcome {
            Outcome::Purged(left) => gauge("alluvium_sweep_purgeable_runs", left),
            other => return Err(refused(&other)),
        }
        sleep(PURGE_PAUSE).await;
    }
    Ok(())
}

async fn forget(sweep: &Sweep, objects: Vec<ObjectId>) -> Result<(), Trouble> {
    let forget = Command::ForgetObjects { objects };
    match sweep.context.metadata.propose(forget).await?.outcome {
        Outcome::Done => Ok(()),
        other => Err(refused(&other)),
    }
}

fn refused(outcome: &Outcome) -> Trouble {
    Trouble::Refused(match outcome {
        Outcome::Refused(refusal) => refusal.to_string(),
        other => format!("{other:?}"),
    })
}

fn show(objects: u64, bytes: u64, runs: u64) {
    gauge("alluvium_sweep_dead_objects", objects);
    gauge("alluvium_sweep_dead_bytes", bytes);
    gauge("alluvium_sweep_purgeable_runs", runs);
}

impl Measured {
    /// Notes what is dead now. `dead` is in order.
    fn look(&mut self, dead: &[Dead], now: Instant) {
        let is_dead = |object: &ObjectId| dead.binary_search_by_key(object, |it| it.0).is_ok();
        self.0.retain(|object, _| is_dead(object));
        for (object, ..) in dead {
            self.0.entry(*object).or_insert(now);
        }
    }

    /// Dead objects whose grace is over, with their lengths.
    fn ripe(&self, dead: &[Dead], grace: Duration, now: Instant) -> Vec<Dead> {
        let is_ripe =
            |(object, _): &&Dead| self.0.get(object).is_some_and(|seen| now - *seen >= grace);
        dead.iter().filter(is_ripe).copied().collect()
    }
}
