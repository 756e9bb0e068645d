//! Disks that are gone.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::load::Load;
use crate::nodes::{Cluster, Role, binary};
use crate::support::{client, python, run_client, wait_until};

fn nap(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Voters as the leader tells them: how many, and whether all have caught up.
fn voters(cluster: &Cluster) -> Vec<String> {
    let Some(status) = cluster.status() else {
        return Vec::new();
    };
    let voters = status["voters"].as_array().cloned().unwrap_or_default();
    let ids = voters.iter().filter_map(|voter| voter["id"].as_str());
    ids.map(str::to_owned).collect()
}

#[test]
fn disks_are_deleted_under_load_and_the_nodes_come_back_empty() {
    let mut cluster = Cluster::over_a_folder(2);
    cluster.wait_healthy();
    let before = voters(&cluster);
    let load = Load::start(&cluster, "disks", 30);
    nap(4);
    // A metadata node: what comes back is a new voter, and the old one is gone.
    let leader = cluster.leader();
    let gone = Instant::now();
    cluster.nodes[leader].kill_9();
    cluster.nodes[leader].delete_disk();
    nap(3);
    cluster.nodes[leader].start();
    let number = leader + 1;
    let old = before
        .iter()
        .find(|id| id.starts_with(&format!("{number}-")))
        .unwrap();
    wait_until("the node to be replaced", || {
        let now = voters(&cluster);
        now.len() == 3 && !now.contains(old)
    });
    // An agent: it comes back under another identity.
    nap(2);
    let agent = 3;
    assert_eq!(cluster.nodes[agent].role, Role::Agent);
    let empty = Instant::now();
    cluster.nodes[agent].kill_9();
    cluster.nodes[agent].delete_disk();
    cluster.nodes[agent].start();
    cluster.wait_healthy();
    let verdict = load.finish();
    let silence = verdict.silence(gone, "the leader's disk was deleted");
    assert!(silence < Duration::from_secs(5), "{silence:?}");
    let silence = verdict.silence(empty, "an agent's disk was deleted");
    assert!(silence < Duration::from_secs(5), "{silence:?}");
    // The empty agent serves by itself.
    let topics = Command::new(binary())
        .args(["topic", "list", "--bootstrap", &cluster.nodes[agent].kafka])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&topics.stdout).contains("disks"));
}

#[test]
fn a_cluster_whose_metadata_disks_are_all_gone_comes_back_from_the_bucket() {
    let Some(python) = python() else { return };
    let Some(mut cluster) = Cluster::over_minio(2) else {
        return;
    };
    cluster.wait_healthy();
    cluster.tool(&[
        "topic",
        "create",
        "kept",
        "--partitions",
        "3",
        "--config",
        "alluvium.lane=object",
    ]);
    let bootstrap = cluster.bootstrap();
    let mut load = client(&python, "load.py", &[&bootstrap, "kept", "p", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    nap(5);
    let read = ["kept", "readers", "20"];
    let committed = run_client(
        &python,
        "commit.py",
        &[&[bootstrap.as_str()], &read[..]].concat(),
    );
    nap(2);
    // Everything that holds metadata dies at once, in the middle of the load.
    assert!(load.try_wait().unwrap().is_none(), "the load ended");
    for node in &mut cluster.nodes[..3] {
        node.kill_9();
    }
    for node in &mut cluster.nodes[3..] {
        node.kill_9();
    }
    for node in &cluster.nodes[..3] {
        node.delete_disk();
    }
    load.kill().unwrap();
    let mut acked = String::new();
    let mut stdout = load.stdout.take().unwrap();
    stdout.read_to_string(&mut acked).unwrap();
    load.wait().unwrap();

    let (store, env) = cluster.store();
    let address = cluster.nodes[0].cluster.clone();
    let output = Command::new(binary())
        .args(["restore", "--store", store, "--node", "1"])
        .args(["--address", &address, "--data-dir"])
        .arg(cluster.nodes[0].data())
        .envs(env.iter().cloned())
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    eprintln!("{stdout}");
    for node in &mut cluster.nodes {
        node.start();
    }
    // The two empty nodes join the restored one by themselves.
    cluster.wait_healthy();

    let dump = run_client(&python, "dump.py", &[&bootstrap, "kept", "3"]);
    let mut stored: Vec<(&str, &str)> = dump
        .lines()
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let partition = words.next().unwrap();
            (partition, words.nth(1).unwrap())
        })
        .collect();
    stored.sort_unstable();
    let acked: Vec<(&str, &str)> = acked
        .lines()
        .filter_map(|line| line.strip_prefix("ack "))
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let partition = words.next().unwrap();
            (partition, words.nth(1).unwrap())
        })
        .collect();
    assert!(
        acked.len() > 100,
        "only {} records were acknowledged",
        acked.len()
    );
    for ack in &acked {
        assert!(stored.binary_search(ack).is_ok(), "{ack:?} is lost");
    }
    let count = stored.len();
    stored.dedup();
    assert_eq!(stored.len(), count, "records are there twice");
    // The group goes on from its commits.
    let again = run_client(&python, "commit.py", &[&bootstrap, "kept", "readers", "0"]);
    assert_eq!(again, committed);
}
