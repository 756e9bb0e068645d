//! `alluvium check` beside the faults.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::nodes::{Cluster, binary};
use crate::support::PATIENCE;

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    child: Child,
    begun: Instant,
    lines: Receiver<String>,
    history: PathBuf,
    seconds: u64,
}

/// What the load saw.
#[derive(Debug)]
pub struct Verdict {
    begun: Instant,
    /// When batches were acknowledged, since the load began, in order.
    acks: Vec<Duration>,
    history: PathBuf,
    /// What it printed.
    pub text: String,
}

impl Load {
    /// Loads a cluster for so long. Returns once the load runs.
    pub fn start(cluster: &Cluster, topic: &str, seconds: u64) -> Self {
        let history = cluster.dir.path().join(format!("{topic}.jsonl"));
        let bootstrap = cluster.bootstrap();
        let duration = format!("{seconds}s");
        let mut child = Command::new(binary())
            .args(["check", "--bootstrap", &bootstrap, "--topic", topic])
            .args(["--duration", &duration, "--producers", "4"])
            .args(["--consumers", "2", "--pause", "5ms", "--history"])
            .arg(&history)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let first = lines.recv_timeout(PATIENCE);
        assert!(first.is_ok(), "the load did not begin");
        Self {
            child,
            begun: Instant::now(),
            lines,
            history,
            seconds,
        }
    }

    /// Waits for the end. Nothing wrong may have been seen.
    pub fn finish(mut self) -> Verdict {
        let deadline = self.begun + Duration::from_secs(self.seconds) + 2 * PATIENCE;
        let mut text = String::new();
        let status = loop {
            while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(50)) {
                text.push_str(&line);
                text.push('\n');
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the load does not end:\n{text}");
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200)) {
            text.push_str(&line);
            text.push('\n');
        }
        assert!(status.success(), "the load saw what may not be:\n{text}");
        assert!(text.contains("no anomaly"), "{text}");
        let verdict = Verdict {
            begun: self.begun,
            acks: acks(&fs::read_to_string(&self.history).unwrap()),
            history: self.history.clone(),
            text,
        };
        assert!(verdict.acks.len() > 10, "{}", verdict.text);
        verdict
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn acks(history: &str) -> Vec<Duration> {
    let mut acks: Vec<_> = history
        .lines()
        .filter(|line| line.contains("\"produce_acked\""))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["at"].as_u64())
        .map(Duration::from_micros)
        .collect();
    acks.sort_unstable();
    acks
}

impl Verdict {
    /// The records that were acknowledged before a moment, as they name themselves in their values.
    pub fn acked_before(&self, moment: Instant) -> HashSet<String> {
        let moment = moment.duration_since(self.begun).as_micros();
        let history = fs::read_to_string(&self.history).unwrap();
        let events = history
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut sent = HashMap::new();
        let mut acked = HashSet::new();
        for event in events {
            let number = |name: &str| event[name].as_u64();
            match event["event"].as_str() {
                Some("produce_invoked") => {
                    let batch = (number("writer"), number("first"), number("count"));
                    sent.insert(number("op"), batch);
                }
                Some("produce_acked") if number("at").is_some_and(|at| u128::from(at) < moment) => {
                    if let (Some(writer), Some(first), Some(count)) = sent[&number("op")] {
                        acked.extend((first..first + count).map(|n| format!("w{writer}-{n}")));
                    }
                }
                _ => {}
            }
        }
        acked
    }

    /// The longest silence that a fault at `fault` can have to do with; proves that the fault fell into
    /// the load: batches were acknowledged in the two seconds before, and after it.
    pub fn silence(&self, fault: Instant, what: &str) -> Duration {
        self.silence_until(fault, fault + Duration::from_secs(7), what)
    }

    /// As `silence`, with the moment at which something else may be the reason.
    pub fn silence_until(&self, fault: Instant, end: Instant, what: &str) -> Duration {
        let at = fault.duration_since(self.begun);
        // The two clocks began within some milliseconds of each other.
        let slack = Duration::from_millis(100);
        let before = self.acks.partition_point(|ack| *ack < at + slack);
        let last = before.checked_sub(1).map(|last| self.acks[last]);
        let last = last.filter(|last| *last + Duration::from_secs(2) > at);
        assert!(
            last.is_some(),
            "no load before {what} at {at:?}\n{}",
            self.text
        );
        assert!(
            before < self.acks.len(),
            "no load after {what} at {at:?}\n{}",
            self.text
        );
        let over = end.duration_since(self.begun);
        let end = self.acks.partition_point(|ack| *ack < over);
        let window = &self.acks[before.saturating_sub(1)..(end + 1).min(self.acks.len())];
        let gaps = window
            .windows(2)
            .map(|pair| pair[1].min(over).saturating_sub(pair[0]));
        let silence = gaps.max().unwrap_or_default();
        eprintln!(
            "{what}: {} ms without a successful produce",
            silence.as_millis()
        );
        silence
    }
}
