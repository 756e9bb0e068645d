//! A server in this process, and the bare client that talks to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, CreateTopic};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use alluvium_protocol::messages::{
    KafkaRequest, KafkaResponse, ProduceRequest, ProduceResponse, StrBytes,
};
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_protocol::{message, request, response};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{SystemClock, TopicId};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::config::Config;
use crate::kafka::{KafkaListener, Services};

/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct TestServer {
    listener: KafkaListener,
    pub(super) agent: Arc<Agent>,
    pub(super) services: Arc<Services>,
}

impl TestServer {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut Services)) -> Self {
        let bucket = Bucket::open("memory://", Arc::new(LocalDisk))
            .await
            .unwrap();
        let topics = Topics::new(Default::default()).unwrap();
        let config = AgentConfig {
            flush_interval: Duration::from_millis(50),
            ..Default::default()
        };
        let cluster_id = TopicId::from_random(7);
        let metadata = Metadata::in_memory();
        let clock = Arc::new(SystemClock);
        let agent = Agent::start(config, metadata, bucket, clock, topics, cluster_id)
            .await
            .unwrap();
        let mut services = Services::new(Arc::clone(&agent), &Config::default().budgets());
        change(&mut services);
        let services = Arc::new(services);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = KafkaListener::start(socket, address, Arc::clone(&services));
        Self {
            listener,
            agent,
            services,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.listener.in_flight()
    }

    pub(super) async fn topic(&self, name: &str, partitions: i32) -> TopicId {
        let id = TopicId::from_random(rand::random());
        let command = Command::CreateTopic(CreateTopic {
            name: name.to_owned(),
            id,
            partitions,
            replication_factor: 1,
            configs: Vec::new(),
            at: 1,
        });
        self.agent.metadata.propose(command).await.unwrap();
        id
    }

    pub(super) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address()).await.unwrap(),
            correlation: 0,
        }
    }

    pub(super) async fn shutdown(self) {
        timeout(PATIENCE, async {
            self.listener.stop_reading();
            self.listener.drained().await;
            self.agent.shutdown().await;
            self.listener.abort().await;
        })
        .await
        .unwrap();
    }
}

/// One connection.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    correlation: i32,
}

impl Client {
    /// Sends a request; its correlation id.
    pub(super) async fn send<M: KafkaRequest>(&mut self, version: i16, message: &M) -> i32 {
        self.correlation += 1;
        let frame = request::encode(self.correlation, version, Some("test"), message).unwrap();
        self.stream.write_all(&frame).await.unwrap();
        self.correlation
    }

    /// The next answer, without its length.
    pub(super) async fn receive_frame(&mut self) -> Bytes {
        let length = timeout(PATIENCE, self.stream.read_u32())
            .await
            .unwrap()
            .unwrap();
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        timeout(PATIENCE, self.stream.read_exact(&mut frame))
            .await
            .unwrap()
            .unwrap();
        frame.into()
    }

    pub(super) async fn receive<M: KafkaResponse>(&mut self, version: i16) -> (i32, M) {
        response::decode(self.receive_frame().await, version).unwrap()
    }

    pub(super) async fn call<Q: KafkaRequest, A: KafkaResponse>(
        &mut self,
        version: i16,
        message: &Q,
    ) -> A {
        let sent = self.send(version, message).await;
        let (received, answer) = self.receive(version).await;
        assert_eq!(sent, received);
        answer
    }

    /// Waits for the server to close, with no further answer.
    pub(super) async fn closed(&mut self) {
        let mut byte = [0];
        let read = timeout(PATIENCE, self.stream.read(&mut byte))
            .await
            .unwrap();
        assert!(
            matches!(read, Ok(0) | Err(_)),
            "the connection is open and says {byte:?}"
        );
    }

    /// Whether the connection is still served.
    pub(super) async fn is_served(&mut self) -> bool {
        let asked = alluvium_protocol::messages::ApiVersionsRequest::default();
        let answer: alluvium_protocol::messages::ApiVersionsResponse = self.call(0, &asked).await;
        answer.error_code == 0
    }
}

/// A batch of one record.
pub(super) fn batch(value: &[u8]) -> Bytes {
    batch_in(value, Codec::None)
}

pub(super) fn batch_in(value: &[u8], codec: Codec) -> Bytes {
    let record = Record {
        timestamp: 1_700_000_000_000,
        value: Some(Bytes::copy_from_slice(value)),
        ..Record::default()
    };
    let options = BatchOptions {
        codec,
        producer: None,
        transactional: false,
    };
    records::encode(&[record], options).unwrap()
}

pub(super) fn produce(
    topic: &str,
    acks: i16,
    partitions: Vec<(i32, Option<Bytes>)>,
) -> ProduceRequest {
    let partition_data = partitions
        .into_iter()
        .map(|(index, records)| message!(PartitionProduceData { index, records }));
    let topic = message!(TopicProduceData {
        name: StrBytes::from(topic),
        partition_data: partition_data.collect(),
    });
    message!(ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![topic]
    })
}

/// (index, error, base offset) of every partition answered.
pub(super) fn outcomes(response: &ProduceResponse) -> Vec<(i32, i16, i64)> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    partitions
        .map(|p| (p.index, p.error_code, p.base_offset))
        .collect()
}
