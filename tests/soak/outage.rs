//! The store is switched off under load, for as long as one likes.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Server, ServerOptions, wait_until};
use crate::{output, seconds, spawn};

/// Healthy time before and after.
const HEALTHY: u64 = 10;

/// Times of acknowledgements, in seconds since the load began.
fn acks(history: &str) -> Vec<f64> {
    history
        .lines()
        .filter(|line| line.contains("\"produce_acked\""))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["at"].as_u64())
        .map(|micros| Duration::from_micros(micros).as_secs_f64())
        .collect()
}

fn count(acks: &[f64], from: f64, to: f64) -> usize {
    acks.iter().filter(|at| (from..to).contains(*at)).count()
}

/// `ALLUVIUM_OUTAGE_SECONDS` makes it longer.
#[test]
fn producers_go_on_while_the_store_is_off_and_everything_resumes() {
    let off_seconds = seconds("ALLUVIUM_OUTAGE_SECONDS", 15);
    let dir = tempfile::tempdir().unwrap();
    let switch = dir.path().join("off");
    let mut options = ServerOptions::new(&dir.path().join("data"));
    options.store = Some(format!(
        "sick:zero,seed=1,off-file={}:file://{}",
        switch.display(),
        dir.path().join("objects").display()
    ));
    let server = Server::start(options.set("settle.interval=2s"));
    let address = server.address();
    // Read from the store before, so that it is cached, and again while the store is off.
    server.tool(&[
        "topic",
        "create",
        "cached",
        "--config",
        "alluvium.lane=object",
    ]);
    let lines: String = (0..200)
        .map(|number| format!("record {number}\n"))
        .collect();
    let given = dir.path().join("records");
    fs::write(&given, &lines).unwrap();
    server.tool(&["produce", "cached", "--file", given.to_str().unwrap()]);
    let read = || server.tool(&["consume", "cached", "--from-beginning", "--exit-at-end"]);
    assert_eq!(read().lines().count(), 200);

    let history = dir.path().join("history");
    let mut check = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    let duration = format!("{}s", 2 * HEALTHY + off_seconds);
    check.args([
        "check",
        "--bootstrap",
        &address,
        "--duration",
        &duration,
        "--pause",
        "20ms",
    ]);
    check.args([
        "--producers",
        "4",
        "--consumers",
        "2",
        "--topic",
        "loaded",
        "--history",
    ]);
    check.arg(&history);
    let check = spawn(check);
    wait_until("the load", || {
        server.tool(&["topic", "list"]).contains("loaded")
    });
    let begun = Instant::now();
    sleep(Duration::from_secs(HEALTHY));
    fs::write(&switch, "").unwrap();
    let off_at = begun.elapsed().as_secs_f64();
    let mut reads = 0;
    while begun.elapsed().as_secs_f64() < off_at + Duration::from_secs(off_seconds).as_secs_f64() {
        sleep(Duration::from_secs(2));
        assert_eq!(read().lines().count(), 200, "what is cached stays readable");
        reads += 1;
    }
    fs::remove_file(&switch).unwrap();
    let on_at = begun.elapsed().as_secs_f64();
    let verdict = output(check, "alluvium check");
    assert!(verdict.contains("no anomaly"), "{verdict}");
    let acks = acks(&fs::read_to_string(&history).unwrap());
    let (before, off, after) = (
        count(&acks, 0.0, off_at),
        count(&acks, off_at + 1.0, on_at),
        count(&acks, on_at + 1.0, f64::MAX),
    );
    eprintln!(
        "batches acknowledged: {before} in {off_at:.0} s before, {off} in {:.0} s while the store was \
         off, {after} after it; {reads} readings of what was cached",
        on_at - off_at
    );
    assert!(
        server.log().contains("switched off"),
        "the store was never off:\n{}",
        server.log()
    );
    assert!(before > 50 && off > 50 && after > 50, "{verdict}");
}
