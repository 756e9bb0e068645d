//! What `dev` and `server` share: from a configuration to a process that serves and stops.

use std::io::Write;

use alluvium_server::config::{Config, Loaded, Mode, Sources};
use alluvium_server::{Server, StopSignals, init_logging, raise_open_files};

use crate::failure::Failure;

/// The variables that are valid text.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads the configuration.
pub(crate) fn load(mode: Mode, sources: &Sources) -> Result<Loaded, Failure> {
    Config::load(mode, sources).map_err(|errors| Failure::Usage(errors.to_string()))
}

/// Serves until SIGINT or SIGTERM, or until the disk fails. A second signal ends the process at
/// once.
pub(crate) async fn run(loaded: Loaded) -> Result<(), Failure> {
    let Loaded { config, warnings } = loaded;
    init_logging(&config.log).map_err(Failure::Failed)?;
    for warning in &warnings {
        tracing::warn!("configuration: {warning}");
    }
    raise_open_files();
    let mut signals = StopSignals::install()
        .map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))?;
    let server = tokio::select! {
        started = Server::start(&config) => {
            started.map_err(|error| Failure::Failed(error.to_string()))?
        }
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(());
        }
    };
    print(&banner(&config, &server))?;
    let failed = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping; a second signal ends the process at once");
            None
        }
        reason = server.failed() => Some(reason),
    };
    tokio::select! {
        () = server.shutdown() => {}
        signal = signals.next() => {
            tracing::warn!(signal, "stopping at once");
            std::process::exit(1);
        }
    }
    failed.map_or(Ok(()), |reason| Err(Failure::Failed(reason)))
}

/// What listens where, where the data is, and what to try next.
fn banner(config: &Config, server: &Server) -> Vec<String> {
    let kafka = server.kafka_address();
    let bootstrap = server.advertised();
    let http = server.http_address().map_or("off".to_owned(), |address| {
        format!("http://{address} (/health, /ready)")
    });
    let mut lines = vec![
        format!("alluvium {} is ready", env!("CARGO_PKG_VERSION")),
        String::new(),
        format!("kafka    {kafka}"),
    ];
    if bootstrap != kafka.to_string() {
        lines.push(format!("clients  {bootstrap}"));
    }
    lines.extend([
        format!("http     {http}"),
        format!("data     {}", config.process.data_dir.display()),
        format!("objects  {}", server.store_url()),
        String::new(),
        "Try, in another terminal:".to_owned(),
        format!("  alluvium topic create hello --partitions 3 --bootstrap {bootstrap}"),
        format!("  echo hi | alluvium produce hello --bootstrap {bootstrap}"),
        format!("  kcat -b {bootstrap} -C -t hello -o beginning -e"),
        String::new(),
    ]);
    lines
}

/// Prints lines to standard output in one go. A reader that has gone away is no reason to stop.
pub(crate) fn print(lines: &[String]) -> Result<(), Failure> {
    let mut text = lines.join("\n");
    text.push('\n');
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
