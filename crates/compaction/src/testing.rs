//! What the tests of log compaction and retention stand on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{
    AgentOrigin, BatchOutcome, BatchStamp, ChunkRun, Command, CreateTopic, EndTransaction, EndedBy,
    InTransaction, InitTransactions, Location, Outcome, ProducerEpoch, ProducerStamp,
    RegisterAgent, Run, RunLocation, Sequence, Settle, SettleRun, State, Topic,
};
use alluvium_objects::{ChunkOrigin, Level, ObjectWriter, key};
use alluvium_protocol::batch::BatchHeader;
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{ChunkNumber, ManualClock, Millis, ObjectId, Offset, TopicId, TopicPartition};
use bytes::Bytes;

use crate::{Context, Owner, Policies, TopicPolicy};

pub(crate) const NOW: Millis = 1_700_000_000_000;

#[derive(Debug)]
struct Me(AgentOrigin);

impl Owner for Me {
    fn origin(&self) -> Option<AgentOrigin> {
        Some(self.0)
    }
}

/// One policy for all topics, to be changed at will.
#[derive(Debug)]
pub(crate) struct OnePolicy(pub(crate) Mutex<TopicPolicy>);

impl Policies for OnePolicy {
    fn policy(&self, _: &State, _: &Topic) -> TopicPolicy {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) fn policy() -> TopicPolicy {
    TopicPolicy {
        delete: false,
        compact: false,
        retention: None,
        retention_bytes: None,
        delete_retention: Duration::from_secs(100),
        min_dirty_ratio: 0.0,
        min_compaction_lag: Duration::ZERO,
        max_compaction_lag: Duration::MAX,
    }
}

/// An agent's metadata and bucket.
pub(crate) struct Rig {
    pub(crate) context: Context,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) policy: Arc<OnePolicy>,
    origin: AgentOrigin,
    chunks: Mutex<u64>,
}

impl Rig {
    pub(crate) async fn new(policy: TopicPolicy) -> Self {
        let bucket = Bucket::open("memory://", LocalDisk::shared())
            .await
            .unwrap();
        Self::over(policy, bucket).await
    }

    pub(crate) async fn over(policy: TopicPolicy, bucket: Bucket) -> Self {
        let metadata = Metadata::in_memory();
        let register = Command::RegisterAgent(RegisterAgent {
            identity: 1,
            host: "localhost".to_owned(),
            port: 9092,
            zone: None,
            at: NOW,
            cluster_id: TopicId([9; 16]),
        });
        let Outcome::AgentRegistered(origin) = metadata.propose(register).await.unwrap().outcome
        else {
            panic!("not registered")
        };
        let clock = Arc::new(ManualClock::new(NOW));
        let policy = Arc::new(OnePolicy(Mutex::new(policy)));
        let context = Context {
            owner: Arc::new(Me(origin)),
            metadata,
            bucket,
            clock: Arc::clone(&clock) as _,
            policies: Arc::clone(&policy) as _,
        };
        Self {
            context,
            clock,
            policy,
            origin,
            chunks: Mutex::new(0),
        }
    }

    /// Topics are told apart by a number.
    pub(crate) async fn topic(&self, number: u8, partitions: i32) -> TopicId {
        let id = TopicId([number; 16]);
        let create = Command::CreateTopic(CreateTopic {
            name: format!("topic-{number}"),
            id,
            partitions,
            replication_factor: 1,
            configs: Vec::new(),
            at: NOW,
        });
        let created = self.context.metadata.propose(create).await.unwrap();
        assert_eq!(created.outcome, Outcome::Done);
        id
    }

    /// A transactional producer.
    pub(crate) async fn producer(&self, id: &str) -> ProducerEpoch {
        let init = Command::InitTransactions(InitTransactions {
            transactional_id: id.to_owned(),
            timeout: 60_000,
            expected: None,
            at: NOW,
        });
        match self.context.metadata.propose(init).await.unwrap().outcome {
            Outcome::Producer(producer) => producer,
            other => panic!("{other:?}"),
        }
    }

