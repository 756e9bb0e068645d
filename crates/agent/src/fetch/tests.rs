//! The read path as consumers see it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use alluvium_metadata::{AdvanceLogStart, Command};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{ErrorCode, TopicPartition};

use super::{OffsetSpec, ReadLimits, ReadPartition};
use crate::AgentConfig;
use crate::produce::PartitionRecords;
use crate::testing::{
    NO_WAIT, NOW, PLAIN, Rig, batch, decode, idempotent, large_batch, record, submit, values,
};

mod ahead;
mod lag;
mod places;
mod transactions;

/// Nothing stays in memory: every read goes through the cache to the bucket.
fn forgetful() -> AgentConfig {
    AgentConfig {
        recent_bytes: 0,
        early_puts_per_second: 1000,
        ..AgentConfig::default()
    }
}

fn ask(partition: TopicPartition, offset: i64, max_bytes: usize) -> ReadPartition {
    ReadPartition {
        partition,
        offset,
        max_bytes,
    }
}

#[tokio::test]
async fn limits_mean_what_they_mean_to_kafka() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 3, &[]).await;
    let at = |index| TopicPartition::new(topic, index);
    let one = batch(&["0123456789"]);
    let size = one.len();
    for partition in [at(0), at(1)] {
        for _ in 0..5 {
            rig.append(partition, one.clone()).await;
        }
    }
    // (bytes per partition, bytes over all) -> batches of the two partitions.
    let cases = [
        ((usize::MAX, usize::MAX), (5, 5)),
        ((size, usize::MAX), (1, 1)),
        ((2 * size + size / 2, usize::MAX), (2, 2)),
        ((1, usize::MAX), (1, 0)),
        ((0, 0), (1, 0)),
        ((usize::MAX, 1), (1, 0)),
        ((usize::MAX, 3 * size), (3, 0)),
        ((usize::MAX, 7 * size), (5, 2)),
        ((4 * size, 6 * size), (4, 2)),
    ];
    for ((each, all), expected) in cases {
        let asked = [
            ask(at(2), 0, each),
            ask(at(0), 0, each),
            ask(at(1), 0, each),
        ];
        let limits = ReadLimits {
            max_bytes: all,
            ..NO_WAIT
        };
        let results = rig.fetch.read(&asked, limits).await;
        let counts: Vec<_> = results.iter().map(|result| decode(result).len()).collect();
        assert_eq!(
            counts,
            [0, expected.0, expected.1],
            "{each} each, {all} in all"
        );
        assert!(results.iter().all(|result| result.error == ErrorCode::None));
        assert_eq!(
            (results[0].high_watermark, results[1].high_watermark),
            (0, 5)
        );
    }
}

#[tokio::test]
async fn offsets_out_of_range_and_unknown_partitions_fail_alone() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 2, &[]).await;
    let at = TopicPartition::new(topic, 0);
    for text in ["a", "b", "c"] {
        rig.append(at, batch(&[text])).await;
    }
    let raise = AdvanceLogStart {
        partition: at,
        offset: 1,
    };
    rig.metadata
        .propose(Command::AdvanceLogStart(raise))
        .await
        .unwrap();
    use ErrorCode as Code;
    let unknown = TopicPartition::new(topic, 2);
    let cases = [
        (ask(at, 0, 1000), Code::OffsetOutOfRange, 3),
        (ask(at, -1, 1000), Code::OffsetOutOfRange, 3),
        (ask(at, 4, 1000), Code::OffsetOutOfRange, 3),
        (ask(at, 3, 1000), Code::None, 3),
        (ask(at, 1, 1000), Code::None, 3),
        (ask(unknown, 0, 1000), Code::UnknownTopicOrPartition, -1),
    ];
    let asked: Vec<_> = cases.iter().map(|(asked, ..)| *asked).collect();
    let waiting = ReadLimits {
        max_wait: Duration::from_secs(600),
        min_bytes: 1 << 20,
        ..NO_WAIT
    };
    let results = rig.fetch.read(&asked, waiting).await;
    for ((asked, error, high_watermark), result) in cases.iter().zip(&results) {
        assert_eq!(result.error, *error, "{asked:?}");
        assert_eq!(result.high_watermark, *high_watermark);
        let expected = if asked.offset == 1 {
            vec!["b", "c"]
        } else {
            vec![]
        };
        assert_eq!(values(&decode(result)), expected);
    }
}

