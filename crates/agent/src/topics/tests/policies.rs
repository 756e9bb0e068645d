//! What settings make of the life of a topic's records.

use std::time::Duration;

use alluvium_compaction::{Policies, TopicPolicy};

use super::{topics, with_topic};
use crate::topics::{Alteration, AlterationOp, Topics};

const DAY: Duration = Duration::from_secs(86_400);

fn policy(topics: &Topics, metadata: &alluvium_cluster::Metadata) -> TopicPolicy {
    metadata.read(|state| topics.policy(state, state.topic_by_name("t").unwrap()))
}

fn set(name: &str, value: &str) -> Alteration {
    Alteration {
        name: name.to_owned(),
        op: AlterationOp::Set,
        value: Some(value.to_owned()),
    }
}

#[tokio::test]
async fn a_topic_that_sets_nothing_keeps_its_records_for_a_week() {
    let topics = topics(&[]);
    let metadata = with_topic(&topics, &[]).await;
    let expected = TopicPolicy {
        delete: true,
        compact: false,
        retention: Some(7 * DAY),
        retention_bytes: None,
        delete_retention: DAY,
        min_dirty_ratio: 0.5,
        min_compaction_lag: Duration::ZERO,
        max_compaction_lag: Duration::from_millis(i64::MAX.cast_unsigned()),
    };
    assert_eq!(policy(&topics, &metadata), expected);
}

#[tokio::test]
async fn a_topics_own_settings_win() {
    let topics = topics(&[("log.retention.ms", "5"), ("log.cleanup.policy", "delete")]);
    let own = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "1000"),
        ("delete.retention.ms", "7"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("min.compaction.lag.ms", "3"),
        ("max.compaction.lag.ms", "9"),
    ];
    let metadata = with_topic(&topics, &own).await;
    let expected = TopicPolicy {
        delete: true,
        compact: true,
        retention: None,
        retention_bytes: Some(1000),
        delete_retention: Duration::from_millis(7),
        min_dirty_ratio: 0.1,
        min_compaction_lag: Duration::from_millis(3),
        max_compaction_lag: Duration::from_millis(9),
    };
    assert_eq!(policy(&topics, &metadata), expected);
}

#[tokio::test]
async fn of_the_brokers_names_for_it_the_finest_wins_and_a_change_counts_at_once() {
    let topics = topics(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]);
    let metadata = with_topic(&topics, &[]).await;
    let retention = |topics: &Topics| policy(topics, &metadata).retention;
    assert_eq!(retention(&topics), Some(Duration::from_secs(180)));
    let changes = [
        set("log.retention.ms", "250"),
        set("log.cleanup.policy", "compact"),
    ];
    topics
        .alter_cluster(&metadata, &changes, false, false)
        .await
        .unwrap();
    assert_eq!(retention(&topics), Some(Duration::from_millis(250)));
    assert!(policy(&topics, &metadata).compact);
    assert!(!policy(&topics, &metadata).delete);
}

#[tokio::test]
async fn compaction_has_its_brokers_names_too() {
    let statics = [
        ("log.cleaner.delete.retention.ms", "11"),
        ("log.cleaner.min.cleanable.ratio", "0.25"),
        ("log.cleaner.min.compaction.lag.ms", "12"),
        ("log.cleaner.max.compaction.lag.ms", "13"),
        ("log.retention.bytes", "14"),
    ];
    let topics = topics(&statics);
    let metadata = with_topic(&topics, &[]).await;
    let policy = policy(&topics, &metadata);
    assert_eq!(policy.delete_retention, Duration::from_millis(11));
    assert!((policy.min_dirty_ratio - 0.25).abs() < 1e-9);
    assert_eq!(policy.min_compaction_lag, Duration::from_millis(12));
    assert_eq!(policy.max_compaction_lag, Duration::from_millis(13));
    assert_eq!(policy.retention_bytes, Some(14));
}
