//! What this agent does for the others.
//!
//! Every request is checked before anything else sees it: that it is one, that it is meant for this
//! agent of this cluster, that the caller's registration lives in this agent's view (which is brought
//! up to date once when it does not know the caller), and that it is of a bearable size. Work and
//! answers are bounded in bytes, and each wait in time; who finds no room is refused and goes
//! elsewhere.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{AgentOrigin, JournalChunkId, State};
use alluvium_transport::{Answers, Lane, Refused, Service};
use alluvium_types::ObjectId;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use super::wire::{Answer, Head, Identity, Request, Sum};
use crate::budget::{ByteBudget, Lease};
use crate::freshness::Freshness;
use crate::registration::Registration;

/// Bytes of chunks that are being synced for others at once.
const APPENDS: usize = 96 << 20;
/// Bytes of answers to others at once, from when they are read until they are sent.
const READS: usize = 64 << 20;
/// How long a request waits for room.
const ROOM: Duration = Duration::from_millis(1500);
/// Longest that a request may take then. Callers have given up by that time.
const WORK: Duration = Duration::from_secs(5);

/// This agent's write-ahead buffer, as others use it.
#[async_trait]
pub trait Copies: Debug + Send + Sync + 'static {
    /// The incarnation of the buffer ([`AnnounceAgent::journal`](alluvium_metadata::AnnounceAgent)).
    fn journal(&self) -> u128;

    /// Syncs a copy of another agent's chunk; it is durable when this returns. The same chunk may come
    /// again after an answer was lost. Dropped when the caller has gone.
    ///
    /// # Errors
    /// Says why there is no copy: no room, a disk that fails.
    async fn append(&self, chunk: JournalChunkId, bytes: Bytes) -> Result<(), String>;

    /// Reads from a chunk that is here, in pieces that lie one after another.
    ///
    /// # Errors
    /// Says why not: it is not here (any more), damaged, or shorter.
    async fn read(&self, chunk: JournalChunkId, range: Range<u64>) -> Result<Vec<Bytes>, String>;
}

/// This agent's cache over the bucket, as others use it.
#[async_trait]
pub trait Blocks: Debug + Send + Sync + 'static {
    /// Reads from an object, out of the cache or the bucket and never through yet another agent, in
    /// pieces that lie one after another.
    ///
    /// # Errors
    /// The bucket's, in words.
    async fn read(
        &self,
        object: ObjectId,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, String>;
}

/// Answers the other agents.
#[derive(Debug)]
pub(crate) struct PeerService {
    metadata: Metadata,
    freshness: Freshness,
    registration: Registration,
    copies: Option<Arc<dyn Copies>>,
    blocks: Arc<dyn Blocks>,
    appends: ByteBudget,
    reads: ByteBudget,
}

/// How a caller stands in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// It may ask.
    Live,
    /// The view does not know this registration: it may lag.
    Unknown,
    /// The registration has ended or was replaced.
    Over,
}

fn caller(state: &State, from: AgentOrigin) -> Caller {
    match state.agent(from.agent) {
        Some(known) if known.epoch == from.epoch && known.ended_at().is_none() => Caller::Live,
        Some(known) if known.epoch >= from.epoch => Caller::Over,
        _ => Caller::Unknown,
    }
}

impl PeerService {
    pub(crate) fn new(
        metadata: Metadata,
        freshness: Freshness,
        registration: Registration,
        copies: Option<Arc<dyn Copies>>,
        blocks: Arc<dyn Blocks>,
    ) -> Self {
        Self {
            metadata,
            freshness,
            registration,
            copies,
            blocks,
            appends: ByteBudget::new(APPENDS),
            reads: ByteBudget::new(READS),
        }
    }

    async fn answer(&self, head: Head, body: Bytes) -> Result<Bytes, String> {
        self.admit(&head).await?;
        match head.request {
            Request::Append { chunk, .. } => self.append(head.from, chunk, body).await,
            Request::ReadChunk { chunk, range } => {
                let copies = self.copies()?;
                self.read(range.clone(), copies.read(chunk, range)).await
            }
            Request::ReadObject {
                object,
                object_bytes,
                range,
            } => {
                let known = self.metadata.read(|state| state.object_bytes(object));
                if known.is_some_and(|known| known != object_bytes) || range.end > object_bytes {
                    return Err(format!(
                        "bytes {range:?} of {object_bytes} are not within object {object}"
                    ));
                }
                let read = self.blocks.read(object, object_bytes, range.clone());
                self.read(range, read).await
            }
        }
    }

