//! Keeps the agent registered: renews the lease, registers again when it has ended, and announces after
//! each registration where other agents reach this one. Between renewals it holds a line to the leader,
//! which breaks when this process dies.

use std::sync::{Arc, Mutex, PoisonError};

use alluvium_storage::watch;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use alluvium_cluster::{Line, Metadata, ProposeError, Renewal};
use alluvium_metadata::{
    AgentOrigin, AnnounceAgent, Change, Command, Outcome, RegisterAgent, Standing, State,
};
use alluvium_types::Clock;

use crate::backoff::Backoff;
use crate::error::AgentError;
use crate::registration::Registration;
use crate::task::ended;

/// A lease's length until the quorum has said how long it is.
const FIRST: Duration = Duration::from_secs(2);

/// Pauses after an attempt that failed. A new leader is there within a second, and the lease should
/// outlast that.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// The task that keeps the lease.
#[derive(Debug)]
pub(crate) struct Lease {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Why the agent cannot go on, once that is so.
    over: watch::Receiver<Option<String>>,
}

/// Registers for the first time.
///
/// # Errors
/// See [`AgentError`].
pub(crate) async fn register(
    metadata: &Metadata,
    register: RegisterAgent,
) -> Result<Registration, AgentError> {
    let asked = Instant::now();
    // Ends nobody. A state that was made by release 0.1 judges producers by the rules of then until
    // it meets a command that is newer.
    let newer = Command::EndAgents {
        agents: Vec::new(),
        at: register.at,
    };
    let commands = vec![newer, Command::RegisterAgent(register)];
    let applied = metadata.propose_many(commands).await?;
    match applied
        .into_iter()
        .next_back()
        .map(|applied| applied.outcome)
    {
        Some(Outcome::AgentRegistered(origin)) => Ok(Registration::new(origin, asked + FIRST)),
        Some(other) => Err(AgentError::Refused(other)),
        None => Err(ProposeError::Unavailable("no answer".to_owned()).into()),
    }
}

/// What an agent says of itself to the others. See [`AnnounceAgent`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) peer: Option<String>,
    pub(crate) journal: Option<u128>,
}

impl Lease {
    pub(crate) fn start(
        registration: Registration,
        register: RegisterAgent,
        announcement: Announcement,
        metadata: Metadata,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let stop = CancellationToken::new();
        let (told, over) = watch::channel(None);
        // Subscribed before the first look.
        let changes = metadata.subscribe();
        let keeper = Keeper {
            registration,
            register,
            announcement,
            announced: None,
            metadata,
            clock,
            lease: FIRST,
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            line: None,
            dialled: None,
            replaced: false,
            over: told,
        };
        let task = tokio::spawn(keeper.run(changes, stop.clone()));
        Self {
            stop,
            task: Mutex::new(Some(task)),
            over,
        }
    }

