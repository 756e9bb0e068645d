//! `alluvium restore`: a new quorum from the bucket, when all metadata disks are gone.

use std::fmt::Write;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use alluvium_cluster::{RestoreConfig, RestoreReport, RestoreStep, restore};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{Millis, SystemClock};

use crate::failure::Failure;
use crate::output::{Output, counter};
use crate::time;

/// Lines of one kind that are printed before the rest is only counted; `--json` has them all.
const LINES: usize = 50;

/// Arguments of `alluvium restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The store that holds the cluster: s3://bucket/prefix or file:///folder, as store.url of its
    /// servers.
    #[arg(long, value_name = "URL")]
    store: String,
    /// The data directory of the new metadata node; must hold no metadata.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The new node's metadata.node_id.
    #[arg(long, value_name = "N", default_value_t = 1)]
    node: u32,
    /// The new node's cluster address (cluster.advertised); not needed for `alluvium dev` and servers
    /// without a cluster listener.
    #[arg(long, value_name = "HOST:PORT", default_value = "")]
    address: String,
    /// The moment to go back to, as 2026-11-21T18:40:00Z or milliseconds since 1970 [default: the
    /// newest state].
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<Millis>,
    /// Only print what would be kept. Nothing is written, and the old cluster is not fenced.
    #[arg(long)]
    plan: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `alluvium restore`.
