//! Kafka Streams: state in RocksDB, instances that die, state that comes back from the changelog.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, kafka_tools};

/// How long the input is written for.
const SECONDS: &str = "16";

fn counts_and_joins(guarantee: &str) {
    let Some(class_path) = kafka_tools() else {
        return;
    };
    let (dir, server) = Server::fresh();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/streams/Counts.java");
    let output = Command::new("java")
        .args(["-Xmx256m", "-cp", class_path.trim()])
        .arg(format!("-Dcounts.source={}", source.display()))
        .arg(&source)
        .args(["drive", &server.address(), guarantee, SECONDS])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let verdict = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && verdict.contains("good"),
        "{verdict}"
    );
    assert!(!verdict.contains(" 0 kills"), "{verdict}");
}

#[test]
fn streams_at_least_once_misses_nothing_when_instances_die() {
    counts_and_joins("at_least_once");
}

#[test]
fn streams_exactly_once_counts_every_word_once_when_instances_die() {
    counts_and_joins("exactly_once_v2");
}
