//! A whole cluster in one thread, under a seeded schedule of faults.
//!
//! Metadata nodes ([`alluvium_cluster::Node`]), agents ([`alluvium_agent::Agent`] over an
//! [`alluvium_cluster::Observer`]) and clients run as they are, on one runtime whose time is virtual.
//! What they stand on is simulated: the network between them (`network`), the object store (`store`),
//! disks (of agents, too) that forget what was not synced, and wall clocks that jump (`clock`). `faults` breaks it all
//! according to the seed, `burn` takes all metadata away for good; `clients` load it and note what they see; in the end everything is healed,
//! read a last time, and judged by [`alluvium_checker`].
//!
//! # Repeating
//!
//! Everything that happens follows from the seed: randomness, the order of hash tables and work on
//! other threads go through seams that know of a simulation ([`alluvium_types::random`],
//! [`alluvium_types::hash`], [`alluvium_storage::blocking`]). [`Report::trace`] is a hash over all that
//! went over the network and to the store; equal seeds give equal hashes.
//!
//! # What is not simulated
//!
//! The protocol's encoding and TCP: clients call an agent's parts as the server does, over a hop that
//! delays, loses and breaks. A process that is paused goes on computing, but nothing leaves or reaches
//! it. Of what a disk had not synced, sectors survive by chance.

mod burn;
mod clients;
mod clock;
mod cluster;
mod faults;
mod host;
mod network;
mod recorder;
mod run;
mod store;
mod stream;
mod trace;

pub use run::{Options, Report, run};

#[cfg(test)]
mod tests;