    /// Ends its transaction.
    pub(crate) async fn end(&self, id: &str, producer: ProducerEpoch, commit: bool) {
        let end = Command::EndTransaction(EndTransaction {
            transactional_id: id.to_owned(),
            producer,
            commit,
            by: EndedBy::Producer,
            at: NOW,
        });
        let ended = self.context.metadata.propose(end).await.unwrap().outcome;
        assert_eq!(ended, Outcome::Producer(producer));
    }

    /// Moves the inline runs of a partition to objects, one each.
    pub(crate) async fn settle(&self, partition: TopicPartition) {
        let runs: Vec<Run> = self.context.metadata.read(|state| {
            let runs = state.partition(partition).unwrap().runs();
            runs.cloned().collect()
        });
        for run in runs {
            let RunLocation::Inline(bytes) = run.location else {
                continue;
            };
            let object = ObjectId(alluvium_types::random::value());
            let mut writer = ObjectWriter::new(object, Level::Settled, NOW);
            writer.begin_run(partition, Some(run.base_offset));
            let records = u32::try_from(run.end_offset - run.base_offset).unwrap();
            writer.batch(&[bytes], records, run.max_timestamp);
            let built = writer.finish();
            let position = built.runs[0].position;
            let name = key(object);
            self.context
                .bucket
                .create(&name, built.parts)
                .await
                .unwrap();
            let settle = Command::Settle(Settle {
                origin: self.origin,
                object,
                bytes: built.bytes,
                runs: vec![SettleRun {
                    partition,
                    base_offset: run.base_offset,
                    end_offset: run.end_offset,
                    position,
                    length: run.length,
                }],
            });
            self.context.metadata.propose(settle).await.unwrap();
        }
    }

    /// Appends batches as an object of their own; the first one's offset.
    pub(crate) async fn append(&self, partition: TopicPartition, batches: &[Bytes]) -> Offset {
        let object = ObjectId(alluvium_types::random::value());
        let chunk = {
            let mut chunks = self.chunks.lock().unwrap();
            *chunks += 1;
            *chunks
        };
        let origin = ChunkOrigin {
            agent: self.origin.agent,
            epoch: self.origin.epoch,
            seal: chunk,
            sealed_at: NOW,
        };
        let mut writer = ObjectWriter::chunk(object, origin, NOW);
        writer.begin_run(partition, None);
        let mut stamps = Vec::new();
        for batch in batches {
            let header = BatchHeader::parse(batch).unwrap();
            let records = u32::try_from(header.last_offset_delta + 1).unwrap();
            writer.batch(std::slice::from_ref(batch), records, header.max_timestamp);
            stamps.push(BatchStamp {
                bytes: u32::try_from(batch.len()).unwrap(),
                records,
                max_timestamp: header.max_timestamp,
                producer: header.is_transactional().then_some(ProducerStamp {
                    id: header.producer_id,
                    epoch: header.producer_epoch,
                    base_sequence: header.base_sequence,
                    transaction: InTransaction::Joins,
                }),
            });
        }
        let built = writer.finish();
        self.context
            .bucket
            .create(&key(object), built.parts)
            .await
            .unwrap();
        let at = self.context.clock.now();
        let sequence = Command::Sequence(Sequence {
            origin: self.origin,
            chunk: ChunkNumber(chunk),
            location: Location::Object {
                object,
                bytes: built.bytes,
            },
            runs: vec![ChunkRun {
                partition,
                position: built.runs[0].position,
                batches: stamps,
            }],
            sealed_at: at,
            at,
        });
        match self
            .context
            .metadata
            .propose(sequence)
            .await
            .unwrap()
            .outcome
        {
            Outcome::Sequenced(runs) => match runs[0].batches[0] {
                BatchOutcome::Appended { base_offset } => base_offset,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn log_start(&self, at: TopicPartition) -> Offset {
        let start = |state: &State| state.partition(at).unwrap().log_start();
        self.context.metadata.read(start)
    }
}
