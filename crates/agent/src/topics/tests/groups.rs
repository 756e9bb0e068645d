//! Settings of single groups.

use super::*;
use crate::topics::ConfigSource::{Default, DynamicDefaultBroker, DynamicGroup};
use crate::topics::{Alteration, AlterationOp};

async fn alter(
    topics: &Topics,
    metadata: &Metadata,
    settings: &[(&str, &str)],
) -> Result<(), (ErrorCode, String)> {
    let set = |(name, value): &(&str, &str)| Alteration {
        name: (*name).to_owned(),
        op: AlterationOp::Set,
        value: Some((*value).to_owned()),
    };
    let alterations: Vec<_> = settings.iter().map(set).collect();
    let done = topics.alter_group(metadata, "g", &alterations, false, false);
    done.await
        .map_err(|refusal| (refusal.code, refusal.message))
}

async fn set_broker(topics: &Topics, metadata: &Metadata, name: &str, value: &str) {
    let set = [Alteration {
        name: name.to_owned(),
        op: AlterationOp::Set,
        value: Some(value.to_owned()),
    }];
    let done = topics.alter_cluster(metadata, &set, false, false);
    done.await.unwrap();
}

fn value(topics: &Topics, metadata: &Metadata, name: &str) -> String {
    metadata.read(|state| topics.group(state, "g", name).unwrap())
}

#[tokio::test]
async fn a_group_follows_the_brokers_until_it_has_a_setting_of_its_own() {
    let topics = topics(&[("group.share.session.timeout.ms", "50000")]);
    let metadata = metadata().await;
    let session = "share.session.timeout.ms";
    assert_eq!(value(&topics, &metadata, session), "50000");
    alter(&topics, &metadata, &[(session, "46000")])
        .await
        .unwrap();
    assert_eq!(value(&topics, &metadata, session), "46000");
    let other = metadata.read(|state| topics.group(state, "other", session));
    assert_eq!(other.as_deref(), Some("50000"));
    assert_eq!(
        value(&topics, &metadata, "share.auto.offset.reset"),
        "latest"
    );
    let delete = [Alteration {
        name: session.to_owned(),
        op: AlterationOp::Delete,
        value: None,
    }];
    let done = topics.alter_group(&metadata, "g", &delete, false, false);
    done.await.unwrap();
    assert_eq!(value(&topics, &metadata, session), "50000");
    assert_eq!(metadata.read(|state| state.configured_groups().count()), 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_setting_is_told_in_kafkas_words() {
    let (topics, metadata) = (topics(&[]), metadata().await);
    let invalid = |message: &str| Err((ErrorCode::InvalidConfig, message.to_owned()));
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("share.sesion.timeout.ms", "46000")],
            "Unknown group config name: share.sesion.timeout.ms; \
             the nearest known one is share.session.timeout.ms",
        ),
        (
            &[("share.session.timeout.ms", "1000")],
            "share.session.timeout.ms must be greater than or equal to \
             group.share.min.session.timeout.ms",
        ),
        (
            &[("share.delivery.count.limit", "11")],
            "share.delivery.count.limit must be less than or equal to \
             group.share.max.delivery.count.limit",
        ),
        (
            &[("share.record.lock.duration.ms", "999")],
            "Invalid value 999 for configuration share.record.lock.duration.ms: \
             Value must be at least 1000",
        ),
        (
            &[("share.auto.offset.reset", "none")],
            "Invalid value none for configuration share.auto.offset.reset: \
             must be earliest, latest or by_duration:<duration>",
        ),
        (
            &[("streams.num.standby.replicas", "3")],
            "streams.num.standby.replicas must be less than or equal to \
             group.streams.max.standby.replicas",
        ),
    ];
    for (settings, message) in cases {
        let told = alter(&topics, &metadata, settings).await;
        assert_eq!(told, invalid(message));
    }
    let (code, message) = alter(
        &topics,
        &metadata,
        &[("share.isolation.level", "read_committed")],
    )
    .await
    .unwrap_err();
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(message.contains("transactions"), "{message}");
    assert_eq!(metadata.read(|state| state.configured_groups().count()), 0);
}

#[tokio::test]
async fn a_session_lasts_longer_than_a_heartbeat() {
    let topics = topics(&[
        ("group.share.min.session.timeout.ms", "1000"),
        ("group.share.min.heartbeat.interval.ms", "1000"),
    ]);
    let metadata = metadata().await;
    let told = alter(&topics, &metadata, &[("share.session.timeout.ms", "5000")]).await;
    let message = "share.session.timeout.ms must be greater than share.heartbeat.interval.ms";
    assert_eq!(told, Err((ErrorCode::InvalidConfig, message.to_owned())));
    let both = [
        ("share.session.timeout.ms", "5000"),
        ("share.heartbeat.interval.ms", "1000"),
    ];
    assert_eq!(alter(&topics, &metadata, &both).await, Ok(()));
}

#[tokio::test]
async fn a_group_without_an_id_has_no_settings() {
    let (topics, metadata) = (topics(&[]), metadata().await);
    let refused = topics.alter_group(&metadata, "", &[], false, false).await;
    assert_eq!(told(refused).0, ErrorCode::InvalidRequest);
    let long = "g".repeat(2000);
    let refused = topics.alter_group(&metadata, &long, &[], false, false);
    assert_eq!(told(refused.await).0, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn every_place_where_a_setting_is_set_is_shown() {
    let (topics, metadata) = (topics(&[]), metadata().await);
    let shown = |name: &str| {
        let keys = [name].into();
        metadata.read(|state| topics.describe_group(state, "g", Some(&keys)))
    };
    let all = metadata.read(|state| topics.describe_group(state, "g", None));
    assert_eq!(all.len(), crate::topics::GROUP_CONFIGS.len());
    set_broker(
        &topics,
        &metadata,
        "group.share.assignment.interval.ms",
        "7",
    )
    .await;
    alter(&topics, &metadata, &[("share.assignment.interval.ms", "9")])
        .await
        .unwrap();
    let set = &shown("share.assignment.interval.ms")[0];
    let places: Vec<_> = set
        .synonyms
        .iter()
        .map(|place| (place.name, place.value.as_deref(), place.source))
        .collect();
    let broker = "group.share.assignment.interval.ms";
    assert_eq!(
        places,
        [
            ("share.assignment.interval.ms", Some("9"), DynamicGroup),
            (broker, Some("7"), DynamicDefaultBroker),
            (broker, Some("1000"), Default),
        ]
    );
    assert_eq!(
        (set.value.as_deref(), set.source),
        (Some("9"), DynamicGroup)
    );
    let reset = &shown("share.auto.offset.reset")[0];
    assert_eq!(
        (reset.value.as_deref(), reset.source),
        (Some("latest"), Default)
    );
}
