//! The protocol, over real sockets against a real server process, spoken by another codec.
//!
//! kafka-wire refuses to write a field that a version does not have, and a client refuses to read
//! what a version cannot hold; either ends a connection. So:
//! - [`cases`]: every API in every version that is served, good requests and bad ones ([`table`]).
//! - [`versions`]: those that are not served.
//! - [`topic_refusals`], [`produce_refusals`]: what is refused, with Kafka's codes, and leaves no trace.
//! - [`fetching`], [`fetch_sessions`]: limits, waiting, whole batches; incremental sessions (KIP-227).
//! - [`lifecycle`]: topics deleted, made again, altered; a server killed and started again.
//! - [`pipelining`]: many requests at once are answered in their order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure here is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod cases;
mod codes;
mod fetch_sessions;
mod fetching;
mod lifecycle;
mod pipelining;
mod produce_refusals;
mod table;
mod topic_refusals;
mod versions;
mod wire;
mod world;
