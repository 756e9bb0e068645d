//! The parts of a process, by role: how each starts, when it has failed, how it stops.

mod agent;
mod ports;
mod quorum;
mod switchboard;
mod waiting;

pub(crate) use agent::AgentPart;
pub(crate) use ports::Ports;
pub(crate) use quorum::{Quorum, Surroundings};
