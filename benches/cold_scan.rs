//! What ten consumers of old data do to those at the tail: how long a produce takes, and how long after
//! it a waiting fetch has its record, with and without the ten, in turns.
//!
//! `cargo bench --bench cold_scan -- --mib 20480 --rounds 4 --store file://DIR`. `--mib` is all that the
//! readers scan together; more: `--readers 10`, `--calm-seconds 10` (least length of a part),
//! `--every-ms 5` (a record), `--object-mib 64`, `--cache-mib 256`.

#![allow(missing_docs, reason = "a bench has no readers but its output")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    dead_code,
    reason = "a bench ends at the first fault and prints its figures"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;

use alluvium_agent::Agent;
use alluvium_agent::fetch::{ReadLimits, ReadPartition};
use alluvium_agent::produce::PartitionRecords;
use alluvium_metadata::Command;
use alluvium_types::{TopicId, TopicPartition};

mod cold;

use cold::{COLD, number};

const RECORD_BYTES: usize = 1000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let readers = i32::try_from(number("--readers", 10)).expect("some");
    let each = number("--mib", 2048) / u64::from(readers.unsigned_abs().max(1));
    let object_mib = number("--object-mib", 64).min(each.max(1));
    let settled = cold::settle(readers, each, object_mib).await;
    println!("round  part    produce p50 / p99 ms    fetch p50 / p99 ms   scanned MiB/s");
    let mut changes = [Vec::new(), Vec::new()];
    for round in 0..number("--rounds", 4) {
        // A topic for each round: nothing is settled here, and bytes that wait for that in the metadata
        // are bounded.
        let topic = TopicId([u8::try_from(round + 2).expect("few rounds"); 16]);
        cold::topic(
            &settled.metadata,
            &format!("tail-{round}"),
            topic,
            1,
            "auto",
        )
        .await;
        let agent = cold::agent(&settled, number("--cache-mib", 256)).await;
        let tail = TopicPartition::new(topic, 0);
        let calm = part(&agent, tail, round, "calm", 0).await;
        let busy = part(&agent, tail, round, "scan", readers).await;
        agent.shutdown().await;
        let deleted = settled.metadata.propose(Command::DeleteTopic { topic });
        deleted.await.expect("deleted");
        for (changes, (calm, busy)) in changes.iter_mut().zip(calm.into_iter().zip(busy)) {
            changes.push((busy / calm - 1.0) * 100.0);
        }
    }
    for (name, mut changes) in ["produce", "fetch"].into_iter().zip(changes) {
        changes.sort_by(f64::total_cmp);
        println!(
            "{name} p99 changes by {:.0} % (median; from {:.0} to {:.0}; wanted: less than 10)",
            changes[changes.len() / 2],
            changes[0],
            changes[changes.len() - 1]
        );
    }
}

/// p99 of producing and of fetching at the tail, in milliseconds, while `readers` scan.
async fn part(
    agent: &Arc<Agent>,
    partition: TopicPartition,
    round: u64,
    name: &str,
    readers: i32,
) -> [f64; 2] {
    let over = Arc::new(AtomicBool::new(false));
    let tail = tokio::spawn(tail(Arc::clone(agent), partition, Arc::clone(&over)));
    let begun = Instant::now();
    let scans = (0..readers).map(|reader| {
        let agent = Arc::clone(agent);
        tokio::spawn(
            async move { cold::scan(&agent, TopicPartition::new(COLD, reader), 1 << 20).await },
        )
    });
    let scanned: u64 = join_all(scans)
        .await
        .into_iter()
        .map(|it| it.expect("a scan"))
        .sum();
    let rate = scanned as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64();
    let least = Duration::from_secs(number("--calm-seconds", 10));
    if readers == 0 {
        tokio::time::sleep(least).await;
    }
    over.store(true, Ordering::Relaxed);
    let [produces, fetches] = tail.await.expect("the tail");
    println!(
        "{round:5}  {name}  {:>11} / {:>8}  {:>11} / {:>8}  {rate:>14.0}",
        at(&produces, 50),
        at(&produces, 99),
        at(&fetches, 50),
        at(&fetches, 99)
    );
    [millis(&produces, 99), millis(&fetches, 99)]
}

/// Produces a record every few milliseconds and waits for each at the tail; sorted times.
async fn tail(
    agent: Arc<Agent>,
    partition: TopicPartition,
    over: Arc<AtomicBool>,
) -> [Vec<Duration>; 2] {
    let every = Duration::from_millis(number("--every-ms", 5));
    let producer = agent.produce.connect();
    let records = cold::batch(RECORD_BYTES, 3);
    let (mut produces, mut fetches) = (Vec::new(), Vec::new());
    let mut offset = agent.metadata.read(|state| {
        state
            .partition(partition)
            .map_or(0, |it| it.high_watermark())
    });
    while !over.load(Ordering::Relaxed) {
        let limits = ReadLimits {
            max_wait: Duration::from_secs(30),
            min_bytes: 1,
            max_bytes: 1 << 20,
            read_committed: false,
        };
        let asked = [ReadPartition {
            partition,
            offset,
            max_bytes: 1 << 20,
        }];
        let begun = Instant::now();
        let produce = async {
            let set = PartitionRecords {
                partition,
                records: records.clone(),
            };
            let results = producer.submit(vec![set]).await.expect("answered");
            assert_eq!(results[0].base_offset, offset);
            begun.elapsed()
        };
        let fetch = async {
            let results = agent.fetch.read(&asked, limits).await;
            assert!(!results[0].records.is_empty());
            begun.elapsed()
        };
        let (produced, fetched) = tokio::join!(produce, fetch);
        produces.push(produced);
        fetches.push(fetched);
        offset += 1;
        tokio::time::sleep(every).await;
    }
    produces.sort_unstable();
    fetches.sort_unstable();
    [produces, fetches]
}

fn millis(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted
        .get(at)
        .map_or(f64::NAN, |it| it.as_secs_f64() * 1000.0)
}

fn at(sorted: &[Duration], percent: usize) -> String {
    format!("{:.2}", millis(sorted, percent))
}
