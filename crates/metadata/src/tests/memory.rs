//! What the metadata of a large cluster takes in memory. Not a bound that holds on every machine, so
//! it is run by hand: `cargo test -p alluvium-metadata million -- --ignored --nocapture`.

use alluvium_types::TopicId;

use crate::testing::{Cluster, batch, create, object};
use crate::*;

const TOPICS: u8 = 10;
const PARTITIONS: i32 = 100_000;

/// Resident bytes of this process, as Linux counts them.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "takes a while, and measures this process"]
fn a_million_partitions() {
    let mut cluster = Cluster::new(1);
    let before = resident();
    let topics: Vec<TopicId> = (100..100 + TOPICS).map(|id| TopicId([id; 16])).collect();
    for (index, topic) in topics.iter().enumerate() {
        let create = create(&format!("topic-{index}"), *topic, PARTITIONS);
        cluster.state.apply(create, &mut Vec::new());
    }
    let count = u64::from(TOPICS) * u64::try_from(PARTITIONS).unwrap();
    println!("empty: {} bytes a partition", (resident() - before) / count);
    for round in 1..=4u64 {
        for (index, topic) in (0..).zip(&topics) {
            let runs = (0..PARTITIONS).map(|partition| ChunkRun {
                partition: alluvium_types::TopicPartition::new(*topic, partition),
                position: 100,
                batches: vec![batch(1)],
            });
            let location = object(u128::from(round * 100 + index));
            let command = cluster.next(location, runs.collect());
            cluster.state.apply(command, &mut Vec::new());
        }
        let taken = resident() - before;
        println!(
            "{round} runs each: {} MiB, {} bytes a partition",
            taken >> 20,
            taken / count
        );
    }
}
