//! What answers calls.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::Lane;

/// What a service answers to a request for a stream, in order.
pub type Answers = BoxStream<'static, Bytes>;

/// The request was not acted on; the caller is told why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The other side of a [`Transport`](crate::Transport). Requests come from the network: whatever they
/// hold, an implementation answers or refuses.
#[async_trait]
pub trait Service: fmt::Debug + Send + Sync + 'static {
    /// Answers one request. Dropped when the caller has gone.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn call(&self, lane: Lane, request: Bytes) -> Result<Bytes, Refused>;

    /// Begins a stream. The stream is dropped when the caller has gone.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn open(&self, lane: Lane, request: Bytes) -> Result<Answers, Refused>;
}
