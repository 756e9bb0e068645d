//! What every batch pays on its way in and out, with the allocations each step makes.
//!
//! `cargo bench --bench hot_paths`. Each step stands beside its physical floor: the copy of the same
//! bytes, or the checksum that nobody can leave out. Allocations are counted per request, so that a
//! copy of batch bytes shows as bytes allocated.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a bench has no readers but its output"
)]

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};

use alluvium_metadata::{
    AgentOrigin, BatchStamp, ChunkRun, Command, CreateTopic, Location, Outcome, RegisterAgent,
    Sequence, State,
};
use alluvium_objects::{Level, ObjectWriter};
use alluvium_protocol::batch;
use alluvium_protocol::compression::Codec;
use alluvium_protocol::fetch::{FetchResponse, FetchedPartition};
use alluvium_protocol::message;
use alluvium_protocol::messages::{
    ProduceRequest as ProduceMessage,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use alluvium_protocol::produce::{ProduceRequest, TopicRef};
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_protocol::request::{self, Request};
use alluvium_types::{ChunkNumber, ErrorCode, ObjectId, TopicId, TopicPartition};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A batch of `count` records with 1 KiB of value each, uncompressed.
fn kib_records(count: usize) -> Bytes {
    let value = Bytes::from(vec![b'x'; 1024]);
    let records: Vec<Record> = (0..count)
        .map(|_| Record {
            value: Some(value.clone()),
            ..Record::default()
        })
        .collect();
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    records::encode(&records, options).expect("a batch")
}

#[divan::bench_group]
mod validate {
    use super::*;

    #[divan::bench(args = [1, 16, 128, 1024])]
    fn batch_of_kib_records(bencher: Bencher, count: usize) {
        let batch = kib_records(count);
        bencher.counter(BytesCount::new(batch.len())).bench(|| {
            let header = batch::check_produced(black_box(&batch)).expect("sound");
            let summary = records::validate_records(&batch, 128 << 20).expect("sound");
            black_box((header, summary))
        });
    }

    /// The floor: the checksum alone.
    #[divan::bench(args = [1, 16, 128, 1024])]
    fn floor_checksum(bencher: Bencher, count: usize) {
        let batch = kib_records(count);
        bencher
            .counter(BytesCount::new(batch.len()))
            .bench(|| batch::check_crc(black_box(&batch)).expect("sound"));
    }
}

/// A Produce frame (without its length) for `partitions` partitions of one topic.
fn produce_frame(partitions: usize, batch: &Bytes) -> Bytes {
    let data = (0..partitions)
        .map(|index| {
            message!(PartitionProduceData {
                index: i32::try_from(index).expect("few"),
                records: Some(batch.clone()),
            })
        })
        .collect();
    let topic = message!(TopicProduceData {
        name: "bench".into(),
        partition_data: data
    });
    let ask = message!(ProduceMessage {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic]
    });
    request::encode(1, 9, Some("bench"), &ask)
        .expect("a frame")
        .slice(4..)
}

#[divan::bench_group]
mod produce {
    use super::*;

    #[divan::bench(args = [1, 8, 100])]
    fn decode_request(bencher: Bencher, partitions: usize) {
        let frame = produce_frame(partitions, &kib_records(16));
        bencher.bench(|| {
            let request = Request::parse(black_box(frame.clone())).expect("a request");
            black_box(ProduceRequest::decode(&request).expect("sound"))
        });
    }

    /// 1,000 batches of 1 KiB over some partitions become the parts of an object.
    #[divan::bench(args = [1, 100])]
    fn build_chunk(bencher: Bencher, partitions: i32) {
        let batch = kib_records(1);
        let bytes = batch.len() * 1000;
        bencher.counter(BytesCount::new(bytes)).bench(|| {
            let mut writer = ObjectWriter::new(ObjectId(1), Level::Chunk, 0);
            for partition in 0..partitions {
                writer.begin_run(TopicPartition::new(TopicId([1; 16]), partition), None);
                for _ in 0..1000 / partitions {
                    writer.batch(std::slice::from_ref(&batch), 1, 0);
                }
            }
            black_box(writer.finish())
        });
    }

