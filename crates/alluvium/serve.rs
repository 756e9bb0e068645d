//! What `dev` and `server` share: from a configuration to a process that serves and stops.

use std::fmt::Display;
use std::io::Write;

use alluvium_server::config::{Config, Loaded, Mode, Role, Sources};
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
    let roles: Vec<&str> = config
        .process
        .roles
        .iter()
        .map(|role| role.name())
        .collect();
    let mut lines = vec![
        format!("alluvium {} is ready", env!("CARGO_PKG_VERSION")),
        String::new(),
    ];
    let mut tell = |what: &str, words: &dyn Display| lines.push(format!("{what:<9}{words}"));
    if config.has_peers() {
        tell("roles", &roles.join(", "));
    }
    if let Some(kafka) = server.kafka_address() {
        tell("kafka", &kafka);
        if let Some(clients) = server
            .advertised()
            .filter(|told| *told != kafka.to_string())
        {
            tell("clients", &clients);
        }
    }
    if let Some(address) = server.cluster_address() {
        if config.has(Role::Metadata) {
            let node = config.metadata.node();
            tell("cluster", &format!("{address} (metadata node {node})"));
        } else {
            tell("cluster", &format!("{address} (for other agents)"));
        }
    }
    if config.has_peers() {
        tell("quorum", &config.cluster.nodes.join(", "));
    }
    match server.http_address() {
        Some(address) => tell(
            "http",
            &format!("http://{address} (/health, /ready, /cost)"),
        ),
        None => tell("http", &"off"),
    }
    tell("data", &config.process.data_dir.display());
    tell("objects", &server.store_url());
    if let Some(bootstrap) = server.advertised() {
        lines.extend([
            String::new(),
            "Try, in another terminal:".to_owned(),
            format!("  alluvium topic create hello --partitions 3 --bootstrap {bootstrap}"),
            format!("  echo hi | alluvium produce hello --bootstrap {bootstrap}"),
            format!("  kcat -b {bootstrap} -C -t hello -o beginning -e"),
        ]);
    } else if let Some(address) = server.cluster_address() {
        lines.extend([
            String::new(),
            "Try, in another terminal:".to_owned(),
            format!("  alluvium cluster status --nodes {address}"),
        ]);
    }
    lines.push(String::new());
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
