//! The tasks behind the groups: timers, writes, and claims.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alluvium_cluster::{Applied, ProposeError};
use alluvium_metadata::{AgentOrigin, Change, Outcome};
use alluvium_types::ErrorCode;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Shared;

/// Commands that are proposed together.
const WRITES_AT_ONCE: usize = 1000;

/// Pause before groups are claimed that could not be.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run_timers(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let deadline = shared.with(|coordinator, at| {
            coordinator.expire(at.now);
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
pub(super) async fn run_writes(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let (origin, (commands, done)) = shared.with(|coordinator, at| {
            let day = shared.clock.now();
            let writes = coordinator.take_writes(at.now, at.origin, day, WRITES_AT_ONCE);
            (at.origin, writes)
        });
        if commands.is_empty() {
            tokio::select! {
                biased;
                () = shared.writes_waiting.notified() => continue,
                () = stop.cancelled() => return,
            }
        }
        let applied = shared.metadata.propose_many(commands).await;
        let results = codes(&shared, origin, applied, done.len());
        shared.with(|coordinator, at| {
            for (done, result) in done.into_iter().zip(results) {
                if at.origin == origin {
                    coordinator.finish(at.now, done, result);
                } else {
                    // What it was written for has left memory since.
                    done.answer(result);
                }
            }
        });
    }
}

/// Lets go of groups, and takes others up, as agents come and go and the lease does.
pub(super) async fn run_claims(
    shared: Arc<Shared>,
    mut changes: Receiver<Arc<[Change]>>,
    stop: CancellationToken,
) {
    let mut following = shared.registration.follow();
    loop {
        shared.review();
        let adopted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            adopted = shared.adopt() => adopted,
        };
        let again = async {
            if adopted {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(CLAIM_PAUSE).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = following.changed() => {}
            () = agents_changed(&mut changes) => {}
            () = again => {}
        }
    }
}

async fn agents_changed(changes: &mut Receiver<Arc<[Change]>>) {
    loop {
        match changes.recv().await {
            Ok(changes) if changes.contains(&Change::Agents) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// What clients are told of the outcomes: everything that may pass if tried again is retriable.
fn codes(
    shared: &Shared,
    origin: AgentOrigin,
    applied: Result<Vec<Applied>, ProposeError>,
    count: usize,
) -> Vec<Result<(), ErrorCode>> {
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => {
            // They may yet be applied, late, over what is written from here on: a commit would go
            // back. Under another epoch the quorum refuses them.
            warn!(%error, "it is not known whether changes to groups were written");
            shared.registration.lost(origin);
            return vec![Err(ErrorCode::CoordinatorNotAvailable); count];
        }
    };
    let mut told = BTreeSet::new();
    let mut code = |outcome| match outcome {
        Outcome::Refused(refusal) => {
            // Once for each kind: a group that moves may leave many commits behind.
            if told.insert(refusal.code.code()) {
                warn!(%refusal, "the quorum refused a change to a group");
            }
            Err(as_told(shared, origin, refusal.code))
        }
        _ => Ok(()),
    };
    let missing = std::iter::repeat(Err(ErrorCode::CoordinatorNotAvailable));
    let codes = applied.into_iter().map(|applied| code(applied.outcome));
    codes.chain(missing).take(count).collect()
}

/// An agent whose registration is over coordinates nothing any more; its clients look for who does.
fn as_told(shared: &Shared, origin: AgentOrigin, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered => {
            shared.registration.lost(origin);
            ErrorCode::NotCoordinator
        }
        other => other,
    }
}
