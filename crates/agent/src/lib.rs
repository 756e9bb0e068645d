//! The data path: what an agent does between its clients, the metadata and the bucket.
//!
//! An [`Agent`] keeps nothing that matters. Produces gather in a buffer, are sealed into chunks, made
//! durable and sequenced ([`produce`]); fetches are planned on this node's view of the metadata and
//! read from recent chunks, the cache or the bucket ([`fetch`]); what is inline or in write-ahead
//! buffers ([`write_ahead`]) is gathered into objects in the background ([`settle`]); groups live in the memory of their coordinator
//! ([`groups`]); topics and configuration are checked here before a command is made ([`topics`]).
//!
//! Agents are many and come and go. Each is registered with the quorum under a lease (`lease`,
//! `registration`): it takes produces for any partition, reads its own view, and brings that up to
//! date when a client knows more than it does (`freshness`).

mod agent;
mod backoff;
pub mod budget;
mod error;
pub mod fetch;
mod freshness;
pub mod groups;
mod lease;
mod newcomers;
pub mod peers;
pub mod produce;
pub mod producer_ids;
mod proposal;
pub mod quotas;
mod registration;
pub mod settle;
pub mod shares;
mod store_health;
mod task;
#[cfg(test)]
mod testing;
pub mod topics;
pub mod transactions;
pub mod write_ahead;

pub use agent::{Agent, AgentConfig};
pub use error::AgentError;
