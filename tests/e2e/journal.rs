//! acks=1 and the write-ahead buffer: `kill -9` under load, with the disk there and with it gone.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{Server, ServerOptions, client, python, run_client, signal, wait_until};

const PARTITIONS: &str = "2";
const KILLS: usize = 6;

type Lines = Arc<Mutex<Vec<String>>>;

/// A client program, and the thread that hears it out.
struct Program {
    child: Child,
    hearing: JoinHandle<()>,
    lines: Lines,
}

impl Program {
    fn start(python: &Path, program: &str, args: &[&str]) -> Self {
        let mut child = client(python, program, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let lines = Lines::default();
        let heard = Arc::clone(&lines);
        let hearing = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            hearing,
            lines,
        }
    }

    fn heard(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    fn wait_for_more(&self) {
        let before = self.heard();
        wait_until("records to be acknowledged again", || {
            self.heard() > before + 50
        });
    }

    fn stop(mut self) -> Vec<String> {
        signal(self.child.id(), "TERM");
        assert!(self.child.wait().unwrap().success());
        self.hearing.join().unwrap();
        let lines = self.lines.lock().unwrap();
        lines.clone()
    }
}

/// A server that asks for two copies and can have one: what is sent with acks=1 waits for a store that
/// takes its time.
fn options(dir: &Path) -> ServerOptions {
    let objects = dir.join("objects");
    fs::create_dir_all(&objects).unwrap();
    let mut options = ServerOptions::new(&dir.join("data")).set("journal.min_copies=2");
    options.store = Some(format!("sick:standard,seed=3:file://{}", objects.display()));
    options
}

/// Kills the server under load again and again, and returns what was acknowledged, what was seen, and
/// what is there in the end, each as (value, place).
fn kill_under_load(
    python: &Path,
    dir: &Path,
    loses_disk: bool,
) -> (Vec<Place>, Vec<Place>, Vec<Place>, String) {
    let mut server = Server::start(options(dir));
    let address = server.address();
    server.tool(&["topic", "create", "weak", "--partitions", PARTITIONS]);
    let load = Program::start(python, "weak_load.py", &[&address, "weak", "p", PARTITIONS]);
    let watch = Program::start(python, "watch.py", &[&address, "weak", PARTITIONS]);
    for kill in 0..KILLS {
        load.wait_for_more();
        // Not a fixed beat.
        thread::sleep(Duration::from_millis(50 + 37 * kill as u64));
        let options = server.kill_9();
        if loses_disk {
            fs::remove_dir_all(options.data_dir.join("journal")).unwrap();
        }
        server = Server::start(options);
    }
    load.wait_for_more();
    let acked: Vec<Place> = load
        .stop()
        .iter()
        .map(|line| {
            place(
                line.strip_prefix("ack ")
                    .unwrap_or_else(|| panic!("{line}")),
            )
        })
        .collect();
    // What was voided is produced again in the background.
    let wanted: HashSet<&str> = acked.iter().map(|(value, _)| value.as_str()).collect();
    let last = wanted.iter().max().unwrap();
    let dump = || -> Vec<Place> {
        let dumped = run_client(python, "dump.py", &[&address, "weak", PARTITIONS]);
        dumped.lines().map(place).collect()
    };
    wait_until("the last record to be readable", || {
        let stored = dump();
        let stored: HashSet<&str> = stored.iter().map(|(value, _)| value.as_str()).collect();
        stored.contains(last) && (loses_disk || wanted.is_subset(&stored))
    });
    let seen = watch.stop().iter().map(|line| place(line)).collect();
    let log = server.log();
    (acked, seen, dump(), log)
}

type Place = (String, (i32, i64));

fn place(line: &str) -> Place {
    let fields: Vec<&str> = line.split(' ').collect();
    let [partition, offset, value] = fields[..] else {
        panic!("{line}")
    };
    let at = (partition.parse().unwrap(), offset.parse().unwrap());
    (value.to_owned(), at)
}

/// What was seen stays where it was seen.
fn judge_seen(seen: &[Place], stored: &[Place]) {
    let by_place: HashMap<(i32, i64), &str> = stored
        .iter()
        .map(|(value, at)| (*at, value.as_str()))
        .collect();
    for (value, at) in seen {
        assert_eq!(by_place.get(at), Some(&value.as_str()), "{value} was seen");
    }
}

#[test]
fn acknowledged_by_one_copy_outlives_kills_with_its_disk() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (acked, seen, stored, log) = kill_under_load(&python, dir.path(), false);
    judge_seen(&seen, &stored);
    let values: HashSet<&str> = stored.iter().map(|(value, _)| value.as_str()).collect();
    let lost: Vec<_> = acked
        .iter()
        .filter(|(value, _)| !values.contains(value.as_str()))
        .collect();
    assert!(lost.is_empty(), "{lost:?} of {} are lost", acked.len());
    // The kills fell between an acknowledgement and the store.
    assert!(
        log.contains("are stored again"),
        "nothing was voided:\n{log}"
    );
}

#[test]
fn acknowledged_by_one_copy_goes_with_its_disk_and_nobody_has_read_it() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (acked, seen, stored, _) = kill_under_load(&python, dir.path(), true);
    judge_seen(&seen, &stored);
    let values: HashSet<&str> = stored.iter().map(|(value, _)| value.as_str()).collect();
    let lost = acked
        .iter()
        .filter(|(value, _)| !values.contains(value.as_str()));
    // The fault was one: without their disk, some of them are gone.
    assert!(lost.count() > 0, "no kill fell before the store");
}
