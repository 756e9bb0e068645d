//! A cluster of real processes, each in a network of its own, and what may happen to one.
//!
//! - [`network`]: a namespace for each process, a cable that can be pulled.
//! - [`nodes`]: starting, killing, stopping, cutting off, emptying and adding processes.
//! - [`load`]: `alluvium check`, running beside a fault.
//! - [`beside`]: clients of other people, running beside a fault.
//! - [`encrypted`]: processes that show each other certificates.
//! - [`failover`]: the leader, an agent, a coordinator dies or is cut off under load; random faults.
//! - [`replace`]: disks are deleted: an agent's, a metadata node's, all.
//! - [`journal`]: an agent dies with its disk, which held what was acknowledged and not stored yet.
//! - [`exactly_once`]: transactions of several clients while nodes are killed.
//! - [`scale`]: agents come and go under default clients.
//!
//! Run by root where `ip` can make namespaces, each process has its own; else all share the loopback,
//! and what needs a cable is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a failure here is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod beside;
mod encrypted;
mod exactly_once;
mod failover;
mod journal;
mod load;
mod network;
mod nodes;
mod replace;
mod scale;