    /// The floor of building a chunk of as many bytes: copying them once.
    #[divan::bench]
    fn floor_copy(bencher: Bencher) {
        let batch = kib_records(1000);
        bencher
            .counter(BytesCount::new(batch.len()))
            .bench(|| black_box(black_box(&batch).to_vec()));
    }
}

/// A state with one agent and one topic.
fn state(partitions: i32) -> (State, AgentOrigin) {
    let mut state = State::default();
    let mut changes = Vec::new();
    let register = RegisterAgent {
        identity: 1,
        host: "localhost".to_owned(),
        port: 9092,
        zone: None,
        at: 0,
        cluster_id: TopicId([9; 16]),
    };
    let Outcome::AgentRegistered(origin) =
        state.apply(Command::RegisterAgent(register), &mut changes)
    else {
        unreachable!("an agent can register")
    };
    let create = CreateTopic {
        name: "bench".to_owned(),
        id: TopicId([1; 16]),
        partitions,
        replication_factor: 1,
        configs: Vec::new(),
        at: 0,
    };
    assert_eq!(
        state.apply(Command::CreateTopic(create), &mut changes),
        Outcome::Done
    );
    (state, origin)
}

fn sequence(origin: AgentOrigin, chunk: u64, partitions: i32, batches: usize) -> Command {
    let stamp = BatchStamp {
        bytes: 1100,
        records: 1,
        max_timestamp: 0,
        producer: None,
    };
    let mut position = 40;
    let runs = (0..partitions)
        .map(|partition| {
            let run = ChunkRun {
                partition: TopicPartition::new(TopicId([1; 16]), partition),
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

#[divan::bench_group]
mod metadata {
    use super::*;

    /// Ten batches in each partition of a chunk.
    #[divan::bench(args = [1, 10, 100])]
    fn apply_sequence(bencher: Bencher, partitions: i32) {
        let (mut state, origin) = state(partitions);
        let mut chunk = 0;
        let mut changes = Vec::new();
        let count = usize::try_from(partitions).expect("few") * 10;
        bencher
            .counter(divan::counter::ItemsCount::new(count))
            .with_inputs(|| {
                chunk += 1;
                sequence(origin, chunk, partitions, 10)
            })
            .bench_local_values(|command| {
                changes.clear();
                black_box(state.apply(command, &mut changes))
            });
    }
}

#[divan::bench_group]
mod fetch {
    use super::*;

    /// Eight partitions of 128 KiB each, heads patched, as a chain of buffers.
    #[divan::bench]
    fn assemble_1_mib(bencher: Bencher) {
        let batch = kib_records(127);
        bencher.counter(BytesCount::new(batch.len() * 8)).bench(|| {
            let partitions = (0..8)
                .map(|partition| {
                    let head = batch.first_chunk::<16>().expect("a batch");
                    let patched = batch::patched_head(head, 1_000_000, 0);
                    FetchedPartition {
                        topic: TopicRef::Id(TopicId([1; 16])),
                        partition,
                        error: ErrorCode::None,
                        high_watermark: 1_000_127,
                        last_stable_offset: 1_000_127,
                        log_start: 0,
                        aborted: None,
                        preferred_read_replica: -1,
                        records: vec![Bytes::copy_from_slice(&patched), batch.slice(16..)],
                    }
                })
                .collect();
            let response = FetchResponse {
                partitions,
                ..FetchResponse::default()
            };
            black_box(response.encode(1, 17))
        });
    }

    /// The floor of an answer that is built by copying.
    #[divan::bench]
    fn floor_copy_1_mib(bencher: Bencher) {
        let bytes = vec![0u8; kib_records(127).len() * 8];
        bencher
            .counter(BytesCount::new(bytes.len()))
            .bench(|| black_box(black_box(&bytes).clone()));
    }
}
