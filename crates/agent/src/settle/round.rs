//! One round: read what waits, write one object, move the runs there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::time::{Duration, Instant, timeout};

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_metadata::{Command, JournalChunkId, Outcome, Refusal, Settle};
use alluvium_objects::key;
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::hash::HashMap;
use alluvium_types::{Clock, ErrorCode, ObjectId, Offset, TopicPartition};

use super::build::{Stretch, build};
use super::gather::{Gathered, Needed, Piece, Source};
use super::share::Urgency;
use crate::peers::{Peers, READ_BYTES};
use crate::registration::Registration;
use crate::store_health::StoreHealth;
use crate::write_ahead::AgentJournal;

/// How long one attempt may take.
const ROUND_DEADLINE: Duration = Duration::from_secs(60);

/// Bytes of chunks that can be nowhere read are tried again after this.
const UNREADABLE: Duration = Duration::from_secs(15);

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("{0}")]
    Propose(#[from] ProposeError),
    #[error("the quorum refused it: {0}")]
    Refused(Refusal),
    #[error("the quorum answered something else: {0:?}")]
    Unexpected(Outcome),
    #[error("no answer within {ROUND_DEADLINE:?}")]
    TimedOut,
}

/// What settles.
pub(super) struct Worker {
    pub(super) registration: Registration,
    pub(super) metadata: Metadata,
    pub(super) bucket: Bucket,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) journal: Option<AgentJournal>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) health: StoreHealth,
    /// Below these offsets nothing is inline any more, so nobody need look there again.
    pub(super) settled_to: HashMap<TopicPartition, Offset>,
    /// Chunks that could not be read, and when.
    pub(super) unreadable: Vec<(JournalChunkId, Instant)>,
}

impl Worker {
    /// Moves what waits to one object. Returns how many runs moved.
    pub(super) async fn round(&mut self, wanted: Urgency) -> Result<usize, SettleError> {
        let gathered = self.gather(wanted);
        if gathered.pieces.is_empty() {
            return Ok(0);
        }
        let started = Instant::now();
        let inline_to = gathered.inline_to();
        let stretches = self.stretches(gathered).await;
        let object = ObjectId(alluvium_types::random::value());
        let (built, runs) = build(object, self.clock.now(), &stretches);
        drop(stretches);
        if runs.is_empty() {
            return Ok(0);
        }
        let origin = self.registration.origin();
        let settle = Settle {
            origin,
            object: built.object,
            bytes: built.bytes,
            runs: runs.clone(),
        };
        self.write(&key(built.object), built.parts).await?;
        let proposed = self.metadata.propose(Command::Settle(settle)).await?;
        let moved = match proposed.outcome {
            Outcome::Settled(moved) => moved,
            Outcome::Refused(refusal) => {
                if refusal.code == ErrorCode::StaleBrokerEpoch {
                    self.registration.lost(origin);
                }
                return Err(SettleError::Refused(refusal));
            }
            other => return Err(SettleError::Unexpected(other)),
        };
        if wanted == Urgency::Later {
            self.settled_to.extend(inline_to);
            // What did not move lies before what may have: it must be looked at again.
            for (run, _) in runs.iter().zip(&moved).filter(|(_, moved)| !**moved) {
                self.settled_to.remove(&run.partition);
            }
        }
        metrics::counter!("alluvium_settle_bytes_total").increment(built.bytes);
        metrics::histogram!("alluvium_settle_seconds").record(started.elapsed().as_secs_f64());
        Ok(moved.iter().filter(|moved| **moved).count())
    }

    async fn write(&self, name: &str, parts: Vec<Bytes>) -> Result<(), SettleError> {
        let started = Instant::now();
        let written = timeout(ROUND_DEADLINE, self.bucket.create(name, parts)).await;
        match &written {
            Ok(Ok(())) => self.health.succeeded(started.elapsed()),
            Ok(Err(_)) | Err(_) => self.health.suffered(),
        }
        written.map_err(|_| SettleError::TimedOut)??;
        Ok(())
    }

    fn gather(&mut self, wanted: Urgency) -> Gathered {
        self.unreadable.retain(|(_, at)| at.elapsed() < UNREADABLE);
        let without: BTreeSet<_> = self.unreadable.iter().map(|(id, _)| *id).collect();
        let me = self.registration.id();
        let settled_to = &mut self.settled_to;
        self.metadata.read(|state| {
            let mut gathered = Gathered::default();
            gathered.journals(state, me, wanted, &without);
            if wanted == Urgency::Later {
                settled_to.retain(|partition, _| state.partition(*partition).is_some());
                gathered.inline(state, me, settled_to);
            }
            gathered.sort();
            gathered
        })
    }

    /// The pieces with their bytes, those that follow one another together. What cannot be read is left
    /// out.
    async fn stretches(&mut self, gathered: Gathered) -> Vec<Stretch> {
        let mut chunks: HashMap<JournalChunkId, Bytes> = HashMap::default();
        for needed in &gathered.chunks {
            match self.read(needed).await {
                Ok(bytes) => _ = chunks.insert(needed.id, bytes),
                Err(reason) => {
                    tracing::error!(
                        chunk = ?needed.id, reason,
                        "a chunk in write-ahead buffers cannot be read to be settled; trying again later"
                    );
                    metrics::counter!("alluvium_settle_unreadable_chunks_total").increment(1);
                    self.unreadable.push((needed.id, Instant::now()));
                }
            }
        }
        let mut stretches: Vec<Stretch> = Vec::new();
        for piece in gathered.pieces {
            let Piece {
                partition,
                base_offset,
                end_offset,
                source,
            } = piece;
            let bytes = match source {
                Source::Inline(bytes) => Some(bytes),
                Source::Journal(id, range) => chunks.get(&id).and_then(|chunk| {
                    let from = usize::try_from(range.start).ok()?;
                    let to = usize::try_from(range.end).ok()?;
                    (from <= to && to <= chunk.len()).then(|| chunk.slice(from..to))
                }),
            };
            let Some(bytes) = bytes else {
                self.settled_to.remove(&partition);
                continue;
            };
            match stretches.last_mut() {
                Some(last) if last.partition == partition && last.end_offset == base_offset => {
                    last.end_offset = end_offset;
                    last.bytes.push(bytes);
                }
                _ => stretches.push(Stretch {
                    partition,
                    base_offset,
                    end_offset,
                    bytes: vec![bytes],
                }),
            }
        }
        stretches
    }

    /// A whole chunk: from here, or from who else has it.
    async fn read(&self, needed: &Needed) -> Result<Bytes, String> {
        let mut reason = "nobody is named as having it".to_owned();
        if let Some(journal) = self.journal.as_ref().filter(|own| own.holds(needed.id)) {
            match journal.read(needed.id, 0..needed.bytes).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => reason = error.to_string(),
            }
        }
        let me = self.registration.id();
        for copy in needed.copies.iter().filter(|copy| copy.agent != me) {
            match self.read_of_peer(needed, copy.agent).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    async fn read_of_peer(
        &self,
        needed: &Needed,
        peer: alluvium_types::AgentId,
    ) -> Result<Bytes, String> {
        let mut whole = BytesMut::new();
        while (whole.len() as u64) < needed.bytes {
            let from = whole.len() as u64;
            let to = needed.bytes.min(from.saturating_add(READ_BYTES));
            let read = self.peers.read_chunk(peer, needed.id, from..to).await;
            let piece = read.map_err(|error| error.to_string())?;
            if piece.is_empty() || piece.len() as u64 > to - from {
                return Err(format!("agent {peer} gave {} bytes", piece.len()));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}
