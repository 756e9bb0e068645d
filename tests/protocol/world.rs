//! A server with something of everything in it.

use std::sync::atomic::{AtomicU32, Ordering};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, InitProducerIdRequest,
    JoinGroupRequest, JoinGroupResponse, MetadataRequest, OffsetCommitRequest, ProduceRequest,
    SyncGroupRequest, fetch_request, fetch_response,
};
use tempfile::TempDir;
use uuid::Uuid;

use bytes::Bytes;

use crate::batches::Batch;
use crate::support::{Server, ServerOptions};
use crate::wire::{Client, group, text, topic};

/// A topic of three partitions: 0 holds two batches of five records, 1 nothing, 2 is written to.
pub(crate) const TOPIC: &str = "clicks";
/// There never was such a topic.
pub(crate) const NOWHERE: &str = "nowhere";
/// A topic that was deleted.
pub(crate) const GONE: &str = "gone";
/// A group without members that has committed offset 4 of partition 0.
pub(crate) const READERS: &str = "readers";
/// A group with one member.
pub(crate) const TEAM: &str = "team";
/// What that member reads, and was assigned.
pub(crate) const SUBSCRIPTION: &[u8] = b"subscription";
pub(crate) const ASSIGNMENT: &[u8] = b"assignment";
/// Records in partition 0.
pub(crate) const RECORDS: i64 = 10;

/// A member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) generation: i32,
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) topic_id: Uuid,
    pub(crate) gone_id: Uuid,
    pub(crate) unknown_id: Uuid,
    pub(crate) member: Member,
    pub(crate) broker: i32,
    fresh: AtomicU32,
    pub(crate) server: Server,
    _dir: TempDir,
}

/// A server that forms groups at once.
pub(crate) fn server() -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(&dir.path().join("data"));
    let options = options.set("group.initial.rebalance.delay.ms=0");
    (dir, Server::start(options))
}

impl World {
    pub(crate) fn new() -> Self {
        let (dir, server) = server();
        let client = Client::of(&server);
        let member = Member {
            group: String::new(),
            id: String::new(),
            generation: -1,
        };
        let mut world = Self {
            client,
            topic_id: Uuid::nil(),
            gone_id: Uuid::nil(),
            unknown_id: Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef),
            member,
            broker: -1,
            fresh: AtomicU32::new(0),
            server,
            _dir: dir,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        self.topic_id = self.create(TOPIC, 3, &[("retention.ms", "9000000000000")]);
        for _ in 0..2 {
            self.produce(TOPIC, 0, Batch::of(5).bytes());
        }
        self.gone_id = self.create(GONE, 1, &[]);
        let gone = DeleteTopicState::default().with_name(Some(topic(GONE)));
        let request = DeleteTopicsRequest::default().with_topics(vec![gone]);
        assert_eq!(self.client.ask(6, &request).responses[0].error_code, 0);
        self.commit(READERS, 4);
        self.member = self.join(TEAM);
        let request = MetadataRequest::default().with_topics(Some(vec![]));
        self.broker = self.client.ask(9, &request).brokers[0].node_id.0;
    }

    /// Connects again: the connection has been closed or is in an unknown state.
    pub(crate) fn reconnect(&mut self) {
        self.client = Client::of(&self.server);
    }

    /// The same world after `kill -9` and a new start.
    pub(crate) fn restarted(self) -> Self {
        let server = Server::start(self.server.kill_9());
        Self {
            client: Client::of(&server),
            server,
            ..self
        }
    }

    /// A name that nobody has.
    pub(crate) fn fresh(&self, what: &str) -> String {
        format!("{what}-{}", self.fresh.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let new = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![new])
            .with_timeout_ms(5000);
        let created = self.client.ask(7, &request);
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        created.topics[0].topic_id
    }

    /// A new topic of its own.
    pub(crate) fn fresh_topic(&mut self, partitions: i32) -> (String, Uuid) {
        let name = self.fresh("topic");
        let id = self.create(&name, partitions, &[]);
        (name, id)
    }

    /// Appends a record set, whatever comes of it.
    pub(crate) fn try_produce(
        &mut self,
        name: &str,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce(name, vec![(partition, Some(records))]);
        let mut answer = self.client.ask(9, &request);
        answer.responses.remove(0).partition_responses.remove(0)
    }

