//! All metadata disks burn; the bucket brings the cluster back.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::support::{
    Server, ServerOptions, client, has_kcat, kcat, python, run_client, signal, wait_until,
};

const TOPIC: &str = "burned";
const PARTITIONS: &str = "3";

/// Files of the archive's log.
fn pieces(store: &Path) -> usize {
    let Ok(histories) = fs::read_dir(store.join("quorum/log")) else {
        return 0;
    };
    let files = |history: fs::DirEntry| fs::read_dir(history.path()).unwrap().count();
    histories.map_while(Result::ok).map(files).sum()
}

fn wait_for_piece(store: &Path) {
    let before = pieces(store);
    wait_until("the log to be archived", || pieces(store) > before);
}

fn restore(store: &str, data_dir: &Path, more: &[&str]) -> Result<Value, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(["restore", "--json", "--store", store, "--data-dir"])
        .arg(data_dir)
        .args(more)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

fn group_reads(address: &str) -> String {
    let group = ["-b", address, "-G", "readers", "-q", "-e"];
    kcat(&[&group[..], &["-X", "auto.offset.reset=earliest", "small"]].concat())
}

#[test]
fn every_acknowledged_record_is_read_after_the_metadata_is_gone() {
    let Some(python) = python() else { return };
    if !has_kcat() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let store = data_dir.join("objects");
    let url = format!("file://{}", store.display());
    // Long enough that the kill falls into the tail that is not archived.
    let options = ServerOptions::new(&data_dir).set("metadata.archive_interval=3s");
    let server = Server::start(options);
    let address = server.address();
    server.tool(&["topic", "create", "small", "--partitions", "1"]);
    let object_lane = "alluvium.lane=object";
    let create = ["topic", "create", TOPIC, "--partitions", PARTITIONS];
    server.tool(&[&create[..], &["--config", object_lane]].concat());
    let lines = dir.path().join("lines");
    fs::write(&lines, "one\ntwo\n").unwrap();
    let produce = ["-b", &address, "-P", "-t", "small", "-l"];
    kcat(&[&produce[..], &[lines.to_str().unwrap()]].concat());
    assert_eq!(group_reads(&address), "one\ntwo\n");
    wait_for_piece(&store);

    // An idempotent producer that lives through it all.
    let acked: Arc<Mutex<Vec<(i32, String)>>> = Arc::default();
    let mut load = client(&python, "load.py", &[&address, TOPIC, "p", PARTITIONS])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = load.stdout.take().unwrap();
    let heard = Arc::clone(&acked);
    let hearing = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let fields: Vec<&str> = line.split(' ').collect();
            match fields[..] {
                ["ack", partition, _, value] => {
                    let ack = (partition.parse().unwrap(), value.to_owned());
                    heard.lock().unwrap().push(ack);
                }
                ["refused", _] => {}
                _ => panic!("{line}"),
            }
        }
    });
    let count = || acked.lock().unwrap().len();
    let wait_for_acks = |more: usize| {
        let before = count();
        wait_until("acknowledgements", || count() >= before + more);
    };
    wait_for_acks(100);
    wait_for_piece(&store);
    wait_for_acks(100);
    let options = server.kill_9();
    fs::remove_dir_all(data_dir.join("metadata")).unwrap();

    // A new cluster is not formed over the old one's records.
    let refused = options.command().output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("alluvium restore"), "{refused}");
    fs::remove_dir_all(data_dir.join("metadata")).unwrap();

    let planned = restore(&url, &data_dir, &["--plan"]).unwrap();
    assert_eq!(planned["voter"], Value::Null);
    let done = restore(&url, &data_dir, &[]).unwrap();
    assert_eq!(planned["records"], done["records"]);
    assert_eq!(
        (&done["new_history"], &done["groups"]),
        (&1.into(), &1.into())
    );
    assert!(
        !done["resequenced"]["partitions"]
            .as_array()
            .unwrap()
            .is_empty(),
        "the kill fell into an archived moment: {done}"
    );
    let again = restore(&url, &data_dir, &[]).unwrap_err();
    assert!(again.contains("holds metadata already"), "{again}");

    let server = Server::start(options);
    wait_for_acks(100);
    signal(load.id(), "TERM");
    assert!(load.wait().unwrap().success());
    hearing.join().unwrap();
    let dumped = run_client(&python, "dump.py", &[&address, TOPIC, PARTITIONS]);
    judge(&acked.lock().unwrap(), &dumped);

    // The group goes on from its commit.
    fs::write(&lines, "three\n").unwrap();
    kcat(&[&produce[..], &[lines.to_str().unwrap()]].concat());
    assert_eq!(group_reads(&address), "three\n");
    drop(server);
}

/// Everything acknowledged is there once, and in the order in which it was sent.
fn judge(acked: &[(i32, String)], dumped: &str) {
    let mut places: HashMap<&str, i32> = HashMap::new();
    let mut last_of: BTreeMap<i32, &str> = BTreeMap::new();
    for line in dumped.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [partition, _, value] = fields[..] else {
            panic!("{line}")
        };
        let partition: i32 = partition.parse().unwrap();
        assert_eq!(
            places.insert(value, partition),
            None,
            "{value} is there twice"
        );
        let last = last_of.insert(partition, value);
        assert!(
            last.is_none_or(|last| last < value),
            "{value} is out of order"
        );
    }
    for (partition, value) in acked {
        assert_eq!(
            places.get(value.as_str()),
            Some(partition),
            "{value} was acknowledged"
        );
    }
}
