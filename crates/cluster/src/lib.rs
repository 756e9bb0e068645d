//! How nodes agree: openraft around the metadata state machine.
//!
//! [`Metadata`] is the one interface through which everything above proposes commands, reads the
//! state and waits for changes. Behind it stands a Raft voter in this process ([`Node`]); a network
//! can stand there later. [`Metadata::in_memory`] is the same without Raft, for tests and benches.

mod client;
mod node;
mod raft;

pub use client::{Applied, Metadata, ProposeError};
pub use node::{Node, NodeConfig, StartError};
