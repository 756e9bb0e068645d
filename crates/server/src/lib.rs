//! A running process: configuration, listeners, handlers, shutdown.
//!
//! [`config`] turns flags, files and variables into one [`config::Config`]; [`run`] starts the roles
//! that it names and stops them in order. [`kafka`] owns the Kafka listener: a task per connection
//! reads frames ahead, handlers (one file per API) answer them, answers leave in order.

pub mod config;
mod kafka;
mod run;

pub use run::{RunError, run};
