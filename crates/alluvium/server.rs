//! `alluvium server`: a process by its configuration.

use std::path::PathBuf;

use alluvium_server::config::{Mode, Override, Sources};

use crate::failure::Failure;
use crate::serve;

/// Arguments of `alluvium server`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set one key of the configuration, or one of Kafka's broker settings by its name
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Override::parse)]
    overrides: Vec<Override>,
    /// Read the configuration, report every error, and exit
    #[arg(long)]
    check: bool,
}

/// Runs until it is told to stop.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let sources = Sources {
        file: Some(args.config.clone()),
        env: serve::environment(),
        overrides: args.overrides,
    };
    let loaded = serve::load(Mode::Server, &sources)?;
    if !args.check {
        return serve::run(loaded).await;
    }
    let mut lines = vec![format!(
        "{}: the configuration is valid",
        args.config.display()
    )];
    lines.extend(
        loaded
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    serve::print(&lines)
}
