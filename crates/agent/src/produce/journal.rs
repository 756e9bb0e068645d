//! Makes a chunk durable in write-ahead buffers: this agent's own, and as many others as the cluster
//! asks for.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Duration, timeout};

use alluvium_cluster::Metadata;
use alluvium_metadata::{ChunkRun, JournalChunkId, JournalCopy, Location};
use alluvium_storage::write_ahead::WriteAheadError;
use alluvium_types::AgentId;

use crate::fetch::Recent;
use crate::peers::{PeerError, Peers, journal_peers};
use crate::registration::Registration;
use crate::write_ahead::{AgentJournal, UnderWay, name_of, reclaim};

use super::chunk::Batches;

/// How long a chunk may take to be durable there; then it goes to an object.
const KEEP_DEADLINE: Duration = Duration::from_secs(3);

/// Peers that are asked for one copy, one after another.
const CANDIDATES: usize = 3;

/// What it needs to keep chunks.
#[derive(Clone, Debug)]
pub(super) struct Journaler {
    pub(super) journal: AgentJournal,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) metadata: Metadata,
    pub(super) registration: Registration,
    pub(super) zone: Option<String>,
    pub(super) recent: Recent,
    /// Copies without which a chunk is unstable.
    pub(super) min_copies: usize,
}

/// A chunk in write-ahead buffers.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) location: Location,
    pub(super) runs: Vec<ChunkRun>,
    pub(super) under_way: UnderWay,
}

/// Why it is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error("{0}")]
    Own(#[from] WriteAheadError),
    #[error("{got} of {wanted} copies: {last}")]
    TooFew {
        got: usize,
        wanted: usize,
        last: String,
    },
    #[error("no answer within {KEEP_DEADLINE:?}")]
    TimedOut,
}

impl Journaler {
    /// Whether a chunk could have as many copies as the cluster asks for, as far as is known here.
    pub(super) fn has_enough(&self) -> bool {
        self.peers_needed() == 0 || self.candidates().len() >= self.peers_needed()
    }

    /// Keeps a chunk. When `is_weak`, this agent's copy alone will do.
    pub(super) async fn keep(&self, batches: &Batches, is_weak: bool) -> Result<Kept, KeepError> {
        let (parts, bytes, runs) = batches.journal();
        let origin = self.registration.origin();
        let under_way = self.journal.begin(origin);
        let chunk = under_way.chunk;
        let wanted = if is_weak { 0 } else { self.peers_needed() };
        let about = reclaim::about(&runs);
        let own = async {
            let buffer = self.journal.buffer();
            let appended = buffer.append(name_of(chunk), &about, parts.clone());
            appended.await.map_err(KeepError::from)
        };
        let others = self.copy(chunk, &parts, wanted);
        let both = async { tokio::try_join!(own, others) };
        let kept = timeout(KEEP_DEADLINE, both).await;
        let ((), others) = kept.map_err(|_| KeepError::TimedOut)??;
        let mut copies = vec![self.journal.copy_of(origin.agent)];
        copies.extend(others);
        let stable = copies.len() >= self.min_copies;
        self.recent.insert_chunk(chunk, parts, bytes);
        let location = Location::Journal {
            chunk,
            copies,
            bytes,
            stable,
        };
        Ok(Kept {
            location,
            runs,
            under_way,
        })
    }

    fn peers_needed(&self) -> usize {
        self.min_copies.saturating_sub(1)
    }

    /// Whom to ask, the first choice first.
    fn candidates(&self) -> Vec<(AgentId, Option<String>)> {
        let me = self.registration.id();
        let mut peers = self.metadata.read(|state| {
            let zone_of = |id| state.agent(id).and_then(|agent| agent.zone.clone());
            journal_peers(state, me, self.zone.as_deref())
                .into_iter()
                .map(|copy| (copy.agent, zone_of(copy.agent)))
                .collect::<Vec<_>>()
        });
        peers.retain(|(peer, _)| self.peers.seems_alive(*peer));
        peers
    }

    /// Has others keep copies, each in a zone of its own as far as zones are known.
    async fn copy(
        &self,
        chunk: JournalChunkId,
        parts: &[Bytes],
        wanted: usize,
    ) -> Result<Vec<JournalCopy>, KeepError> {
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let mut waiting = self.candidates().into_iter().take(wanted * CANDIDATES);
        let mut asked: FuturesUnordered<_> = FuturesUnordered::new();
        let mut copies: Vec<JournalCopy> = Vec::new();
        let mut zones: Vec<Option<String>> = Vec::new();
        let mut last = "no other agent is there to keep a copy".to_owned();
        loop {
            while copies.len() + asked.len() < wanted {
                let is_new = |zone: &Option<String>| zone.is_none() || !zones.contains(zone);
                let Some((peer, zone)) = waiting.find(|(_, zone)| is_new(zone)) else {
                    break;
                };
                zones.push(zone.clone());
                asked.push(self.ask(peer, zone, chunk, parts));
            }
            match asked.next().await {
                None if copies.len() >= wanted => return Ok(copies),
                None => {
                    let got = copies.len() + 1;
                    let wanted = wanted + 1;
                    return Err(KeepError::TooFew { got, wanted, last });
                }
                Some((_, Ok(copy))) => copies.push(copy),
                Some((zone, Err(error))) => {
                    zones.retain(|taken| *taken != zone);
                    last = error.to_string();
                    tracing::debug!(%error, "no copy of a chunk; asking another agent");
                    metrics::counter!("alluvium_journal_copy_failures_total").increment(1);
                }
            }
        }
    }

    async fn ask(
        &self,
        peer: AgentId,
        zone: Option<String>,
        chunk: JournalChunkId,
        parts: &[Bytes],
    ) -> (Option<String>, Result<JournalCopy, PeerError>) {
        (zone, self.peers.append(peer, chunk, parts).await)
    }
}
