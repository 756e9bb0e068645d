//! Kafka's own tools over what a log without leaders, replicas and disks says of itself.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, kafka_tool, kafka_tools};

/// Runs a tool of Kafka's against a server.
struct Tools {
    class_path: String,
    server: Server,
    dir: tempfile::TempDir,
}

impl Tools {
    fn new() -> Option<Self> {
        let class_path = kafka_tools()?;
        let (dir, server) = Server::fresh();
        let tools = Self {
            class_path,
            server,
            dir,
        };
        tools.run(
            "org.apache.kafka.tools.TopicCommand",
            &["--create", "--topic", "clicks", "--partitions", "2"],
        );
        Some(tools)
    }

    fn run(&self, class: &str, arguments: &[&str]) -> String {
        let address = self.server.address();
        let mut all = vec!["--bootstrap-server", &address];
        all.extend(arguments);
        kafka_tool(&self.class_path, class, &all)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn reassignments_are_complete_and_elections_not_needed() {
    let Some(tools) = Tools::new() else { return };
    let reassign = |arguments: &[&str]| {
        tools.run(
            "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
            arguments,
        )
    };
    let topics = r#"{"version": 1, "topics": [{"topic": "clicks"}]}"#;
    let topics = tools.file("topics.json", topics);
    let generate = [
        "--generate",
        "--broker-list",
        "1",
        "--topics-to-move-json-file",
    ];
    let generated = reassign(&[&generate[..], &[&topics]].concat());
    let plan = generated.lines().rfind(|line| line.starts_with('{'));
    let plan = tools.file("plan.json", plan.unwrap());
    let with_plan = |what| reassign(&[what, "--reassignment-json-file", &plan]);
    let executed = with_plan("--execute");
    assert!(executed.contains("Successfully started"), "{executed}");
    assert!(reassign(&["--list"]).contains("No partition reassignments found."));
    let verified = with_plan("--verify");
    for partition in ["clicks-0", "clicks-1"] {
        let done = format!("Reassignment of partition {partition} is completed.");
        assert!(verified.contains(&done), "{verified}");
    }
    let election = ["--election-type", "preferred", "--topic", "clicks"];
    let elected = tools.run(
        "org.apache.kafka.tools.LeaderElectionCommand",
        &[&election[..], &["--partition", "1"]].concat(),
    );
    assert!(
        elected.contains("Valid replica already elected"),
        "{elected}"
    );
    let described = tools.run("org.apache.kafka.tools.LogDirsCommand", &["--describe"]);
    assert!(
        described.contains(r#""partition":"clicks-1","size":0"#),
        "{described}"
    );
}

#[test]
fn groups_have_settings_of_their_own() {
    let Some(tools) = Tools::new() else { return };
    let configs = |arguments: &[&str]| {
        let of_group = ["--entity-type", "groups", "--entity-name", "queue"];
        tools.run(
            "kafka.admin.ConfigCommand",
            &[&of_group, arguments].concat(),
        )
    };
    let reset = "share.auto.offset.reset";
    configs(&[
        "--alter",
        "--add-config",
        "share.auto.offset.reset=earliest",
    ]);
    let described = configs(&["--describe"]);
    assert!(
        described.contains("share.auto.offset.reset=earliest"),
        "{described}"
    );
    let all = ["--entity-type", "groups", "--describe"];
    assert!(
        tools
            .run("kafka.admin.ConfigCommand", &all)
            .contains("queue")
    );
    configs(&["--alter", "--delete-config", reset]);
    assert!(!configs(&["--describe"]).contains(reset));
}

#[test]
fn a_transaction_that_was_left_open_is_ended_by_hand() {
    let Some(tools) = Tools::new() else { return };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/OpenTransaction.java");
    let status = Command::new("java")
        .args(["-Xmx256m", "-cp", tools.class_path.trim()])
        .arg(program)
        .args([tools.server.address().as_str(), "clicks", "left-open"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let transactions =
        |arguments: &[&str]| tools.run("org.apache.kafka.tools.TransactionsCommand", arguments);
    let described = || transactions(&["describe", "--transactional-id", "left-open"]);
    assert!(described().contains("Ongoing"), "{}", described());
    let listed = transactions(&["list", "--transactional-id-pattern", "left-.*"]);
    assert!(listed.contains("left-open"), "{listed}");
    let place = [
        "--topic",
        "clicks",
        "--partition",
        "0",
        "--start-offset",
        "0",
    ];
    transactions(&[&["abort"], &place[..]].concat());
    assert!(described().contains("CompleteAbort"), "{}", described());
}
