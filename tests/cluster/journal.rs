//! Acknowledged by two write-ahead buffers, and one of them is gone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::Load;
use crate::nodes::{Cluster, Node};
use crate::support::wait_until;

/// Nothing inside the metadata log; and no settling of what is safe before the fault.
const SECTIONS: &str =
    "[flush]\ninline_bytes_per_second = 0\n[settle]\ninterval = \"2m\"\nbytes = \"64MiB\"";

fn nap(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// The records of the load that lie in a node's write-ahead buffer.
fn kept(node: &Node) -> HashSet<String> {
    let mut found = HashSet::new();
    let Ok(files) = fs::read_dir(node.data().join("journal")) else {
        return found;
    };
    for file in files {
        found.extend(records(&written(&file.unwrap().path())));
    }
    found
}

/// A segment without its pages of zeros, which were never written.
fn written(path: &Path) -> Vec<u8> {
    const PAGE: usize = 64 << 10;
    let zeros = vec![0; PAGE];
    let (mut bytes, mut page) = (Vec::new(), vec![0; PAGE]);
    let mut file = File::open(path).unwrap();
    loop {
        let read = file.read(&mut page).unwrap();
        if read == 0 {
            return bytes;
        }
        if page[..read] != zeros[..read] {
            bytes.extend_from_slice(&page[..read]);
        }
    }
}

/// Values are `MARK:w3-17 ....`, and not compressed.
fn records(bytes: &[u8]) -> HashSet<String> {
    let pieces = bytes.split(|byte| *byte == b':').skip(1);
    let names = pieces.filter_map(|piece| {
        let end = piece.iter().take(24).position(|byte| *byte == b' ')?;
        let name = std::str::from_utf8(&piece[..end]).ok()?;
        let (writer, number) = name.strip_prefix('w')?.split_once('-')?;
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        (is_number(writer) && is_number(number)).then(|| name.to_owned())
    });
    names.collect()
}

/// Bytes that clients sent to these agents, and that went to the store for one cause.
fn bytes(agents: &[Node], cause: &str) -> (u64, u64) {
    let costs: Vec<_> = agents.iter().map(Node::cost).collect();
    let produced = costs.iter().map(|cost| &cost["produced_bytes"]);
    let stored = costs
        .iter()
        .map(|cost| &cost["causes"][cause]["bytes_written"]);
    let sum = |numbers: &mut dyn Iterator<Item = &serde_json::Value>| {
        numbers.map(|number| number.as_u64().unwrap()).sum()
    };
    (sum(&mut produced.into_iter()), sum(&mut stored.into_iter()))
}

#[test]
fn what_two_buffers_acknowledged_outlives_one_of_them() {
    let Some(mut cluster) = Cluster::over_minio(0) else {
        return;
    };
    for name in ["a1", "a2", "a3"] {
        cluster.add_peer(name, SECTIONS);
    }
    cluster.wait_healthy();
    let topic = "kept-twice";
    let lane = "alluvium.lane=low-latency";
    cluster.tool(&[
        "topic",
        "create",
        topic,
        "--partitions",
        "6",
        "--config",
        lane,
    ]);
    let load = Load::start(&cluster, topic, 55);
    nap(3);
    let (produced_before, flushed_before) = bytes(&cluster.nodes[3..], "flush");
    nap(5);
    let (produced, flushed) = bytes(&cluster.nodes[3..], "flush");
    let (_, settled_before) = bytes(&cluster.nodes[3..], "settle");
    let (produced, flushed) = (produced - produced_before, flushed - flushed_before);
    // What is acknowledged is not in the store.
    assert!(
        produced > 10 * flushed && produced > 10_000,
        "{flushed} of {produced} bytes went to objects"
    );

    let victim = 3;
    let died = Instant::now();
    cluster.nodes[victim].kill_9();
    let here = kept(&cluster.nodes[victim]);
    let elsewhere: HashSet<_> = cluster.nodes[victim + 1..].iter().flat_map(kept).collect();
    cluster.nodes[victim].delete_disk();
    assert!(!cluster.nodes[victim].data().exists());
    // Its chunks have lost a copy: they are stored at once, by those who have the other.
    wait_until("what lost a copy to be stored", || {
        bytes(&cluster.nodes[victim + 1..], "settle").1 > settled_before
    });
    nap(3);
    cluster.nodes[victim].start();
    cluster.wait_healthy();
    // The empty agent takes part again.
    wait_until("the empty agent to keep chunks", || {
        !kept(&cluster.nodes[victim]).is_empty()
    });

    // Every record that was acknowledged is read again at the end.
    let verdict = load.finish();
    let silence = verdict.silence(died, "an agent died with its disk");
    assert!(silence < Duration::from_secs(5), "{silence:?}");
    // The clocks of the load and of this test differ a little.
    let acked = verdict.acked_before(died - Duration::from_millis(500));
    let lost: HashSet<_> = acked.intersection(&here).collect();
    assert!(lost.len() > 500, "the disk held {} records", lost.len());
    let alone = lost
        .iter()
        .filter(|name| !elsewhere.contains(name.as_str()));
    assert_eq!(alone.count(), 0, "of {} had one copy", lost.len());
    eprintln!(
        "{} acknowledged records, {} of them on the lost disk, {flushed} of {produced} bytes in objects",
        acked.len(),
        lost.len()
    );
}
