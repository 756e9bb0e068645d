//! A store that is away, and what must not grow or be overtaken meanwhile.

use std::time::Duration;

use alluvium_metadata::State;
use alluvium_types::{ErrorCode, TopicPartition};
use tokio::time::Instant;

use crate::AgentConfig;
use crate::produce::INLINE_LEAST;
use crate::testing::{MoodyDisk, Rig, batch, idempotent, large_batch, send, submit};

#[tokio::test]
async fn what_came_too_early_for_a_full_buffer_is_not_overtaken_by_what_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let config = AgentConfig {
        chunk_bytes: 1,
        ..AgentConfig::default()
    };
    let rig = Rig::over(config, bucket).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    let files = mood.files();
    mood.hold(0);
    let filling = submit(&rig.produce.connect(), at, large_batch(200, 1));
    mood.begun(files + 1).await;
    let numbered = |number: i32| idempotent(&[&number.to_string()], 7, number);
    let connection = rig.produce.connect();
    let refused = send(&connection, at, numbered(0)).await;
    assert_eq!(refused.error, ErrorCode::ThrottlingQuotaExceeded);
    mood.free();
    assert_eq!(filling.await.unwrap()[0].base_offset, 0);
    let early = send(&connection, at, numbered(1)).await;
    assert_eq!(
        early.error,
        ErrorCode::OutOfOrderSequenceNumber,
        "{early:?}"
    );
    for number in 0..2 {
        let stored = send(&connection, at, numbered(number)).await;
        assert_eq!(stored.base_offset, i64::from(number) + 1, "{stored:?}");
    }
}

#[tokio::test]
async fn inline_bytes_that_nobody_settles_do_not_grow_without_end() {
    let rig = Rig::with(AgentConfig {
        inline_bytes_per_second: 1 << 30,
        settle_bytes: 1,
        ..AgentConfig::default()
    });
    let rig = rig.await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let connection = rig.produce.connect();
    let batches = 100;
    for number in 0..batches {
        let stored = send(&connection, at, large_batch(60 << 10, number)).await;
        assert_eq!(stored.base_offset, i64::from(number), "{stored:?}");
    }
    let inline = rig.metadata.read(State::inline_bytes);
    let most = INLINE_LEAST + (64 << 10);
    assert!((1..=most).contains(&inline), "{inline} bytes are inline");
    let (inline, objects) = rig.runs(at);
    assert_eq!(inline + objects, usize::from(batches));
    let settler = rig.settler();
    while rig.runs(at).0 > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    settler.shutdown().await;
    rig.append(at, batch(&["inline again"])).await;
    assert_eq!(rig.runs(at).0, 1);
    assert_eq!(
        rig.read_all(at, usize::MAX).await.len(),
        usize::from(batches) + 1
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_in_the_buffer_than_clients_do() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let config = AgentConfig {
        concurrent_puts: 1,
        chunk_bytes: 1000,
        ..AgentConfig::default()
    };
    let rig = Rig::over(config, bucket).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "object")]).await;
    let at = TopicPartition::new(topic, 0);
    mood.fail(true);
    let started = Instant::now();
    // One chunk each; the last would be sealed after 50 seconds.
    let sent: Vec<_> = (0..3)
        .map(|number| submit(&rig.produce.connect(), at, large_batch(900, number)))
        .collect();
    let last = sent.into_iter().next_back().unwrap().await.unwrap();
    assert_eq!(last[0].error, ErrorCode::KafkaStorageError, "{last:?}");
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.produce.held_bytes(), 0);
}
