//! The report card: what clients in five languages can do.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, ServerOptions, kafka_tools, python, skip};

/// Lines that fail, each with its reason. There is none.
const FAILING: [&str; 0] = [];

#[test]
fn clients_in_five_languages_can_do_all_that_they_know() {
    let (Some(python), Some(_)) = (python(), kafka_tools()) else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for needed in ["report-go/franz", "report-kafkajs/node_modules", "report-java-old"] {
        if !root.join("target/test-env").join(needed).exists() {
            return skip("the clients of the report card");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(&dir.path().join("data"))
        .set("group.consumer.heartbeat.interval.ms=500")
        .set("group.share.heartbeat.interval.ms=500");
    let server = Server::start(options);
    let output = Command::new(python)
        .arg(root.join("tests/clients/report.py"))
        .arg(server.address())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = report
        .lines()
        .filter(|line| line.starts_with("FAILED"))
        .collect();
    assert_eq!(failed, FAILING, "{report}");
    assert!(output.status.success(), "{report}");
    // Nine clients, more than twenty features.
    let rows: Vec<&str> = report.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 22, "{report}");
    assert!(rows.iter().all(|row| row.matches('|').count() == 11), "{report}");
}
