//! The command line for people.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::Server;

#[test]
fn topics_are_created_altered_described_and_deleted() {
    let (_dir, server) = Server::fresh();
    server.tool(&["topic", "create", "clicks", "--partitions", "3"]);
    server.tool(&[
        "topic",
        "alter",
        "clicks",
        "--partitions",
        "4",
        "--config",
        "retention.ms=1000",
    ]);
    let described: Value =
        serde_json::from_str(&server.tool(&["topic", "describe", "clicks", "--json"])).unwrap();
    assert_eq!(described["partitions"].as_array().unwrap().len(), 4);
    assert_eq!(described["configs"]["retention.ms"], "1000");
    assert!(
        server
            .tool(&["topic", "list"])
            .lines()
            .any(|line| line.contains("clicks"))
    );
    server.tool(&["topic", "delete", "clicks", "--yes"]);
    assert!(!server.tool(&["topic", "list"]).contains("clicks"));
}

#[test]
fn lines_go_in_and_come_out() {
    let (_dir, server) = Server::fresh();
    let mut child = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args([
            "produce",
            "lines",
            "--key-separator",
            ":",
            "--header",
            "from=stdin",
        ])
        .args(["--bootstrap", &server.address()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"a:1\nb:2\nc:3\n")
        .unwrap();
    assert!(child.wait().unwrap().success());
    let read = server.tool(&[
        "consume",
        "lines",
        "--from-beginning",
        "--exit-at-end",
        "--json",
    ]);
    let records: Vec<Value> = read
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 3);
    let mut pairs: Vec<(String, String)> = records
        .iter()
        .map(|record| {
            assert_eq!(record["headers"][0]["key"], "from");
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            (text("key"), text("value"))
        })
        .collect();
    pairs.sort();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(pairs, [pair("a", "1"), pair("b", "2"), pair("c", "3")]);
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let (_dir, server) = Server::fresh();
    let file = server.options.data_dir.with_extension("jsonl");
    std::fs::write(
        &file,
        "{\"key\":\"k\",\"value\":\"1\"}\n{\"key\":\"k\",\"value\":\"2\"}\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let produce = || server.tool(&["produce", "counted", "--json-lines", "--file", file]);
    let consume = || {
        server.tool(&[
            "consume",
            "counted",
            "--group",
            "counters",
            "--exit-at-end",
            "--from-beginning",
        ])
    };
    produce();
    assert_eq!(consume().lines().count(), 2);
    produce();
    assert_eq!(consume().lines().count(), 2, "only what is new");
}

#[test]
fn errors_say_what_to_do_and_exit_codes_tell_usage_from_failure() {
    let nobody = format!("127.0.0.1:{}", crate::support::free_port());
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(args)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, error) = run(&["topic", "list", "--bootstrap", &nobody]);
    assert_eq!(code, Some(1));
    assert!(error.contains(&nobody), "{error}");
    let (code, _) = run(&["topic", "lost"]);
    assert_eq!(code, Some(2));
    let (code, error) = run(&["dev", "--set", "num.partition=3"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("num.partitions"),
        "names the nearest known one: {error}"
    );
}
