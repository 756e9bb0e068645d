//! How fast one consumer reads settled data that is in no cache, beside plain parallel ranged GETs of
//! the same bytes from the same store, taken in turns.
//!
//! `cargo bench --bench cold_read -- --mib 2048 --rounds 5 --store file://DIR`. `DIR` stands for a
//! new folder under `target/`; `sick:standard,seed=7:file://DIR` has the latencies of S3 Standard.
//! More: `--object-mib 64`, `--fetch-kib 1024`, `--gets 4` (floor: GETs at once), `--cache-mib 256`.

#![allow(missing_docs, reason = "a bench has no readers but its output")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    dead_code,
    reason = "a bench ends at the first fault and prints its figures"
)]

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};

use alluvium_types::TopicPartition;

mod cold;

use cold::{COLD, Settled, number};

/// Bytes of one GET of the floor.
const GET_BYTES: u64 = 16 << 20;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let mib = number("--mib", 1024);
    let settled = cold::settle(1, mib, number("--object-mib", 64)).await;
    let gets = usize::try_from(number("--gets", 4)).expect("some");
    println!("round   plain MiB/s   agent MiB/s   ratio   fetched/delivered   GETs per 16 MiB");
    let mut ratios = Vec::new();
    for round in 0..number("--rounds", 5) {
        let (plain, agent) = if round % 2 == 0 {
            let plain = floor(&settled, gets).await;
            (plain, through_agent(&settled).await)
        } else {
            let agent = through_agent(&settled).await;
            (floor(&settled, gets).await, agent)
        };
        let ratio = agent.rate / plain;
        ratios.push(ratio);
        println!(
            "{round:5} {plain:13.0} {:13.0} {ratio:7.2} {:19.3} {:17.2}",
            agent.rate, agent.fetched, agent.gets
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "ratio: median {:.2}, from {:.2} to {:.2} (wanted: 0.80 and more; fetched/delivered 1.10, \
         GETs per 16 MiB 1.00 at most)",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

struct Figures {
    rate: f64,
    fetched: f64,
    gets: f64,
}

/// MiB/s of plain ranged GETs.
async fn floor(settled: &Settled, gets: usize) -> f64 {
    let ranges = settled.objects.iter().flat_map(|(key, range)| {
        let starts = (range.start..range.end).step_by(16 << 20);
        starts.map(move |start| (key, start..range.end.min(start + GET_BYTES)))
    });
    let begun = Instant::now();
    let reads = stream::iter(ranges).map(|(key, range)| settled.bucket.read(key, range));
    let read = reads
        .buffered(gets)
        .try_fold(0, |sum, bytes| async move { Ok(sum + bytes.len() as u64) });
    let bytes = read.await.expect("read");
    mib(bytes) / begun.elapsed().as_secs_f64()
}

async fn through_agent(settled: &Settled) -> Figures {
    let agent = cold::agent(settled, number("--cache-mib", 256)).await;
    let before = settled.bucket.requests();
    let begun = Instant::now();
    let fetch_bytes = usize::try_from(number("--fetch-kib", 1024) << 10).expect("a size");
    let delivered = cold::scan(&agent, TopicPartition::new(COLD, 0), fetch_bytes).await;
    let seconds = begun.elapsed().as_secs_f64();
    let after = settled.bucket.requests();
    agent.shutdown().await;
    Figures {
        rate: mib(delivered) / seconds,
        fetched: (after.bytes_read - before.bytes_read) as f64 / delivered as f64,
        gets: (after.get - before.get) as f64 / (delivered as f64 / GET_BYTES as f64),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
