//! How many machine instructions the hot paths take, which no neighbour on the machine can disturb.
//!
//! `cargo bench --bench instructions` (needs valgrind). It runs itself under
//! callgrind, each path N and 2N times, and prints the difference divided by N, so that start and setup
//! fall out. By hand:
//!
//! ```sh
//! valgrind --tool=callgrind --callgrind-out-file=callgrind.out PATH-OF-THIS-BINARY validate-16-kib 100
//! callgrind_annotate callgrind.out
//! ```
//!
//! Checksums are counted as valgrind's processor does them, with the narrower vector instructions it
//! knows; a newer processor takes fewer.

#![allow(missing_docs, reason = "a bench has no readers but its output")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench ends at the first fault and prints its figures"
)]

use std::hint::black_box;
use std::process::Command as Process;

use bytes::Bytes;

use alluvium_metadata::{
    AgentOrigin, BatchStamp, ChunkRun, Command, CreateTopic, Location, Outcome, RegisterAgent,
    Sequence, State,
};
use alluvium_objects::{Level, ObjectWriter};
use alluvium_protocol::batch;
use alluvium_protocol::compression::Codec;
use alluvium_protocol::fetch::{FetchResponse, FetchedPartition};
use alluvium_protocol::produce::TopicRef;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_types::{ChunkNumber, ErrorCode, ObjectId, TopicId, TopicPartition};

const TOPIC: TopicId = TopicId([1; 16]);
const PARTITIONS: i32 = 100;

/// Something to count: its name, what one round of it handles, a round with everything prepared.
struct Path {
    name: &'static str,
    unit: &'static str,
    units: u64,
    rounds: u64,
    prepare: fn(u64) -> Box<dyn FnMut()>,
}

const PATHS: [Path; 8] = [
    Path {
        name: "validate-1-kib",
        unit: "batch",
        units: 1,
        rounds: 2000,
        prepare: |_| validate(1),
    },
    Path {
        name: "validate-16-kib",
        unit: "batch",
        units: 1,
        rounds: 1000,
        prepare: |_| validate(16),
    },
    Path {
        name: "validate-128-kib",
        unit: "batch",
        units: 1,
        rounds: 200,
        prepare: |_| validate(128),
    },
    Path {
        name: "checksum-128-kib",
        unit: "batch",
        units: 1,
        rounds: 200,
        prepare: |_| checksum(128),
    },
    Path {
        name: "build-chunk-100-partitions",
        unit: "batch of 1 KiB",
        units: 1000,
        rounds: 20,
        prepare: |_| build_chunk(),
    },
    Path {
        name: "sequence-100-partitions",
        unit: "batch",
        units: 1000,
        rounds: 20,
        prepare: |rounds| sequence(rounds, 10),
    },
    Path {
        name: "sequence-100-batches",
        unit: "partition",
        units: 100,
        rounds: 50,
        prepare: |rounds| sequence(rounds, 1),
    },
    Path {
        name: "assemble-fetch-8-partitions",
        unit: "partition",
        units: 8,
        rounds: 500,
        prepare: |_| assemble_fetch(),
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    match (arguments.next(), arguments.next()) {
        (Some(name), Some(rounds)) => run(&name, rounds.parse().expect("a number of rounds")),
        (only, _) => report(only.as_deref()),
    }
}

/// Runs one path, for valgrind to watch.
fn run(name: &str, rounds: u64) {
    let path = PATHS.iter().find(|path| path.name == name);
    let path = path.expect("a path of the list");
    // As many are prepared as a run of twice the rounds needs: preparing falls out of the difference.
    let mut round = (path.prepare)(path.rounds * 2);
    for _ in 0..rounds {
        round();
    }
}

fn report(only: Option<&str>) {
    for path in PATHS
        .iter()
        .filter(|path| only.is_none_or(|only| path.name.contains(only)))
    {
        let counted = instructions(path.name, path.rounds * 2)
            .saturating_sub(instructions(path.name, path.rounds));
        let each = counted / path.rounds / path.units;
        println!("{:28} {each:>9} instructions per {}", path.name, path.unit);
    }
}

/// Instructions of a run of this program.
fn instructions(name: &str, rounds: u64) -> u64 {
    let binary = std::env::current_exe().expect("this program");
    let output = Process::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(binary)
        .args([name, &rounds.to_string()])
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let collected = text.split("Collected :").nth(1).unwrap_or_default();
    let digits = collected.split_whitespace().next().unwrap_or_default();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("valgrind printed no count: {text}"))
}

