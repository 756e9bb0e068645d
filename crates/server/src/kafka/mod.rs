//! The Kafka listener.
//!
//! [`listener`] accepts, [`connection`] owns one client: its [`reader`] turns bytes into frames and
//! its [`writer`] sends answers in the order of the requests. [`dispatch`] finds the handler.
//!
//! # Order
//!
//! Requests of one connection are carried out one after another, as Kafka does, with one
//! difference: a Produce is given to the write path as soon as it has been read, so that many of
//! them share a flush; the requests after it wait for its answer. It is held back only while an
//! earlier request that may change topics, or hand out producer ids, is not done.
//!
//! # Memory
//!
//! Frames lease their bytes from a budget that all connections share, in steps, as the bytes
//! arrive; the lease ends when the request has been answered. Answers to Fetch lease theirs before
//! records are read. Past a budget, connections are not read and fetches wait.

mod connection;
mod dispatch;
mod fetch_sessions;
mod handlers;
mod listener;
mod metrics;
mod reader;
mod services;
mod throttle;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use listener::KafkaListener;
pub(crate) use services::Services;
