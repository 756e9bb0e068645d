//! Connections over real sockets, before an agent in memory.

mod client;
mod frames;
mod order;
mod versions;
