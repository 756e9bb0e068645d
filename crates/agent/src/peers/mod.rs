//! What agents do for one another: keep copies of chunks, and share blocks of objects.

mod choice;

use std::fmt::Debug;
use std::ops::Range;

use alluvium_metadata::{JournalChunkId, JournalCopy};
use alluvium_types::{AgentId, ObjectId};
use async_trait::async_trait;
use bytes::Bytes;

pub use choice::{block_owner, journal_peers, peer_address};

/// Why a peer did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached, or did not answer in time.
    #[error("agent {peer} does not answer: {reason}")]
    Unreachable {
        /// Who.
        peer: AgentId,
        /// What happened.
        reason: String,
    },
    /// It answered that it cannot.
    #[error("agent {peer} refused: {reason}")]
    Refused {
        /// Who.
        peer: AgentId,
        /// Why.
        reason: String,
    },
}

/// The other agents, as this one calls them. Every call ends within a few seconds.
#[async_trait]
pub trait Peers: Debug + Send + Sync + 'static {
    /// Has a peer sync a copy of a chunk to its write-ahead buffer.
    async fn append(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        parts: &[Bytes],
    ) -> Result<JournalCopy, PeerError>;

    /// Reads from a peer's copy of a chunk.
    async fn read_chunk(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError>;

    /// Reads part of an object through the peer's cache.
    async fn read_object(
        &self,
        peer: AgentId,
        object: ObjectId,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError>;
}
