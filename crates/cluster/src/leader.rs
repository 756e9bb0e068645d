//! The way to the leader.
//!
//! Whoever has something to ask of it goes by, in this order: the voter in this process; the last
//! hint, from an answer or from the subscription; one node of the cluster after another. A node that
//! did not answer is passed over for a moment, whatever others say of it.
//!
//! What was not taken is offered again, with pauses that grow and vary. What may have been taken is
//! not: only the caller knows whether it can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium_storage::watch;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use alluvium_transport::{Lane, Transport, TransportError};
use alluvium_types::random;

use crate::applied::ProposeError;
use crate::rpc::{Answer, Envelope, Identity, LeaderHint, Request};
use crate::service::NodeService;
use crate::view::View;

/// Pauses between two rounds of attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long a node that did not answer is passed over.
const PASSED_OVER: Duration = Duration::from_millis(500);
/// How often a call that hangs looks whether another node leads by now.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Addresses that are taken from answers.
const MAX_NODES: usize = 64;
const MAX_ADDRESS_BYTES: usize = 300;

/// Asks the leader, whoever and wherever it is.
#[derive(Debug)]
pub(crate) struct LeaderClient {
    transport: Arc<dyn Transport>,
    view: Arc<View>,
    /// The voter in this process, if there is one.
    here: Option<Arc<NodeService>>,
    /// Addresses from the configuration.
    nodes: Vec<String>,
    known: watch::Sender<Known>,
    turn: AtomicUsize,
}

/// What was heard of the cluster.
#[derive(Clone, Debug, Default)]
struct Known {
    leader: Option<LeaderHint>,
    nodes: Vec<String>,
    silent: Option<(String, Instant)>,
    /// Who answered last as a leader does; `None` for the voter in this process, and before anybody.
    answered: Option<String>,
}

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    pub(crate) lane: Lane,
    /// For one answer.
    pub(crate) within: Duration,
    /// How long to offer what nobody takes.
    pub(crate) offers: Duration,
    /// Whether to ask again although it may have been taken.
    pub(crate) repeat: bool,
}

/// Where to ask.
#[derive(Debug)]
pub(crate) enum Target {
    /// The voter in this process leads.
    Here(Arc<NodeService>),
    At(String),
    /// Nobody to ask.
    Nobody,
}

/// What came of one attempt.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer(Answer),
    /// It can be offered again.
    NotTaken(String),
    /// It may yet be acted on.
    Unknown(String),
}

/// One question's attempts.
#[derive(Debug)]
pub(crate) struct Attempts {
    give_up: Instant,
    pause: Duration,
}

impl Attempts {
    pub(crate) fn new(offers: Duration) -> Self {
        Self {
            give_up: Instant::now() + offers,
            pause: FIRST_PAUSE,
        }
    }
}

