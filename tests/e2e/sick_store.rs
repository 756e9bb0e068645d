//! A store that is slow, fails, hangs, lies and is switched off: clients wait, and lose nothing.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Server, ServerOptions, wait_until};

/// A server whose store is a folder that suffers from `words`.
fn sick(words: &str) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(&dir.path().join("data"));
    let objects = dir.path().join("objects");
    let words = words.replace("DIR", dir.path().to_str().unwrap());
    options.store = Some(format!("sick:{words}:file://{}", objects.display()));
    let server = Server::start(options);
    (dir, server)
}

/// What the process at the HTTP address of the banner costs.
fn cost(server: &Server) -> Value {
    let line = server.banner.iter().find(|line| line.contains("http://"));
    let (_, rest) = line.unwrap().split_once("http://").unwrap();
    let address = rest.split([' ', '/']).next().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(["cluster", "cost", "--json", "--http", address])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn on_a_bad_day_nothing_is_lost_and_the_books_say_what_it_took() {
    let (_dir, server) = sick("bad-day,seed=11,scale=0.2,errors=0.15,ambiguous=0.05,slowdown=0.02");
    let verdict = server.tool(&[
        "check",
        "--duration",
        "8s",
        "--producers",
        "4",
        "--consumers",
        "2",
        "--json",
    ]);
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert!(verdict.to_string().len() > 2, "{verdict}");
    let told = cost(&server);
    let flush = &told["causes"]["flush"]["counts"];
    let archive = &told["causes"]["archive"]["counts"];
    let failed = |counts: &Value| counts["failed"].as_u64().unwrap();
    assert!(failed(flush) + failed(archive) > 0, "{told}");
    assert!(told["produced_bytes"].as_u64().unwrap() > 1000, "{told}");
    assert!(told["fetched_bytes"].as_u64().unwrap() > 1000, "{told}");
    assert!(told["money"].as_f64().unwrap() > 0.0, "{told}");
}

#[test]
fn a_store_that_is_switched_off_slows_producers_and_nothing_is_lost() {
    let (dir, server) = sick("zero,seed=3,off-file=DIR/off");
    let switch = dir.path().join("off");
    server.tool(&[
        "topic",
        "create",
        "lines",
        "--config",
        "alluvium.lane=object",
    ]);
    let produce = |lines: &str| {
        use std::io::Write as _;
        let mut child = Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(["produce", "lines", "--bootstrap", &server.address()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        child
    };
    assert!(produce("one\n").wait().unwrap().success());
    fs::write(&switch, "").unwrap();
    let mut waiting = produce("two\n");
    let failed = || {
        cost(&server)["causes"]["flush"]["counts"]["failed"]
            .as_u64()
            .unwrap()
    };
    wait_until("the store to refuse", || failed() > 2);
    assert!(waiting.try_wait().unwrap().is_none(), "it was answered");
    fs::remove_file(&switch).unwrap();
    assert!(waiting.wait().unwrap().success());
    let read = server.tool(&["consume", "lines", "--from-beginning", "--max", "2"]);
    let lines: Vec<&str> = read.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].contains("one") && lines[1].contains("two"),
        "{read}"
    );
}
