//! The store is switched off under load, for as long as one likes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
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

/// A server whose store can be switched off, and a checked load.
struct Outage {
    dir: tempfile::TempDir,
    server: Server,
    begun: Instant,
}

impl Outage {
    fn new(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(&dir.path().join("data"));
        options.store = Some(format!(
            "sick:zero,seed=1,off-file={}:file://{}",
            dir.path().join("off").display(),
            dir.path().join("objects").display()
        ));
        for setting in settings {
            options = options.set(setting);
        }
        Self {
            server: Server::start(options),
            dir,
            begun: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Begins a load of so many seconds.
    fn load(&mut self, seconds: u64, arguments: &[&str]) -> Child {
        let mut check = Command::new(env!("CARGO_BIN_EXE_alluvium"));
        check.args(["check", "--bootstrap", &self.server.address()]);
        check.args(["--duration", &format!("{seconds}s"), "--topic", "loaded"]);
        check.args(["--producers", "4", "--consumers", "2", "--history"]);
        check.arg(self.path("history")).args(arguments);
        let check = spawn(check);
        let server = &self.server;
        wait_until("the load", || {
            server.tool(&["topic", "list"]).contains("loaded")
        });
        self.begun = Instant::now();
        check
    }

    /// Seconds since the load began.
    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn switch(&self, on: bool) -> f64 {
        let switch = self.path("off");
        if on {
            fs::remove_file(&switch).unwrap();
        } else {
            fs::write(&switch, "").unwrap();
        }
        self.now()
    }

    /// When batches were acknowledged, once the load is judged and the store was really off.
    fn judge(&self, check: Child) -> Vec<f64> {
        let verdict = output(check, "alluvium check");
        assert!(verdict.contains("no anomaly"), "{verdict}");
        let log = self.server.log();
        assert!(log.contains("switched off"), "never off:\n{log}");
        acks(&fs::read_to_string(self.path("history")).unwrap())
    }
}

/// `ALLUVIUM_OUTAGE_SECONDS` makes it longer.
#[test]
fn producers_go_on_while_the_store_is_off_and_everything_resumes() {
    let off_seconds = seconds("ALLUVIUM_OUTAGE_SECONDS", 15);
    let mut outage = Outage::new(&["settle.interval=2s"]);
    // Read from the store before, so that it is cached, and again while the store is off.
    let lane = "alluvium.lane=object";
    outage
        .server
        .tool(&["topic", "create", "cached", "--config", lane]);
    let lines: String = (0..200)
        .map(|number| format!("record {number}\n"))
        .collect();
    let given = outage.path("records");
    fs::write(&given, &lines).unwrap();
    produce(&outage.server, &given);
    assert_eq!(read(&outage.server), 200);

    let check = outage.load(2 * HEALTHY + off_seconds, &["--pause", "20ms"]);
    sleep(Duration::from_secs(HEALTHY));
    let off_at = outage.switch(false);
    let mut reads = 0;
    while outage.now() < off_at + Duration::from_secs(off_seconds).as_secs_f64() {
        sleep(Duration::from_secs(2));
        let cached = read(&outage.server);
        assert_eq!(cached, 200, "what is cached stays readable");
        reads += 1;
    }
    let on_at = outage.switch(true);
    let acks = outage.judge(check);
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
    assert!(before > 50 && off > 50 && after > 50);
}

fn produce(server: &Server, file: &Path) {
    server.tool(&["produce", "cached", "--file", file.to_str().unwrap()]);
}

fn read(server: &Server) -> usize {
    let read = server.tool(&["consume", "cached", "--from-beginning", "--exit-at-end"]);
    read.lines().count()
}

/// Bytes of a batch of the load that spends the budget.
const LARGE: u64 = 20 * 16_000;

#[test]
fn past_the_budget_producers_are_slowed_until_the_store_is_back() {
    let limit = 256;
    let mut outage = Outage::new(&[
        "settle.interval=2s",
        "journal.bytes=64MiB",
        "flush.chunk_bytes=2MiB",
        &format!("memory.limit={limit}MiB"),
    ]);
    let large = ["--batch", "20", "--record-bytes", "16000"];
    let check = outage.load(2 * HEALTHY + 40, &large);
    sleep(Duration::from_secs(HEALTHY));
    let off_at = outage.switch(false);
    let mut memory = 0;
    while outage.now() < off_at + 30.0 {
        sleep(Duration::from_millis(500));
        memory = memory.max(outage.server.resident_bytes() >> 20);
    }
    let on_at = outage.switch(true);
    let acks = outage.judge(check);
    let mebibytes = |batches: usize| (batches as u64 * LARGE) >> 20;
    let before = count(&acks, 0.0, off_at);
    let kept = mebibytes(count(&acks, off_at, on_at));
    let slowed = count(&acks, on_at - 10.0, on_at);
    let after = count(&acks, on_at + 1.0, f64::MAX);
    eprintln!(
        "{before} batches of {LARGE} bytes acknowledged in {off_at:.0} s before; {kept} MiB while the \
         store was off, {slowed} batches in the last 10 s of it; {after} after it; {memory} MiB of memory"
    );
    // They went on until what the buffer holds was spent, and no further. Some were on their way.
    assert!((16..=96).contains(&kept) && slowed < 4);
    assert!(before > 50 && after > 50);
    assert!(memory < limit + 96, "{memory} MiB");
}
