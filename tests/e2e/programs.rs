//! What people begin with.

use serde_json::Value;

use crate::support::{Server, kafka_tool, kafka_tools, python, run_client};

#[test]
fn kafkas_own_tool_creates_alters_describes_and_deletes_topics() {
    let Some(class_path) = kafka_tools() else {
        return;
    };
    let (_dir, server) = Server::fresh();
    let address = server.address();
    let topics = |args: &[&str]| {
        let mut all = vec!["--bootstrap-server", &address];
        all.extend(args);
        kafka_tool(&class_path, "org.apache.kafka.tools.TopicCommand", &all)
    };
    let created = topics(&[
        "--create",
        "--replication-factor",
        "1",
        "--partitions",
        "3",
        "--topic",
        "user_clicks",
    ]);
    assert!(created.contains("Created topic user_clicks"), "{created}");
    topics(&["--alter", "--topic", "user_clicks", "--partitions", "5"]);
    let described = topics(&["--describe", "--topic", "user_clicks"]);
    assert!(described.contains("PartitionCount: 5"), "{described}");
    assert!(described.contains("ReplicationFactor: 1"), "{described}");
    let configs = |args: &[&str]| {
        let mut all = vec!["--bootstrap-server", &address, "--entity-type", "topics"];
        all.extend(["--entity-name", "user_clicks"]);
        all.extend(args);
        kafka_tool(&class_path, "kafka.admin.ConfigCommand", &all)
    };
    configs(&["--alter", "--add-config", "retention.ms=60000"]);
    let described = configs(&["--describe"]);
    assert!(described.contains("retention.ms=60000"), "{described}");
    assert!(topics(&["--list"]).contains("user_clicks"));
    topics(&["--delete", "--topic", "user_clicks"]);
    assert!(!topics(&["--list"]).contains("user_clicks"));
}

#[test]
fn a_simple_producer_and_consumer() {
    let Some(python) = python() else { return };
    let (_dir, server) = Server::fresh();
    let seen: Vec<String> = serde_json::from_str(&run_client(
        &python,
        "programs.py",
        &["simple", &server.address()],
    ))
    .unwrap();
    let expected: Vec<String> = (0..10).map(|number| format!("click {number}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_idempotent_producer_with_dead_letters_and_a_consumer_that_commits() {
    let Some(python) = python() else { return };
    let (_dir, server) = Server::fresh();
    let report: Value = serde_json::from_str(&run_client(
        &python,
        "programs.py",
        &["orders", &server.address()],
    ))
    .unwrap();
    let mut expected: Vec<String> = (0..20).map(|number| format!("ORD-{number}")).collect();
    expected.sort();
    assert_eq!(report["first"], serde_json::json!(expected));
    // A second reader of the group begins where the first committed.
    assert_eq!(report["second"], serde_json::json!(["ORD-late"]));
    assert_eq!(report["letter"]["order"], "ORD-huge");
}
