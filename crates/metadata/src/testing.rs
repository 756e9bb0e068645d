//! A state with an agent and a topic, for tests. Every command applied through it is followed by a
//! check of all invariants.

use bytes::Bytes;

use alluvium_types::{
    AgentEpoch, AgentId, ChunkNumber, ErrorCode, Millis, ObjectId, Offset, TopicId, TopicPartition,
};

use crate::{
    AgentOrigin, BatchOutcome, BatchStamp, Change, ChunkRun, Command, CreateTopic, InTransaction,
    JournalChunkId, JournalCopy, Location, Outcome, Partition, ProducerEpoch, ProducerStamp,
    RegisterAgent, Sequence, State,
};

pub(crate) const NOW: Millis = 1_700_000_000_000;
pub(crate) const TOPIC: TopicId = TopicId([7; 16]);
pub(crate) const ORIGIN: AgentOrigin = origin(1, 1);

/// The first partition of the topic.
pub(crate) const fn part(index: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, index)
}

pub(crate) struct Cluster {
    pub(crate) state: State,
    pub(crate) changes: Vec<Change>,
    pub(crate) chunk: u64,
    pub(crate) at: Millis,
}

pub(crate) fn register(identity: u128) -> Command {
    Command::RegisterAgent(RegisterAgent {
        identity,
        host: "agent.example".to_owned(),
        port: 9092,
        zone: Some("a".to_owned()),
        at: NOW,
        cluster_id: TopicId([9; 16]),
    })
}

pub(crate) fn end(origins: &[AgentOrigin]) -> Command {
    Command::EndAgents {
        agents: origins.to_vec(),
        at: NOW,
    }
}

pub(crate) fn claim(origin: AgentOrigin, group: &str) -> Command {
    Command::ClaimGroup {
        origin,
        group: group.to_owned(),
    }
}

pub(crate) const fn origin(agent: i32, epoch: u64) -> AgentOrigin {
    AgentOrigin {
        agent: AgentId(agent),
        epoch: AgentEpoch(epoch),
    }
}

pub(crate) fn create(name: &str, id: TopicId, partitions: i32) -> Command {
    Command::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id,
        partitions,
        replication_factor: 3,
        configs: vec![("retention.ms".to_owned(), "1000".to_owned())],
        at: NOW,
    })
}

/// A batch of 100 bytes without a producer.
pub(crate) const fn batch(records: u32) -> BatchStamp {
    BatchStamp {
        bytes: 100,
        records,
        max_timestamp: NOW,
        producer: None,
    }
}

/// A batch of 100 bytes of producer `id`.
pub(crate) const fn from(id: i64, epoch: i16, base_sequence: i32, records: u32) -> BatchStamp {
    BatchStamp {
        producer: Some(ProducerStamp {
            id,
            epoch,
            base_sequence,
            transaction: InTransaction::No,
        }),
        ..batch(records)
    }
}

/// A batch of 100 bytes within a transaction of a producer.
pub(crate) const fn within(
    producer: ProducerEpoch,
    base_sequence: i32,
    records: u32,
    transaction: InTransaction,
) -> BatchStamp {
    BatchStamp {
        producer: Some(ProducerStamp {
            id: producer.id,
            epoch: producer.epoch,
            base_sequence,
            transaction,
        }),
        ..batch(records)
    }
}

pub(crate) fn run(index: i32, position: u64, batches: &[BatchStamp]) -> ChunkRun {
    ChunkRun {
        partition: part(index),
        position,
        batches: batches.to_vec(),
    }
}

pub(crate) const fn object(id: u128) -> Location {
    Location::Object {
        object: ObjectId(id),
        bytes: 1_000_000,
    }
}

pub(crate) const fn appended(base_offset: Offset) -> BatchOutcome {
    BatchOutcome::Appended { base_offset }
}

pub(crate) const fn duplicate(base_offset: Offset) -> BatchOutcome {
    BatchOutcome::Duplicate { base_offset }
}

pub(crate) const fn refused(code: ErrorCode) -> BatchOutcome {
    BatchOutcome::Refused(code)
}

