//! `alluvium fsck`: whether manifests and bucket agree, with no cluster asked.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use alluvium_cluster::RestoreStep;
use alluvium_compaction::fsck::{
    Finding, FsckConfig, FsckStep, Repaired, Report, Severity, check, repair,
};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{Millis, parse_duration};

use crate::failure::Failure;
use crate::output::{Output, counter};
use crate::time;

/// Findings that are printed before the rest is only counted; `--json` has them all.
const FINDINGS: usize = 100;

/// Stretches of a finding that are printed.
const STRETCHES: usize = 5;

/// Arguments of `alluvium fsck`.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// The store that holds the cluster: s3://bucket/prefix or file:///folder, as store.url of its
    /// servers. The cluster may run meanwhile.
    #[arg(long, value_name = "URL")]
    store: String,
    /// Also read every object that a manifest names, and check every byte of it.
    #[arg(long)]
    deep: bool,
    /// Delete orphans: objects that nothing names, older than an hour and a half. Nothing else is
    /// changed.
    #[arg(long)]
    repair: bool,
    /// With --repair: do not ask.
    #[arg(long, requires = "repair")]
    yes: bool,
    /// The grace of the cluster's sweeper, as 10m: objects that died longer ago should be gone.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    grace: std::time::Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `alluvium fsck`.
pub(crate) async fn run(args: FsckArgs) -> Result<(), Failure> {
    if args.repair && !args.yes && (args.json || !std::io::stdin().is_terminal()) {
        return Err(Failure::Usage(
            "--repair deletes objects: say --yes to do it unasked".to_owned(),
        ));
    }
    let bucket = Bucket::open_existing(&args.store, LocalDisk::shared())
        .await
        .map_err(failed)?;
    let config = FsckConfig {
        bucket,
        grace: Millis::try_from(args.grace.as_millis()).unwrap_or(Millis::MAX),
        deep: args.deep,
    };
    let bar = counter();
    let report = check(&config, &|step| show(&bar, step)).await;
    bar.finish_and_clear();
    let report = report.map_err(failed)?;
    let mut out = Output::new();
    if !args.json {
        out.write(as_text(&report).as_bytes())?;
        out.flush()?;
    }
    let mut repaired = None;
    if args.repair && report.orphans().next().is_some() && (args.yes || confirmed(&report)?) {
        let bar = counter();
        let done = repair(&config, &report, &|step| show(&bar, step)).await;
        bar.finish_and_clear();
        repaired = Some(done.map_err(failed)?);
    }
    if args.json {
        let mut shown = serde_json::to_value(&report).map_err(failed)?;
        shown["clean"] = json!(report.is_clean());
        shown["repaired"] = json!(repaired);
        out.line(shown.to_string().as_bytes())?;
    } else if let Some(repaired) = repaired {
        out.write(repair_text(&repaired).as_bytes())?;
    }
    out.flush()?;
    verdict(&args.store, &report, repaired)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// Exit code 0 when nothing is wrong, or nothing any more.
fn verdict(store: &str, report: &Report, repaired: Option<Repaired>) -> Result<(), Failure> {
    let healed = repaired.map_or(0, |repaired| repaired.deleted + repaired.left);
    let warnings = report.warnings.saturating_sub(healed);
    if report.errors == 0 && warnings == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{store}: {} errors and {warnings} warnings",
        report.errors
    )))
}

fn show(bar: &ProgressBar, step: FsckStep) {
    let (message, done, all) = match step {
        FsckStep::Archive(RestoreStep::Pieces { done, all }) => ("pieces of the log", done, all),
        FsckStep::Archive(_) => return,
        FsckStep::Listed { done, about } => ("objects listed", done, about),
        FsckStep::Read { done, all } => ("objects read", done, all),
        FsckStep::Deleted { done, all } => ("orphans deleted", done, all),
    };
    bar.set_message(message);
    bar.set_length(all);
    bar.set_position(done);
}

fn confirmed(report: &Report) -> Result<bool, Failure> {
    let (objects, bytes) = report.orphans().fold((0u64, 0u64), |sum, (_, bytes)| {
        (sum.0 + 1, sum.1.saturating_add(bytes))
    });
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "delete {objects} orphans of {bytes} bytes? [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::Failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn as_text(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "cluster   {} as archived up to {}",
        report.cluster,
        time::print(report.log.until)
    );
    let _ = writeln!(
        text,
        "manifests {} topics, {} partitions, {} runs ({} thinned out, {} gaps)",
        counts.topics, counts.partitions, counts.runs, counts.sparse_runs, counts.gaps
    );
    for (what, objects, bytes) in [
        ("named", counts.live_objects, counts.live_bytes),
        (
            "dead, to be deleted",
            counts.dead_objects,
            counts.dead_bytes,
        ),
        (
            "not named and too young to tell",
            counts.young_objects,
            counts.young_bytes,
        ),
        ("of the archive", counts.archive_files, counts.archive_bytes),
    ] {
        if objects > 0 {
            let _ = writeln!(text, "objects   {objects} {what}, {bytes} bytes");
        }
    }
    if counts.foreign > 0 {
        let _ = writeln!(
            text,
            "objects   {} that are nothing of Alluvium's and are left alone",
            counts.foreign
        );
    }
    if counts.inline_bytes + counts.journal_bytes > 0 {
        let _ = writeln!(
            text,
            "unsettled {} bytes in the metadata, {} in write-ahead buffers (not checked)",
            counts.inline_bytes, counts.journal_bytes
        );
    }
    if counts.purgeable_runs > 0 {
        let _ = writeln!(
            text,
            "deleted   {} runs of deleted topics are still to be let go",
            counts.purgeable_runs
        );
    }
    if report.deep {
        let _ = writeln!(
            text,
            "read      {} objects, {} bytes",
            counts.read_objects, counts.read_bytes
        );
    }
    findings(&mut text, report);
    text
}

fn findings(text: &mut String, report: &Report) {
    let mut last: Option<&Finding> = None;
    for finding in report.findings.iter().take(FINDINGS) {
        // What to do is said once for findings of one kind that follow one another.
        if let Some(last) = last.filter(|last| last.advice != finding.advice) {
            let _ = writeln!(text, "  to do: {}", last.advice);
        }
        last = Some(finding);
        let severity = match finding.severity {
            Severity::Error => "ERROR    ",
            Severity::Warning => "warning  ",
        };
        let _ = writeln!(text, "{severity} {} {}", finding.thing(), finding.message);
        for it in finding.stretches.iter().take(STRETCHES) {
            let _ = writeln!(
                text,
                "  {}/{}: offsets {}..{}",
                it.topic, it.partition, it.first, it.last
            );
        }
        if finding.stretches.len() > STRETCHES {
            let _ = writeln!(text, "  and more; --json lists them");
        }
    }
    if let Some(last) = last {
        let _ = writeln!(text, "  to do: {}", last.advice);
    }
    let all = report.errors + report.warnings;
    let shown = u64::try_from(report.findings.len().min(FINDINGS)).unwrap_or(all);
    if all > shown {
        let _ = writeln!(text, "and {} more; --json lists them", all - shown);
    }
    if report.is_clean() {
        let _ = writeln!(text, "clean     manifests and bucket agree");
    }
}

fn repair_text(repaired: &Repaired) -> String {
    let mut text = format!(
        "repaired  {} orphans deleted, {} bytes\n",
        repaired.deleted, repaired.deleted_bytes
    );
    if repaired.left > 0 {
        let _ = writeln!(text, "  {} are gone or named by now", repaired.left);
    }
    text
}
