//! What this node answers to others.
//!
//! Every request is checked here before anything else sees it: that it is one, that it is meant for
//! this cluster, and that it is of a bearable size.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::time::Instant;

use alluvium_metadata::AgentOrigin;
use alluvium_transport::{Answers, Lane, Refused, Service};
use alluvium_types::Clock;

use crate::archive::ArchiveProgress;
use crate::feed::{self, Feed, SharedSnapshot, Source, Standing};
use crate::liveness::Leases;
use crate::quorum::Quorum;
use crate::raft::{LogStore, NotLeader, OfferError, Voter};
use crate::rpc::{Answer, Envelope, Identity, LeaderHint, Proposed, Request};
use crate::status;
use crate::view::View;
use crate::voter_id::Peer;

/// How long a node may hear nothing of a leader before its view counts as getting old.
const OUT_OF_TOUCH: Duration = Duration::from_secs(1);

/// What other nodes can ask of this one.
#[derive(Debug)]
pub(crate) struct NodeService {
    quorum: Quorum,
    view: Arc<View>,
    leases: Arc<Leases>,
    source: Source,
    archive: Option<ArchiveProgress>,
    clock: Arc<dyn Clock>,
}

/// Who leads, as the voter of this node knows it.
#[derive(Debug)]
struct Seat {
    quorum: Quorum,
    /// When the voter last took something from a leader.
    heard: Mutex<Instant>,
}

