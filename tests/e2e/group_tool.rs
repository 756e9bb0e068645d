//! `alluvium group`: what it says of real consumers, and what it does to their groups.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Server, client, python, signal, wait_until};

/// A consumer of topic `jobs` in group `workers`, ended by [`Consumer::leave`].
struct Consumer(Child);

impl Consumer {
    fn join(server: &Server, program: &str) -> Option<Self> {
        let child = client(&python()?, program, &[&server.address(), "jobs", "workers"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self(child))
    }

    fn leave(mut self) {
        signal(self.0.id(), "TERM");
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with a topic of two partitions and ten records.
fn with_jobs() -> (tempfile::TempDir, Server) {
    let (dir, server) = Server::fresh();
    server.tool(&["topic", "create", "jobs", "--partitions", "2"]);
    produce(&server, 10);
    (dir, server)
}

fn produce(server: &Server, count: usize) {
    let file = server.options.data_dir.with_extension("lines");
    let lines: String = (0..count).map(|number| format!("{number}:job\n")).collect();
    std::fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    server.tool(&["produce", "jobs", "--key-separator", ":", "--file", file]);
}

/// Exit code and what went to standard error.
fn refused(server: &Server, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(args)
        .args(["--bootstrap", &server.address()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), error)
}

fn describe(server: &Server) -> Value {
    let text = server.tool(&["group", "describe", "workers", "--json"]);
    serde_json::from_str(&text).unwrap()
}

fn sum(described: &Value, field: &str) -> i64 {
    let offsets = described["offsets"].as_array().unwrap();
    offsets.iter().filter_map(|one| one[field].as_i64()).sum()
}

/// As [`describe`], or nothing while there is no such group.
fn described(server: &Server) -> Option<Value> {
    let (code, _) = refused(server, &["group", "describe", "workers"]);
    (code == Some(0)).then(|| describe(server))
}

fn caught_up(server: &Server, records: i64) -> bool {
    described(server)
        .is_some_and(|group| sum(&group, "committed") == records && sum(&group, "lag") == 0)
}

fn watched(program: &str, kind: &str) {
    let (_dir, server) = with_jobs();
    let Some(consumer) = Consumer::join(&server, program) else {
        return;
    };
    wait_until("the consumer has read all", || caught_up(&server, 10));
    let group = describe(&server);
    assert_eq!(group["type"], kind);
    assert_eq!(group["state"], "Stable");
    assert_eq!(group["members"].as_array().unwrap().len(), 1);
    let assigned = &group["members"][0]["assigned"]["jobs"];
    assert_eq!(assigned, &serde_json::json!([0, 1]));
    let member = group["members"][0]["member"].as_str().unwrap();
    let listed = server.tool(&["group", "describe", "workers", "--members"]);
    assert!(
        listed.contains(member) && listed.contains("jobs:0,1"),
        "{listed}"
    );
    assert!(
        server
            .tool(&["group", "list", "--type", kind])
            .contains("workers")
    );
    assert!(
        !server
            .tool(&["group", "list", "--state", "empty"])
            .contains("workers")
    );

    // Under a running consumer nothing is moved or deleted.
    let reset = [
        "group",
        "reset",
        "workers",
        "--all-topics",
        "--to-earliest",
        "--execute",
    ];
    let (code, error) = refused(&server, &reset);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("not empty") && error.contains("--members"),
        "{error}"
    );
    let (code, error) = refused(&server, &["group", "delete", "workers", "--yes"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("members"), "{error}");

    consumer.leave();
    wait_until("the group is empty", || {
        describe(&server)["state"] == "Empty"
    });
    produce(&server, 4);
    assert_eq!(sum(&describe(&server), "lag"), 4);
    server.tool(&reset);
    assert_eq!(sum(&describe(&server), "lag"), 14);
    let consumer = Consumer::join(&server, program).unwrap();
    wait_until("all is read again", || caught_up(&server, 14));
    consumer.leave();
    wait_until("the group is empty", || {
        describe(&server)["state"] == "Empty"
    });
    server.tool(&["group", "delete", "workers", "--yes"]);
    assert!(!server.tool(&["group", "list"]).contains("workers"));
}

#[test]
fn a_classic_consumer_is_watched_moved_back_and_deleted() {
    watched("member.py", "classic");
}

#[test]
fn a_consumer_of_the_newer_protocol_is_watched_moved_back_and_deleted() {
    watched("newer_member.py", "consumer");
}

#[test]
fn a_reset_is_shown_before_it_is_done_and_stays_within_the_log() {
    let (_dir, server) = with_jobs();
    let reset = |rest: &[&str]| {
        let args = [&["group", "reset", "workers"], rest].concat();
        server.tool(&args)
    };
    let committed = || sum(&describe(&server), "committed");
    let ends = reset(&["--topic", "jobs", "--to-latest", "--export"]);
    assert!(
        !server.tool(&["group", "list"]).contains("workers"),
        "only shown"
    );

    reset(&["--topic", "jobs", "--to-latest", "--execute"]);
    assert_eq!(committed(), 10);
    reset(&["--all-topics", "--shift-by", "-1", "--execute"]);
    assert_eq!(committed(), 8);
    reset(&["--all-topics", "--to-current", "--execute"]);
    assert_eq!(committed(), 8);
    reset(&["--all-topics", "--shift-by", "1000", "--execute"]);
    assert_eq!(committed(), 10, "no further than the end");
    reset(&["--topic", "jobs:0", "--to-offset", "0", "--execute"]);
    let group = describe(&server);
    assert_eq!(group["offsets"][0]["committed"], 0);
    assert_ne!(
        group["offsets"][1]["committed"], 0,
        "only the partition named"
    );
    reset(&["--topic", "jobs", "--by-duration", "P1D", "--execute"]);
    assert_eq!(committed(), 0, "every record is younger than a day");
    reset(&[
        "--topic",
        "jobs",
        "--to-datetime",
        "2100-01-01T00:00:00Z",
        "--execute",
    ]);
    assert_eq!(committed(), 10, "no record is as young");
    reset(&["--all-topics", "--to-earliest", "--execute"]);
    assert_eq!(committed(), 0);

    let file = server.options.data_dir.with_extension("csv");
    std::fs::write(&file, ends).unwrap();
    reset(&["--from-file", file.to_str().unwrap(), "--execute"]);
    assert_eq!(committed(), 10);

    let (code, error) = refused(&server, &["group", "reset", "workers", "--to-latest"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--all-topics"), "{error}");
    let missing = [
        "group",
        "reset",
        "workers",
        "--topic",
        "jobs:7",
        "--to-latest",
    ];
    let (code, error) = refused(&server, &missing);
    assert_eq!(code, Some(1));
    assert!(error.contains("no partition 7"), "{error}");

    server.tool(&[
        "group",
        "delete-offsets",
        "workers",
        "--topic",
        "jobs:1",
        "--yes",
    ]);
    let left = describe(&server);
    assert_eq!(left["offsets"].as_array().unwrap().len(), 1);
    assert_eq!(left["offsets"][0]["partition"], 0);
    let (code, error) = refused(&server, &["group", "describe", "nobody"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("alluvium group list"), "{error}");
}

#[test]
fn topics_are_made_and_deleted_again_and_again_and_shown_together() {
    let (_dir, server) = Server::fresh();
    let create = [
        "topic",
        "create",
        "one",
        "--partitions",
        "2",
        "--replication-factor",
        "1",
    ];
    server.tool(&create);
    assert_eq!(refused(&server, &create).0, Some(1));
    server.tool(&["topic", "create", "one", "--if-not-exists"]);
    server.tool(&["topic", "create", "two", "--config", "retention.ms=1000"]);
    let all = server.tool(&["topic", "describe"]);
    assert!(
        all.contains("topic one") && all.contains("topic two"),
        "{all}"
    );
    assert!(all.contains("isr ["), "{all}");
    let own = server.tool(&["topic", "describe", "--topics-with-overrides"]);
    assert!(
        !own.contains("topic one") && own.contains("retention.ms = 1000"),
        "{own}"
    );
    assert_eq!(
        server.tool(&["topic", "describe", "--unavailable-partitions"]),
        ""
    );
    server.tool(&["topic", "delete", "one", "two", "--yes"]);
    assert_eq!(
        refused(&server, &["topic", "delete", "one", "--yes"]).0,
        Some(1)
    );
    server.tool(&["topic", "delete", "one", "--if-exists", "--yes"]);
}