    /// Appends a batch; its first offset.
    pub(crate) fn produce(&mut self, name: &str, partition: i32, records: Bytes) -> i64 {
        let answer = self.try_produce(name, partition, records);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        answer.base_offset
    }

    /// Everything from an offset on.
    pub(crate) fn fetch(
        &mut self,
        name: &str,
        partition: i32,
        offset: i64,
    ) -> fetch_response::PartitionData {
        let partitions = vec![fetch_partition(partition, offset, 64 << 20)];
        let asked = fetch_request::FetchTopic::default()
            .with_topic(topic(name))
            .with_partitions(partitions);
        let mut answer = self.client.ask(11, &fetch(vec![asked]));
        answer.responses.remove(0).partitions.remove(0)
    }

    /// A commit by somebody who is no member.
    pub(crate) fn commit(&mut self, name: &str, offset: i64) {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(0)
            .with_committed_metadata(Some(text("note")));
        let asked = OffsetCommitRequestTopic::default()
            .with_name(topic(TOPIC))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_topics(vec![asked]);
        let answer = self.client.ask(8, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{answer:?}");
    }

    /// The only member of a group, with its assignment. Its session outlives the test.
    pub(crate) fn join(&mut self, name: &str) -> Member {
        self.join_as(name, None)
    }

    pub(crate) fn join_as(&mut self, name: &str, instance: Option<&str>) -> Member {
        let mut request = join(name);
        request.group_instance_id = instance.map(text);
        let joined = self.join_twice(5, &request);
        assert_eq!(joined.error_code, 0, "{joined:?}");
        let member = Member {
            group: name.to_owned(),
            id: joined.member_id.to_string(),
            generation: joined.generation_id,
        };
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id)
            .with_assignment(ASSIGNMENT.into());
        let mut request = sync(&member).with_assignments(vec![assignment]);
        request.group_instance_id = instance.map(text);
        let synced = self.client.ask(3, &request);
        assert_eq!(synced.error_code, 0, "{synced:?}");
        member
    }

    /// Joins as newer clients do: once for an id, and once more with it.
    pub(crate) fn join_twice(
        &mut self,
        version: i16,
        request: &JoinGroupRequest,
    ) -> JoinGroupResponse {
        let joined = self.client.ask(version, request);
        if joined.error_code != crate::codes::MEMBER_ID_REQUIRED {
            return joined;
        }
        self.client
            .ask(version, &request.clone().with_member_id(joined.member_id))
    }

    /// A new producer's id and epoch.
    pub(crate) fn producer(&mut self) -> (i64, i16) {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let answer = self.client.ask(1, &request);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        (answer.producer_id.0, answer.producer_epoch)
    }

    /// The code that Metadata gives for a name, without creating it.
    pub(crate) fn topic_code(&mut self, name: &str) -> i16 {
        let asked = MetadataRequestTopic::default().with_name(Some(topic(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false);
        self.client.ask(9, &request).topics[0].error_code
    }
}

/// A produce with acks=all to partitions of one topic.
pub(crate) fn produce(name: &str, sets: Vec<(i32, Option<Bytes>)>) -> ProduceRequest {
    let partitions = sets.into_iter().map(|(partition, records)| {
        PartitionProduceData::default()
            .with_index(partition)
            .with_records(records)
    });
    let data = TopicProduceData::default()
        .with_name(topic(name))
        .with_partition_data(partitions.collect());
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data])
}

/// A fetch without a session that does not wait.
pub(crate) fn fetch(topics: Vec<fetch_request::FetchTopic>) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(64 << 20)
        .with_session_epoch(-1)
        .with_topics(topics)
}

pub(crate) fn fetch_partition(
    partition: i32,
    offset: i64,
    bytes: i32,
) -> fetch_request::FetchPartition {
    fetch_request::FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes)
}

/// A join in the form of version 1 and newer.
pub(crate) fn join(name: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(SUBSCRIPTION.into());
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(600_000)
        .with_rebalance_timeout_ms(600_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

pub(crate) fn sync(member: &Member) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(group(&member.group))
        .with_generation_id(member.generation)
        .with_member_id(text(&member.id))
}
