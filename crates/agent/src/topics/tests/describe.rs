//! What DescribeConfigs shows.

use std::collections::BTreeSet;

use super::*;
use crate::topics::ConfigSource::{Default, DynamicDefaultBroker, DynamicTopic, StaticBroker};
use crate::topics::{Alteration, AlterationOp, DescribedConfig};

type Place = (
    &'static str,
    Option<&'static str>,
    crate::topics::ConfigSource,
);

fn one(configs: Vec<DescribedConfig>, name: &str) -> DescribedConfig {
    configs
        .into_iter()
        .find(|config| config.definition.name == name)
        .unwrap()
}

fn assert_shown(config: &DescribedConfig, value: Option<&str>, places: &[Place]) {
    assert_eq!(config.value.as_deref(), value);
    let shown: Vec<_> = config
        .synonyms
        .iter()
        .map(|place| (place.name, place.value.as_deref(), place.source))
        .collect();
    assert_eq!(shown, places);
    assert_eq!(
        config.source,
        places.first().map_or(Default, |place| place.2)
    );
}

async fn set_cluster(topics: &Topics, metadata: &Metadata, name: &str, value: &str) {
    let set = Alteration {
        name: name.to_owned(),
        op: AlterationOp::Set,
        value: Some(value.to_owned()),
    };
    topics
        .alter_cluster(metadata, &[set], false, false)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_topic_setting_shows_every_place_it_is_set_the_winner_first() {
    let topics = topics(&[("log.retention.minutes", "10")]);
    let metadata = with_topic(&topics, &[("flush.ms", "9")]).await;
    let topic = |name: &str| {
        metadata.read(|state| {
            one(
                topics.describe_topic(state, state.topic_by_name("t").unwrap(), None),
                name,
            )
        })
    };
    // Minutes win over hours, and are shown as milliseconds.
    let hours = ("log.retention.hours", Some("168"), Default);
    let minutes = ("log.retention.minutes", Some("10"), StaticBroker);
    assert_shown(&topic("retention.ms"), Some("600000"), &[minutes, hours]);
    let longest = "9223372036854775807";
    let flush = ("log.flush.scheduler.interval.ms", Some(longest), Default);
    assert_shown(
        &topic("flush.ms"),
        Some("9"),
        &[("flush.ms", Some("9"), DynamicTopic), flush],
    );
    assert_shown(&topic("remote.storage.enable"), Some("false"), &[]);

    set_cluster(&topics, &metadata, "log.retention.ms", "5").await;
    let dynamic = ("log.retention.ms", Some("5"), DynamicDefaultBroker);
    assert_shown(
        &topic("retention.ms"),
        Some("5"),
        &[dynamic, minutes, hours],
    );
    assert!(!topic("retention.ms").read_only);
}

#[tokio::test]
async fn hours_alone_and_no_limit_at_all_become_milliseconds() {
    for (statics, value) in [
        (&[][..], "604800000"),
        (&[("log.retention.hours", "1")], "3600000"),
        (&[("log.retention.hours", "-1")], "-1"),
        (&[("log.retention.ms", "-1")], "-1"),
        (&[("log.retention.hours", "2147483647")], "7730941129200000"),
    ] {
        let topics = topics(statics);
        let metadata = with_topic(&topics, &[]).await;
        let shown = metadata.read(|state| {
            one(
                topics.describe_topic(state, state.topic_by_name("t").unwrap(), None),
                "retention.ms",
            )
        });
        assert_eq!(shown.value.as_deref(), Some(value), "{statics:?}");
    }
}

#[tokio::test]
async fn a_broker_shows_its_settings_and_the_cluster_only_what_was_set() {
    let topics = topics(&[("num.partitions", "3"), ("message.max.bytes", "7")]);
    let metadata = metadata().await;
    set_cluster(&topics, &metadata, "message.max.bytes", "8").await;
    metadata.read(|state| {
        let keys = BTreeSet::from(["num.partitions", "message.max.bytes", "log.retention.ms"]);
        let broker = topics.describe_broker(state, Some(&keys));
        assert_eq!(broker.len(), 3);
        let size = one(broker.clone(), "message.max.bytes");
        let dynamic = ("message.max.bytes", Some("8"), DynamicDefaultBroker);
        let fixed = ("message.max.bytes", Some("7"), StaticBroker);
        let default = ("message.max.bytes", Some("1048588"), Default);
        assert_shown(&size, Some("8"), &[dynamic, fixed, default]);
        assert!(!size.read_only);
        let partitions = one(broker.clone(), "num.partitions");
        assert_eq!(
            (partitions.value.as_deref(), partitions.read_only),
            (Some("3"), true)
        );
        let retention = one(broker, "log.retention.ms");
        assert_shown(
            &retention,
            None,
            &[("log.retention.hours", Some("168"), Default)],
        );

        let cluster = topics.describe_cluster(state, None);
        assert_eq!(cluster.len(), 1);
        assert_shown(&cluster[0], Some("8"), &[dynamic]);
    });
}

#[tokio::test]
async fn a_secret_is_not_shown_and_a_setting_that_is_refused_not_at_all() {
    let topics = topics(&[]);
    let metadata = metadata().await;
    let all = metadata.read(|state| topics.describe_broker(state, None));
    assert!(all.len() > 200);
    for config in all {
        assert!(!config.definition.is_sensitive());
        assert!(!config.definition.name.starts_with("ssl."));
        assert!(
            !config.definition.describe().is_empty(),
            "{}",
            config.definition.name
        );
    }
}
