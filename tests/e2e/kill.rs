//! `kill -9` under load: what was acknowledged is there once and in order, what was refused is not,
//! and what a reader saw stays where it was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Server, ServerOptions, client, python, run_client, signal, wait_until};

const PARTITIONS: &str = "4";
const KILLS: usize = 10;

/// Topics with their producers. Between them, chunks become durable inside the metadata log and in
/// objects.
const TOPICS: [(&str, &str, &[&str]); 2] = [
    ("killed", "alluvium.lane=auto", &["a", "b"]),
    ("killed-objects", "alluvium.lane=object", &["c"]),
];

/// What the programs on one topic said.
#[derive(Default)]
struct Heard {
    acked: Vec<(i32, i64, String)>,
    refused: HashSet<String>,
    seen: Vec<(i32, i64, String)>,
    failed: Vec<String>,
}

/// A program that runs until it is told to stop, and the thread that hears it out.
struct Program {
    child: Child,
    hearing: JoinHandle<()>,
}

impl Program {
    fn start(
        python: &Path,
        program: &str,
        args: &[&str],
        heard: &Arc<Mutex<Heard>>,
        hear: fn(&mut Heard, &[&str]) -> bool,
    ) -> Self {
        let mut child = client(python, program, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let heard = Arc::clone(heard);
        let hearing = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let fields: Vec<&str> = line.split(' ').collect();
                let mut heard = heard.lock().unwrap();
                if !hear(&mut heard, &fields) {
                    heard.failed.push(line);
                }
            }
        });
        Self { child, hearing }
    }

    fn stop(mut self) {
        signal(self.child.id(), "TERM");
        assert!(self.child.wait().unwrap().success());
        self.hearing.join().unwrap();
    }
}

fn hear_load(heard: &mut Heard, fields: &[&str]) -> bool {
    match fields {
        ["ack", partition, offset, value] => heard.acked.push(place(partition, offset, value)),
        ["refused", value] => _ = heard.refused.insert((*value).to_owned()),
        _ => return false,
    }
    true
}

fn hear_watch(heard: &mut Heard, fields: &[&str]) -> bool {
    let [partition, offset, value] = fields else {
        return false;
    };
    heard.seen.push(place(partition, offset, value));
    true
}

fn place(partition: &str, offset: &str, value: &str) -> (i32, i64, String) {
    let (partition, offset) = (partition.parse().unwrap(), offset.parse().unwrap());
    (partition, offset, value.to_owned())
}

#[test]
fn ten_kills_lose_and_repeat_nothing() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Settling and snapshots happen all the time, so that kills fall into them too.
    let options = ServerOptions::new(&dir.path().join("data"))
        .set("settle.interval=100ms")
        .set("metadata.snapshot_log_bytes=1MiB");
    let mut server = Server::start(options);
    let address = server.address();
    let heard = TOPICS.map(|_| Arc::new(Mutex::new(Heard::default())));
    let mut loads = Vec::new();
    let mut watches = Vec::new();
    for ((topic, lane, producers), heard) in TOPICS.iter().zip(&heard) {
        server.tool(&[
            "topic",
            "create",
            topic,
            "--partitions",
            PARTITIONS,
            "--config",
            lane,
        ]);
        for name in *producers {
            let args = [&address, *topic, *name, PARTITIONS];
            loads.push(Program::start(&python, "load.py", &args, heard, hear_load));
        }
        let args = [&address, *topic, PARTITIONS];
        watches.push(Program::start(
            &python, "watch.py", &args, heard, hear_watch,
        ));
    }
    let acked = || {
        heard
            .each_ref()
            .map(|heard| heard.lock().unwrap().acked.len())
    };
    // Not a fixed beat: each life of the server is of another length.
    let mut seed = u64::from(std::process::id()) | 1;
    for kill in 0..KILLS {
        wait_for_acks(acked);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pause = Duration::from_millis((seed >> 33) % 700);
        let moment = Instant::now() + pause;
        let mut last = acked();
        let mut last_rise = Instant::now();
        while Instant::now() < moment {
            thread::sleep(Duration::from_millis(5));
            if acked() != last {
                last = acked();
                last_rise = Instant::now();
            }
        }
        // The kill falls into the load: acknowledgements were coming until just now, and the
        // producers are still sending.
        assert!(
            last_rise.elapsed() < Duration::from_secs(2),
            "kill {kill} fell into a pause"
        );
        for program in loads.iter_mut().chain(&mut watches) {
            let ended = program.child.try_wait().unwrap();
            assert!(ended.is_none(), "a client ended by itself");
        }
        let options = server.kill_9();
        server = Server::start(options);
    }
    wait_for_acks(acked);
    loads.into_iter().for_each(Program::stop);
    let seen_all = || {
        let read_out = |heard: &Arc<Mutex<Heard>>| {
            let heard = heard.lock().unwrap();
            heard.seen.len() >= heard.acked.len()
        };
        heard.iter().all(read_out)
    };
    wait_until("the readers to see all that was acknowledged", seen_all);
    watches.into_iter().for_each(Program::stop);
    for ((topic, ..), heard) in TOPICS.iter().zip(&heard) {
        let dumped = run_client(&python, "dump.py", &[&address, topic, PARTITIONS]);
        judge(&heard.lock().unwrap(), &dumped);
    }
    let log = server.log();
    assert!(
        log.contains("metadata snapshot"),
        "no snapshot fell into the load:\n{log}"
    );
    let refused = heard
        .iter()
        .map(|heard| heard.lock().unwrap().refused.len());
    assert!(
        refused.sum::<usize>() > 0,
        "the load must hold records that are refused"
    );
}

/// Waits until both topics take records again.
fn wait_for_acks(acked: impl Fn() -> [usize; TOPICS.len()]) {
    let before = acked();
    wait_until("the load to be acknowledged again", || {
        acked()
            .iter()
            .zip(before)
            .all(|(now, before)| *now > before + 50)
    });
}

fn judge(heard: &Heard, dumped: &str) {
    assert!(
        heard.failed.is_empty(),
        "the clients gave up on {:?}",
        heard.failed
    );
    assert!(heard.acked.len() > KILLS * 50);
    let mut places: HashMap<&str, (i32, i64)> = HashMap::new();
    let mut last_of: BTreeMap<(i32, &str), (i64, u64)> = BTreeMap::new();
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for line in dumped.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [partition, offset, value] = fields[..] else {
            panic!("{line}")
        };
        let (partition, offset) = (partition.parse().unwrap(), offset.parse::<i64>().unwrap());
        assert!(
            !value.contains("refused"),
            "a refused record was stored: {line}"
        );
        let end = ends.entry(partition).or_insert(0);
        assert_eq!(*end, offset, "offsets follow one another");
        *end += 1;
        let earlier = places.insert(value, (partition, offset));
        assert_eq!(earlier, None, "{value} is there twice");
        let (producer, number) = value.rsplit_once('-').unwrap();
        let number: u64 = number.parse().unwrap();
        let last = last_of.insert((partition, producer), (offset, number));
        if let Some((last_offset, last_number)) = last {
            assert!(
                last_offset < offset && last_number < number,
                "out of order at {line}"
            );
        }
    }
    for (what, records) in [("acknowledged", &heard.acked), ("seen", &heard.seen)] {
        for (partition, offset, value) in records {
            assert_eq!(
                places.get(value.as_str()),
                Some(&(*partition, *offset)),
                "{value} was {what} at {partition}/{offset}"
            );
        }
    }
}
