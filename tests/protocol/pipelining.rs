//! Many requests on one connection, none of which waits for the answer to the one before.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, DescribeGroupsRequest, FetchRequest,
    FindCoordinatorRequest, HeartbeatRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::Request;

use crate::batches::{Batch, offsets};
use crate::codes::*;
use crate::wire::{Client, frame, group, read, text, topic};
use crate::world::{self, World, fetch_partition};

/// What is to be true of an answer's frame.
type Check = Box<dyn Fn(&Bytes)>;

/// Requests to be written in one go, and what each answer is checked with.
#[derive(Default)]
struct Pipeline {
    bytes: BytesMut,
    correlation: i32,
    expected: Vec<(i32, Check)>,
}

impl Pipeline {
    fn push<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        check: impl Fn(R::Response) + 'static,
    ) {
        self.correlation += 1;
        let correlation = self.correlation;
        self.bytes
            .extend_from_slice(&frame(version, correlation, request));
        let check = move |frame: &Bytes| {
            let (answered, message) = read::<R::Response>(frame, version);
            assert_eq!(answered, correlation, "answers are out of order");
            check(message);
        };
        self.expected.push((correlation, Box::new(check)));
    }

    /// A request that has no answer.
    fn push_unanswered(&mut self, version: i16, request: &ProduceRequest) {
        self.correlation += 1;
        self.bytes
            .extend_from_slice(&frame(version, self.correlation, request));
    }

    fn run(self, client: &mut Client) {
        client.send(&self.bytes);
        for (correlation, check) in self.expected {
            let frame = client
                .frame()
                .unwrap_or_else(|error| panic!("{correlation}: {error}"));
            check(&frame);
        }
    }
}

fn fetch(name: &str, offset: i64) -> FetchRequest {
    let partitions = vec![fetch_partition(0, offset, 1 << 20)];
    let asked = FetchTopic::default()
        .with_topic(topic(name))
        .with_partitions(partitions);
    world::fetch(vec![asked])
}

fn latest(name: &str) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(0)
        .with_timestamp(-1);
    let asked = ListOffsetsTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![partition]);
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![asked])
}

/// A produce of one record, which is to be given `offset`.
fn push_produce(pipeline: &mut Pipeline, name: &str, acks: i16, offset: i64) {
    let request = world::produce(name, vec![(0, Some(Batch::of(1).bytes()))]).with_acks(acks);
    pipeline.push(9, &request, move |answer| {
        let found = &answer.responses[0].partition_responses[0];
        assert_eq!((found.error_code, found.base_offset), (NONE, offset));
    });
}

/// A hundred requests of ten kinds.
#[test]
fn a_hundred_requests_in_one_write_are_answered_in_their_order() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let mut pipeline = Pipeline::default();
    let mut end = 0;
    for round in 0..10 {
        pipeline.push(round % 3, &ApiVersionsRequest::default(), |answer| {
            assert_eq!(answer.error_code, NONE);
        });
        for acks in [-1, 1] {
            push_produce(&mut pipeline, &name, acks, end);
            end += 1;
        }
        let from = end - 2;
        pipeline.push(11, &fetch(&name, from), move |answer| {
            let read = &answer.responses[0].partitions[0];
            let found = offsets(read.records.as_ref().unwrap());
            assert_eq!(
                found[..2],
                [(from, 1), (from + 1, 1)],
                "does not see its own writes"
            );
        });
        let asked = MetadataRequestTopic::default().with_name(Some(topic(&name)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        pipeline.push(9, &request, |answer| {
            assert_eq!(answer.topics[0].error_code, NONE)
        });
        let unanswered = world::produce(&name, vec![(0, Some(Batch::of(1).bytes()))]).with_acks(0);
        pipeline.push_unanswered(9, &unanswered);
        end += 1;
        pipeline.push(5, &latest(&name), move |answer| {
            let found = &answer.topics[0].partitions[0];
            assert!(found.offset >= end, "{} of at least {end}", found.offset);
        });
        let request = FindCoordinatorRequest::default().with_key(text("anybody"));
        pipeline.push(3, &request, |answer| assert_eq!(answer.error_code, NONE));
        let member = &world.member;
        let request = HeartbeatRequest::default()
            .with_group_id(group(&member.group))
            .with_member_id(text(&member.id))
            .with_generation_id(member.generation);
        pipeline.push(4, &request, |answer| assert_eq!(answer.error_code, NONE));
        let request = DescribeGroupsRequest::default().with_groups(vec![group(&member.group)]);
        pipeline.push(5, &request, |answer| assert_eq!(answer.groups.len(), 1));
    }
    assert_eq!(pipeline.correlation, 100);
    pipeline.run(&mut Client::of(&world.server));
    assert_eq!(world.fetch(&name, 0, 0).high_watermark, end);
}

#[test]
fn a_topic_is_there_for_the_requests_behind_its_creation() {
    let world = World::new();
    let mut pipeline = Pipeline::default();
    for round in 0..5 {
        let name = format!("just-made-{round}");
        let new = CreatableTopic::default()
            .with_name(topic(&name))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![new])
            .with_timeout_ms(5000);
        pipeline.push(5, &request, |answer| {
            assert_eq!(answer.topics[0].error_code, NONE)
        });
        for offset in 0..3 {
            push_produce(&mut pipeline, &name, -1, offset);
        }
        pipeline.push(11, &fetch(&name, 0), |answer| {
            assert_eq!(answer.responses[0].partitions[0].high_watermark, 3);
        });
    }
    pipeline.run(&mut Client::of(&world.server));
}

/// Whoever waits holds up the answers behind it, and loses none.
#[test]
fn answers_behind_one_that_waits_come_after_it() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let mut pipeline = Pipeline::default();
    for _ in 0..3 {
        pipeline.push(11, &fetch(&name, 0).with_max_wait_ms(100), |answer| {
            assert_eq!(answer.responses[0].partitions[0].error_code, NONE);
        });
        pipeline.push(0, &ApiVersionsRequest::default(), |answer| {
            assert_eq!(answer.error_code, NONE);
        });
    }
    pipeline.run(&mut world.client);
}
