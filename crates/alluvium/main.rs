//! `alluvium`: arguments, commands, output.
//!
//! Each command has a file of its own with its arguments and a `run`. Exit codes: 0 done, 1 failed,
//! 2 wrong usage. What a command prints for its user goes to standard output, errors and logs to
//! standard error.

mod allocator;
mod base64;
mod bootstrap;
mod check;
mod cluster;
mod consume;
mod dev;
mod failure;
mod fsck;
mod group;
mod inspect;
mod output;
mod produce;
mod restore;
mod serve;
mod server;
mod time;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// A Kafka-compatible log service whose data lies in an object store.
#[derive(Debug, Parser)]
#[command(name = "alluvium", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in this process, for a laptop
    Dev(dev::Args),
    /// Run a server from a configuration file
    Server(server::Args),
    /// Create, list, describe, alter and delete topics
    Topic(topic::TopicArgs),
    /// List and describe groups, move their offsets, delete them
    Group(group::GroupArgs),
    /// Send lines or JSON lines to a topic
    Produce(produce::ProduceArgs),
    /// Print the records of a topic
    Consume(consume::ConsumeArgs),
    /// Load a cluster and judge what its clients see, while something is killed
    Check(check::CheckArgs),
    /// Show a cluster, form its quorum, change who votes and leads
    Cluster(cluster::ClusterArgs),
    /// Rebuild a cluster from its bucket when all metadata disks are gone
    Restore(restore::RestoreArgs),
    /// Prove that the metadata and the bucket agree, with no cluster running
    Fsck(fsck::FsckArgs),
    /// Explain an object of the store, with no cluster running
    Inspect(inspect::InspectArgs),
}

fn main() -> ExitCode {
    allocator::set();
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(async {
        match command {
            Command::Dev(args) => dev::run(args).await,
            Command::Server(args) => server::run(args).await,
            Command::Topic(args) => topic::run(args).await,
            Command::Group(args) => group::run(args).await,
            Command::Produce(args) => produce::run(args).await,
            Command::Consume(args) => consume::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Cluster(args) => cluster::run(args).await,
            Command::Restore(args) => restore::run(args).await,
            Command::Fsck(args) => fsck::run(args).await,
            Command::Inspect(args) => inspect::run(args).await,
        }
    });
    // A thread that is stuck in a system call must not keep the process.
    runtime.shutdown_background();
    result
}
