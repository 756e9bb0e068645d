//! A running process: configuration, listeners, handlers, shutdown.
//!
//! [`config`] turns flags, files and variables into one [`config::Config`]; [`Server::start`] starts
//! what it names in order and [`Server::shutdown`] stops it in the opposite one: data directory,
//! ports, bucket, the part in the metadata quorum, agent and Kafka listener. `process` owns these
//! parts. There are three kinds of process: an agent with a view of a quorum elsewhere, a metadata
//! node, and one that is both. What other processes are needed for is waited for, so that the order
//! of starting does not matter.
//!
//! `kafka` owns the Kafka listener: a task per connection reads frames ahead, handlers (one file per
//! API) answer them, answers leave in order. `http` tells load balancers and people whether the
//! process lives and serves, and what it waits for (`readiness`).

pub mod config;
mod costs;
mod data_dir;
mod error;
mod http;
mod kafka;
mod logging;
mod open_files;
mod process;
mod readiness;
mod server;
mod signals;

pub use error::StartError;
pub use logging::init as init_logging;
pub use open_files::raise as raise_open_files;
pub use server::Server;
pub use signals::StopSignals;
