//! Leases of agents, kept by whoever leads.
//!
//! An agent renews its lease with the leader; when that has not happened for a lease's length, the
//! leader has the registration ended. Renewals are in the leader's memory only: a new leader gives
//! every agent a full lease, and so does one that was not running itself for a while. A lease decides
//! whom clients are sent to. Who may write is decided by the epoch, in the log.
//!
//! An agent also holds a line open to the leader, on which nothing is said. When its process dies, its
//! system closes the line, and what is left of its lease is [cut](Leases::left): clients need not wait
//! for a whole lease. A line also breaks when nothing has come over it for a second or so. An agent that
//! lives renews well within what is left, whether or not it has seen the line break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_storage::watch;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use alluvium_metadata::{Agent, AgentOrigin, Command, State};
use alluvium_types::{AgentEpoch, AgentId, Clock};

use crate::service::NodeService;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often agents that ended long ago are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// How long an agent that has ended is remembered: as long as one that comes back with its disk
/// should be the agent that it was.
const REMEMBERED_MILLIS: i64 = 24 * 3_600 * 1_000;

/// The leases of all agents.
#[derive(Debug)]
pub(crate) struct Leases {
    lease: Duration,
    agents: Mutex<BTreeMap<(AgentId, AgentEpoch), Renewed>>,
    /// The newest line of each agent that opened one.
    lines: Mutex<BTreeMap<(AgentId, AgentEpoch), u64>>,
    next_line: AtomicU64,
}

/// An agent's open line. It has left when this is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    leases: Arc<Leases>,
    agent: (AgentId, AgentEpoch),
    number: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.leases.left(self.agent, self.number);
    }
}

/// What the leader knows of an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewed {
    /// From when its lease runs.
    since: Instant,
    /// When it renewed it itself, and how many entries its view was behind.
    pub(crate) asked: Option<(Instant, u64)>,
}

impl Leases {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            lease,
            agents: Mutex::default(),
            lines: Mutex::default(),
            next_line: AtomicU64::new(0),
        }
    }

    /// An agent that is registered opens a line; it takes the place of one that it had.
    pub(crate) fn attend(self: &Arc<Self>, origin: AgentOrigin) -> Line {
        let (agent, number) = (key(origin), self.next_line.fetch_add(1, Ordering::Relaxed));
        self.lines().insert(agent, number);
        Line {
            leases: Arc::clone(self),
            agent,
            number,
        }
    }

    /// A line closed. If the agent has no newer one, half of its lease is left: more than there is
    /// between two renewals of an agent that lives, however late this is noticed.
    fn left(&self, agent: (AgentId, AgentEpoch), number: u64) {
        let mut lines = self.lines();
        if lines.get(&agent) != Some(&number) {
            return;
        }
        lines.remove(&agent);
        drop(lines);
        let Some(since) = Instant::now().checked_sub(self.lease / 2) else {
            return;
        };
        if let Some(renewed) = self.agents().get_mut(&agent) {
            renewed.since = renewed.since.min(since);
        }
    }

    /// How long a lease is.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Gives an agent, whose view is `lag` entries behind, another lease.
    pub(crate) fn renew(&self, origin: AgentOrigin, lag: u64) {
        let now = Instant::now();
        let renewed = Renewed {
            since: now,
            asked: Some((now, lag)),
        };
        self.agents().insert(key(origin), renewed);
    }

    /// What is known of an agent.
    pub(crate) fn of(&self, origin: AgentOrigin) -> Option<Renewed> {
        self.agents().get(&key(origin)).copied()
    }

    /// Gives everyone a full lease from when they are next looked at.
    fn begin_anew(&self) {
        self.agents().clear();
    }

    /// Those whose lease ran out, of the agents that there are. Whoever is new gets a full one.
    fn expired(&self, current: &[AgentOrigin]) -> Vec<AgentOrigin> {
        let now = Instant::now();
        let mut agents = self.agents();
        let known: BTreeSet<_> = current.iter().copied().map(key).collect();
        agents.retain(|agent, _| known.contains(agent));
        self.lines().retain(|agent, _| known.contains(agent));
        let fresh = Renewed {
            since: now,
            asked: None,
        };
        current
            .iter()
            .filter(|origin| {
                let renewed = agents.entry(key(**origin)).or_insert(fresh);
                now.duration_since(renewed.since) > self.lease
            })
            .copied()
            .collect()
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<(AgentId, AgentEpoch), Renewed>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never held while `agents` is waited for.
    fn lines(&self) -> MutexGuard<'_, BTreeMap<(AgentId, AgentEpoch), u64>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(origin: AgentOrigin) -> (AgentId, AgentEpoch) {
    (origin.agent, origin.epoch)
}

