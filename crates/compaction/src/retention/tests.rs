use std::sync::Arc;

use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{BatchOptions, Record, encode};
use alluvium_types::{Millis, TopicPartition};
use bytes::Bytes;

use super::*;
use crate::TopicPolicy;
use crate::testing::{NOW, Rig, policy};

const HOUR: Millis = 3_600_000;

fn kept_for(millis: u64) -> TopicPolicy {
    TopicPolicy {
        delete: true,
        retention: Some(Duration::from_millis(millis)),
        ..policy()
    }
}

/// A batch with one record of 100 bytes.
fn batch(timestamp: Millis) -> Bytes {
    let record = Record {
        timestamp,
        value: Some(Bytes::from(vec![7; 100])),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    encode(&[record], options).unwrap()
}

/// One partition with a run for each of these ages.
async fn rig(policy: TopicPolicy, timestamps: &[Millis]) -> (Rig, TopicPartition) {
    let rig = Rig::new(policy).await;
    let at = TopicPartition::new(rig.topic(1, 1).await, 0);
    for timestamp in timestamps {
        rig.append(at, &[batch(*timestamp)]).await;
    }
    (rig, at)
}

#[tokio::test]
async fn what_is_older_than_its_retention_goes() {
    let times = [NOW - 3 * HOUR, NOW - 2 * HOUR, NOW - HOUR, NOW];
    let (rig, at) = rig(kept_for(3_600_001), &times).await;
    let overdue = round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 2);
    assert_eq!(overdue.lag, Duration::from_millis(2 * 3_600_000 - 1));
    let batch_bytes = u64::try_from(batch(NOW).len()).unwrap();
    assert_eq!(overdue.bytes, 2 * batch_bytes);
    // Nothing more until time passes; then all of it, the newest included.
    assert_eq!(round(&rig.context).await.unwrap(), Overdue::default());
    rig.clock.advance(2 * HOUR);
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 4);
}

#[tokio::test]
async fn a_time_in_the_future_keeps_what_lies_behind_it() {
    let times = [NOW - 3 * HOUR, NOW + HOUR, NOW - 3 * HOUR];
    let (rig, at) = rig(kept_for(1000), &times).await;
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 1);
    rig.clock.advance(HOUR + 1001);
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 3);
}

#[tokio::test]
async fn records_without_a_time_go_with_those_behind_them() {
    let (rig, at) = rig(kept_for(1000), &[-1, NOW - 5000, -1, NOW]).await;
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 2);
}

#[tokio::test]
async fn size_keeps_at_least_what_was_asked_for() {
    let bytes = u64::try_from(batch(NOW).len()).unwrap();
    let size = |most| TopicPolicy {
        delete: true,
        retention_bytes: Some(most),
        ..policy()
    };
    let (rig, at) = rig(size(3 * bytes - 1), &[NOW; 5]).await;
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 2, "three runs hold as much, two do not");
    *rig.policy.0.lock().unwrap() = size(0);
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 5);
}

#[tokio::test]
async fn only_the_policy_delete_deletes_and_a_change_counts_at_once() {
    let compact = TopicPolicy {
        delete: false,
        compact: true,
        ..kept_for(1)
    };
    let (rig, at) = rig(compact.clone(), &[NOW - HOUR]).await;
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 0);
    *rig.policy.0.lock().unwrap() = TopicPolicy {
        delete: true,
        ..compact
    };
    round(&rig.context).await.unwrap();
    assert_eq!(rig.log_start(at), 1);
}

#[tokio::test]
async fn every_partition_of_every_topic_is_looked_at() {
    let rig = Rig::new(kept_for(1)).await;
    let mut places = Vec::new();
    for topic in 1..4 {
        let id = rig.topic(topic, 3000).await;
        for partition in [0, 1, 63, 64, 65, 2047, 2999] {
            let at = TopicPartition::new(id, partition);
            rig.append(at, &[batch(NOW - HOUR)]).await;
            places.push(at);
        }
    }
    round(&rig.context).await.unwrap();
    assert!(places.iter().all(|at| rig.log_start(*at) == 1));
}

#[tokio::test(start_paused = true)]
async fn the_task_acts_on_a_changed_policy_within_seconds_and_stops() {
    let (rig, at) = rig(policy(), &[NOW - HOUR]).await;
    let rig = Arc::new(rig);
    let stop = CancellationToken::new();
    let config = CompactionConfig {
        retention_interval: Duration::from_secs(300),
        ..CompactionConfig::default()
    };
    let task = tokio::spawn(run(rig.context.clone(), config, stop.clone()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    *rig.policy.0.lock().unwrap() = kept_for(1);
    rig.topic(2, 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.log_start(at), 1);
    stop.cancel();
    task.await.unwrap();
}