impl LeaderClient {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        view: Arc<View>,
        nodes: Vec<String>,
        here: Option<Arc<NodeService>>,
    ) -> Self {
        Self {
            transport,
            view,
            here,
            nodes,
            known: watch::Sender::default(),
            turn: AtomicUsize::new(random::value::<u32>().try_into().unwrap_or(0)),
        }
    }

    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.view.read(|current| Identity::of(&current.state))
    }

    /// Asks until there is an answer. Answers are never [`Answer::NotLeader`],
    /// [`Answer::Unavailable`] or [`Answer::Unknown`].
    pub(crate) async fn ask(
        &self,
        request: Request,
        asking: Asking,
    ) -> Result<Answer, ProposeError> {
        let mut attempts = Attempts::new(asking.offers);
        loop {
            let reply = match self.target() {
                Target::Here(service) => {
                    match timeout(asking.within, service.answer(request.clone())).await {
                        Ok(Ok(answer)) => self.sort(None, answer),
                        Ok(Err(refused)) => Reply::NotTaken(refused.to_string()),
                        Err(_) => Reply::Unknown("this node did not answer in time".to_owned()),
                    }
                }
                Target::At(address) => self.attempt(&address, request.clone(), asking).await,
                Target::Nobody => Reply::NotTaken("no node is known".to_owned()),
            };
            let reason = match reply {
                Reply::Answer(answer) => return Ok(answer),
                Reply::NotTaken(reason) => reason,
                Reply::Unknown(reason) if asking.repeat => reason,
                Reply::Unknown(_) => return Err(ProposeError::TimedOut),
            };
            self.pause(&mut attempts, reason).await?;
        }
    }

    /// Waits before the next attempt, less if it becomes known who leads.
    ///
    /// # Errors
    /// It has been offered long enough.
    pub(crate) async fn pause(
        &self,
        attempts: &mut Attempts,
        reason: String,
    ) -> Result<(), ProposeError> {
        if Instant::now() >= attempts.give_up {
            return Err(ProposeError::Unavailable(reason));
        }
        let pause = attempts.pause;
        attempts.pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        let mut known = self.known.subscribe();
        let term = self.leader().map_or(0, |leader| leader.term);
        let news = known.wait_for(|known| {
            known
                .leader
                .as_ref()
                .is_some_and(|leader| leader.term > term)
        });
        let varied = pause.mul_f64(random::range(0.5..1.0));
        tokio::select! {
            biased;
            _ = news => {}
            () = sleep(varied) => {}
        }
        Ok(())
    }

    /// Asks one node once.
    pub(crate) async fn attempt(&self, address: &str, request: Request, asking: Asking) -> Reply {
        let request = Envelope::new(self.identity(), request).encode();
        let term = self.leader().map_or(0, |leader| leader.term);
        let call = self
            .transport
            .call(address, asking.lane, request, asking.within);
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            () = self.deposed(address, term) => {
                self.silent(address);
                return Reply::Unknown(format!("{address} does not lead any more"));
            }
        };
        match answer {
            Ok(answer) => self.read(address, &answer),
            Err(error) => {
                let reason = error.to_string();
                match error {
                    TransportError::Refused { .. } => {
                        self.forget(address);
                        Reply::NotTaken(reason)
                    }
                    TransportError::Unreachable { .. } => {
                        self.silent(address);
                        Reply::NotTaken(reason)
                    }
                    TransportError::Broken { .. } | TransportError::TimedOut { .. } => {
                        self.silent(address);
                        Reply::Unknown(reason)
                    }
                }
            }
        }
    }

    fn read(&self, address: &str, answer: &Bytes) -> Reply {
        match Answer::decode(answer) {
            Ok(answer) => self.sort(Some(address), answer),
            // It was acted on, or not: that is what the answer would have said.
            Err(reason) => Reply::Unknown(format!("{address}: {reason}")),
        }
    }

    fn sort(&self, address: Option<&str>, answer: Answer) -> Reply {
        match answer {
            Answer::NotLeader { leader } => {
                if let Some(address) = address {
                    self.forget(address);
                }
                let reason = match &leader {
                    Some(leader) => format!("{} leads by now", leader.address),
                    None => "the metadata quorum has no leader".to_owned(),
                };
                if let Some(leader) = leader {
                    self.hear(leader);
                }
                Reply::NotTaken(reason)
            }
            Answer::Unavailable(reason) => Reply::NotTaken(reason),
            Answer::Unknown(reason) => Reply::Unknown(reason),
            answer => {
                self.led(address);
                Reply::Answer(answer)
            }
        }
    }

    /// Resolves when it is known that another node leads since.
    async fn deposed(&self, address: &str, term: u64) {
        loop {
            sleep(LOOK_UP).await;
            let other = |leader: &LeaderHint| leader.term > term && leader.address != address;
            if self.leader().as_ref().is_some_and(other) {
                return;
            }
        }
    }

    /// The leader as far as it is known.
    pub(crate) fn leader(&self) -> Option<LeaderHint> {
        let here = self.here.as_ref().and_then(|service| service.leader());
        let heard = self.known.borrow().leader.clone();
        match (here, heard) {
            (Some(here), Some(heard)) if heard.term > here.term => Some(heard),
            (Some(here), _) => Some(here),
            (None, heard) => heard,
        }
    }

    /// Where to ask next.
    pub(crate) fn target(&self) -> Target {
        if let Some(service) = self.here.as_ref().filter(|service| service.leads()) {
            return Target::Here(Arc::clone(service));
        }
        let own = self.here.as_ref().map(|service| service.address());
        let known = self.known.borrow().clone();
        let silent = known
            .silent
            .filter(|(_, at)| at.elapsed() < PASSED_OVER)
            .map(|(address, _)| address);
        let asked = |address: &str| Some(address) != own && Some(address) != silent.as_deref();
        if let Some(leader) = self.leader().filter(|leader| asked(&leader.address)) {
            return Target::At(leader.address);
        }
        let members = self.here.as_ref().map(|service| service.nodes());
        let mut nodes: Vec<&String> = self
            .nodes
            .iter()
            .chain(&known.nodes)
            .chain(members.iter().flatten())
            .filter(|address| Some(address.as_str()) != own)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.iter().any(|address| asked(address)) {
            nodes.retain(|address| asked(address));
        }
        if nodes.is_empty() {
            return Target::Nobody;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len();
        nodes
            .get(turn)
            .map_or(Target::Nobody, |address| Target::At((*address).clone()))
    }

    /// Every address that is known, in no particular order.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let known = self.known.borrow();
        let mut nodes: Vec<String> = self.nodes.iter().chain(&known.nodes).cloned().collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Somebody says who leads.
    pub(crate) fn hear(&self, leader: LeaderHint) {
        if leader.address.len() > MAX_ADDRESS_BYTES {
            return;
        }
        self.known.send_if_modified(|known| {
            let news = known
                .leader
                .as_ref()
                .is_none_or(|heard| leader.term >= heard.term && leader != *heard);
            if news {
                known.leader = Some(leader);
            }
            news
        });
    }

    /// Somebody says who is in the quorum.
    pub(crate) fn hear_nodes(&self, nodes: Vec<String>) {
        let nodes = nodes
            .into_iter()
            .filter(|address| address.len() <= MAX_ADDRESS_BYTES)
            .take(MAX_NODES)
            .collect();
        self.known.send_if_modified(|known| {
            known.nodes = nodes;
            false
        });
    }

    /// The node that answered last as a leader does, unless it is the voter in this process.
    pub(crate) fn answered(&self) -> Option<String> {
        self.known.borrow().answered.clone()
    }

    /// This node answered as a leader does.
    fn led(&self, address: Option<&str>) {
        self.known.send_if_modified(|known| {
            if known.answered.as_deref() != address {
                known.answered = address.map(str::to_owned);
            }
            let Some(address) = address else {
                return false;
            };
            known.silent = None;
            if known.leader.is_none() {
                known.leader = Some(LeaderHint {
                    term: 0,
                    address: address.to_owned(),
                });
            }
            false
        });
    }

    /// This node does not lead.
    fn forget(&self, address: &str) {
        self.known.send_if_modified(|known| {
            if known
                .leader
                .as_ref()
                .is_some_and(|it| it.address == address)
            {
                known.leader = None;
            }
            false
        });
    }

    /// This node does not answer.
    fn silent(&self, address: &str) {
        self.known.send_if_modified(|known| {
            known.silent = Some((address.to_owned(), Instant::now()));
            false
        });
    }
}

#[cfg(test)]
mod tests;
