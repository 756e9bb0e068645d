//! What agents do for one another: keep copies of chunks, and share blocks of objects.
//!
//! An agent says where others reach it when it has registered (`AnnounceAgent`); [`choice`] finds, from
//! the state alone, whom to ask. `client` asks over the node-to-node transport, `service` answers, and
//! `wire` is what they say. Nothing here decides what is true: a copy counts when the quorum has taken
//! the command that names it, and a block is checked by whoever reads it.

mod blocks;
pub mod choice;
mod client;
mod service;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use alluvium_metadata::{JournalChunkId, JournalCopy};
use alluvium_transport::Transport;
use alluvium_types::{AgentId, ObjectId};
use async_trait::async_trait;
use bytes::Bytes;

pub(crate) use blocks::CachedBlocks;
pub use choice::{block_owner, journal_peers, peer_address};
pub(crate) use client::PeerClient;
pub(crate) use service::PeerService;
pub use service::{Blocks, Copies};
pub use wire::{APPEND_BYTES, READ_BYTES};

/// How an agent and the others reach one another.
#[derive(Clone, Debug)]
pub struct PeerAccess {
    /// The way to the others.
    pub transport: Arc<dyn Transport>,
    /// Where they reach this one, as `host:port`. None, and they do not: it keeps no copies for
    /// others, and its cache is its own.
    pub address: Option<String>,
}

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
    /// Has a peer sync a copy of a chunk to its write-ahead buffer. At most [`APPEND_BYTES`].
    async fn append(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        parts: &[Bytes],
    ) -> Result<JournalCopy, PeerError>;

    /// Reads from a peer's copy of a chunk, at most [`READ_BYTES`] and at least one at once.
    async fn read_chunk(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError>;

    /// Reads part of an object through the peer's cache, at most [`READ_BYTES`] and at least one at
    /// once.
    async fn read_object(
        &self,
        peer: AgentId,
        object: ObjectId,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError>;

    /// Whether a call to a peer would be tried now: it lives, said its address, and has not failed a
    /// moment ago.
    fn seems_alive(&self, peer: AgentId) -> bool {
        let _ = peer;
        true
    }
}

/// For an agent that knows no way to the others.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl NoPeers {
    fn unreachable<T>(peer: AgentId) -> Result<T, PeerError> {
        Err(PeerError::Unreachable {
            peer,
            reason: "this agent knows no way to others".to_owned(),
        })
    }
}

#[async_trait]
impl Peers for NoPeers {
    async fn append(
        &self,
        peer: AgentId,
        _chunk: JournalChunkId,
        _parts: &[Bytes],
    ) -> Result<JournalCopy, PeerError> {
        Self::unreachable(peer)
    }

    async fn read_chunk(
        &self,
        peer: AgentId,
        _chunk: JournalChunkId,
        _range: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        Self::unreachable(peer)
    }

    async fn read_object(
        &self,
        peer: AgentId,
        _object: ObjectId,
        _object_bytes: u64,
        _range: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        Self::unreachable(peer)
    }

    fn seems_alive(&self, _peer: AgentId) -> bool {
        false
    }
}
