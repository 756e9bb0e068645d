//! A share group is a queue: its consumers take records in turn, and what fails comes again.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, kafka_tool, kafka_tools};

const RECORDS: &str = "1000";

#[test]
fn five_consumers_drain_a_queue_with_failures_and_nothing_is_lost() {
    let Some(class_path) = kafka_tools() else {
        return;
    };
    let (_dir, server) = Server::fresh();
    let address = server.address();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ShareQueue.java");
    let output = Command::new("java")
        .args(["-Xmx256m", "-cp", class_path.trim()])
        .arg(source)
        .args([address.as_str(), RECORDS])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("lost=0 twice=0 above=0"), "{text}");
    let tool = |arguments: &[&str]| {
        let mut all = vec!["--bootstrap-server", &address];
        all.extend(arguments);
        let class = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";
        kafka_tool(&class_path, class, &all)
    };
    assert!(tool(&["--list"]).contains("workers"));
    // Every record is done with: accepted, or given up after it was delivered as often as may be.
    let described = tool(&["--describe", "--group", "workers"]);
    let lags: Vec<_> = described
        .lines()
        .filter(|line| line.starts_with("workers"))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(lags, ["0", "0"], "{described}");
    let topic = ["--group", "workers", "--topic", "queue"];
    let reset = [
        &["--reset-offsets", "--to-earliest", "--execute"],
        &topic[..],
    ]
    .concat();
    tool(&reset);
    let described = tool(&["--describe", "--group", "workers"]);
    assert!(described.contains("500"), "{described}");
    tool(&["--delete", "--group", "workers"]);
    assert!(!tool(&["--list"]).contains("workers"));
}
