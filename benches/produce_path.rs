//! How often a produce allocates between its socket and its chunk, and how many bytes.
//!
//! `cargo bench --bench produce_path`. A copy of batch bytes needs memory to copy into, so a path
//! that allocates far less than a batch per request has not copied it. Every allocation of the
//! process counts, whichever thread makes it; the client below makes none. Two paths:
//!
//! - `agent`: a frame that is in memory already is parsed, decoded, checked, sealed, built into an
//!   object, written to a folder and sequenced. This must stay far below the batch.
//! - `server`: the same through a real server and its socket. This adds the read itself: one buffer of
//!   the frame's size. A path that grew its buffer, or joined frames, would show two or more.
//!
//! What a batch may cost beside these: a chunk that travels inside a metadata command (at most
//! 64 KiB) is copied into that command, and batches below 16 KiB are copied together into the
//! chunk, so that they do not keep whole frames alive. Both are the chunk write, and are shown too.
//! `memory://` keeps objects in memory of its own, so a folder is the store here.

#![allow(missing_docs, reason = "a bench has no readers but its output")]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench ends at the first fault and prints its figures"
)]

use std::alloc::System;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

use alluvium_agent::produce::{PartitionRecords, ProducerConnection};
use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_client::Client;
use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, CreateTopic, Outcome};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::message;
use alluvium_protocol::messages::{
    ProduceRequest as ProduceMessage,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use alluvium_protocol::produce::{ProduceRequest, encode_response};
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_protocol::request::{self, Request};
use alluvium_server::Server;
use alluvium_server::config::{Config, Mode, Override, Sources};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{SystemClock, TopicId, TopicPartition};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TOPIC: &str = "bench";
const ID: TopicId = TopicId([1; 16]);
/// Requests before the count begins: caches fill, pools grow.
const WARM_UP: usize = 20;
const REQUESTS: usize = 100;

/// Values of these sizes make batches a little larger: 1 KiB, 16 KiB, 1 MiB less its header.
const SIZES: [usize; 3] = [1 << 10, 16 << 10, (1 << 20) - 1024];

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    println!("per request              batch   allocations  bytes allocated  bytes / batch");
    for lane in ["object", "auto"] {
        for size in SIZES {
            agent_path(&runtime, lane, size);
        }
    }
    for lane in ["object", "auto"] {
        for size in SIZES {
            server_path(&runtime, lane, size);
        }
    }
}