    /// Checks who asks whom.
    async fn admit(&self, head: &Head) -> Result<(), String> {
        let me = self.registration.id();
        if head.to != me {
            return Err(format!("this is agent {me}, not {}", head.to));
        }
        if head.from.agent == me {
            return Err(format!("agent {me} does not call itself"));
        }
        let look = |state: &State| (Identity::of(state), caller(state, head.from));
        let (mut identity, mut standing) = self.metadata.read(look);
        if standing == Caller::Unknown || identity != head.identity {
            // A quorum that does not answer changes nothing: the view is taken as it is.
            let _ = self.freshness.catch_up().await;
            (identity, standing) = self.metadata.read(look);
        }
        if identity.is_none() || identity != head.identity {
            return Err(
                "this agent belongs to another cluster, or another history of it".to_owned(),
            );
        }
        let AgentOrigin { agent, epoch } = head.from;
        match standing {
            Caller::Live => Ok(()),
            Caller::Unknown => Err(format!(
                "registration {} of agent {agent} is not known here",
                epoch.0
            )),
            Caller::Over => Err(format!("registration {} of agent {agent} is over", epoch.0)),
        }
    }

    fn copies(&self) -> Result<&Arc<dyn Copies>, String> {
        let none = || "this agent has no write-ahead buffer".to_owned();
        self.copies.as_ref().ok_or_else(none)
    }

    async fn append(
        &self,
        from: AgentOrigin,
        chunk: JournalChunkId,
        body: Bytes,
    ) -> Result<Bytes, String> {
        let copies = self.copies()?;
        // It may have been written here under the registration before.
        if chunk.agent != from.agent || chunk.epoch > from.epoch {
            return Err("an agent has only its own chunks copied".to_owned());
        }
        if body.is_empty() {
            return Err("a chunk has bytes".to_owned());
        }
        if self.registration.is_leaving() {
            return Err("this agent is about to leave".to_owned());
        }
        if !self.registration.lease_valid() {
            return Err("this agent's lease has run out".to_owned());
        }
        let _room = room(&self.appends, body.len()).await?;
        let appended = timeout(WORK, copies.append(chunk, body)).await;
        appended.map_err(|_| "the disk takes too long".to_owned())??;
        let journal = copies.journal();
        Ok(Answer::Appended { journal }.encode(&[]))
    }

    async fn read(
        &self,
        range: Range<u64>,
        read: impl Future<Output = Result<Vec<Bytes>, String>>,
    ) -> Result<Bytes, String> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let room = room(&self.reads, length).await?;
        let parts = timeout(WORK, read).await;
        let parts = parts.map_err(|_| "reading takes too long".to_owned())??;
        let sum = Sum::of(&parts);
        if usize::try_from(sum.bytes) != Ok(length) {
            return Err(format!("bytes {range:?} are {} bytes here", sum.bytes));
        }
        let answer = Answer::Bytes(sum).encode(&parts);
        // The room is free when the answer is gone.
        Ok(Bytes::from_owner(Held {
            answer,
            _room: room,
        }))
    }
}

struct Held {
    answer: Bytes,
    _room: Lease,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

async fn room(budget: &ByteBudget, bytes: usize) -> Result<Lease, String> {
    let lease = timeout(ROOM, budget.lease(bytes)).await;
    lease.map_err(|_| "this agent does too much for others already".to_owned())
}

#[async_trait]
impl Service for PeerService {
    async fn call(&self, lane: Lane, request: Bytes) -> Result<Bytes, Refused> {
        if lane != Lane::Peers {
            return Err(Refused("this is an agent, not a metadata node".to_owned()));
        }
        let (head, body) = Head::decode(&request).map_err(Refused)?;
        drop(request);
        let (name, from) = (head.request.name(), head.from.agent);
        let answer = self.answer(head, body).await;
        let result = if answer.is_ok() { "done" } else { "refused" };
        let labels = [("call", name), ("result", result)];
        metrics::counter!("alluvium_peer_served_total", &labels).increment(1);
        if let Ok(answer) = &answer {
            let bytes = u64::try_from(answer.len()).unwrap_or(u64::MAX);
            metrics::counter!("alluvium_peer_served_bytes_total", "call" => name).increment(bytes);
        }
        answer.map_err(|reason| {
            tracing::debug!(%from, call = name, reason, "an agent's request was refused");
            Refused(reason)
        })
    }

    async fn open(&self, _lane: Lane, _request: Bytes) -> Result<Answers, Refused> {
        Err(Refused("agents open no streams to one another".to_owned()))
    }
}
