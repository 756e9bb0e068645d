//! A server on a sick store, for as long as one likes: topics of every cleanup policy, compaction,
//! deletion and a checked load at once. In the end nothing may be lost, leaked or broken.
//!
//! It takes a minute, ten with `CI=true`, and as long as `ALLUVIUM_SOAK_SECONDS` says; `ALLUVIUM_SOAK_STORE` names
//! another profile of the sick store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure here is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod outage;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Server, ServerOptions, client, python, signal};

/// Everything that makes the engine's work come often.
const SETTINGS: [&str; 10] = [
    "memory.limit=256MiB",
    "settle.interval=5s",
    "compaction.interval=1s",
    "compaction.merge_age=5s",
    "compaction.merge_runs=16",
    "compaction.retention_interval=1s",
    "compaction.clean_interval=1s",
    "compaction.sweep_interval=2s",
    "store.grace=15s",
    "auto.create.topics.enable=false",
];

/// What the store does wrong, of its requests.
const SICKNESS: &str =
    "errors=0.02,slowdown=0.01,hang=0.0005,ambiguous=0.01,truncated=0.002,corrupt=0.002";

/// What a process holds at most: its limit, and what it is itself made of.
const MEMORY: u64 = (256 + 96) << 20;

/// Once its caches are full, memory may grow by so much.
const GROWTH: u64 = 32 << 20;

fn seconds(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn spawn(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn output(mut child: Child, what: &str) -> String {
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{what}: {status}\n{text}");
    text
}

fn files(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .map_while(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => files(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn a_sick_store_hurts_nobody_for_long() {
    let Some(python) = python() else { return };
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let seconds = seconds("ALLUVIUM_SOAK_SECONDS", if is_ci { 600 } else { 60 });
    let dir = tempfile::tempdir().unwrap();
    let objects = dir.path().join("objects");
    let profile = std::env::var("ALLUVIUM_SOAK_STORE").unwrap_or_else(|_| "express".to_owned());
    let seed = std::process::id();
    let mut options = ServerOptions::new(&dir.path().join("data"));
    let store = format!("file://{}", objects.display());
    options.store = Some(format!("sick:{profile},seed={seed},{SICKNESS}:{store}"));
    for setting in SETTINGS {
        options = options.set(setting);
    }
    eprintln!(
        "seed {seed}, {seconds} s on {}",
        options.store.as_deref().unwrap_or_default()
    );
    let server = Server::start(options);
    let address = server.address();

    let load = spawn(client(&python, "policy_load.py", &[&address, "2000"]));
    let mut check = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    check.args(["check", "--bootstrap", &address, "--topic", "checked"]);
    check.args([
        "--duration",
        &format!("{seconds}s"),
        "--producers",
        "3",
        "--consumers",
        "2",
    ]);
    check.args(["--pause", "10ms"]);
    let check = spawn(check);

    let begun = Instant::now();
    let mut memory = Vec::new();
    let mut largest_bucket = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        sleep(Duration::from_secs(1));
        memory.push(server.resident_bytes());
        largest_bucket = largest_bucket.max(files(&objects));
    }
    let verdict = output(check, "alluvium check");
    assert!(verdict.contains("no anomaly"), "{verdict}");
    signal(load.id(), "TERM");
    let judged = output(load, "policy_load.py");
    eprintln!("{judged}");
    assert!(!judged.contains("wrong"), "{judged}");
    assert!(judged.contains("acked compacted"), "{judged}");

    let third = memory.len() / 3;
    let most = |part: &[u64]| part.iter().max().copied().unwrap_or(0);
    let (middle, last) = (most(&memory[third..2 * third]), most(&memory[2 * third..]));
    eprintln!(
        "memory: {} MiB in the middle, {} MiB in the end",
        middle >> 20,
        last >> 20
    );
    // Caches take some minutes to fill.
    let flat = last < MEMORY && (seconds < 600 || last < middle + GROWTH);
    assert!(flat, "memory grows: {memory:?}");

    // What is dead goes when its grace is over.
    sleep(Duration::from_secs(30));
    let log = server.log();
    let (_, code) = server.terminate();
    assert_eq!(code, Some(0), "{log}");
    let fsck = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(["fsck", "--store", &store, "--json"])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&fsck.stdout).into_owned();
    let errors = String::from_utf8_lossy(&fsck.stderr).into_owned();
    assert!(fsck.status.success(), "{report}\n{errors}");
    let report: Value = serde_json::from_str(&report).unwrap();
    eprintln!("fsck: {report}");
    let bucket = files(&objects);
    eprintln!(
        "bucket: {} MiB at most, {bucket} bytes now",
        largest_bucket >> 20
    );
    // Nothing is there but what manifests name, what is in its grace, and the archive.
    let counted = |what: &str| report["counts"][what].as_u64().unwrap();
    let known = ["live_bytes", "dead_bytes", "young_bytes", "archive_bytes"];
    assert_eq!(known.map(counted).iter().sum::<u64>(), bucket);
    assert_eq!(counted("foreign"), 0);
}
