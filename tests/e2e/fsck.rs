//! `alluvium fsck` tells a sound bucket from one that was tampered with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::{Server, ServerOptions, wait_until};

const LINES: usize = 200;

fn run(store: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(["fsck", "--store", &format!("file://{}", store.display())])
        .args(more)
        .output()
        .unwrap()
}

/// What it found, and its exit code.
fn fsck(store: &Path, more: &[&str]) -> (Value, Option<i32>) {
    let output = run(store, &[&["--json"], more].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (report, output.status.code())
}

fn kinds(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect()
}

/// Data objects of a store.
fn objects(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(store).unwrap().map_while(Result::ok) {
        if folder.file_name().len() == 2 {
            let files = fs::read_dir(folder.path()).unwrap().map_while(Result::ok);
            found.extend(files.map(|file| file.path()));
        }
    }
    found.sort();
    found
}

fn produce(server: &Server, topic: &str) {
    use std::io::Write;
    let create = ["topic", "create", topic, "--partitions", "2"];
    server.tool(&[&create[..], &["--config", "alluvium.lane=object"]].concat());
    let mut produce = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(["produce", topic, "--bootstrap", &server.address()])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = produce.stdin.take().unwrap();
    for line in 0..LINES {
        writeln!(input, "{topic} {line}").unwrap();
    }
    drop(input);
    assert!(produce.wait().unwrap().success());
}

/// A stopped server's store with two topics, one of them deleted and swept.
fn stopped(dir: &Path) -> PathBuf {
    let data_dir = dir.join("data");
    let store = data_dir.join("objects");
    let options = ServerOptions::new(&data_dir)
        .set("store.grace=1s")
        .set("compaction.sweep_interval=100ms")
        .set("metadata.archive_interval=100ms");
    let server = Server::start(options);
    produce(&server, "gone");
    let doomed = objects(&store);
    assert!(!doomed.is_empty());
    produce(&server, "kept");
    // Nothing that is named may be deleted, while what is not goes.
    server.tool(&["topic", "delete", "gone", "--yes"]);
    wait_until("the deleted topic's objects to be swept", || {
        !doomed.iter().any(|object| object.exists())
    });
    let read = server.tool(&["consume", "kept", "--from-beginning", "--exit-at-end"]);
    assert_eq!(read.lines().count(), LINES);
    // Clean while it runs, and when it has stopped.
    wait_until("the archive to say that they were swept", || {
        let (report, code) = fsck(&store, &[]);
        assert_eq!(code, Some(0), "{report}");
        report["counts"]["dead_objects"] == 0 && report["counts"]["purgeable_runs"] == 0
    });
    let (_, code) = server.terminate();
    assert_eq!(code, Some(0));
    store
}

#[test]
fn a_bucket_is_clean_until_somebody_tampers_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = stopped(dir.path());
    let (report, code) = fsck(&store, &["--deep"]);
    assert_eq!(
        (code, &report["clean"]),
        (Some(0), &true.into()),
        "{report}"
    );
    let counts = &report["counts"];
    assert_eq!(counts["topics"], 1, "{report}");
    assert!(counts["live_objects"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(counts["live_objects"], counts["read_objects"], "{report}");

    // A byte flipped by hand.
    let victim = objects(&store).remove(0);
    let sound = fs::read(&victim).unwrap();
    let mut damaged = sound.clone();
    damaged[120] ^= 1;
    fs::write(&victim, &damaged).unwrap();
    assert_eq!(fsck(&store, &[]).1, Some(0), "only --deep reads objects");
    let (report, code) = fsck(&store, &["--deep"]);
    assert_eq!(
        (code, kinds(&report)),
        (Some(1), vec!["damaged"]),
        "{report}"
    );
    assert_eq!(report["findings"][0]["stretches"][0]["topic"], "kept");
    fs::write(&victim, &sound).unwrap();

    // An object deleted by hand.
    fs::remove_file(&victim).unwrap();
    let (report, code) = fsck(&store, &[]);
    assert_eq!(
        (code, kinds(&report)),
        (Some(1), vec!["missing"]),
        "{report}"
    );
    let shown = run(&store, &[]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("is not in the bucket"), "{text}");
    assert!(text.contains("kept/"), "{text}");
    fs::write(&victim, &sound).unwrap();

    // An orphan put in by hand: first young, then old.
    let orphan = store.join("ff/ff000000000000000000000000000001.alv");
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, "orphan").unwrap();
    let (report, code) = fsck(&store, &[]);
    assert_eq!(
        (code, &report["counts"]["young_objects"]),
        (Some(0), &1.into())
    );
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    File::options()
        .write(true)
        .open(&orphan)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let (report, code) = fsck(&store, &[]);
    assert_eq!(
        (code, kinds(&report)),
        (Some(1), vec!["orphan"]),
        "{report}"
    );

    let unasked = run(&store, &["--repair"]);
    assert_eq!(unasked.status.code(), Some(2));
    assert!(orphan.exists());
    let before = objects(&store).len();
    let (report, code) = fsck(&store, &["--repair", "--yes"]);
    assert_eq!(
        (code, &report["repaired"]["deleted"]),
        (Some(0), &1.into()),
        "{report}"
    );
    assert!(!orphan.exists());
    assert_eq!(objects(&store).len(), before - 1);
    assert_eq!(fsck(&store, &["--deep"]).1, Some(0));
}

#[test]
fn what_is_no_cluster_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("holds no archived cluster"), "{stderr}");
}
