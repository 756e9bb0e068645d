//! Stores that misbehave.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use alluvium_storage::bucket::{Failure, ObjectMeta, Store};
use alluvium_storage::disk::LocalDisk;
use async_trait::async_trait;

use alluvium_types::limits;

use super::*;
use crate::birth::Birth;
use crate::clean::output::{CleanedRun, Kept, Output, OutputError, Throttle};

const DAY: Millis = 24 * 3_600_000;

/// A store that gives wrong bytes, or takes objects and says nothing.
#[derive(Debug)]
struct Faulty {
    inner: Bucket,
    /// Reads of records that are wrong, from now on.
    wrong: Mutex<u32>,
    down: AtomicBool,
}

#[async_trait]
impl Store for Faulty {
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        self.inner.create(key, parts.to_vec()).await.unwrap();
        if self.down.load(Ordering::SeqCst) {
            return Err(Failure::Denied("gone".to_owned()));
        }
        Ok(())
    }
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let bytes = self.inner.read(key, range).await.unwrap();
        let mut wrong = self.wrong.lock().unwrap();
        if *wrong == 0 {
            return Ok(bytes);
        }
        *wrong -= 1;
        let mut bytes = BytesMut::from(&bytes[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        Ok(bytes.freeze())
    }
    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        Ok(self.inner.head(key).await.unwrap())
    }
    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<ObjectMeta>, Failure> {
        Ok(Vec::new())
    }
    async fn delete(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

async fn faulty(policy: TopicPolicy) -> (Rig, Arc<Faulty>) {
    let inner = Bucket::open("memory://", LocalDisk::shared())
        .await
        .unwrap();
    let store = Arc::new(Faulty {
        inner,
        wrong: Mutex::new(0),
        down: false.into(),
    });
    let bucket = Bucket::over("faulty", Arc::clone(&store) as _);
    (Rig::over(policy, bucket).await, store)
}

#[tokio::test]
async fn wrong_bytes_are_read_again_and_never_written() {
    let (rig, store) = faulty(compact()).await;
    let at = one(&rig).await;
    let object = [plain(&[("a", Some("1")), ("a", Some("2"))])];
    rig.append(at, &object).await;
    rig.append(at, &object).await;
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    *store.wrong.lock().unwrap() = 2;
    cleaner.round().await;
    assert_eq!(shown(&rig, at).await, [says(3, "a", Some("2"))]);
    // Keys that cannot be read make nobody else go, and are cleaned as soon as they can be.
    rig.append(at, &object).await;
    rig.append(at, &object).await;
    *store.wrong.lock().unwrap() = 3;
    cleaner.round().await;
    let offsets: Vec<_> = shown(&rig, at).await.iter().map(|it| it.0).collect();
    assert_eq!(offsets, [7]);
}

#[tokio::test]
async fn a_failure_between_object_and_command_leaves_the_log_as_it_was() {
    let (rig, store) = faulty(compact()).await;
    let at = one(&rig).await;
    rig.append(at, &[plain(&[("a", Some("1")), ("a", Some("2"))])])
        .await;
    let before = partition(&rig, at, Clone::clone);
    store.down.store(true, Ordering::SeqCst);
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    cleaner.round().await;
    assert_eq!(partition(&rig, at, Clone::clone), before);
    store.down.store(false, Ordering::SeqCst);
    cleaner.round().await;
    assert_eq!(shown(&rig, at).await, [says(1, "a", Some("2"))]);
}

/// Objects of a large run are written before its last batch is. Once they are old a sweep may have taken
/// them for orphans.
#[tokio::test]
async fn objects_that_waited_for_too_long_are_not_named() {
    for by_the_quorums_clock in [true, false] {
        objects_that_waited(by_the_quorums_clock).await;
    }
}

async fn objects_that_waited(by_the_quorums_clock: bool) {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    rig.append(at, &[plain(&[("a", Some("1")), ("b", Some("1"))])])
        .await;
    let before = shown(&rig, at).await;
    let object = partition(&rig, at, |partition| {
        match partition.runs().next().map(|run| &run.location) {
            Some(RunLocation::Object { object, .. }) => *object,
            other => panic!("{other:?}"),
        }
    });
    let mut throttle = Throttle::new(u64::MAX);
    let mut output = Output::new(&rig.context, &rig.context.bucket, 1, &mut throttle);
    let early_since = Some(Birth::now(&rig.context));
    let batch = Kept {
        end_offset: 2,
        bytes: batches(&rig, at).await[0].1.clone(),
        max_timestamp: NOW,
    };
    let early = output.write_early(at, 0, 2, vec![batch], 0).await.unwrap();
    output.add(CleanedRun {
        partition: at,
        base_offset: 0,
        end_offset: 2,
        source: Some((object, 0)),
        max_timestamp: NOW,
        early: vec![early],
        early_since,
        rest: Vec::new(),
    });
    if by_the_quorums_clock {
        rig.clock.advance(limits::CHUNK_AGE_MILLIS + 1);
        rig.append(at, &[plain(&[("c", Some("1"))])]).await;
        let refused = output.flush().await;
        assert!(
            matches!(refused, Err(OutputError::Refused(_))),
            "{refused:?}"
        );
    } else {
        let age = Duration::from_millis(limits::CHUNK_AGE_MILLIS.unsigned_abs() + 1);
        tokio::time::pause();
        tokio::time::advance(age).await;
        tokio::time::resume();
        let given_up = output.flush().await;
        assert!(matches!(given_up, Err(OutputError::TooOld)), "{given_up:?}");
    }
    assert_eq!(shown(&rig, at).await[..2], before[..]);
}

#[tokio::test]
async fn a_clock_that_is_ahead_has_nobody_refused() {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    rig.append(at, &[plain(&[("a", Some("1"))])]).await;
    // This agent's clock is right, and the cluster has heard of tomorrow.
    rig.clock.advance(DAY);
    rig.append(at, &[plain(&[("a", Some("2"))])]).await;
    rig.clock.advance(-DAY);
    let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
    cleaner.round().await;
    assert_eq!(shown(&rig, at).await, [says(1, "a", Some("2"))]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_left_alone_for_longer_and_longer() {
    for was_cleaned in [false, true] {
        a_log_that_cannot_be_read(was_cleaned).await;
    }
}

/// An object is lost that was not cleaned yet, or one that was.
async fn a_log_that_cannot_be_read(was_cleaned: bool) {
    let rig = Rig::new(compact()).await;
    let at = one(&rig).await;
    for value in ["1", "2"] {
        rig.append(at, &[plain(&[("a", Some(value))])]).await;
    }
    if was_cleaned {
        let mut cleaner = Cleaner::new(rig.context.clone(), &config(1 << 20));
        cleaner.round().await;
        assert_eq!(shown(&rig, at).await, [says(1, "a", Some("2"))]);
        rig.append(at, &[plain(&[("a", Some("3"))])]).await;
    }
    let object = partition(&rig, at, |partition| {
        let mut runs = partition.runs();
        runs.find_map(|run| match run.location {
            RunLocation::Object { object, .. } | RunLocation::Sparse { object, .. } => Some(object),
            _ => None,
        })
    });
    let object = object.unwrap();
    let bucket = &rig.context.bucket;
    bucket.delete(&key(object)).await.unwrap();
    let config = CompactionConfig::default();
    let mut cleaner = Cleaner::new(rig.context.clone(), &config);
    let mut tried = 0;
    for _ in 0..240 {
        let before = bucket.requests().get;
        cleaner.round().await;
        tried += u32::from(bucket.requests().get > before);
        tokio::time::sleep(config.clean_interval).await;
    }
    assert!((5..=16).contains(&tried), "{tried} of 240");
}
