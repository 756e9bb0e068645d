//! Kafka Connect: a file's lines go through a topic into another file, over restarts of the worker.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Server, kafka_tool, kafka_tools, python};

fn copies(mode: &str) -> Option<(Server, tempfile::TempDir, String)> {
    let (python, class_path) = (python()?, kafka_tools()?);
    let (dir, server) = Server::fresh();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/connect.py");
    let output = Command::new(python)
        .arg(program)
        .args([&server.address(), class_path.trim()])
        .arg(dir.path())
        .arg(mode)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{why}");
    let seen: Value = serde_json::from_str(&text).unwrap();
    let (source, sink) = (format!("{mode}-source"), format!("{mode}-sink"));
    let running = json!(["RUNNING", "RUNNING"]);
    assert_eq!(
        seen["states"],
        json!({ &source: &running, &sink: &running })
    );
    assert_eq!(seen["kept"], json!([sink, source]));
    assert_eq!(seen["whole"], true, "{seen}");
    Some((server, dir, class_path))
}

#[test]
fn a_standalone_worker_copies_a_file_and_goes_on_after_a_restart() {
    copies("standalone");
}

#[test]
fn a_distributed_worker_keeps_its_connectors_in_topics() {
    let Some((server, _dir, class_path)) = copies("distributed") else {
        return;
    };
    let address = server.address();
    for topic in ["connect-configs", "connect-offsets", "connect-statuss"] {
        let described = kafka_tool(
            &class_path,
            "org.apache.kafka.tools.TopicCommand",
            &[
                "--bootstrap-server",
                &address,
                "--describe",
                "--topic",
                topic,
            ],
        );
        assert!(described.contains("cleanup.policy=compact"), "{described}");
    }
}
