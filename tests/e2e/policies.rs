//! Cleanup policies through a real client: one program, against Alluvium and against Apache Kafka.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    PATIENCE, Server, ServerOptions, free_port, kafka_tool, kafka_tools, python, run_client,
    wait_until,
};

/// What Kafka's documentation says that such a client sees.
fn expected() -> Value {
    json!({
        "retention_by_time": {"low": 10, "first": [10, "young"]},
        "retention_takes_the_newest_too": {"next": 7, "read": [7]},
        "retention_by_size": {"high": 6144, "enough": true, "first": true},
        "delete_records": {
            "to 5": 5, "first": 5, "back to 2": 5, "beyond": "OFFSET_OUT_OF_RANGE",
            "all": 10, "bounds": [10, 10], "next": 10,
        },
        "compaction": {
            "tombstone stayed first": true,
            "left": [
                [11, "key-1", "2"], [12, "key-2", "2"], [13, "key-3", "2"], [14, "key-4", "2"],
            ],
            "low": 0,
            "after 3": 11,
        },
        "no_key": {"error": "INVALID_RECORD", "read": []},
        "lag": {"before": 5, "left": [[4, "key", "4"]]},
        "both": {"compacted": [[4, "key", "4"]]},
        "changed_policies": {"before": [0, 5], "compacted": [[4, "key", "4"]], "soon": true},
    })
}

fn compare(who: &str, report: &str) {
    let seen: Value = serde_json::from_str(report).unwrap();
    for (scenario, expected) in expected().as_object().unwrap() {
        assert_eq!(&seen[scenario], expected, "{who}: {scenario}");
    }
}

#[test]
fn policies_do_what_kafkas_documentation_says() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(&dir.path().join("data"))
        .set("compaction.retention_interval=200ms")
        .set("compaction.clean_interval=50ms")
        .set("compaction.interval=500ms")
        .set("settle.interval=200ms");
    let server = Server::start(options);
    compare(
        "Alluvium",
        &run_client(&python, "policies.py", &[&server.address()]),
    );
}

#[test]
fn the_same_program_sees_the_same_of_apache_kafka() {
    let (Some(python), Some(class_path)) = (python(), kafka_tools()) else {
        return;
    };
    let kafka = Kafka::start(&class_path);
    compare(
        "Apache Kafka",
        &run_client(&python, "policies.py", &[&kafka.address]),
    );
}

/// A broker of one process; killed when dropped.
struct Kafka {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Kafka {
    fn start(class_path: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        let address = format!("127.0.0.1:{port}");
        let config = dir.path().join("kafka.properties");
        let logs = dir.path().join("logs");
        let properties = [
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            "offsets.topic.replication.factor=1".to_owned(),
            "log.retention.check.interval.ms=200".to_owned(),
            "log.initial.task.delay.ms=200".to_owned(),
            "log.cleaner.backoff.ms=100".to_owned(),
            format!("log.dirs={}", logs.display()),
        ];
        fs::write(&config, properties.join("\n")).unwrap();
        let path = config.to_str().unwrap();
        let format = ["format", "-t", "AAAAAAAAQACAAAAAAAAAAQ", "-c", path];
        kafka_tool(class_path, "kafka.tools.StorageTool", &format);
        let child = Command::new("java")
            .args(["-Xmx512m", "-cp", class_path.trim(), "kafka.Kafka", path])
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.path().join("out")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let kafka = Self {
            child,
            address,
            _dir: dir,
        };
        let begun = std::time::Instant::now();
        let tool = "org.apache.kafka.tools.BrokerApiVersionsCommand";
        wait_until("Kafka to answer", || {
            assert!(begun.elapsed() < PATIENCE);
            let asked = Command::new("java")
                .args(["-Xmx128m", "-cp", class_path.trim(), tool])
                .args(["--bootstrap-server", &kafka.address])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            asked.status.success()
        });
        kafka
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
