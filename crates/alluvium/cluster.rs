//! `alluvium cluster`: who belongs to a cluster, how it does, and changes of that.

mod change;
mod cost;
mod reach;
mod show;

use std::time::Duration;

use alluvium_cluster::VoterId;
use serde_json::json;

use crate::bootstrap::Bootstrap;
use crate::failure::Failure;
use crate::output::{Output, say};
use reach::{Reach, Seen};

/// Longest wait for a node that is asked who it is.
pub(crate) const HELLO: Duration = Duration::from_secs(5);

/// Arguments of `alluvium cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Form a quorum of new metadata nodes that were started without a list of nodes.
    Init {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show nodes, zones, leader, lag, leases, the archive, and what to do about what is wrong.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what the object store is asked for and what that costs, by cause and per GiB.
    Cost(cost::CostArgs),
    /// Take a metadata node into the quorum; it has been started and waits for that.
    AddVoter {
        /// Its cluster address, host:port.
        address: String,
    },
    /// Let a voter leave the quorum.
    RemoveVoter {
        /// Which: its node number, or its whole id as `status` prints it.
        voter: String,
    },
    /// Have another metadata node lead.
    HandOver {
        /// Which: its node number, or its whole id as `status` prints it [default: the leader
        /// chooses].
        #[arg(long, value_name = "VOTER")]
        to: Option<String>,
    },
}

/// Runs `alluvium cluster`.
pub(crate) async fn run(args: ClusterArgs) -> Result<(), Failure> {
    let ClusterArgs {
        action,
        bootstrap,
        reach,
    } = args;
    match action {
        Action::Init { json } => change::init(&reach, json).await,
        Action::Status { json } => status(&bootstrap, &reach, json).await,
        Action::Cost(args) => cost::run(&args).await,
        Action::AddVoter { address } => change::add(&bootstrap, &reach, &address).await,
        Action::RemoveVoter { voter } => change::remove(&bootstrap, &reach, &voter).await,
        Action::HandOver { to } => change::hand_over(&bootstrap, &reach, to.as_deref()).await,
    }
}

async fn status(bootstrap: &Bootstrap, reach: &Reach, json: bool) -> Result<(), Failure> {
    let seen = reach.status(bootstrap).await?;
    let mut out = Output::new();
    if json {
        let value = match &seen {
            Seen::Whole(status) => show::json(status),
            Seen::ByKafka(part) => show::json_by_kafka(part),
        };
        out.line(value.to_string().as_bytes())?;
    } else {
        let lines = match &seen {
            Seen::Whole(status) => show::table(status),
            Seen::ByKafka(part) => show::table_by_kafka(part),
        };
        for line in lines {
            out.line(line.as_bytes())?;
        }
    }
    out.flush()
}

/// A voter as people name it: by its number where that is enough.
fn find(text: &str, voters: impl Iterator<Item = VoterId>) -> Result<VoterId, Failure> {
    let voters: Vec<VoterId> = voters.collect();
    let exact: Option<VoterId> = text.parse().ok();
    if let Some(voter) = exact.filter(|voter| voters.contains(voter)) {
        return Ok(voter);
    }
    let by_number = |voter: &&VoterId| text.parse() == Ok(voter.node());
    match voters
        .iter()
        .filter(by_number)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [one] => Ok(**one),
        [] => {
            let known: Vec<String> = voters.iter().map(ToString::to_string).collect();
            let known = known.join(", ");
            Err(Failure::Failed(format!(
                "there is no voter {text}; there are {known}"
            )))
        }
        several => {
            let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::Usage(format!(
                "node {text} has several disks in the quorum: name one of {}",
                ids.join(", ")
            )))
        }
    }
}

/// What was done, for a person.
fn done(text: &str) {
    say(text);
}

/// What was done, for a script.
fn done_json(what: &serde_json::Value) -> Result<(), Failure> {
    let mut out = Output::new();
    out.line(json!(what).to_string().as_bytes())?;
    out.flush()
}
