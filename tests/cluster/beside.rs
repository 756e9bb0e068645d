//! Clients of other people beside a fault: an idempotent producer and a reader that follows it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::nodes::Cluster;
use crate::support::{client, python, run_client, signal, wait_until};

const TOPIC: &str = "beside";
const PARTITIONS: &str = "4";
/// Some 200 records a second: the machine is for the cluster.
const PAUSE: &str = "0.05";

/// Where a client was told that a record is.
type Place = (i32, i64, String);

/// What a program said.
#[derive(Debug, Default)]
struct Heard {
    places: Vec<Place>,
    /// Lines that may not be.
    complaints: Vec<String>,
}

/// A program that runs until it is told to stop, and the thread that hears it out.
struct Program {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    hearing: Option<JoinHandle<()>>,
}

impl Program {
    fn start(python: &Path, name: &str, args: &[&str]) -> Self {
        let mut child = client(python, name, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let writer = Arc::clone(&heard);
        let hearing = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut heard = writer.lock().unwrap();
                match place(line.strip_prefix("ack ").unwrap_or(&line)) {
                    Some(place) => {
                        heard.places.push(place);
                    }
                    // Records that are too large, on purpose.
                    None if line.starts_with("refused ") => {}
                    None => heard.complaints.push(line),
                }
            }
        });
        Self {
            child,
            heard,
            hearing: Some(hearing),
        }
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap().places.len()
    }

    /// SIGTERM; it must still be there, and end in peace. What it said.
    fn stop(mut self) -> Vec<Place> {
        assert!(self.child.try_wait().unwrap().is_none(), "ended by itself");
        signal(self.child.id(), "TERM");
        assert!(self.child.wait().unwrap().success());
        self.hearing.take().unwrap().join().unwrap();
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        let complaints = heard.complaints;
        assert!(complaints.is_empty(), "a client saw {complaints:?}");
        heard.places
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place(line: &str) -> Option<Place> {
    let mut fields = line.split(' ');
    let partition = fields.next()?.parse().ok()?;
    let offset = fields.next()?.parse().ok()?;
    Some((partition, offset, fields.next()?.to_owned()))
}

/// The clients, while they run.
pub struct Beside {
    python: PathBuf,
    bootstrap: String,
    producer: Program,
    reader: Program,
}

impl Beside {
    /// Starts them and waits until both see records; `None` where there is no Python.
    pub fn start(cluster: &Cluster) -> Option<Self> {
        let python = python()?;
        let bootstrap = cluster.bootstrap();
        cluster.tool(&["topic", "create", TOPIC, "--partitions", PARTITIONS]);
        let produce = [bootstrap.as_str(), TOPIC, "load", PARTITIONS, PAUSE];
        let read = [bootstrap.as_str(), TOPIC, PARTITIONS];
        let beside = Self {
            producer: Program::start(&python, "load.py", &produce),
            reader: Program::start(&python, "watch.py", &read),
            python,
            bootstrap,
        };
        wait_until("the clients to begin", || {
            beside.producer.count() > 0 && beside.reader.count() > 0
        });
        Some(beside)
    }

    /// Stops them once the reader saw all that was acknowledged, reads the topic again, and compares:
    /// everything once, in order, where both clients were told that it is.
    pub fn finish(self) {
        let before = self.producer.count();
        wait_until("the producer to be served", || {
            self.producer.count() > before + 50
        });
        let acked = self.producer.stop();
        let reader = self.reader;
        wait_until("the reader to see everything", || {
            reader.count() >= acked.len()
        });
        let seen = reader.stop();
        let dumped = run_client(
            &self.python,
            "dump.py",
            &[&self.bootstrap, TOPIC, PARTITIONS],
        );
        judge(&dumped, &acked, &seen);
        eprintln!(
            "a librdkafka producer: {} records acknowledged",
            acked.len()
        );
    }
}

fn judge(dumped: &str, acked: &[Place], seen: &[Place]) {
    let mut there: HashMap<String, (i32, i64)> = HashMap::new();
    let mut last: HashMap<i32, (i64, String)> = HashMap::new();
    for line in dumped.lines() {
        let (partition, offset, value) = place(line).unwrap_or_else(|| panic!("{line}"));
        assert!(!value.contains("refused"), "a refused record: {line}");
        // Numbers have leading zeros: order of text is order of sending.
        let before = last.insert(partition, (offset, value.clone()));
        assert!(
            before
                .as_ref()
                .is_none_or(|(earlier, text)| *earlier < offset && *text < value),
            "{line} came after {before:?}"
        );
        let twice = there.insert(value, (partition, offset));
        assert_eq!(twice, None, "{line} is there twice");
    }
    for (what, places) in [("acknowledged", acked), ("seen", seen)] {
        for (partition, offset, value) in places {
            assert_eq!(
                there.get(value),
                Some(&(*partition, *offset)),
                "{value} was {what} at {partition}/{offset}"
            );
        }
    }
}
