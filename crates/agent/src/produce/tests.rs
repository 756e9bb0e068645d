//! The write path as producers see it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use tokio::time::Instant;

use alluvium_protocol::batch::BatchHeader;
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_types::{ErrorCode, TopicPartition};

use super::PartitionRecords;
use crate::AgentConfig;
use crate::testing::{
    MoodyDisk, NOW, PLAIN, Rig, batch, batch_with, idempotent, large_batch, record, send, submit,
    values,
};

mod outage;

#[tokio::test]
async fn every_connection_keeps_its_order_and_every_offset_is_given_once() {
    for lane in ["auto", "object", "low-latency"] {
        let rig = Rig::with(AgentConfig {
            early_puts_per_second: 1000,
            ..AgentConfig::default()
        });
        let rig = rig.await;
        let topic = rig.topic("t", 2, &[("alluvium.lane", lane)]).await;
        let clients = (0..6).map(|client| {
            let connection = rig.produce.connect();
            async move {
                let mut pending = Vec::new();
                for number in 0..40 {
                    let partition = TopicPartition::new(topic, number % 2);
                    let value = format!("{client}/{number}");
                    pending.push((
                        value.clone(),
                        submit(&connection, partition, batch(&[&value])),
                    ));
                    if number % 5 == 4 {
                        tokio::task::yield_now().await;
                    }
                }
                let mut acknowledged = Vec::new();
                for (number, (value, pending)) in pending.into_iter().enumerate() {
                    let result = pending.await.unwrap().remove(0);
                    assert_eq!(result.error, ErrorCode::None);
                    acknowledged.push((number % 2, result.base_offset, value));
                }
                acknowledged
            }
        });
        let mut acknowledged = join_all(clients).await.concat();
        acknowledged.sort();
        let mut read = Vec::new();
        for partition in 0..2 {
            let at = TopicPartition::new(topic, i32::try_from(partition).unwrap());
            let records = rig.read_all(at, 1000).await;
            let texts = values(&records);
            for client in 0..6 {
                let numbers: Vec<usize> = texts
                    .iter()
                    .filter_map(|text| text.strip_prefix(&format!("{client}/"))?.parse().ok())
                    .collect();
                assert!(numbers.is_sorted(), "{lane}: client {client}: {numbers:?}");
                assert_eq!(numbers.len(), 20);
            }
            read.extend(
                records
                    .iter()
                    .zip(texts)
                    .map(|(record, text)| (partition, record.offset, text)),
            );
        }
        assert_eq!(acknowledged, read, "{lane}");
    }
}

