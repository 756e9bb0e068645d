//! Calls between nodes: who can be reached, how, and how long that may take.
//!
//! The crate owns connections, deadlines and encryption, and knows nothing of what is said: requests
//! and answers are bytes. [`Transport`] is the way out of a node, [`Service`] what answers on the
//! other side. Everything above talks through these two, so that a simulation can stand in for the
//! network.
//!
//! # On the wire
//!
//! HTTP/2, from the first byte on, plain or under TLS 1.2/1.3 where both sides show a certificate of
//! one CA ([`TlsOptions`]). A call is `POST /call/LANE`, a stream `POST /open/LANE`, with the request
//! as the body and the header `alluvium-transport: OLDEST-NEWEST`; `wire` has the details. The answer is in
//! the newest version that both speak, so neighbouring releases mix; what a node does not know it
//! refuses with a reason, and the connection lives on.
//!
//! # Bounds
//!
//! Each pair of nodes has one connection per [`Lane`], made when it is first needed and closed when
//! it was idle for a minute. A peer that is gone without a word is noticed by pings after at most
//! 1.5 s. After a connection failed, calls fail at once for a moment (jittered, at most a second)
//! instead of trying again each. A body has at most 64 MiB (4 MiB on the control lane), a piece of a
//! stream 8 MiB; a listener holds at most 128 MiB of requests a lane and 1,024 connections, and closes
//! those that ask nothing.
//!
//! # Metrics
//!
//! `alluvium_transport_calls_total` by lane and result, `alluvium_transport_call_seconds` by lane,
//! `alluvium_transport_connects_total` by result, `alluvium_transport_connections` accepted now.

mod client;
mod listener;
mod service;
mod tls;
mod traffic;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

pub use client::Http2Transport;
pub use listener::TransportListener;
pub use service::{Answers, Refused, Service};
pub use tls::{TlsError, TlsOptions};
pub use transport::{Incoming, Lane, Transport, TransportError};
