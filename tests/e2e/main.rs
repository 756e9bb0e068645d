//! A real server process and real clients.
//!
//! - [`process`]: starting, stopping, two on one directory.
//! - [`programs`]: what people begin with: Kafka's tools, simple and careful Python programs.
//! - [`codecs`]: the same records through every client, for each codec and store.
//! - [`connect`], [`streams`]: Kafka Connect and Kafka Streams as they are.
//! - [`kill`]: `kill -9` under load loses and repeats nothing.
//! - [`policies`]: retention, compaction and DeleteRecords, beside Apache Kafka.
//! - [`groups`]: a group shares, loses a member, commits, and goes on.
//! - [`journal`]: acks=1 under `kill -9`, with and without the write-ahead buffer.
//! - [`cluster`]: metadata nodes and agents as processes of their own.
//! - [`report`]: what clients in five languages can do.
//! - [`restore`]: all metadata disks burn; the bucket brings the cluster back.
//! - [`fsck`]: a sound bucket is told from one that was tampered with.
//! - [`administration`]: Kafka's tools over what is not there: leaders, replicas, disks.
//! - [`abuse`]: idle, slow, lying and garbage connections.
//! - [`shares`]: a share group drains a queue.
//! - [`sick_store`]: a store that fails, hangs and is switched off.
//! - [`tool`], [`group_tool`]: the command line for people.
//! - [`transactions`]: all of a transaction or nothing of it, through a real client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure here is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod administration;
mod cluster;
mod codecs;
mod connect;
mod fsck;
mod group_tool;
mod groups;
mod journal;
mod kill;
mod policies;
mod process;
mod programs;
mod report;
mod restore;
mod shares;
mod sick_store;
mod streams;
mod tool;
mod transactions;