pub(crate) fn code(outcome: &Outcome) -> ErrorCode {
    match outcome {
        Outcome::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

impl Cluster {
    /// One agent, one topic.
    pub(crate) fn new(partitions: i32) -> Self {
        Self::on(State::new(), partitions)
    }

    /// The same, by the rules of release 0.1.
    pub(crate) fn of_0_1(partitions: i32) -> Self {
        Self::on(State::default(), partitions)
    }

    fn on(state: State, partitions: i32) -> Self {
        let mut cluster = Self {
            state,
            changes: Vec::new(),
            chunk: 0,
            at: NOW,
        };
        assert_eq!(cluster.apply(register(1)), Outcome::AgentRegistered(ORIGIN));
        assert_eq!(
            cluster.apply(create("topic", TOPIC, partitions)),
            Outcome::Done
        );
        cluster
    }

    /// Applies a command; its changes are the only ones in `changes` afterwards.
    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        self.changes.clear();
        let outcome = self.state.apply(command, &mut self.changes);
        self.state.check().unwrap();
        outcome
    }

    /// Deletes a topic and lets go of all that was in it.
    pub(crate) fn delete_topic(&mut self, topic: TopicId) {
        assert_eq!(self.apply(Command::DeleteTopic { topic }), Outcome::Done);
        if self.state.purgeable_runs() > 0 {
            let most = u32::MAX;
            assert_eq!(self.apply(Command::Purge { most }), Outcome::Purged(0));
        }
    }

    /// Like [`Self::apply`] for what is refused: nothing may have changed.
    pub(crate) fn refused(&mut self, command: Command) -> ErrorCode {
        let before = self.state.clone();
        let outcome = self.apply(command);
        assert_eq!(self.state, before);
        assert_eq!(self.changes, []);
        code(&outcome)
    }

    pub(crate) fn next(&mut self, location: Location, runs: Vec<ChunkRun>) -> Command {
        self.chunk += 1;
        Command::Sequence(Sequence {
            origin: ORIGIN,
            chunk: ChunkNumber(self.chunk),
            location,
            runs,
            sealed_at: self.at,
            at: self.at,
        })
    }

    pub(crate) fn sequence(
        &mut self,
        location: Location,
        runs: Vec<ChunkRun>,
    ) -> Vec<Vec<BatchOutcome>> {
        let command = self.next(location, runs);
        match self.apply(command) {
            Outcome::Sequenced(runs) => runs.into_iter().map(|run| run.batches).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Sequences batches of partition 0, in an object of their own.
    pub(crate) fn append(&mut self, batches: &[BatchStamp]) -> Vec<BatchOutcome> {
        let location = object(1000 + u128::from(self.chunk));
        self.sequence(location, vec![run(0, 0, batches)]).remove(0)
    }

    /// Sequences one batch of `bytes` inline, in partition `index`.
    pub(crate) fn append_inline(&mut self, index: i32, bytes: &'static [u8], records: u32) {
        let stamp = BatchStamp {
            bytes: u32::try_from(bytes.len()).unwrap(),
            ..batch(records)
        };
        let location = Location::Inline(Bytes::from_static(bytes));
        let outcome = self.sequence(location, vec![run(index, 0, &[stamp])]);
        assert!(matches!(outcome[0][0], BatchOutcome::Appended { .. }));
    }

    pub(crate) fn partition(&self, index: i32) -> &Partition {
        self.state.partition(part(index)).unwrap()
    }

    /// Base and end offsets of a partition's runs.
    pub(crate) fn rows(&self, index: i32) -> Vec<(Offset, Offset)> {
        self.partition(index)
            .runs()
            .map(|run| (run.base_offset, run.end_offset))
            .collect()
    }

    pub(crate) fn dead(&self) -> Vec<u128> {
        self.state
            .dead_objects()
            .map(|(object, ..)| object.0)
            .collect()
    }
}

/// A chunk of the first agent in its write-ahead buffer, and in another's when it is stable.
pub(crate) fn journal(number: u64, stable: bool) -> Location {
    let copies = if stable { vec![1, 2] } else { vec![1] };
    Location::Journal {
        chunk: chunk_id(1, number),
        copies: copies
            .into_iter()
            .map(|agent| JournalCopy {
                agent: AgentId(agent),
                journal: 77,
            })
            .collect(),
        bytes: 1000,
        stable,
    }
}

/// A chunk of the first agent.
pub(crate) const fn chunk_id(epoch: u64, number: u64) -> JournalChunkId {
    JournalChunkId {
        agent: AgentId(1),
        epoch: AgentEpoch(epoch),
        chunk: ChunkNumber(number),
    }
}
