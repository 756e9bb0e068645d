//! Why a process could not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::ConfigError;

/// Why a server could not start. The text says what happened, to which thing, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(ConfigError),
    /// Another process holds the data directory.
    #[error(
        "data directory {} is in use by another alluvium process ({holder}); stop it or choose \
         another --data-dir",
        dir.display()
    )]
    InUse {
        /// Which.
        dir: PathBuf,
        /// Who, as far as it is known.
        holder: String,
    },
    /// The data directory cannot be used.
    #[error("data directory {}: {reason}", dir.display())]
    DataDir {
        /// Which.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// An address to listen on is not one.
    #[error("{key}: {text:?} is not an address; write host:port, for example 127.0.0.1:9092")]
    Address {
        /// Which key of the configuration.
        key: &'static str,
        /// What it says.
        text: String,
    },
    /// A port is taken.
    #[error(
        "{key}: {address} is in use by another process; stop it, or choose another address with \
         --set {key}=HOST:PORT"
    )]
    PortTaken {
        /// Which key of the configuration.
        key: &'static str,
        /// Which address.
        address: SocketAddr,
    },
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// Which key of the configuration.
        key: &'static str,
        /// Which address.
        address: SocketAddr,
        /// In the system's words.
        source: io::Error,
    },
    /// The data directory belongs to the objects of another store.
    #[error(
        "data directory {} holds the metadata of the objects in {before}, but store.url is now \
         {now}; set it back, or choose another data directory. If both name the same bucket, remove \
         the file {}",
        dir.display(),
        dir.join("store").display()
    )]
    OtherStore {
        /// Which.
        dir: PathBuf,
        /// The store it was opened with first.
        before: String,
        /// The store that is configured.
        now: String,
    },
    /// Files of `cluster.tls_*` cannot be used.
    #[error("cluster.tls_*: {0}")]
    Tls(String),
    /// The bucket cannot be used.
    #[error("{0}")]
    Store(String),
    /// The metadata voter cannot start.
    #[error("{0}")]
    Metadata(String),
    /// The agent cannot start.
    #[error("{0}")]
    Agent(String),
}
