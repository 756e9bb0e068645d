//! Which cluster a command talks to.

use alluvium_client::Client;

use crate::failure::Failure;

/// Arguments of every command that talks to a cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Bootstrap {
    /// Servers to ask first: host:port, comma-separated.
    #[arg(
        long,
        global = true,
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    bootstrap: String,
}

impl Bootstrap {
    /// The servers, as they were given.
    pub(crate) fn servers(&self) -> &str {
        &self.bootstrap
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.bootstrap).await?)
    }
}
