//! Kafka Connect: a file's lines go through a topic into another file, over restarts of the worker.

use serde_json::{Value, json};

use crate::support::{Server, kafka_tool, kafka_tools, python, run_client};

/// Runs the program in a mode against a server; what it saw, the server, and the tools' class path.
fn run(mode: &str) -> Option<(Value, Server, tempfile::TempDir, String)> {
    let (python, class_path) = (python()?, kafka_tools()?);
    let (dir, server) = Server::fresh();
    let folder = dir.path().to_str().unwrap();
    let arguments = [&server.address(), class_path.trim(), folder, mode];
    let text = run_client(&python, "connect.py", &arguments);
    let seen = serde_json::from_str(&text).unwrap();
    Some((seen, server, dir, class_path))
}

fn check_copies(mode: &str, seen: &Value) {
    let (source, sink) = (format!("{mode}-source"), format!("{mode}-sink"));
    let running = json!(["RUNNING", "RUNNING"]);
    assert_eq!(
        seen["states"],
        json!({ &source: &running, &sink: &running })
    );
    assert_eq!(seen["kept"], json!([sink, source]));
    assert_eq!(seen["whole"], true, "{seen}");
}

#[test]
fn a_standalone_worker_copies_a_file_and_goes_on_after_a_restart() {
    let Some((seen, ..)) = run("standalone") else {
        return;
    };
    check_copies("standalone", &seen);
}

#[test]
fn a_distributed_worker_keeps_its_connectors_in_topics() {
    let Some((seen, server, _dir, class_path)) = run("distributed") else {
        return;
    };
    check_copies("distributed", &seen);
    let address = server.address();
    for topic in ["configs", "offsets", "status"] {
        let topic = format!("distributed-{topic}");
        let described = kafka_tool(
            &class_path,
            "org.apache.kafka.tools.TopicCommand",
            &[
                "--bootstrap-server",
                &address,
                "--describe",
                "--topic",
                &topic,
            ],
        );
        assert!(described.contains("cleanup.policy=compact"), "{described}");
    }
}

#[test]
fn a_source_writes_every_line_once_when_its_workers_are_killed() {
    let Some((seen, ..)) = run("exactly-once") else {
        return;
    };
    assert_eq!(seen["kills"], 2, "{seen}");
    assert_eq!(seen["once"], true, "{seen}");
    assert_eq!(seen["missing"], 0, "{seen}");
}
