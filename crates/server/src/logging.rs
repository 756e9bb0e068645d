//! Structured logs to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Starts logging. `RUST_LOG` goes before the configured level.
///
/// # Errors
/// The level is no valid directive, or something else in this process logs already.
pub fn init(log: &Log) -> Result<(), String> {
    let directives = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let directives = directives.unwrap_or_else(|| quieted(&log.level));
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        format!("log.level: {directives:?}: {error}; write a level such as \"info\"")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match log.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| format!("cannot start logging: {error}"))
}

/// What libraries may say when only "info" is asked for: they tell of every step, and a busy machine
/// answers some heartbeat late all the time.
const QUIET: &str = "openraft=warn,openraft::core::heartbeat=error,aws_config=warn,hyper=warn,reqwest=warn,foyer=warn";

fn quieted(level: &str) -> String {
    if level.eq_ignore_ascii_case("info") {
        format!("info,{QUIET}")
    } else {
        level.to_owned()
    }
}