/// A batch of `count` records with 1 KiB of value each, uncompressed.
fn kib_records(count: usize) -> Bytes {
    let value = Bytes::from(vec![b'x'; 1024]);
    let record = Record {
        value: Some(value),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    records::encode(&vec![record; count], options).expect("a batch")
}

fn validate(count: usize) -> Box<dyn FnMut()> {
    let bytes = kib_records(count);
    Box::new(move || {
        let header = batch::check_produced(black_box(&bytes)).expect("sound");
        let summary = records::validate_records(&bytes, 128 << 20).expect("sound");
        black_box((header, summary));
    })
}

fn checksum(count: usize) -> Box<dyn FnMut()> {
    let bytes = kib_records(count);
    Box::new(move || batch::check_crc(black_box(&bytes)).expect("sound"))
}

fn build_chunk() -> Box<dyn FnMut()> {
    let batch = kib_records(1);
    Box::new(move || {
        let mut writer = ObjectWriter::new(ObjectId(1), Level::Chunk, 0);
        for partition in 0..PARTITIONS {
            writer.begin_run(TopicPartition::new(TOPIC, partition), None);
            for _ in 0..10 {
                writer.batch(std::slice::from_ref(&batch), 1, 0);
            }
        }
        black_box(writer.finish());
    })
}

fn assemble_fetch() -> Box<dyn FnMut()> {
    let batch = kib_records(127);
    Box::new(move || {
        let partitions = (0..8).map(|partition| {
            let head = batch.first_chunk::<16>().expect("a batch");
            let patched = batch::patched_head(head, 1_000_000, 0);
            FetchedPartition {
                topic: TopicRef::Id(TOPIC),
                partition,
                error: ErrorCode::None,
                high_watermark: 1_000_127,
                last_stable_offset: 1_000_127,
                log_start: 0,
                aborted: None,
                preferred_read_replica: -1,
                records: vec![Bytes::copy_from_slice(&patched), batch.slice(16..)],
            }
        });
        let response = FetchResponse {
            partitions: partitions.collect(),
            ..FetchResponse::default()
        };
        black_box(response.encode(1, 17));
    })
}

/// Applies commands that were made before.
fn sequence(rounds: u64, batches: usize) -> Box<dyn FnMut()> {
    let (mut state, origin) = state();
    let commands: Vec<Command> = (1..=rounds)
        .map(|chunk| command(origin, chunk, batches))
        .collect();
    let mut commands = commands.into_iter();
    let mut changes = Vec::new();
    Box::new(move || {
        changes.clear();
        let command = commands.next().expect("one for each round");
        black_box(state.apply(command, &mut changes));
    })
}

/// A state with one agent and one topic.
fn state() -> (State, AgentOrigin) {
    let mut state = State::default();
    let mut changes = Vec::new();
    let register = Command::RegisterAgent(RegisterAgent {
        identity: 1,
        host: "localhost".to_owned(),
        port: 9092,
        zone: None,
        at: 0,
        cluster_id: TopicId([9; 16]),
    });
    let Outcome::AgentRegistered(origin) = state.apply(register, &mut changes) else {
        unreachable!("an agent can register")
    };
    let create = Command::CreateTopic(CreateTopic {
        name: "bench".to_owned(),
        id: TOPIC,
        partitions: PARTITIONS,
        replication_factor: 1,
        configs: Vec::new(),
        at: 0,
    });
    assert_eq!(state.apply(create, &mut changes), Outcome::Done);
    (state, origin)
}

fn command(origin: AgentOrigin, chunk: u64, batches: usize) -> Command {
    let stamp = BatchStamp {
        bytes: 1100,
        records: 1,
        max_timestamp: 0,
        producer: None,
    };
    let mut position = 40;
    let runs = (0..PARTITIONS)
        .map(|partition| {
            let run = ChunkRun {
                partition: TopicPartition::new(TOPIC, partition),
                position,
                batches: vec![stamp; batches],
            };
            position += 1100 * batches as u64;
            run
        })
        .collect();
    Command::Sequence(Sequence {
        origin,
        chunk: ChunkNumber(chunk),
        location: Location::Object {
            object: ObjectId(u128::from(chunk)),
            bytes: position + 1000,
        },
        runs,
        sealed_at: 0,
        at: 0,
    })
}
