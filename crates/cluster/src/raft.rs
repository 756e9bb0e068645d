//! openraft around the state machine. Nothing outside this module names the library.
//!
//! - [`types`]: which types the library is made of, and their translation to values of our own.
//! - [`codec`]: entries, votes and positions as bytes.
//! - [`log_store`]: the log, in a journal.
//! - [`state_machine`]: applies committed entries to the view, and hands out snapshots.
//! - [`network`]: the way to other voters; there are none yet.
//! - [`voter`]: a running voter, for the rest of the crate.

mod codec;
mod log_store;
mod network;
mod runtime;
mod state_machine;
mod types;
mod voter;

pub(crate) use log_store::LogStore;
pub(crate) use state_machine::StateMachine;
pub(crate) use voter::Voter;

#[cfg(test)]
mod tests;
