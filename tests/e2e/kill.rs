//! `kill -9` under load: what was acknowledged is there once and in order, what was refused is not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Server, ServerOptions, client, python, run_client, signal, wait_until};

const PARTITIONS: &str = "4";
const KILLS: usize = 10;

/// What the load's programs said.
#[derive(Default)]
struct Heard {
    acked: Vec<(i32, i64, String)>,
    refused: HashSet<String>,
    failed: Vec<String>,
}

fn load(python: &Path, address: &str, name: &str, heard: &Arc<Mutex<Heard>>) -> Child {
    let mut child = client(python, "load.py", &[address, "killed", name, PARTITIONS])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let fields: Vec<&str> = line.split(' ').collect();
            let mut heard = heard.lock().unwrap();
            match fields[..] {
                ["ack", partition, offset, value] => heard.acked.push((
                    partition.parse().unwrap(),
                    offset.parse().unwrap(),
                    value.to_owned(),
                )),
                ["refused", value] => {
                    heard.refused.insert(value.to_owned());
                }
                _ => heard.failed.push(line),
            }
        }
    });
    child
}

#[test]
fn ten_kills_lose_and_repeat_nothing() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(&dir.path().join("data"));
    let mut server = Server::start(options);
    let address = server.address();
    server.tool(&["topic", "create", "killed", "--partitions", PARTITIONS]);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let acked = || heard.lock().unwrap().acked.len();
    let mut loads: Vec<Child> = ["a", "b"]
        .iter()
        .map(|name| load(&python, &address, name, &heard))
        .collect();
    // Not a fixed beat: each life of the server is of another length.
    let mut seed = u64::from(std::process::id()) | 1;
    for kill in 0..KILLS {
        let before = acked();
        wait_until("the load to be acknowledged again", || {
            acked() > before + 50
        });
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pause = Duration::from_millis((seed >> 33) % 700);
        let moment = Instant::now() + pause;
        let mut last = acked();
        let mut last_rise = Instant::now();
        while Instant::now() < moment {
            thread::sleep(Duration::from_millis(5));
            if acked() > last {
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
        for load in &mut loads {
            assert!(
                load.try_wait().unwrap().is_none(),
                "a producer ended by itself"
            );
        }
        let options = server.kill_9();
        server = Server::start(options);
    }
    let before = acked();
    wait_until("the load to go on after the last kill", || {
        acked() > before + 50
    });
    for load in &mut loads {
        signal(load.id(), "TERM");
        assert!(load.wait().unwrap().success());
    }
    let dumped = run_client(&python, "dump.py", &[&address, "killed", PARTITIONS]);
    judge(&heard.lock().unwrap(), &dumped);
}

fn judge(heard: &Heard, dumped: &str) {
    assert!(
        heard.failed.is_empty(),
        "the clients gave up on {:?}",
        heard.failed
    );
    assert!(
        !heard.refused.is_empty(),
        "the load must hold records that are refused"
    );
    assert!(heard.acked.len() > KILLS * 50);
    let mut places: HashMap<&str, (i32, i64)> = HashMap::new();
    let mut last_of: BTreeMap<(i32, &str), (i64, u64)> = BTreeMap::new();
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
    for (partition, offset, value) in &heard.acked {
        assert_eq!(
            places.get(value.as_str()),
            Some(&(*partition, *offset)),
            "{value} was acknowledged at {partition}/{offset}"
        );
    }
}