/// The registrations that have not ended.
fn current(state: &State) -> Vec<AgentOrigin> {
    let agents = state.agents().filter(|agent| agent.ended_at().is_none());
    agents.map(Agent::origin).collect()
}

/// Ends the registrations whose leases ran out, whenever this node leads. Runs until told to stop.
pub(crate) async fn watch_leases(
    service: Arc<NodeService>,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let leases = service.leases();
    let mut led = None;
    let mut looked = Instant::now();
    let mut forget = Instant::now() + FORGET_EVERY;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(TICK) => {}
        }
        let standing = service.voter().standing();
        let leads = standing.leads().then_some(standing.term);
        // A process that did not run, or did not lead, has not heard who renewed meanwhile.
        let slept = looked.elapsed() > leases.lease() / 2;
        looked = Instant::now();
        if leads != led || slept {
            leases.begin_anew();
            led = leads;
        }
        if leads.is_none() || service.voter().is_heard().is_err() {
            continue;
        }
        let expired = leases.expired(&service.view().read(|view| current(&view.state)));
        if !expired.is_empty() {
            tracing::warn!(agents = ?names(&expired), "ending agents whose leases ran out");
            let at = clock.now();
            let end = Command::EndAgents {
                agents: expired,
                at,
            };
            offer(&service, &end).await;
        }
        if Instant::now() >= forget {
            forget = Instant::now() + FORGET_EVERY;
            let ended_before = clock.now().saturating_sub(REMEMBERED_MILLIS);
            let ended = |state: &State| {
                let mut ends = state.agents().filter_map(Agent::ended_at);
                ends.any(|at| at < ended_before)
            };
            if service.view().read(|view| ended(&view.state)) {
                offer(&service, &Command::ForgetAgents { ended_before }).await;
            }
        }
    }
}

/// Offers once: what is not taken comes up again, if this node leads still.
async fn offer(service: &NodeService, command: &Command) {
    let Ok(encoded) = postcard::to_stdvec(command) else {
        return;
    };
    if let Err(error) = service.voter().offer(&[Bytes::from(encoded)]).await {
        tracing::debug!(?error, "cannot end agents now");
    }
}

fn names(agents: &[AgentOrigin]) -> Vec<i32> {
    agents.iter().map(|origin| origin.agent.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    fn origin(agent: i32, epoch: u64) -> AgentOrigin {
        AgentOrigin {
            agent: AgentId(agent),
            epoch: AgentEpoch(epoch),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_renews_lives_and_whoever_does_not_ends_after_a_lease() {
        let leases = Leases::new(LEASE);
        let (busy, quiet) = (origin(1, 1), origin(2, 5));
        for _ in 0..20 {
            assert_eq!(leases.expired(&[busy, quiet]), []);
            leases.renew(busy, 3);
            sleep(TICK).await;
        }
        leases.renew(busy, 0);
        sleep(TICK).await;
        assert_eq!(leases.expired(&[busy, quiet]), [quiet]);
        // It registered again: its new registration has a lease of its own.
        let again = origin(2, 6);
        assert_eq!(leases.expired(&[busy, again]), []);
        assert!(leases.of(quiet).is_none());
        assert_eq!(leases.of(busy).unwrap().asked.unwrap().1, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_closes_its_line_and_does_not_renew_ends_sooner() {
        let leases = Arc::new(Leases::new(LEASE));
        let (dead, alive, moved) = (origin(1, 1), origin(2, 2), origin(3, 3));
        let all = [dead, alive, moved];
        for one in all {
            leases.renew(one, 0);
        }
        let lines = all.map(|one| leases.attend(one));
        let newer = leases.attend(moved);
        sleep(TICK).await;
        // It was quicker to come back than its old line was to close.
        leases.renew(alive, 0);
        drop(lines);
        assert_eq!(leases.expired(&all), []);
        sleep(LEASE / 3 + TICK).await;
        assert_eq!(leases.expired(&all), []);
        leases.renew(alive, 0);
        sleep(LEASE / 6 + TICK).await;
        assert_eq!(leases.expired(&all), [dead]);
        // A lease of which less is left is not made longer.
        sleep(LEASE / 3).await;
        drop(newer);
        sleep(LEASE / 6).await;
        leases.renew(alive, 0);
        assert_eq!(leases.expired(&all), [dead, moved]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_gives_everyone_a_full_lease() {
        let leases = Leases::new(LEASE);
        let agent = origin(1, 1);
        assert_eq!(leases.expired(&[agent]), []);
        sleep(LEASE * 2).await;
        leases.begin_anew();
        assert_eq!(leases.expired(&[agent]), []);
        sleep(LEASE - TICK).await;
        assert_eq!(leases.expired(&[agent]), []);
        sleep(TICK * 2).await;
        assert_eq!(leases.expired(&[agent]), [agent]);
    }
}
