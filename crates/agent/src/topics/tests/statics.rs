//! The process's static configuration.

use alluvium_protocol::compression::Codec;

use super::*;
use crate::topics::{Lane, broker_config, broker_configs};

#[test]
fn every_fault_is_told_at_once_and_names_the_nearest_setting() {
    let faults = try_topics(&[
        ("num.partition", "3"),
        ("retention.ms", "5"),
        ("colour", "blue"),
        ("message.max.bytes", "-1"),
        ("auto.create.topics.enable", "maybe"),
        ("log.retention.ms", "0"),
        ("delete.topic.enable", "TRUE"),
    ])
    .unwrap_err();
    let lines: Vec<&str> = faults.lines().collect();
    assert_eq!(
        lines,
        [
            "Invalid value maybe for configuration auto.create.topics.enable: \
             Expected value to be either true or false",
            "Unknown broker config name: colour",
            "Invalid value -1 for configuration message.max.bytes: Value must be at least 0",
            "Unknown broker config name: num.partition; the nearest known one is num.partitions",
            "Unknown broker config name: retention.ms; as a default for topics it is log.retention.ms",
            "log.retention.ms must be unlimited (-1) or, equal or greater than 1",
        ]
    );
}

#[test]
fn what_would_mislead_is_refused_and_the_rest_of_kafkas_settings_is_taken() {
    let refused = [
        ("ssl.keystore.location", "/etc/keys"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        (
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        ),
        ("log.dirs", "/data"),
        ("listeners", "SSL://:9093"),
        ("broker.id", "4"),
    ];
    for (name, value) in refused {
        let fault = try_topics(&[(name, value)]).unwrap_err();
        assert!(fault.starts_with(&format!("Invalid value {value} for configuration {name}: ")));
    }
    let taken = [
        ("ssl.client.auth", "none"),
        ("num.network.threads", "8"),
        ("group.consumer.session.timeout.ms", "50000"),
        ("log.segment.bytes", "134217728"),
        ("offsets.topic.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("replica.lag.time.max.ms", "10000"),
    ];
    assert!(try_topics(&taken).is_ok());
}

#[test]
fn every_default_is_valid_and_every_name_is_there_once() {
    let mut names = std::collections::BTreeSet::new();
    for definition in broker_configs() {
        assert!(
            names.insert(definition.name),
            "{} is there twice",
            definition.name
        );
        if let Some(default) = definition.default {
            assert_eq!(
                definition.check(default),
                Ok(default.to_owned()),
                "{}",
                definition.name
            );
        }
    }
    let mut names = std::collections::BTreeSet::new();
    for definition in crate::topics::TOPIC_CONFIGS {
        assert!(
            names.insert(definition.name),
            "{} is there twice",
            definition.name
        );
        let default = definition.default.unwrap();
        assert_eq!(
            definition.check(default),
            Ok(default.to_owned()),
            "{}",
            definition.name
        );
        for (broker, _) in crate::topics::topic_configs::synonyms(definition.name) {
            assert!(
                broker_config(broker).is_some(),
                "{broker} is not a broker setting"
            );
        }
    }
}

#[tokio::test]
async fn settings_come_from_the_topic_else_the_cluster_else_the_process() {
    let topics = topics(&[
        ("message.max.bytes", "2000"),
        ("log.message.timestamp.type", "LogAppendTime"),
        ("log.cleanup.policy", "delete,compact"),
        ("alluvium.lane", "object"),
    ]);
    let overrides = [
        ("compression.type", "zstd"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.after.max.ms", "10"),
        ("cleanup.policy", ""),
    ];
    let metadata = with_topic(&topics, &overrides).await;
    topics
        .create(&metadata, NOW, &NewTopic::named("plain"), false)
        .await
        .unwrap();
    let settings = |name: &str| {
        metadata.read(|state| topics.settings(state, state.topic_by_name(name).unwrap()))
    };
    let plain = settings("plain");
    assert_eq!(plain.max_message_bytes, 2000);
    assert!(plain.log_append_time && plain.compacted);
    assert_eq!(plain.compression, None);
    assert_eq!(plain.lane, Lane::Object);
    assert_eq!(plain.timestamp_after_max, 3_600_000);
    assert_eq!(plain.timestamp_before_max, i64::MAX);
    let own = settings("t");
    assert!(!own.log_append_time && !own.compacted);
    assert_eq!(own.compression, Some(Codec::Zstd));
    assert_eq!(own.timestamp_after_max, 10);

    let change = |name: &str, value: &str| {
        [crate::topics::Alteration {
            name: name.to_owned(),
            op: crate::topics::AlterationOp::Set,
            value: Some(value.to_owned()),
        }]
    };
    topics
        .alter_cluster(
            &metadata,
            &change("message.max.bytes", "3000"),
            false,
            false,
        )
        .await
        .unwrap();
    assert_eq!(settings("plain").max_message_bytes, 3000);
    assert_eq!(settings("t").max_message_bytes, 3000);
    topics
        .alter_topic(
            &metadata,
            "t",
            &change("max.message.bytes", "4000"),
            false,
            false,
        )
        .await
        .unwrap();
    assert_eq!(settings("plain").max_message_bytes, 3000);
    assert_eq!(settings("t").max_message_bytes, 4000);
    metadata.read(|state| {
        assert_eq!(topics.broker_int(state, "message.max.bytes"), 3000);
        assert_eq!(
            topics.broker(state, "log.retention.hours").as_deref(),
            Some("168")
        );
        assert_eq!(topics.broker(state, "log.retention.ms"), None);
        assert!(topics.broker_bool(state, "delete.topic.enable"));
    });
}
