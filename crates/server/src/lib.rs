//! A running process: configuration, listeners, handlers, shutdown.
//!
//! [`config`] turns flags, files and variables into one [`config::Config`]; [`Server::start`] starts
//! what it names in order (data directory, ports, bucket, metadata, agent, listeners) and
//! [`Server::shutdown`] stops it in the opposite one. `kafka` owns the Kafka listener: a task per
//! connection reads frames ahead, handlers (one file per API) answer them, answers leave in order.
//! `http` tells load balancers and people whether the process lives and serves.

pub mod config;
mod data_dir;
mod error;
mod http;
mod kafka;
mod logging;
mod open_files;
mod server;
mod signals;

pub use error::StartError;
pub use logging::init as init_logging;
pub use open_files::raise as raise_open_files;
pub use server::Server;
pub use signals::StopSignals;