    /// Resolves, with the reason, when the agent cannot go on under its id.
    pub(crate) async fn over(&self) -> String {
        let mut over = self.over.clone();
        let reason = over
            .wait_for(Option::is_some)
            .await
            .map(|reason| reason.clone());
        match reason {
            Ok(reason) => reason.unwrap_or_default(),
            // The task was stopped.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        ended(&self.task, "keeps the lease").await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop.cancel();
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

struct Keeper {
    registration: Registration,
    register: RegisterAgent,
    announcement: Announcement,
    /// The registration under which it was announced.
    announced: Option<AgentOrigin>,
    metadata: Metadata,
    clock: Arc<dyn Clock>,
    lease: Duration,
    backoff: Backoff,
    /// To the leader, for this registration.
    line: Option<(AgentOrigin, Line)>,
    /// When one was asked for last.
    dialled: Option<Instant>,
    /// Another process lives under this identity.
    replaced: bool,
    over: watch::Sender<Option<String>>,
}

/// How this agent's registration looks in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Current,
    Ended,
    /// A newer registration of the same identity, of another process, which lives.
    Replaced,
}

impl Keeper {
    async fn run(mut self, mut changes: Receiver<Arc<[Change]>>, stop: CancellationToken) {
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                pause = self.keep() => pause,
            };
            if self.over.borrow().is_some() {
                return stop.cancelled().await;
            }
            let paused = sleep(pause);
            tokio::pin!(paused);
            let mut line = self.line.take();
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.registration.doubted() => break,
                    agents_changed = next(&mut changes) => {
                        if agents_changed && self.look() != Seen::Current {
                            break;
                        }
                    }
                    () = broken(&mut line) => {
                        line = None;
                        break;
                    }
                    () = &mut paused => break,
                }
            }
            self.line = line;
        }
    }

    /// Renews, or registers again. Returns when to do it next.
    async fn keep(&mut self) -> Duration {
        let origin = self.registration.origin();
        match self.look() {
            Seen::Replaced => return self.stand_aside(origin),
            Seen::Ended => self.registration.lost(origin),
            Seen::Current => {}
        }
        self.replaced = false;
        if self.registration.held().has_ended() {
            if self.registration.is_leaving() {
                return self.lease;
            }
            return self.register_again().await;
        }
        let asked = Instant::now();
        match timeout(self.lease, self.metadata.renew(origin)).await {
            Ok(Ok(Renewal::Renewed { lease })) => {
                self.lease = lease.max(Duration::from_millis(1));
                let until = asked + self.lease;
                self.registration.renewed(origin, until);
                if let Err(error) = self.announce(origin).await {
                    return self.failed("not announced to the other agents yet", &error);
                }
                self.backoff.reset();
                self.attend(origin).await;
                // Of what is left: the answer may have taken a while.
                until.saturating_duration_since(Instant::now()) / 3
            }
            Ok(Ok(Renewal::Ended)) => {
                self.registration.lost(origin);
                Duration::ZERO
            }
            Ok(Err(error)) => self.failed("the lease is not renewed yet", &error),
            Err(_) => self.failed("the lease is not renewed yet", &ProposeError::TimedOut),
        }
    }

    /// Has a line to whoever leads now. The next renewal must not wait for it, and one that breaks at
    /// once is not had again at once.
    async fn attend(&mut self, origin: AgentOrigin) {
        let most = self.lease / 4;
        let line = self.line.take().filter(|(of, _)| *of == origin);
        if line.is_none() {
            if self.dialled.is_some_and(|at| at.elapsed() < most) {
                return;
            }
            self.dialled = Some(Instant::now());
        }
        let attend = self.metadata.attend(origin, line.map(|(_, line)| line));
        let line = timeout(most, attend).await.ok().flatten();
        self.line = line.map(|line| (origin, line));
    }

    /// Tells the others what holds for this registration, once.
    async fn announce(&mut self, origin: AgentOrigin) -> Result<(), ProposeError> {
        let Announcement { peer, journal } = self.announcement.clone();
        let is_nothing = peer.is_none() && journal.is_none();
        if is_nothing || self.announced == Some(origin) {
            return Ok(());
        }
        let announce = Command::AnnounceAgent(AnnounceAgent {
            origin,
            peer,
            journal,
        });
        // The next renewal must not wait for it.
        let applied = timeout(self.lease / 4, self.metadata.propose(announce)).await;
        let applied = applied.unwrap_or(Err(ProposeError::TimedOut))?;
        if let Outcome::Refused(refusal) = applied.outcome {
            // The registration is over, which the next look tells, or the quorum is older.
            tracing::warn!(agent = %origin.agent, reason = refusal.message, "not announced to the other agents");
        }
        self.announced = Some(origin);
        Ok(())
    }

    async fn register_again(&mut self) -> Duration {
        let register = RegisterAgent {
            at: self.clock.now(),
            ..self.register.clone()
        };
        let asked = Instant::now();
        let applied = self
            .metadata
            .propose(Command::RegisterAgent(register))
            .await;
        match applied.map(|applied| applied.outcome) {
            Ok(Outcome::AgentRegistered(origin)) if origin.agent == self.registration.id() => {
                tracing::info!(
                    agent = %origin.agent, epoch = origin.epoch.0,
                    "registered again after the lease had ended"
                );
                metrics::counter!("alluvium_agent_registrations_total").increment(1);
                self.registration.registered(origin, asked + self.lease);
                self.backoff.reset();
                Duration::ZERO
            }
            Ok(other) => {
                let id = self.registration.id();
                let reason = format!(
                    "agent {id} was away for so long that the cluster has forgotten it ({other:?}); start it again"
                );
                tracing::error!("{reason}");
                self.over.send_replace(Some(reason));
                Duration::MAX
            }
            Err(error) => self.failed("not registered again yet", &error),
        }
    }

    /// Two processes must not take one identity from each other in turns: the newer one has it.
    fn stand_aside(&mut self, origin: AgentOrigin) -> Duration {
        self.registration.lost(origin);
        if !self.replaced {
            self.replaced = true;
            tracing::error!(
                agent = %origin.agent, identity = %format_args!("{:032x}", self.register.identity),
                "another process has registered under this agent's identity and is served; this one stands aside"
            );
        }
        self.lease
    }

    fn failed(&mut self, what: &str, error: &ProposeError) -> Duration {
        let pause = self.backoff.next();
        if self.backoff.attempts() > 3 {
            tracing::warn!(%error, "{what}");
        } else {
            tracing::debug!(%error, "{what}");
        }
        pause
    }

    fn look(&self) -> Seen {
        let origin = self.registration.origin();
        self.metadata
            .read(|state| seen(state, origin, &self.register))
    }
}

fn seen(state: &State, origin: AgentOrigin, register: &RegisterAgent) -> Seen {
    match state.agent(origin.agent) {
        // The view held the registration when it was answered. It has been forgotten since.
        None => Seen::Ended,
        Some(agent) if agent.epoch > origin.epoch => {
            let elsewhere = (&agent.host, agent.port) != (&register.host, register.port);
            if elsewhere && !matches!(agent.standing, Standing::Ended { .. }) {
                Seen::Replaced
            } else {
                Seen::Ended
            }
        }
        Some(agent)
            if agent.epoch == origin.epoch && matches!(agent.standing, Standing::Ended { .. }) =>
        {
            Seen::Ended
        }
        _ => Seen::Current,
    }
}

/// Resolves when a line that there is breaks.
async fn broken(line: &mut Option<(AgentOrigin, Line)>) {
    match line {
        Some((_, line)) => line.broken().await,
        None => std::future::pending().await,
    }
}

/// Whether the next batch of changes tells of agents. Never resolves when there are no more.
async fn next(changes: &mut Receiver<Arc<[Change]>>) -> bool {
    match changes.recv().await {
        Ok(changes) => changes.contains(&Change::Agents),
        Err(RecvError::Lagged(_)) => true,
        Err(RecvError::Closed) => std::future::pending().await,
    }
}