pub(crate) async fn run(args: RestoreArgs) -> Result<(), Failure> {
    let _lock = if args.plan {
        None
    } else {
        hold(&args.data_dir)?
    };
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    // What is not there must not be made by looking for it.
    let mut bucket = Bucket::open_existing(&args.store, LocalDisk::shared())
        .await
        .map_err(|error| failed(&error))?;
    if !args.plan {
        let markers = bucket.list("quorum/", None, 1).await;
        if !markers.map_err(|error| failed(&error))?.is_empty() {
            bucket = Bucket::open(&args.store, LocalDisk::shared())
                .await
                .map_err(|error| failed(&error))?;
        }
    }
    let config = RestoreConfig {
        bucket,
        dir: args.data_dir.join("metadata"),
        disk: LocalDisk::shared(),
        node: args.node,
        address: args.address.clone(),
        at: args.at,
        plan: args.plan,
        clock: Arc::new(SystemClock),
    };
    let bar = counter();
    let report = restore(&config, &|step| {
        let (message, done, all) = match step {
            RestoreStep::Pieces { done, all } => ("pieces of the log", done, Some(all)),
            RestoreStep::Listed(listed) => ("objects listed", listed, None),
            RestoreStep::Objects { done, all } => {
                ("objects that no manifest names", done, Some(all))
            }
            RestoreStep::Writing => ("writing", 0, None),
        };
        bar.set_message(message);
        bar.set_length(all.unwrap_or(done));
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let report = report.map_err(|error| failed(&error))?;
    let mut out = Output::new();
    if args.json {
        let text = serde_json::to_string(&report).map_err(|error| failed(&error))?;
        out.line(text.as_bytes())?;
    } else {
        out.write(as_text(&report, &args).as_bytes())?;
    }
    out.flush()
}

/// Holds the data directory, if it is there, against a server that runs on it.
fn hold(dir: &Path) -> Result<Option<File>, Failure> {
    let Ok(lock) = File::options().write(true).open(dir.join("lock")) else {
        return Ok(None);
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(Failure::Failed(format!(
            "{}: a server runs on this directory; stop it, or restore to another --data-dir",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(Failure::Failed(format!("{}: {error}", dir.display())))
        }
    }
}

fn as_text(report: &RestoreReport, args: &RestoreArgs) -> String {
    let mut text = String::new();
    let done = if report.plan { "can be" } else { "is" };
    let _ = writeln!(
        text,
        "cluster   {} {done} restored from {} (history {} becomes {})",
        report.cluster, report.store, report.restored_history, report.new_history
    );
    log(&mut text, report);
    let _ = writeln!(
        text,
        "kept      {} topics with {} partitions and {} records, {} groups",
        report.topics, report.partitions, report.records, report.groups
    );
    anew(&mut text, report);
    lost(&mut text, report);
    if let Some(voter) = &report.voter {
        let dir = args.data_dir.display();
        let _ = writeln!(
            text,
            "next      metadata voter {voter} is in {dir}; start a server on it (`alluvium server` \
             with data_dir = \"{dir}\" and metadata.node_id = {}, or `alluvium dev --data-dir {dir}`). \
             Other metadata nodes join it with empty folders. Agents that still run end by themselves; start them again",
            args.node
        );
    }
    text
}

fn log(text: &mut String, report: &RestoreReport) {
    let log = &report.log;
    let begin = log.snapshot.map_or_else(
        || "from the beginning".to_owned(),
        |covered| format!("from a snapshot of {covered} entries"),
    );
    let _ = writeln!(
        text,
        "log       {begin}, then {} entries in {} pieces, up to {}",
        log.entries,
        log.pieces,
        time::print(log.until)
    );
    for damaged in &log.damaged {
        let _ = writeln!(text, "  passed over: {damaged}");
    }
    if let Some(reason) = &log.ended_early {
        let _ = writeln!(text, "  ENDED EARLY: {reason}");
    }
    let _ = writeln!(
        text,
        "  Records acknowledged inside the log after that moment (small chunks, usually one archive \
         interval of them) are lost unless an object holds them."
    );
}

fn anew(text: &mut String, report: &RestoreReport) {
    let anew = &report.resequenced;
    if anew.partitions.is_empty() {
        let _ = writeln!(text, "anew      no record has a new offset");
    } else {
        let _ = writeln!(
            text,
            "anew      the log lacked {} chunks whose objects are there; their records have offsets \
             anew, which may differ from those their producers were told:",
            anew.chunks
        );
    }
    let lines = anew.partitions.iter().map(|given| {
        format!(
            "{}/{}: {}..{} ({} records)",
            given.topic, given.partition, given.first, given.last, given.records
        )
    });
    some(text, lines);
    if anew.duplicates > 0 {
        let _ = writeln!(text, "  {} batches were there already", anew.duplicates);
    }
    if anew.across_gaps > 0 {
        let _ = writeln!(
            text,
            "  {} batches are kept though batches their producers sent before them are not there",
            anew.across_gaps
        );
    }
    let lines = anew.refused.iter().map(|refused| {
        format!(
            "not kept: {} batches of {}/{}: {}",
            refused.batches, refused.topic, refused.partition, refused.reason
        )
    });
    some(text, lines);
}

fn lost(text: &mut String, report: &RestoreReport) {
    if !report.lost.is_empty() {
        let _ = writeln!(
            text,
            "LOST      objects of these offsets are not in the bucket. Reading them fails until an \
             object is put back, or until `kafka-delete-records.sh` moves the log start past them:"
        );
    }
    let lines = report.lost.iter().map(|lost| {
        format!(
            "{}/{}: {}..{} (object {})",
            lost.topic, lost.partition, lost.first, lost.last, lost.object
        )
    });
    some(text, lines);
    if !report.damaged_objects.is_empty() {
        let _ = writeln!(
            text,
            "damaged   objects that no manifest names and that cannot be read:"
        );
    }
    some(text, report.damaged_objects.iter().cloned());
    if report.passed_over_objects > 0 {
        let _ = writeln!(
            text,
            "orphans   {} objects belong to nothing (failed attempts, chunks that are there under \
             another name) and are left alone",
            report.passed_over_objects
        );
    }
}

/// The first lines of a list that may be long.
fn some(text: &mut String, lines: impl ExactSizeIterator<Item = String>) {
    let rest = lines.len().saturating_sub(LINES);
    for line in lines.take(LINES) {
        let _ = writeln!(text, "  {line}");
    }
    if rest > 0 {
        let _ = writeln!(text, "  and {rest} more; --json lists them");
    }
}
