//! Topics that are deleted, made again and altered; a server that is killed and starts again.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    DeleteTopicsRequest, DescribeGroupsRequest, FetchRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, OffsetFetchRequest,
};

use crate::batches::{Batch, offsets};
use crate::codes::*;
use crate::wire::{Client, group, text, topic};
use crate::world::{self, READERS, RECORDS, TEAM, TOPIC, World, fetch_partition};

fn delete(world: &mut World, name: &str) {
    let asked = DeleteTopicState::default().with_name(Some(topic(name)));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![asked])
        .with_timeout_ms(5000);
    assert_eq!(world.client.ask(6, &request).responses[0].error_code, NONE);
}

/// What a group has committed for partition 0 of a topic.
fn committed(world: &mut World, name: &str, of: &str) -> i64 {
    let asked = OffsetFetchRequestTopic::default()
        .with_name(topic(of))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group(name))
        .with_topics(Some(vec![asked]));
    world.client.ask(5, &request).topics[0].partitions[0].committed_offset
}

#[test]
fn a_topic_made_again_is_another_topic() {
    let mut world = World::new();
    let old = world.topic_id;
    assert_eq!(committed(&mut world, READERS, TOPIC), 4);
    delete(&mut world, TOPIC);
    assert_eq!(
        world.try_produce(TOPIC, 0, Batch::of(1).bytes()).error_code,
        3
    );
    let new = world.create(TOPIC, 1, &[]);
    assert_ne!(old, new);
    let read = world.fetch(TOPIC, 0, 0);
    assert_eq!((read.error_code, read.high_watermark), (NONE, 0));
    assert_eq!(committed(&mut world, READERS, TOPIC), -1);
    assert_eq!(world.produce(TOPIC, 0, Batch::of(1).bytes()), 0);
    let by_id = |id| {
        let asked = FetchTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![fetch_partition(0, 0, 1 << 20)]);
        world::fetch(vec![asked])
    };
    let mut code = |id| world.client.ask(13, &by_id(id)).responses[0].partitions[0].error_code;
    assert_eq!((code(old), code(new)), (UNKNOWN_TOPIC_ID, NONE));
}

/// As in Kafka; librdkafka would end for good if its next sequence were refused.
#[test]
fn a_producer_goes_on_when_its_topic_is_made_again() {
    let mut world = World::new();
    let producer = world.producer();
    let send = |world: &mut World, sequence| {
        let batch = Batch::of(2).from(producer, sequence).bytes();
        let answer = world.try_produce(TOPIC, 0, batch);
        (answer.error_code, answer.base_offset)
    };
    let first = world.fetch(TOPIC, 0, 0).high_watermark;
    assert_eq!(send(&mut world, 0), (NONE, first));
    delete(&mut world, TOPIC);
    world.create(TOPIC, 1, &[]);
    assert_eq!(send(&mut world, 2), (NONE, 0));
    assert_eq!(send(&mut world, 6), (OUT_OF_ORDER_SEQUENCE, -1), "a gap");
    assert_eq!(send(&mut world, 4), (NONE, 2));
}

#[test]
fn a_fetch_that_waits_is_answered_when_its_topic_is_deleted() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let asked = FetchTopic::default()
        .with_topic(topic(&name))
        .with_partitions(vec![fetch_partition(0, 0, 1 << 20)]);
    let request = world::fetch(vec![asked]).with_max_wait_ms(30_000);
    let mut other = Client::of(&world.server);
    let begun = std::time::Instant::now();
    let correlation = other.request(11, &request);
    delete(&mut world, &name);
    let answer = other.answer::<FetchRequest>(11, correlation);
    assert_eq!(
        answer.responses[0].partitions[0].error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn altered_settings_hold_for_the_next_produce() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let large = Batch::sized(3000).bytes();
    let alter = |world: &mut World, operation, value: Option<&str>| {
        let config = AlterableConfig::default()
            .with_name(text("max.message.bytes"))
            .with_config_operation(operation)
            .with_value(value.map(text));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(&name))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(world.client.ask(1, &request).responses[0].error_code, NONE);
        world.try_produce(&name, 0, large.clone()).error_code
    };
    assert_eq!(alter(&mut world, 0, Some("2000")), MESSAGE_TOO_LARGE);
    assert_eq!(alter(&mut world, 0, Some("4000")), NONE);
    assert_eq!(alter(&mut world, 0, Some("100")), MESSAGE_TOO_LARGE);
    assert_eq!(alter(&mut world, 1, None), NONE);
}

#[test]
fn a_killed_server_knows_everything_that_was_answered() {
    let mut world = World::new();
    let producer = world.producer();
    let send = |world: &mut World, sequence| {
        let answer = world.try_produce(TOPIC, 1, Batch::of(2).from(producer, sequence).bytes());
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(
        (send(&mut world, 0), send(&mut world, 2)),
        ((NONE, 0), (NONE, 2))
    );
    world.commit("latecomers", 9);
    let mut world = world.restarted();

    let read = world.fetch(TOPIC, 0, 0);
    assert_eq!(
        (read.high_watermark, offsets(&read.records.unwrap())),
        (RECORDS, vec![(0, 5), (5, 5)])
    );
    let request = MetadataRequest::default().with_topics(None);
    let topics = world.client.ask(12, &request).topics;
    assert_eq!(topics.len(), 1);
    assert_eq!(
        (topics[0].topic_id, topics[0].partitions.len()),
        (world.topic_id, 3)
    );
    // A retry is known as one, and the producer goes on.
    assert_eq!(send(&mut world, 2), (NONE, 2));
    assert_eq!(send(&mut world, 4), (NONE, 4));
    assert!(world.producer().0 > producer.0);
    assert_eq!(committed(&mut world, READERS, TOPIC), 4);
    assert_eq!(committed(&mut world, "latecomers", TOPIC), 9);
    // The member is still one, in its generation.
    let request = DescribeGroupsRequest::default().with_groups(vec![group(TEAM)]);
    assert_eq!(
        world.client.ask(5, &request).groups[0].group_state.as_str(),
        "Stable"
    );
    let beat = HeartbeatRequest::default()
        .with_group_id(group(TEAM))
        .with_generation_id(world.member.generation)
        .with_member_id(text(&world.member.id));
    assert_eq!(world.client.ask(4, &beat).error_code, NONE);
}
