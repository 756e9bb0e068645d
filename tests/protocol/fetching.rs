//! What a fetch gives: whole batches, within limits, as soon as there is something.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use crate::batches::{Batch, offsets};
use crate::codes::*;
use crate::wire::{Client, topic};
use crate::world::{self, World, fetch_partition};

const VERSION: i16 = 11;
/// Longest that an answer may take which something was there for.
const SOON: Duration = Duration::from_secs(5);
/// A wait that no test sits out.
const LONG: i32 = 60_000;

fn fetch(name: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    let asked = FetchTopic::default()
        .with_topic(topic(name))
        .with_partitions(partitions);
    world::fetch(vec![asked])
}

/// Base offsets of the batches of every partition.
fn batches(answer: &FetchResponse) -> Vec<Vec<i64>> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|read| {
            assert_eq!(read.error_code, NONE);
            let found = offsets(read.records.as_ref().unwrap());
            found.into_iter().map(|(base, _)| base).collect()
        })
        .collect()
}

/// A topic with three batches of some 1,000 bytes in each of two partitions.
fn with_batches(world: &mut World) -> (String, i32) {
    let (name, _) = world.fresh_topic(2);
    let batch = Batch::sized(1000).bytes();
    for partition in [0, 1].repeat(3) {
        world.produce(&name, partition, batch.clone());
    }
    (name, i32::try_from(batch.len()).unwrap())
}

#[test]
fn an_offset_within_a_batch_gives_the_whole_batch() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    for _ in 0..4 {
        world.produce(&name, 0, Batch::of(5).bytes());
    }
    for offset in 0..20 {
        let read = world.fetch(&name, 0, offset);
        let expected: Vec<_> = (offset / 5..4).map(|batch| (batch * 5, 5)).collect();
        assert_eq!(offsets(&read.records.unwrap()), expected, "from {offset}");
    }
}

#[test]
fn limits_hold_but_never_keep_back_the_first_batch() {
    let mut world = World::new();
    let (name, size) = with_batches(&mut world);
    let all = 64 << 20;
    // (bytes of a partition, bytes of all, batches of both partitions)
    let table: [(i32, i32, [&[i64]; 2]); 9] = [
        (all, all, [&[0, 1, 2], &[0, 1, 2]]),
        (size * 2 + 1, all, [&[0, 1], &[0, 1]]),
        (size * 2, all, [&[0, 1], &[0, 1]]),
        (all, size * 4, [&[0, 1, 2], &[0]]),
        (all, size * 2 + 1, [&[0, 1], &[]]),
        (size, size * 2, [&[0], &[0]]),
        // The first batch is larger than both.
        (1, 1, [&[0], &[]]),
        (0, 0, [&[0], &[]]),
        (1, all, [&[0], &[]]),
    ];
    for (partition, total, expected) in table {
        let asked = vec![
            fetch_partition(0, 0, partition),
            fetch_partition(1, 0, partition),
        ];
        let answer = world
            .client
            .ask(VERSION, &fetch(&name, asked).with_max_bytes(total));
        assert_eq!(batches(&answer), expected, "limits {partition} and {total}");
    }
}

#[test]
fn the_first_batch_is_that_of_the_first_partition_that_has_one() {
    let mut world = World::new();
    let (name, _) = with_batches(&mut world);
    let asked = vec![fetch_partition(0, 3, 1), fetch_partition(1, 1, 1)];
    let answer = world
        .client
        .ask(VERSION, &fetch(&name, asked).with_max_bytes(1));
    assert_eq!(batches(&answer), [&[][..], &[1]]);
}

/// A fetch at the end of partition 0 that is on its way, from another connection.
fn waiting(world: &World, request: &FetchRequest) -> (Client, i32, Instant) {
    let mut client = Client::of(&world.server);
    let correlation = client.request(VERSION, request);
    (client, correlation, Instant::now())
}

#[test]
fn a_fetch_at_the_end_is_answered_when_there_is_something() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(2);
    let asked = vec![
        fetch_partition(0, 0, 1 << 20),
        fetch_partition(1, 0, 1 << 20),
    ];
    let request = fetch(&name, asked).with_max_wait_ms(LONG);
    let (mut client, correlation, begun) = waiting(&world, &request);
    world.produce(&name, 1, Batch::of(2).bytes());
    let answer = client.answer::<FetchRequest>(VERSION, correlation);
    assert_eq!(batches(&answer), [&[][..], &[0]]);
    assert_eq!(answer.responses[0].partitions[1].high_watermark, 2);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn a_fetch_waits_for_as_much_as_it_wants() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let batch = Batch::sized(1000).bytes();
    let wanted = i32::try_from(batch.len() * 2 + 1).unwrap();
    let asked = vec![fetch_partition(0, 0, 1 << 20)];
    let request = fetch(&name, asked)
        .with_max_wait_ms(LONG)
        .with_min_bytes(wanted);
    let (mut client, correlation, begun) = waiting(&world, &request);
    for _ in 0..3 {
        world.produce(&name, 0, batch.clone());
    }
    let answer = client.answer::<FetchRequest>(VERSION, correlation);
    assert_eq!(batches(&answer), [[0, 1, 2]]);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn a_fetch_gives_what_there_is_when_its_time_is_over() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    world.produce(&name, 0, Batch::of(1).bytes());
    let wait = Duration::from_millis(300);
    for (offset, expected) in [(0, vec![0]), (1, vec![])] {
        let request = fetch(&name, vec![fetch_partition(0, offset, 1 << 20)])
            .with_max_wait_ms(300)
            .with_min_bytes(100_000);
        let begun = Instant::now();
        let answer = world.client.ask(VERSION, &request);
        assert_eq!(batches(&answer), [expected]);
        let took = begun.elapsed();
        assert!(
            (wait - Duration::from_millis(10)..SOON).contains(&took),
            "{took:?}"
        );
    }
}

#[test]
fn errors_and_wishes_for_nothing_are_answered_at_once() {
    let mut world = World::new();
    let (name, _) = world.fresh_topic(1);
    let end = || fetch_partition(0, 0, 1 << 20);
    let missing = fetch(&name, vec![end(), fetch_partition(7, 0, 1 << 20)]);
    let beyond = fetch(&name, vec![fetch_partition(0, 5, 1 << 20)]);
    let table = [
        (
            missing.with_max_wait_ms(LONG),
            vec![NONE, UNKNOWN_TOPIC_OR_PARTITION],
        ),
        (beyond.with_max_wait_ms(LONG), vec![OFFSET_OUT_OF_RANGE]),
        (
            fetch(&name, vec![end()])
                .with_max_wait_ms(LONG)
                .with_min_bytes(0),
            vec![NONE],
        ),
        (
            fetch(&name, vec![end()])
                .with_max_wait_ms(0)
                .with_min_bytes(9999),
            vec![NONE],
        ),
    ];
    for (request, expected) in table {
        let begun = Instant::now();
        let answer = world.client.ask(VERSION, &request);
        let partitions = &answer.responses[0].partitions;
        let codes: Vec<_> = partitions.iter().map(|read| read.error_code).collect();
        assert_eq!(codes, expected);
        assert!(
            begun.elapsed() < SOON,
            "{:?} for {expected:?}",
            begun.elapsed()
        );
    }
}
