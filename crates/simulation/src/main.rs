//! `cargo run -p alluvium-simulation -- --seed N [--count M]`: runs seeds, says how fast, and for one
//! that fails how to repeat it and what led to it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program for people"
)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alluvium_simulation::{Options, Report, run};
use clap::Parser;

/// Simulates a cluster under faults, seed by seed.
#[derive(Debug, Parser)]
struct Cli {
    /// The first seed; a fresh one by default.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, one after another.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Seeds at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Virtual seconds for which things break.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Print everything that happened.
    #[arg(long)]
    trace: bool,
    /// Print what the cluster logs, at this level (such as info or `alluvium_cluster=debug`).
    #[arg(long)]
    log: Option<String>,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// Print a line for every seed.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(level) = &cli.log {
        tracing_subscriber::fmt()
            .with_env_filter(level)
            .without_time()
            .with_writer(std::io::stderr)
            .init();
    }
    let first = cli.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.subsec_nanos().into()) % 1_000_000_000
    });
    let options = Options {
        duration: Duration::from_secs(cli.seconds),
        keep_trace: cli.trace,
    };
    println!("{} seeds from {first} on", cli.count);
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cli.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::SeqCst);
                    let over = failed
                        .lock()
                        .is_ok_and(|f: std::sync::MutexGuard<'_, Vec<u64>>| {
                            !f.is_empty() && !cli.keep_going
                        });
                    if turn >= cli.count || over {
                        return;
                    }
                    let report = run(first + turn, &options);
                    if let Ok(mut failed) = failed.lock() {
                        print(&cli, &report);
                        if !report.is_clean() {
                            failed.push(report.seed);
                        }
                    }
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let failed = failed.into_inner().unwrap_or_default();
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let done = next.into_inner().min(cli.count) as f64;
    println!(
        "{done} seeds in {took:.1} s, {:.0} a minute; {} failed {failed:?}",
        done * 60.0 / took.max(0.001),
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(cli: &Cli, report: &Report) {
    for line in &report.lines {
        println!("{line}");
    }
    if cli.verbose || cli.count == 1 || !report.is_clean() {
        print!("{report}");
    }
    if cli.count == 1 {
        println!("{:?}", report.figures);
        for (what, count) in &report.refusals {
            println!("{count:>7} {what}");
        }
    }
}