impl Seat {
    fn heard(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeService {
    /// The feed is the one that the state machine of the voter fills, the log the voter's; `lease` is
    /// an agent's.
    pub(crate) fn new(
        quorum: Quorum,
        view: Arc<View>,
        feed: Arc<Feed>,
        log: LogStore,
        lease: Duration,
        archive: Option<ArchiveProgress>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let seat = Arc::new(Seat {
            quorum: quorum.clone(),
            heard: Mutex::new(Instant::now()),
        });
        Self {
            source: Source {
                view: Arc::clone(&view),
                feed,
                log: Some(log),
                snapshot: Arc::new(SharedSnapshot::new(Arc::clone(&view))),
                subscribers: Arc::default(),
                quorum: seat,
            },
            leases: Arc::new(Leases::new(lease)),
            quorum,
            view,
            archive,
            clock,
        }
    }

    pub(crate) fn voter(&self) -> &Voter {
        self.quorum.voter()
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(crate) fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// This node's cluster address.
    pub(crate) fn address(&self) -> &str {
        &self.quorum.me().address
    }

    pub(crate) fn leads(&self) -> bool {
        self.voter().leads()
    }

    pub(crate) fn leader(&self) -> Option<LeaderHint> {
        self.source.quorum.leader()
    }

    /// Addresses of the voters.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.source.quorum.nodes()
    }

    /// Answers a request that was checked.
    pub(crate) async fn answer(&self, request: Request) -> Result<Answer, Refused> {
        let raft = |answer: Result<Bytes, String>| answer.map(Answer::Raft).map_err(Refused);
        Ok(match request {
            Request::Hello(hello) => Answer::Hello(self.quorum.hello(&hello)),
            Request::Vote(vote) => raft(self.quorum.handle_vote(vote).await)?,
            Request::PreVote(vote) => raft(self.quorum.handle_pre_vote(vote).await)?,
            Request::Append(entries) => self.append(entries).await?,
            Request::InstallSnapshot(piece) => {
                let answer = raft(self.quorum.handle_snapshot(piece).await)?;
                self.source.quorum.heard();
                answer
            }
            Request::TransferLeader(request) => {
                raft(self.quorum.handle_transfer_leader(request).await)?
            }
            Request::Propose { commands } => self.propose(&commands).await,
            Request::ReadIndex => match self.voter().read_index().await {
                Ok(next_index) => Answer::ReadIndex { next_index },
                Err(error) => self.not_done(error),
            },
            Request::Renew { origin, view } => self.renew(origin, view).await,
            Request::Status => self.status(),
            Request::Change(change) => match self.quorum.change(change).await {
                Ok(result) => Answer::Changed(result),
                Err(error) => self.not_leader(error),
            },
            Request::Join(join) => match self.quorum.join(join).await {
                Ok(answer) => Answer::Joined(answer),
                Err(error) => self.not_leader(error),
            },
            Request::Form { nodes } => Answer::Formed(self.quorum.form(nodes).await),
            Request::Subscribe(_) | Request::Attend { .. } => {
                return Err(Refused("a stream is opened, not called".to_owned()));
            }
        })
    }

    async fn append(&self, entries: Bytes) -> Result<Answer, Refused> {
        let answer = self.quorum.handle_append(entries).await.map_err(Refused)?;
        self.source.quorum.heard();
        Ok(Answer::Raft(answer))
    }

    async fn propose(&self, commands: &[Bytes]) -> Answer {
        match self.voter().offer(commands).await {
            Ok(applied) => Answer::Proposed(
                applied
                    .into_iter()
                    .map(|applied| Proposed {
                        index: applied.index,
                        outcome: applied.outcome,
                    })
                    .collect(),
            ),
            Err(error) => self.not_done(error),
        }
    }

    async fn renew(&self, origin: AgentOrigin, view: u64) -> Answer {
        if !self.leads() {
            return Answer::NotLeader {
                leader: self.leader(),
            };
        }
        // A leader that is cut off must not keep agents alive that nobody else hears of.
        if let Err(reason) = self.voter().is_heard() {
            return Answer::Unavailable(reason);
        }
        if !self.is_current(origin) {
            // A leader that is new may not have applied the registration yet.
            match self.voter().read_index().await {
                Ok(next_index) => self.view.reach(next_index).await,
                Err(error) => return self.not_done(error),
            }
            if !self.is_current(origin) {
                return Answer::Ended;
            }
        }
        let next_index = self.view.next_index();
        self.leases.renew(origin, next_index.saturating_sub(view));
        Answer::Renewed {
            lease_millis: u64::try_from(self.leases.lease().as_millis()).unwrap_or(u64::MAX),
            next_index,
        }
    }

    /// A stream that says nothing and holds an agent's line.
    fn attend(&self, origin: AgentOrigin) -> Result<Answers, Refused> {
        if !self.leads() || !self.is_current(origin) {
            return Err(Refused(
                "a line is for an agent that has just renewed its lease here".to_owned(),
            ));
        }
        let line = self.leases.attend(origin);
        let silent = stream::poll_fn(move |_| {
            let _held = &line;
            Poll::<Option<Bytes>>::Pending
        });
        Ok(silent.boxed())
    }

    /// Whether a registration is an agent's last one and has not ended.
    fn is_current(&self, origin: AgentOrigin) -> bool {
        self.view.read(|current| {
            let agent = current.state.agent(origin.agent);
            agent.is_some_and(|agent| agent.origin() == origin && agent.ended_at().is_none())
        })
    }

    fn status(&self) -> Answer {
        let standing = self.voter().standing();
        if !standing.leads() {
            return Answer::NotLeader {
                leader: self.leader(),
            };
        }
        let now = self.clock.now();
        let archive = self.archive.as_ref().map(|it| it.status(now));
        Answer::Status(status::of(
            self.quorum.me().voter,
            &standing,
            &self.view,
            &self.leases,
            archive,
        ))
    }

    fn not_done(&self, error: OfferError) -> Answer {
        match error {
            OfferError::NotLeader(error) => self.not_leader(error),
            OfferError::Unavailable(reason) => Answer::Unavailable(reason),
            OfferError::Unknown(reason) => Answer::Unknown(reason),
        }
    }

    fn not_leader(&self, error: NotLeader) -> Answer {
        let term = self.voter().standing().term;
        Answer::NotLeader {
            leader: error.leader.map(|peer| hint(term, peer)),
        }
    }

    /// Refuses whoever speaks to another cluster.
    fn check(&self, theirs: Option<Identity>) -> Result<(), Refused> {
        let own = self.view.read(|current| Identity::of(&current.state));
        match (own, theirs) {
            (Some(own), Some(theirs)) if own != theirs => Err(Refused(format!(
                "this node belongs to {own}, the request is for {theirs}"
            ))),
            _ => Ok(()),
        }
    }
}

fn hint(term: u64, peer: Peer) -> LeaderHint {
    LeaderHint {
        term,
        address: peer.address,
    }
}

impl Standing for Seat {
    fn leader(&self) -> Option<LeaderHint> {
        let standing = self.quorum.voter().standing();
        standing.leader.map(|peer| hint(standing.term, peer))
    }

    fn nodes(&self) -> Vec<String> {
        let standing = self.quorum.voter().standing();
        standing
            .members()
            .map(|peer| peer.address.clone())
            .collect()
    }

    fn out_of_touch(&self) -> Option<String> {
        let standing = self.quorum.voter().standing();
        if let Some(reason) = standing.stopped {
            return Some(format!("the voter of this node has stopped: {reason}"));
        }
        if standing.leads() {
            return self.quorum.voter().is_heard().err();
        }
        let silence = self.heard().elapsed();
        (silence > OUT_OF_TOUCH).then(|| {
            format!(
                "this node has heard of no leader for {} ms",
                silence.as_millis()
            )
        })
    }

    fn heard(&self) {
        *Seat::heard(self) = Instant::now();
    }
}

#[async_trait]
impl Service for NodeService {
    async fn call(&self, _lane: Lane, request: Bytes) -> Result<Bytes, Refused> {
        let envelope = Envelope::decode(&request)?;
        drop(request);
        self.check(envelope.identity)?;
        let answer = self.answer(envelope.request).await?;
        Ok(answer.encode())
    }

    async fn open(&self, _lane: Lane, request: Bytes) -> Result<Answers, Refused> {
        let envelope = Envelope::decode(&request)?;
        match envelope.request {
            // It is told which cluster this is in the stream itself.
            Request::Subscribe(subscribe) => Ok(feed::subscribe(self.source.clone(), &subscribe)),
            Request::Attend { origin } => {
                self.check(envelope.identity)?;
                self.attend(origin)
            }
            _ => Err(Refused("this request opens no stream".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
