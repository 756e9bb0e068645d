//! Agents come and go under the default clients of others: no send fails, order is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::nodes::Cluster;
use crate::support::{client, kafka_tools, python, run_client, wait_until};

/// So many that each of four agents has some, whatever the hash says.
const PARTITIONS: &str = "32";
const SECONDS: &str = "32";

fn nap(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn java(class_path: &str, bootstrap: &str) -> Command {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ScaleLoad.java");
    let mut command = Command::new("java");
    command
        .args(["-Xmx128m", "-cp", class_path.trim()])
        .arg(source)
        .args([bootstrap, "scaled", PARTITIONS, SECONDS])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn finish(name: &str, child: Child) -> u64 {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}");
    assert!(text.trim_end().ends_with(" failed 0"), "{name}: {text}");
    let acked = text.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    acked.unwrap_or_else(|| panic!("{name}: {text}"))
}

/// Whether clients are sent to an agent for some partition.
fn carries_load(cluster: &Cluster, address: &str) -> bool {
    let (host, port) = address.rsplit_once(':').unwrap();
    let described = cluster.tool(&["topic", "describe", "scaled", "--json"]);
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    let status = cluster.status().unwrap_or_default();
    let agents = status["agents"].as_array().cloned().unwrap_or_default();
    let agent = agents
        .iter()
        .find(|agent| agent["host"] == host && agent["port"].as_u64() == port.parse().ok());
    let Some(id) = agent.and_then(|agent| agent["id"].as_i64()) else {
        return false;
    };
    let partitions = described["partitions"].as_array().cloned();
    partitions
        .unwrap_or_default()
        .iter()
        .any(|partition| partition["leader"].as_i64() == Some(id))
}

#[test]
fn agents_come_and_go_and_no_send_fails() {
    let (Some(python), Some(classes)) = (python(), kafka_tools()) else {
        return;
    };
    let mut cluster = Cluster::over_a_folder(1);
    cluster.wait_healthy();
    cluster.tool(&["topic", "create", "scaled", "--partitions", PARTITIONS]);
    let bootstrap = cluster.bootstrap();
    let javas = java(&classes, &bootstrap)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pythons = client(
        &python,
        "scale_load.py",
        &[&bootstrap, "scaled", PARTITIONS, SECONDS],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    nap(6);
    // 1 -> 4
    let mut slowest = Duration::ZERO;
    let mut added = Vec::new();
    for number in 2..=4 {
        let began = Instant::now();
        let place = cluster.add_agent(&format!("a{number}"));
        let address = cluster.nodes[place].kafka.clone();
        wait_until("the new agent to be named", || {
            cluster.nodes[place].is_running() && carries_load(&cluster, &address)
        });
        slowest = slowest.max(began.elapsed());
        added.push(place);
        nap(2);
    }
    eprintln!(
        "a new agent carries load after {} ms at most",
        slowest.as_millis()
    );
    // 4 -> 2, the first one among those that go.
    nap(3);
    for place in [3, added[1]] {
        cluster.nodes[place].terminate();
        nap(2);
    }
    let acked = finish("java", javas) + finish("python", pythons);
    eprintln!("{acked} records acknowledged");
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");

    // Everything is there once, and each client's records are in order in each partition.
    let left = cluster.nodes[added[0]].kafka.clone();
    let dump = run_client(&python, "dump.py", &[&left, "scaled", PARTITIONS]);
    let mut last: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut count = 0;
    for line in dump.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [partition, _, value] = words[..] else {
            panic!("{line}")
        };
        let (who, number) = value.split_once('-').unwrap();
        let number: i64 = number.parse().unwrap();
        let before = last.insert((partition.to_owned(), who.to_owned()), number);
        assert!(
            before.is_none_or(|before| before < number),
            "partition {partition}: {who}-{number} came after {before:?}"
        );
        count += 1;
    }
    assert_eq!(
        count, acked,
        "records that were acknowledged, and those that are there"
    );
}