/// A Produce frame with its length in front, and the length of its one batch.
fn produce_frame(value: usize) -> (Bytes, usize) {
    let record = Record {
        value: Some(Bytes::from(vec![b'x'; value])),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    let batch = records::encode(&[record], options).expect("a batch");
    let bytes = batch.len();
    let data = message!(PartitionProduceData {
        index: 0,
        records: Some(batch),
    });
    let topic = message!(TopicProduceData {
        name: TOPIC.into(),
        partition_data: vec![data],
    });
    let ask = message!(ProduceMessage {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
    });
    let frame = request::encode(1, 9, Some("bench"), &ask).expect("a frame");
    (frame, bytes)
}

/// Counts what some calls allocate.
fn count(name: &str, lane: &str, batch: usize, mut call: impl FnMut()) {
    (0..WARM_UP).for_each(|_| call());
    let region = Region::new(ALLOCATOR);
    (0..REQUESTS).for_each(|_| call());
    let change = region.change();
    let times = (change.allocations + change.reallocations) / REQUESTS;
    let bytes = change.bytes_allocated / REQUESTS;
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let ratio = bytes as f64 / batch as f64;
    println!("{name:7} {lane:6} {batch:>15} {times:>13} {bytes:>16} {ratio:>14.2}");
}

fn agent_path(runtime: &Runtime, lane: &str, size: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let agent = runtime.block_on(start_agent(folder.path(), lane));
    let producer = runtime.block_on(async { agent.produce.connect() });
    let (frame, batch) = produce_frame(size);
    let frame = frame.slice(4..);
    count("agent", lane, batch, || {
        // The frame is a fresh buffer in a server: it belongs to this request alone.
        runtime.block_on(produce(&producer, frame.clone()));
    });
    drop(producer);
    runtime.block_on(agent.shutdown());
}

async fn start_agent(folder: &Path, lane: &str) -> Arc<Agent> {
    let url = format!("file://{}", folder.display());
    let bucket = Bucket::open(&url, LocalDisk::shared())
        .await
        .expect("a bucket");
    let metadata = Metadata::in_memory();
    // Settling is work of its own, paid once per some MiB.
    let config = AgentConfig {
        settle_bytes: u64::MAX,
        settle_interval: Duration::from_secs(3600),
        early_puts_per_second: 10_000,
        inline_bytes_per_second: 1 << 40,
        ..AgentConfig::default()
    };
    let topics = Topics::new(BTreeMap::new()).expect("settings");
    let clock = Arc::new(SystemClock);
    let agent = Agent::start(config, metadata, bucket, clock, topics, TopicId([9; 16]))
        .await
        .expect("an agent");
    let create = Command::CreateTopic(CreateTopic {
        name: TOPIC.to_owned(),
        id: ID,
        partitions: 1,
        replication_factor: 1,
        configs: vec![("alluvium.lane".to_owned(), lane.to_owned())],
        at: 0,
    });
    let created = agent.metadata.propose(create).await.expect("proposed");
    assert_eq!(created.outcome, Outcome::Done);
    agent
}

async fn produce(producer: &ProducerConnection, frame: Bytes) {
    let request = Request::parse(frame).expect("a request");
    let mut produce = ProduceRequest::decode(&request).expect("sound");
    let sets = produce
        .partitions
        .iter_mut()
        .map(|partition| PartitionRecords {
            partition: TopicPartition::new(ID, partition.partition),
            records: partition.records.take().expect("a batch"),
        })
        .collect();
    let results = producer.submit(sets).await.expect("answered");
    assert!(results.iter().all(|result| result.base_offset >= 0));
    let answer = encode_response(
        request.correlation_id,
        request.api_version,
        &produce,
        &results,
        0,
    );
    assert!(!answer.is_empty());
}

fn server_path(runtime: &Runtime, lane: &str, size: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = runtime.block_on(start_server(folder.path(), lane));
    let mut connection = Connection::open(server.kafka_address().expect("an agent"));
    let (frame, batch) = produce_frame(size);
    count("server", lane, batch, || connection.ask(&frame));
    drop(connection);
    runtime.block_on(server.shutdown());
}

async fn start_server(folder: &Path, lane: &str) -> Server {
    let settings = [
        ("data_dir", folder.display().to_string()),
        ("kafka.listen", "127.0.0.1:0".to_owned()),
        ("http.listen", "off".to_owned()),
        ("alluvium.lane", lane.to_owned()),
        ("num.partitions", "1".to_owned()),
        ("flush.inline_bytes_per_second", "512MiB".to_owned()),
        ("settle.bytes", "64MiB".to_owned()),
        ("settle.interval", "1h".to_owned()),
    ];
    let overrides = settings.map(|(key, value)| Override {
        key: key.to_owned(),
        value,
        flag: "bench",
    });
    let sources = Sources {
        file: None,
        env: Vec::new(),
        overrides: overrides.into(),
    };
    let config = Config::load(Mode::Dev, &sources).expect("settings").config;
    let server = Server::start(&config).await.expect("a server");
    let client = Client::connect(server.advertised().expect("an agent"))
        .await
        .expect("a client");
    client.topic_on_first_use(TOPIC).await.expect("a topic");
    server
}

/// A client that allocates nothing.
struct Connection {
    stream: TcpStream,
    answer: [u8; 4096],
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            answer: [0; 4096],
        }
    }

    fn ask(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).expect("sent");
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).expect("answered");
        let length = usize::try_from(u32::from_be_bytes(prefix)).expect("a length");
        let answer = self.answer.get_mut(..length).expect("short");
        self.stream.read_exact(answer).expect("answered");
        // Correlation id, tagged fields, one topic of this name, one partition, its index, its error.
        let error = 4 + 1 + 1 + 1 + TOPIC.len() + 1 + 4;
        assert_eq!(answer.get(error..error + 2), Some(&[0, 0][..]), "refused");
    }
}