#[tokio::test]
async fn an_offset_inside_a_batch_gives_the_whole_batch() {
    for lane in ["auto", "object"] {
        let rig = Rig::with(forgetful()).await;
        let topic = rig.topic("t", 1, &[("alluvium.lane", lane)]).await;
        let at = TopicPartition::new(topic, 0);
        rig.append(at, batch(&["a"])).await;
        rig.append(at, batch(&["b", "c", "d"])).await;
        rig.append(at, batch(&["e"])).await;
        for offset in 1..4 {
            let records = decode(&rig.read_from(at, offset).await);
            assert_eq!(records[0].offset, 1);
            assert_eq!(
                values(&records),
                ["b", "c", "d", "e"],
                "{lane}, offset {offset}"
            );
        }
    }
}

/// Sends the batches so that they end up in one chunk.
async fn one_chunk(rig: &Rig, at: TopicPartition, batches: Vec<Bytes>) {
    let connection = rig.produce.connect();
    let sent: Vec<_> = batches
        .into_iter()
        .map(|batch| submit(&connection, at, batch))
        .collect();
    for pending in sent {
        assert_eq!(pending.await.unwrap()[0].error, ErrorCode::None);
    }
}

#[tokio::test]
async fn a_long_run_is_read_from_its_middle_without_reading_all_of_it() {
    let rig = Rig::with(forgetful()).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let sizes = [3000, 70_000, 20_000, 150, 90_000, 40_000];
    let batches = |seed: u8| large_batch(sizes[usize::from(seed) % sizes.len()], seed);
    let sent: Vec<_> = (0..120).map(batches).collect();
    one_chunk(&rig, at, sent.clone()).await;
    assert_eq!(rig.runs(at), (0, 1));
    for offset in [0, 1, 7, 53, 118, 119] {
        let asked = [ask(at, offset, 200_000)];
        let result = rig.fetch.read(&asked, NO_WAIT).await.remove(0);
        let records = decode(&result);
        assert_eq!(records[0].offset, offset);
        for record in &records {
            let sent = &sent[usize::try_from(record.offset).unwrap()];
            assert_eq!(
                &records::decode(sent, usize::MAX).unwrap()[0].value,
                &record.value
            );
        }
        assert!(
            records.len() > 2 || offset > 117,
            "{} at {offset}",
            records.len()
        );
    }
    assert_eq!(rig.read_all(at, 150_000).await.len(), 120);
    assert_eq!(rig.read_all(at, 1).await.len(), 120);
}

#[tokio::test]
async fn a_run_that_duplicates_cut_in_two_is_read_from_anywhere() {
    let rig = Rig::with(forgetful()).await;
    let topic = rig.topic("t", 2, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 1);
    let numbered = |number: i32| {
        let text = format!("{number} {}", "x".repeat(1500));
        idempotent(&[&text, &text], 5, number * 2)
    };
    rig.append(at, numbered(0)).await;
    rig.append(at, numbered(1)).await;
    // In the next chunk the duplicates leave holes at its beginning and in its middle.
    let mut batches = vec![numbered(1), numbered(0)];
    batches.extend((2..150).map(numbered));
    batches.push(numbered(149));
    batches.extend((150..300).map(numbered));
    one_chunk(&rig, at, batches).await;
    assert_eq!(rig.runs(at), (0, 4));
    for offset in (0..600).step_by(7) {
        let asked = [ask(at, offset, 9000)];
        let result = rig.fetch.read(&asked, NO_WAIT).await.remove(0);
        let records = decode(&result);
        assert_eq!(records[0].offset, offset / 2 * 2);
        for record in &records {
            let text = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
            assert_eq!(
                text.split_once(' ').unwrap().0,
                (record.offset / 2).to_string()
            );
        }
    }
}

