//! How this agent calls the others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{JournalChunkId, JournalCopy};
use alluvium_transport::{Lane, Transport, TransportError};
use alluvium_types::{AgentEpoch, AgentId, ObjectId, random};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::choice::peer_address;
use super::wire::{APPEND_BYTES, Answer, Head, Identity, Request, Sum, check_range, total};
use super::{PeerError, Peers};
use crate::budget::{ByteBudget, Lease};
use crate::registration::Registration;

/// Longest that a copy may take: producers wait for it.
const APPEND: Duration = Duration::from_secs(2);
/// Longest that a read may take.
const READ: Duration = Duration::from_secs(4);
/// Bytes of requests and answers under way at once.
const IN_FLIGHT: usize = 96 << 20;
/// For how long a peer is not called after it failed: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Calls other agents at the addresses that they announced.
#[derive(Debug)]
pub(crate) struct PeerClient {
    metadata: Metadata,
    registration: Registration,
    transport: Arc<dyn Transport>,
    in_flight: ByteBudget,
    failed: Mutex<BTreeMap<AgentId, Failed>>,
}

/// A peer that did not answer.
#[derive(Clone, Debug)]
struct Failed {
    /// Under another registration it may do better.
    epoch: AgentEpoch,
    reason: String,
    until: Instant,
    pause: Duration,
}

/// Whom a call goes to.
struct Target {
    address: String,
    epoch: AgentEpoch,
    identity: Option<Identity>,
}

impl PeerClient {
    pub(crate) fn new(
        metadata: Metadata,
        registration: Registration,
        transport: Arc<dyn Transport>,
    ) -> Self {
        Self {
            metadata,
            registration,
            transport,
            in_flight: ByteBudget::new(IN_FLIGHT),
            failed: Mutex::default(),
        }
    }

    fn failed(&self) -> MutexGuard<'_, BTreeMap<AgentId, Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a peer.
    ///
    /// # Errors
    /// It has ended, said no address, or failed a moment ago.
    fn target(&self, peer: AgentId) -> Result<Target, PeerError> {
        let found = self.metadata.read(|state| {
            let agent = state.agent(peer)?;
            Some(Target {
                address: peer_address(agent)?.to_owned(),
                epoch: agent.epoch,
                identity: Identity::of(state),
            })
        });
        let nowhere = || {
            unreachable(
                peer,
                "it has left, or announced no address (cluster.listen)",
            )
        };
        let target = found.ok_or_else(nowhere)?;
        match self.failed().get(&peer) {
            Some(failed) if failed.epoch == target.epoch && Instant::now() < failed.until => {
                let reason = format!("it failed a moment ago: {}", failed.reason);
                Err(unreachable(peer, reason))
            }
            _ => Ok(target),
        }
    }

    /// The next calls fail at once for a while, longer each time.
    fn note_failure(&self, peer: AgentId, epoch: AgentEpoch, error: &TransportError) {
        let now = Instant::now();
        let mut failed = self.failed();
        failed.retain(|_, failed| failed.until + LONGEST_PAUSE > now);
        let before = failed.get(&peer).filter(|failed| failed.epoch == epoch);
        if before.is_some_and(|failed| now < failed.until) {
            // Calls that were under way together fail together: that is one failure.
            return;
        }
        let pause = before.map_or(FIRST_PAUSE, |failed| (failed.pause * 2).min(LONGEST_PAUSE));
        let until = now + pause.mul_f64(random::range(0.75..1.25));
        if before.is_none() {
            tracing::warn!(%peer, %error, "an agent does not answer this one");
        }
        let reason = error.to_string();
        let mark = Failed {
            epoch,
            reason,
            until,
            pause,
        };
        failed.insert(peer, mark);
    }

    /// Waits for a place among what is under way.
    async fn room(&self, peer: AgentId, bytes: u64, until: Instant) -> Result<Lease, PeerError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let lease = timeout_at(until, self.in_flight.lease(bytes)).await;
        lease.map_err(|_| unreachable(peer, "too much is under way to other agents already"))
    }

    /// Calls a peer with bytes behind the request. `expected` is the answer's size.
    async fn call(
        &self,
        peer: AgentId,
        within: Duration,
        request: Request,
        body: &[Bytes],
        expected: u64,
    ) -> Result<(Answer, Bytes), PeerError> {
        let (begun, name) = (Instant::now(), request.name());
        let target = self.target(peer)?;
        let deadline = begun + within;
        let _room = self.room(peer, total(body) + expected, deadline).await?;
        let from = self.registration.origin();
        let message = Head::new(target.identity, peer, from, request).encode(body);
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = self
            .transport
            .call(&target.address, Lane::Peers, message, left)
            .await;
        let result = match &answer {
            Ok(_) => "answered",
            Err(TransportError::Refused { .. }) => "refused",
            Err(_) => "failed",
        };
        let labels = [("call", name), ("result", result)];
        metrics::counter!("alluvium_peer_calls_total", &labels).increment(1);
        metrics::histogram!("alluvium_peer_call_seconds", "call" => name)
            .record(begun.elapsed().as_secs_f64());
        let answer = match answer {
            Ok(answer) => answer,
            Err(TransportError::Refused { reason, .. }) => {
                self.failed().remove(&peer);
                return Err(PeerError::Refused { peer, reason });
            }
            Err(error) => {
                self.note_failure(peer, target.epoch, &error);
                return Err(unreachable(peer, error));
            }
        };
        self.failed().remove(&peer);
        Answer::decode(&answer).map_err(|reason| unreachable(peer, reason))
    }

    async fn read(
        &self,
        peer: AgentId,
        request: Request,
        range: &Range<u64>,
    ) -> Result<Bytes, PeerError> {
        check_range(range).map_err(|reason| PeerError::Refused { peer, reason })?;
        let length = range.end.saturating_sub(range.start);
        match self.call(peer, READ, request, &[], length).await? {
            (Answer::Bytes(sum), bytes) if sum.bytes == length => Ok(bytes),
            (answer, _) => Err(unreachable(
                peer,
                format!("{answer:?} is no answer to bytes {range:?}"),
            )),
        }
    }
}

fn unreachable(peer: AgentId, reason: impl ToString) -> PeerError {
    PeerError::Unreachable {
        peer,
        reason: reason.to_string(),
    }
}

#[async_trait]
impl Peers for PeerClient {
    async fn append(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        parts: &[Bytes],
    ) -> Result<JournalCopy, PeerError> {
        let sum = Sum::of(parts);
        if usize::try_from(sum.bytes).map_or(true, |bytes| bytes > APPEND_BYTES) {
            let reason = format!(
                "a chunk of {} bytes; at most {APPEND_BYTES} are sent",
                sum.bytes
            );
            return Err(PeerError::Refused { peer, reason });
        }
        let request = Request::Append { chunk, sum };
        match self.call(peer, APPEND, request, parts, 0).await? {
            (Answer::Appended { journal }, _) => Ok(JournalCopy {
                agent: peer,
                journal,
            }),
            (answer, _) => Err(unreachable(
                peer,
                format!("{answer:?} is no answer to a copy"),
            )),
        }
    }

    async fn read_chunk(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        let request = Request::ReadChunk {
            chunk,
            range: range.clone(),
        };
        self.read(peer, request, &range).await
    }

    async fn read_object(
        &self,
        peer: AgentId,
        object: ObjectId,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        let request = Request::ReadObject {
            object,
            object_bytes,
            range: range.clone(),
        };
        self.read(peer, request, &range).await
    }

    fn seems_alive(&self, peer: AgentId) -> bool {
        self.target(peer).is_ok()
    }
}
