//! `alluvium cluster cost`: what the processes of a cluster asked of its store, and what that costs.
//!
//! Each process keeps its books from its start on and tells them at `/cost` of its HTTP listener;
//! they are added up here. `ask` gets them, `prices` says what a request costs, `bill` multiplies.

mod ask;
mod bill;
mod prices;

use std::path::PathBuf;

use crate::cluster::show::columns;
use crate::failure::Failure;
use crate::output::{Output, say};
use bill::{Bill, Books};
use prices::Prices;

/// Arguments of `alluvium cluster cost`.
#[derive(Debug, clap::Args)]
pub(super) struct CostArgs {
    /// HTTP addresses (their http.listen) of the processes to ask: agents, and metadata nodes for
    /// what the archive costs.
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:8080"
    )]
    http: Vec<String>,
    /// A TOML file of prices [default: S3 Standard in us-east-1].
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `alluvium cluster cost`.
pub(super) async fn run(args: &CostArgs) -> Result<(), Failure> {
    let prices = match &args.prices {
        Some(file) => Prices::read(file)?,
        None => Prices::default(),
    };
    let mut books = Books::default();
    for address in &args.http {
        match ask::books(address).await {
            Ok(told) => books.add(&told),
            Err(reason) => {
                let text = format!(
                    "{address} did not tell its costs: {reason}; name the processes' http.listen \
                     with --http HOST:PORT"
                );
                return Err(Failure::Failed(text));
            }
        }
    }
    let bill = Bill::of(&books, &prices);
    let mut out = Output::new();
    if args.json {
        out.line(bill.json().to_string().as_bytes())?;
    } else {
        for line in columns(&bill.rows()) {
            out.line(line.as_bytes())?;
        }
        for line in bill.summary() {
            out.line(line.as_bytes())?;
        }
        if args.prices.is_none() {
            say("prices: S3 Standard, us-east-1, without storage; --prices FILE for others");
        }
    }
    out.flush()
}