#[tokio::test]
async fn damage_in_the_bucket_fails_its_partition_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let bucket = Bucket::open(&url, LocalDisk::shared()).await.unwrap();
    let rig = Rig::over(forgetful(), bucket).await;
    let topic = rig.topic("t", 2, &[("alluvium.lane", "object")]).await;
    let at = |index| TopicPartition::new(topic, index);
    let both = |text| {
        let records = |index| PartitionRecords {
            partition: at(index),
            records: batch(&[text]),
        };
        rig.produce.connect().submit(vec![records(0), records(1)])
    };
    both("first").await.unwrap();
    both("second").await.unwrap();
    let newest = rig.bucket.list("", None, 10).await.unwrap();
    let second = newest.iter().max_by_key(|object| object.modified).unwrap();
    let objects: Vec<_> = newest
        .iter()
        .map(|object| dir.path().join(&object.key))
        .collect();
    // One bit in the first batch of whichever object holds "second".
    let _ = second;
    for path in objects {
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.windows(6).any(|window| window == b"second") {
            bytes[40 + 65] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let asked = [
        ask(at(0), 1, 1000),
        ask(at(1), 0, 1000),
        ask(at(0), 0, 1000),
    ];
    let results = rig.fetch.read(&asked, NO_WAIT).await;
    assert_eq!(results[0].error, ErrorCode::KafkaStorageError);
    assert!(results[0].records.is_empty());
    assert_eq!(values(&decode(&results[1])), ["first", "second"]);
    // What lies before the damage is given.
    assert_eq!(values(&decode(&results[2])), ["first"]);
}

#[tokio::test]
async fn a_waiting_reader_wakes_when_there_is_enough_or_its_topic_goes() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 2, &[]).await;
    let other = rig.topic("other", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let text = batch(&["0123456789"]);
    let limits = |batches: usize| ReadLimits {
        max_wait: Duration::from_secs(600),
        min_bytes: batches * text.len(),
        ..NO_WAIT
    };
    let asked = [ask(at, 0, usize::MAX)];
    let one = rig.fetch.read(&asked, limits(1));
    let three = rig.fetch.read(&asked, limits(3));
    tokio::pin!(one, three);
    assert!(futures::poll!(&mut one).is_pending());
    rig.append(TopicPartition::new(other, 0), text.clone())
        .await;
    assert!(futures::poll!(&mut one).is_pending() && futures::poll!(&mut three).is_pending());
    rig.append(at, text.clone()).await;
    assert_eq!(one.await[0].high_watermark, 1);
    rig.append(at, text.clone()).await;
    assert!(futures::poll!(&mut three).is_pending());
    rig.append(at, text.clone()).await;
    assert_eq!(decode(&three.await[0]).len(), 3);

    let empty = [ask(TopicPartition::new(topic, 1), 0, usize::MAX)];
    let gone = rig.fetch.read(&empty, limits(1));
    tokio::pin!(gone);
    assert!(futures::poll!(&mut gone).is_pending());
    rig.metadata
        .propose(Command::DeleteTopic { topic })
        .await
        .unwrap();
    assert_eq!(gone.await[0].error, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline_and_at_shutdown() {
    let rig = Rig::new().await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    rig.append(at, batch(&["v"])).await;
    let limits = ReadLimits {
        max_wait: Duration::from_secs(5),
        min_bytes: 1 << 20,
        ..NO_WAIT
    };
    let started = Instant::now();
    let results = rig.fetch.read(&[ask(at, 0, usize::MAX)], limits).await;
    assert_eq!(values(&decode(&results[0])), ["v"]);
    assert_eq!(started.elapsed(), Duration::from_secs(5));

    let limits = ReadLimits {
        max_wait: Duration::MAX,
        ..limits
    };
    let asked = [ask(at, 1, usize::MAX)];
    let (results, ()) = tokio::join!(rig.fetch.read(&asked, limits), rig.fetch.shutdown());
    assert_eq!(results[0].error, ErrorCode::None);
    assert_eq!(rig.read_from(at, 0).await.high_watermark, 1);
}

#[tokio::test]
async fn settling_changes_no_byte_that_readers_see() {
    let config = AgentConfig {
        settle_interval: Duration::from_millis(40),
        recent_bytes: 0,
        ..AgentConfig::default()
    };
    let rig = Rig::with(config).await;
    let topic = rig.topic("t", 2, &[]).await;
    let mixed = rig.topic("mixed", 1, &[]).await;
    let at = |index| TopicPartition::new(topic, index);
    for number in 0..30 {
        rig.append(at(number % 2), batch(&[&format!("{number}"), "x"]))
            .await;
    }
    // Inline, then in an object, then inline again.
    let between = TopicPartition::new(mixed, 0);
    rig.append(between, batch(&["a"])).await;
    rig.append(between, large_batch(100_000, 1)).await;
    rig.append(between, batch(&["z"])).await;
    assert_eq!(rig.runs(between), (2, 1));
    let mut before = Vec::new();
    for partition in [at(0), at(1), between] {
        before.push(rig.read_from(partition, 0).await.records.concat());
    }
    let mut changes = rig.metadata.subscribe();
    let settler = rig.settler();
    let settled = async {
        while rig.metadata.read(alluvium_metadata::State::inline_bytes) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), settled)
        .await
        .unwrap();
    assert!(
        changes.try_recv().is_err(),
        "readers have nothing to wake for"
    );
    assert_eq!(
        (rig.runs(at(0)), rig.runs(at(1)), rig.runs(between)),
        ((0, 1), (0, 1), (0, 3))
    );
    for (partition, before) in [at(0), at(1), between].into_iter().zip(before) {
        assert!(
            rig.read_from(partition, 0).await.records.concat() == before,
            "{partition:?}"
        );
    }
    assert_eq!(decode(&rig.read_from(at(1), 17).await)[0].offset, 16);
    // What comes later is settled at the latest when the settler stops.
    rig.append(at(0), batch(&["last"])).await;
    settler.shutdown().await;
    assert_eq!(rig.runs(at(0)), (0, 2));
    assert_eq!(rig.read_all(at(0), 50).await.len(), 31);
}

#[tokio::test]
async fn offsets_are_found_by_time_in_every_codec_and_place() {
    for lane in ["auto", "object"] {
        let rig = Rig::with(forgetful()).await;
        let topic = rig.topic("t", 2, &[("alluvium.lane", lane)]).await;
        let at = TopicPartition::new(topic, 0);
        let list = |spec| rig.fetch.list_offset(at, spec, false);
        assert_eq!(list(OffsetSpec::MaxTimestamp).await, Ok((-1, -1)));
        assert_eq!(list(OffsetSpec::Timestamp(0)).await, Ok((-1, -1)));
        let mut offset = 0;
        for (number, codec) in (0i64..).zip(Codec::ALL) {
            let stamped = |millis| Record {
                timestamp: NOW + number * 100 + millis,
                ..record("v")
            };
            // The greatest timestamp of a batch stands in its middle.
            let batch = [stamped(0), stamped(50), stamped(20)];
            let batch = records::encode(&batch, BatchOptions { codec, ..PLAIN }).unwrap();
            assert_eq!(rig.append(at, batch).await, offset);
            offset += 3;
        }
        for (millis, expected) in [
            (-5, Some(0)),
            (0, Some(0)),
            (1, Some(1)),
            (51, Some(3)),
            (350, Some(10)),
            (451, None),
        ] {
            let found = list(OffsetSpec::Timestamp(NOW + millis)).await.unwrap();
            assert_eq!(
                (found.0 >= 0).then_some(found.0),
                expected,
                "{lane}: {millis}"
            );
            assert!(expected.is_none() || found.1 >= NOW + millis);
        }
        assert_eq!(list(OffsetSpec::MaxTimestamp).await, Ok((13, NOW + 450)));
        assert_eq!(list(OffsetSpec::Latest).await, Ok((15, -1)));
        // The log start in the middle of a batch.
        let raise = AdvanceLogStart {
            partition: at,
            offset: 5,
        };
        rig.metadata
            .propose(Command::AdvanceLogStart(raise))
            .await
            .unwrap();
        assert_eq!(list(OffsetSpec::Earliest).await, Ok((5, -1)));
        assert_eq!(list(OffsetSpec::Timestamp(0)).await, Ok((5, NOW + 120)));
        assert_eq!(
            list(OffsetSpec::Timestamp(NOW + 130)).await,
            Ok((6, NOW + 200))
        );
        let unknown = TopicPartition::new(topic, 2);
        let unknown = rig
            .fetch
            .list_offset(unknown, OffsetSpec::Earliest, false)
            .await;
        assert_eq!(unknown, Err(ErrorCode::UnknownTopicOrPartition));
    }
}

#[tokio::test]
async fn the_greatest_time_is_that_of_a_record_that_is_still_there() {
    let rig = Rig::with(forgetful()).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let stamped = |millis| {
        let record = Record {
            timestamp: NOW + millis,
            ..record("v")
        };
        records::encode(&[record], PLAIN).unwrap()
    };
    one_chunk(&rig, at, [50, 10, 30, 20].map(stamped).into()).await;
    one_chunk(&rig, at, vec![stamped(25)]).await;
    for (log_start, expected) in [(0, (0, NOW + 50)), (1, (2, NOW + 30)), (3, (4, NOW + 25))] {
        let raise = AdvanceLogStart {
            partition: at,
            offset: log_start,
        };
        rig.metadata
            .propose(Command::AdvanceLogStart(raise))
            .await
            .unwrap();
        let found = rig
            .fetch
            .list_offset(at, OffsetSpec::MaxTimestamp, false)
            .await;
        assert_eq!(found, Ok(expected), "log start {log_start}");
    }
}

#[tokio::test]
async fn a_time_is_found_in_a_long_run() {
    let rig = Rig::with(forgetful()).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let batches = (0..400).map(|number| {
        let text = "x".repeat(2000);
        let stamped = Record {
            timestamp: NOW + number * 10,
            ..record(&text)
        };
        records::encode(&[stamped], PLAIN).unwrap()
    });
    one_chunk(&rig, at, batches.collect()).await;
    assert_eq!(rig.runs(at), (0, 1));
    for number in [0, 1, 31, 32, 33, 200, 399] {
        let found = rig
            .fetch
            .list_offset(at, OffsetSpec::Timestamp(NOW + number * 10 - 5), false)
            .await;
        assert_eq!(found, Ok((number, NOW + number * 10)));
    }
    let greatest = rig
        .fetch
        .list_offset(at, OffsetSpec::MaxTimestamp, false)
        .await;
    assert_eq!(greatest, Ok((399, NOW + 3990)));
}
