//! `alluvium dev`: everything in one process.

use std::path::PathBuf;

use alluvium_server::config::{Mode, Override, Sources};

use crate::failure::Failure;
use crate::serve;

/// Arguments of `alluvium dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for all data [default: ./alluvium-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where Kafka clients connect to; port 0 takes a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    /// Where HTTP is served; "off" for nowhere [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// s3://bucket/prefix, file:///folder or memory:// [default: the folder objects in the data
    /// directory]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A configuration file to begin with
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to log: a level or directives, as RUST_LOG takes them
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Set one key of the configuration, or one of Kafka's broker settings by its name
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Override::parse)]
    overrides: Vec<Override>,
}

/// Runs until it is told to stop.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let flags = [
        ("data_dir", args.data_dir, "--data-dir"),
        ("kafka.listen", args.kafka, "--kafka"),
        ("http.listen", args.http, "--http"),
        ("store.url", args.store, "--store"),
        ("log.level", args.log, "--log"),
    ];
    let flags = flags.into_iter().filter_map(|(key, value, flag)| {
        value.map(|value| Override {
            key: key.to_owned(),
            value,
            flag,
        })
    });
    let overrides = args.overrides.into_iter().chain(flags).collect();
    let sources = Sources {
        file: args.config,
        env: serve::environment(),
        overrides,
    };
    serve::run(serve::load(Mode::Dev, &sources)?).await
}
