//! The way out of a node.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// Which connection carries a call. Each pair of nodes has one per lane, so that bulk never holds up
/// a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, leases and questions that are a few bytes each.
    Control,
    /// Log entries from the leader to voters.
    Log,
    /// Proposals, and the stream of committed entries to agents.
    Commands,
    /// Snapshots.
    Bulk,
    /// Between agents: copies of chunks, blocks of objects.
    Peers,
}

/// What a stream brings, in order. It ends when the other side has no more to say; an error ends it.
pub type Incoming = BoxStream<'static, Result<Bytes, TransportError>>;

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The other side did not get it: no address, no connection, no TLS.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Who was called.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// The connection broke; the other side may have got it and may yet act on it.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// Who was called.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// No answer in time; the other side may have got it and may yet act on it.
    #[error("{address} did not answer within {} ms", within.as_millis())]
    TimedOut {
        /// Who was called.
        address: String,
        /// The deadline it missed.
        within: Duration,
    },
    /// The other side got it and did not act on it.
    #[error("{address} refused: {reason}")]
    Refused {
        /// Who was called.
        address: String,
        /// What it said.
        reason: String,
    },
}

/// Calls other nodes by their address, `host:port`.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Asks once and waits for the answer, at most `within`. Nothing is tried again.
    ///
    /// # Errors
    /// See [`TransportError`].
    async fn call(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, TransportError>;

    /// Asks for a stream and waits until it begins, at most `within`. Later silence is for the caller
    /// to judge. Dropping the stream ends it on both sides.
    ///
    /// # Errors
    /// See [`TransportError`].
    async fn open(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Incoming, TransportError>;
}
