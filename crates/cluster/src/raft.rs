//! openraft around the state machine. Nothing outside this module names the library.
//!
//! - [`types`]: which types the library is made of, and their translation to values of our own.
//! - [`codec`]: entries, votes and positions as bytes.
//! - [`log_store`]: the log, in a journal.
//! - [`state_machine`]: applies committed entries to the view, and hands out snapshots.
//! - [`messages`]: what voters say to one another, as bytes; [`network`] sends, [`receiver`] answers.
//! - [`membership`]: changes of who votes; [`standing`]: where a voter stands.
//! - [`voter`]: a running voter, for the rest of the crate.

mod archived;
mod codec;
mod followed;
mod log_store;
mod membership;
mod messages;
mod network;
mod receiver;
mod runtime;
mod standing;
mod state_machine;
mod types;
mod voter;
mod watch;

pub(crate) use archived::{entry_command, entry_position};
pub(crate) use log_store::LogStore;
pub(crate) use membership::StepError;
pub(crate) use messages::SnapshotLabel;
pub(crate) use network::Network;
pub(crate) use standing::Standing;
pub(crate) use state_machine::StateMachine;
pub(crate) use voter::{NotLeader, OfferError, Voter};

#[cfg(test)]
mod tests;