#[tokio::test]
async fn a_bad_partition_does_not_fail_its_neighbours_and_stores_nothing() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 12, &[]).await;
    let small = rig.topic("small", 1, &[("max.message.bytes", "100")]).await;
    let keyed = rig
        .topic("keyed", 1, &[("cleanup.policy", "compact")])
        .await;
    let timed = rig
        .topic("u-times", 2, &[("message.timestamp.before.max.ms", "1000")])
        .await;
    let at = |index| TopicPartition::new(topic, index);
    let good = || batch(&["good"]);
    let mut bad_crc = BytesMut::from(good());
    *bad_crc.last_mut().unwrap() ^= 1;
    let keyless = Record {
        key: None,
        ..record("v")
    };
    let old = Record {
        timestamp: NOW - 1001,
        ..record("v")
    };
    let none = Record {
        timestamp: -1,
        ..record("v")
    };
    let transactional = BatchOptions {
        producer: Some((1, 0, 0)),
        transactional: true,
        ..PLAIN
    };
    let encode = |record: Record| records::encode(&[record], PLAIN).unwrap();
    use ErrorCode as Code;
    let request = [
        (at(0), good(), Code::None),
        (at(99), good(), Code::UnknownTopicOrPartition),
        (at(1), bad_crc.freeze(), Code::CorruptMessage),
        (at(2), [good(), good()].concat().into(), Code::InvalidRecord),
        (at(3), Bytes::new(), Code::InvalidRecord),
        (at(4), good().slice(..70), Code::CorruptMessage),
        (
            TopicPartition::new(small, 0),
            batch(&[&"x".repeat(100)]),
            Code::MessageTooLarge,
        ),
        (
            TopicPartition::new(keyed, 0),
            encode(keyless),
            Code::InvalidRecord,
        ),
        (
            TopicPartition::new(timed, 0),
            encode(old),
            Code::InvalidTimestamp,
        ),
        (TopicPartition::new(timed, 1), encode(none), Code::None),
        (
            at(5),
            batch_with(&["v"], transactional),
            Code::TransactionalIdAuthorizationFailed,
        ),
        (at(6), good(), Code::None),
    ];
    let records = |(partition, records, _): &(TopicPartition, Bytes, Code)| PartitionRecords {
        partition: *partition,
        records: records.clone(),
    };
    let pending = rig
        .produce
        .connect()
        .submit(request.iter().map(records).collect());
    let results = pending.await.unwrap();
    for ((partition, _, code), result) in request.iter().zip(&results) {
        assert_eq!(result.error, *code, "{partition:?}: {:?}", result.message);
        let stored = i64::from(*code == Code::None);
        assert_eq!(result.base_offset, stored - 1);
        assert_eq!(result.message.is_some(), stored == 0);
        if *code != Code::UnknownTopicOrPartition {
            assert_eq!(rig.read_from(*partition, 0).await.high_watermark, stored);
        }
    }
    assert!(
        rig.produce
            .connect()
            .submit(Vec::new())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_batch_sent_again_is_answered_with_its_first_offset() {
    for lane in ["auto", "object"] {
        let rig = Rig::new().await;
        let topic = rig.topic("t", 1, &[("alluvium.lane", lane)]).await;
        let at = TopicPartition::new(topic, 0);
        assert_eq!(rig.append(at, batch(&["other"])).await, 0);
        assert_eq!(rig.append(at, idempotent(&["a", "b"], 7, 0)).await, 1);
        assert_eq!(rig.append(at, idempotent(&["c"], 7, 2)).await, 3);
        assert_eq!(rig.append(at, idempotent(&["a", "b"], 7, 0)).await, 1);
        // Again, and with the next, in one chunk.
        let connection = rig.produce.connect();
        let again = submit(&connection, at, idempotent(&["c"], 7, 2));
        let next = submit(&connection, at, idempotent(&["d"], 7, 3));
        assert_eq!(again.await.unwrap()[0].base_offset, 3);
        assert_eq!(next.await.unwrap()[0].base_offset, 4);
        let gap = rig.send(at, idempotent(&["f"], 7, 5)).await;
        assert_eq!(gap.error, ErrorCode::OutOfOrderSequenceNumber);
        let records = rig.read_all(at, usize::MAX).await;
        assert_eq!(values(&records), ["other", "a", "b", "c", "d"]);
    }
}

#[tokio::test]
async fn the_topic_decides_time_and_codec() {
    let rig = Rig::new().await;
    let stamped = rig
        .topic("s", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let packed = rig.topic("p", 1, &[("compression.type", "zstd")]).await;
    let (stamped, packed) = (
        TopicPartition::new(stamped, 0),
        TopicPartition::new(packed, 0),
    );
    rig.clock_advance(5000);
    let old = Record {
        timestamp: 3,
        ..record("v")
    };
    let result = rig
        .send(stamped, records::encode(&[old], PLAIN).unwrap())
        .await;
    assert_eq!(result.log_append_time, NOW + 5000);
    assert_eq!(
        rig.read_all(stamped, usize::MAX).await[0].timestamp,
        NOW + 5000
    );

    let snappy = BatchOptions {
        codec: Codec::Snappy,
        ..PLAIN
    };
    let zstd = BatchOptions {
        codec: Codec::Zstd,
        ..PLAIN
    };
    let as_it_is = batch_with(&["b"], zstd);
    assert_eq!(
        rig.send(packed, batch_with(&["a"], snappy))
            .await
            .log_append_time,
        -1
    );
    rig.append(packed, as_it_is.clone()).await;
    let stored = rig.read_from(packed, 1).await.records.concat();
    assert_eq!(stored[16..], as_it_is[16..]);
    let stored = rig.read_from(packed, 0).await.records.concat();
    assert_eq!(
        BatchHeader::parse(&stored).unwrap().codec(),
        Ok(Codec::Zstd)
    );
    assert_eq!(values(&rig.read_all(packed, usize::MAX).await), ["a", "b"]);
}

#[tokio::test]
async fn a_topic_that_changes_is_seen_by_the_next_request() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let connection = rig.produce.connect();
    let before = submit(&connection, at, batch(&["before"]));
    rig.set(topic, "alluvium.lane", "auto").await;
    let after = submit(&connection, at, batch(&["after"]));
    assert_eq!(before.await.unwrap()[0].base_offset, 0);
    assert_eq!(after.await.unwrap()[0].base_offset, 1);
    assert_eq!(rig.runs(at), (1, 1));
    rig.set(topic, "max.message.bytes", "1").await;
    let refused = rig.send(at, batch(&["large"])).await;
    assert_eq!(refused.error, ErrorCode::MessageTooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_each_answer_does_not_wait_for_the_interval() {
    for (lane, runs) in [("auto", (20, 0)), ("object", (0, 20))] {
        let rig = Rig::new().await;
        let topic = rig.topic("t", 1, &[("alluvium.lane", lane)]).await;
        let at = TopicPartition::new(topic, 0);
        let connection = rig.produce.connect();
        let started = Instant::now();
        for _ in 0..20 {
            assert_eq!(
                send(&connection, at, batch(&["v"])).await.error,
                ErrorCode::None
            );
        }
        assert!(
            started.elapsed() < Duration::from_millis(250),
            "{lane}: {:?}",
            started.elapsed()
        );
        assert_eq!(rig.runs(at), runs);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_a_client_has_under_way_at_once_share_a_chunk() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let connection = rig.produce.connect();
    let burst = |count: usize| {
        let sent: Vec<_> = (0..count)
            .map(|_| submit(&connection, at, batch(&["v"])))
            .collect();
        async {
            let started = Instant::now();
            for answer in join_all(sent).await {
                assert_eq!(answer.unwrap()[0].error, ErrorCode::None);
            }
            started.elapsed()
        }
    };
    let interval = rig.config.flush_interval;
    assert!(burst(5).await < interval);
    assert_eq!(rig.objects().await, 1);
    assert!(burst(5).await < interval);
    assert_eq!(rig.objects().await, 2);
    // Two where five were usual: more may come, until the interval has shown that it does not.
    let waited = burst(2).await;
    assert!(waited >= interval - Duration::from_millis(20), "{waited:?}");
    assert!(burst(2).await < interval / 2);
    assert_eq!(rig.objects().await, 4);
}

#[tokio::test(start_paused = true)]
async fn early_puts_cost_tokens_and_a_connection_that_left_is_not_waited_for() {
    let config = AgentConfig {
        early_puts_per_second: 1,
        ..AgentConfig::default()
    };
    let rig = Rig::with(config).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let connection = rig.produce.connect();
    let started = Instant::now();
    send(&connection, at, batch(&["first"])).await;
    assert!(started.elapsed() < Duration::from_millis(50));
    send(&connection, at, batch(&["second"])).await;
    assert!(started.elapsed() >= Duration::from_millis(250));

    let rig = Rig::new().await;
    rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let connection = rig.produce.connect();
    for pending in [
        submit(&connection, at, batch(&["a"])),
        submit(&connection, at, batch(&["b"])),
    ] {
        pending.await.unwrap();
    }
    let started = Instant::now();
    let last = submit(&connection, at, batch(&["c"]));
    drop(connection);
    assert_eq!(last.await.unwrap()[0].base_offset, 2);
    assert!(started.elapsed() < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_full_chunk_does_not_wait() {
    let config = AgentConfig {
        chunk_bytes: 200 << 10,
        early_puts_per_second: 0,
        inline_bytes_per_second: 0,
        ..AgentConfig::default()
    };
    let rig = Rig::with(config).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let connection = rig.produce.connect();
    let started = Instant::now();
    let pending: Vec<_> = (0..4)
        .map(|seed| submit(&connection, at, large_batch(100 << 10, seed)))
        .collect();
    let mut waited = Vec::new();
    for pending in pending {
        assert_eq!(pending.await.unwrap()[0].error, ErrorCode::None);
        waited.push(started.elapsed() >= Duration::from_millis(250));
    }
    // One of them fills a chunk only together with the next, which does not fit beside it.
    assert_eq!(waited, [false, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn low_latency_topics_go_inline_where_others_go_to_objects() {
    let rig = Rig::new().await;
    let fast = rig
        .topic("fast", 1, &[("alluvium.lane", "low-latency")])
        .await;
    let auto = rig.topic("auto", 1, &[]).await;
    let request = |topic| {
        let partition = TopicPartition::new(topic, 0);
        let batches = (0..8).map(|seed| large_batch(30 << 10, seed));
        let connection = rig.produce.connect();
        let sent: Vec<_> = batches
            .map(|batch| submit(&connection, partition, batch))
            .collect();
        async move {
            let _ = connection;
            join_all(sent).await
        }
    };
    tokio::join!(request(fast), request(auto));
    assert_eq!(rig.runs(TopicPartition::new(fast, 0)), (4, 0));
    assert_eq!(rig.runs(TopicPartition::new(auto, 0)), (0, 1));
    // A batch that fits into no Raft entry goes to an object, in its place.
    let at = TopicPartition::new(fast, 0);
    let connection = rig.produce.connect();
    let sent: Vec<_> = [batch(&["a"]), large_batch(100 << 10, 1), batch(&["z"])]
        .map(|batch| submit(&connection, at, batch))
        .into();
    let offsets = join_all(sent)
        .await
        .into_iter()
        .map(|answer| answer.unwrap()[0].base_offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [8, 9, 10]);
}

#[tokio::test]
async fn a_slow_put_is_not_overtaken_in_its_partition_but_in_others() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let config = AgentConfig {
        flush_interval: Duration::from_millis(1),
        ..AgentConfig::default()
    };
    let rig = Rig::over(config, bucket).await;
    let topic = rig.topic("t", 2, &[("alluvium.lane", "object")]).await;
    let (shared, other) = (TopicPartition::new(topic, 0), TopicPartition::new(topic, 1));
    let files = mood.files();
    mood.hold(0);
    let mut slow = submit(&rig.produce.connect(), shared, idempotent(&["slow"], 1, 0));
    mood.begun(files + 1).await;
    assert_eq!(rig.append(other, batch(&["elsewhere"])).await, 0);
    let mut fast = submit(&rig.produce.connect(), shared, idempotent(&["fast"], 1, 1));
    mood.begun(files + 3).await;
    assert_eq!(rig.append(other, batch(&["elsewhere again"])).await, 1);
    assert!(slow.try_recv().is_err() && fast.try_recv().is_err());
    mood.free();
    assert_eq!(slow.await.unwrap()[0].base_offset, 0);
    assert_eq!(fast.await.unwrap()[0].base_offset, 1);
    assert_eq!(
        values(&rig.read_all(shared, usize::MAX).await),
        ["slow", "fast"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_long_makes_producers_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let rig = Rig::over(AgentConfig::default(), bucket).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    mood.fail(true);
    let started = Instant::now();
    let refused = rig.send(at, batch(&["lost"])).await;
    let retriable = [ErrorCode::KafkaStorageError, ErrorCode::RequestTimedOut];
    assert!(retriable.contains(&refused.error), "{refused:?}");
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(rig.produce.held_bytes(), 0);
    mood.fail(false);
    assert_eq!(rig.append(at, batch(&["kept"])).await, 0);
    assert_eq!(values(&rig.read_all(at, usize::MAX).await), ["kept"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_producer_is_stored_before_what_was_lost_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let rig = Rig::over(AgentConfig::default(), bucket).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let numbered = |number: i32| idempotent(&[&number.to_string()], 7, number);
    let connection = rig.produce.connect();
    mood.fail(true);
    let first = submit(&connection, at, numbered(0));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let second = submit(&connection, at, numbered(1));
    let first = first.await.unwrap().remove(0);
    mood.fail(false);
    let second = second.await.unwrap().remove(0);
    let third = send(&connection, at, numbered(2)).await;
    assert_eq!(first.error, ErrorCode::KafkaStorageError, "{first:?}");
    // Not the batch that the client waits for next: it sends both again behind the first.
    for result in [second, third] {
        assert_eq!(
            result.error,
            ErrorCode::OutOfOrderSequenceNumber,
            "{result:?}"
        );
    }
    let other = rig.send(at, idempotent(&["other"], 8, 0)).await;
    assert_eq!(other.error, ErrorCode::None);
    for number in 0..3 {
        let result = send(&connection, at, numbered(number)).await;
        assert_eq!(
            (result.error, result.base_offset),
            (ErrorCode::None, i64::from(number) + 1)
        );
    }
    assert_eq!(
        values(&rig.read_all(at, usize::MAX).await),
        ["other", "0", "1", "2"]
    );
    assert_eq!(rig.produce.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_answers_what_is_in_flight_and_refuses_what_comes_later() {
    let config = AgentConfig {
        early_puts_per_second: 0,
        ..AgentConfig::default()
    };
    let rig = Rig::with(config).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let connection = rig.produce.connect();
    let waiting = submit(&connection, at, batch(&["v"]));
    let started = Instant::now();
    rig.produce.shutdown().await;
    assert!(started.elapsed() < Duration::from_millis(250));
    assert_eq!(waiting.await.unwrap()[0].base_offset, 0);
    let late = send(&connection, at, batch(&["late"])).await;
    assert_eq!(late.error, ErrorCode::NotLeaderOrFollower);
    assert_eq!(rig.read_from(at, 0).await.high_watermark, 1);
}

#[tokio::test]
async fn an_agent_that_was_replaced_stores_nothing_more() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    rig.append(at, batch(&["before"])).await;
    rig.register_again().await;
    let refused = rig.send(at, batch(&["after"])).await;
    assert_eq!(refused.error, ErrorCode::NotLeaderOrFollower);
    assert_eq!(values(&rig.read_all(at, usize::MAX).await), ["before"]);
}
