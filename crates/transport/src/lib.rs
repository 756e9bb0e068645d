//! Calls between nodes: who can be reached, how, and how long that may take.
//!
//! The crate owns connections, deadlines and encryption, and knows nothing of what is said: requests
//! and answers are bytes. [`Transport`] is the way out of a node, [`Service`] what answers on the
//! other side. Everything above talks through these two, so that a simulation can stand in for the
//! network.

mod service;
mod transport;

pub use service::{Answers, Refused, Service};
pub use transport::{Incoming, Lane, Transport, TransportError};
