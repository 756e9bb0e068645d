//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    alter_configs_request as replacing, incremental_alter_configs_request as incremental,
};

use super::group_configs;
use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::text;
use crate::world::{NOWHERE, TOPIC, World};

pub(super) const KEYS: &[i16] = &[32, 33, 44, 74];

const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;

pub(super) fn cases() -> Vec<Case> {
    [
        describe_cases(),
        replace_cases(),
        incremental_cases(),
        group_configs::alter_cases(),
        group_configs::describe_cases(),
        group_configs::list_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()))
}

fn describe(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(resources)
}

fn value(result: &DescribeConfigsResult, name: &str) -> Option<String> {
    let found = result
        .configs
        .iter()
        .find(|config| config.name.as_str() == name)?;
    found.value.as_ref().map(ToString::to_string)
}

/// What a topic's setting is, as DescribeConfigs tells it.
fn setting(world: &mut World, topic: &str, name: &str) -> Option<String> {
    let answer = world
        .client
        .ask(1, &describe(vec![resource(OF_TOPIC, topic, None)]));
    assert_eq!(answer.results[0].error_code, NONE);
    value(&answer.results[0], name)
}

fn describe_cases() -> Vec<Case> {
    vec![
        case(
            "some and all settings of a topic, and things that have none",
            |world, _| {
                describe(vec![
                    resource(OF_TOPIC, TOPIC, Some(&["retention.ms", "no.such"])),
                    resource(OF_TOPIC, TOPIC, None),
                    resource(OF_TOPIC, TOPIC, Some(&[])),
                    resource(OF_TOPIC, NOWHERE, None),
                    resource(OF_TOPIC, "not/a/name", None),
                    resource(OF_BROKER, &(world.broker + 1).to_string(), None),
                    resource(99, "what", None),
                ])
            },
            |_, version, request, answer| {
                for (asked, found) in request.resources.iter().zip(&answer.results) {
                    assert_eq!(asked.resource_type, found.resource_type);
                    assert_eq!(asked.resource_name, found.resource_name);
                }
                let codes = answer.results.iter().map(|found| found.error_code);
                let expected = [
                    NONE,
                    NONE,
                    NONE,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    INVALID_TOPIC,
                    INVALID_REQUEST,
                    INVALID_REQUEST,
                ];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
                let some = &answer.results[0];
                assert_eq!(some.configs.len(), 1);
                let retention = &some.configs[0];
                assert_eq!(retention.value, Some(text("9000000000000")));
                assert_eq!(
                    (retention.config_source, retention.is_sensitive),
                    (1, false)
                );
                assert!(!retention.read_only && retention.synonyms.is_empty());
                assert_eq!(retention.config_type, if version >= 3 { 5 } else { 0 });
                let all = &answer.results[1];
                assert!(all.configs.len() > 20);
                assert_eq!(value(all, "cleanup.policy").unwrap(), "delete");
                // To name none is to name all, as in Kafka.
                assert_eq!(answer.results[2].configs.len(), all.configs.len());
            },
        ),
        case(
            "with synonyms and documentation, of a topic and of brokers",
            |world, version| {
                let broker = world.broker.to_string();
                describe(vec![
                    resource(OF_TOPIC, TOPIC, Some(&["retention.ms"])),
                    resource(OF_BROKER, &broker, None),
                    resource(OF_BROKER, "", None),
                ])
                .with_include_synonyms(true)
                .with_include_documentation(version >= 3)
            },
            |_, version, _, answer| {
                assert!(answer.results.iter().all(|found| found.error_code == NONE));
                let retention = &answer.results[0].configs[0];
                assert_eq!(retention.synonyms[0].name.as_str(), "retention.ms");
                assert_eq!(retention.synonyms[0].source, 1);
                let documentation = retention.documentation.as_ref();
                let documented = documentation.is_some_and(|text| !text.is_empty());
                assert_eq!(documented, version >= 3);
                assert!(value(&answer.results[1], "num.partitions").is_some());
            },
        ),
        case(
            "nothing at all",
            |_, _| describe(vec![]),
            |_, _, _, answer| assert!(answer.results.is_empty()),
        ),
    ]
}

fn replace(kind: i8, name: &str, configs: &[(&str, &str)]) -> replacing::AlterConfigsResource {
    let configs = configs.iter().map(|(name, value)| {
        replacing::AlterableConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    replacing::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect())
}

fn replace_cases() -> Vec<Case> {
    vec![
        case(
            "good ones between bad ones",
            |world, _| {
                let name = world.fresh("replaced");
                world.create(&name, 1, &[("retention.ms", "5000")]);
                AlterConfigsRequest::default().with_resources(vec![
                    replace(OF_TOPIC, NOWHERE, &[("retention.ms", "1")]),
                    replace(OF_TOPIC, &name, &[("max.message.bytes", "2000")]),
                    replace(OF_TOPIC, TOPIC, &[("retention.ms", "soon")]),
                    replace(99, "what", &[]),
                ])
            },
            |world, _, request, answer| {
                let codes = answer.responses.iter().map(|found| found.error_code);
                let expected = [
                    UNKNOWN_TOPIC_OR_PARTITION,
                    NONE,
                    INVALID_CONFIG,
                    INVALID_REQUEST,
                ];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
                assert!(answer.responses[2].error_message.is_some());
                let name = request.resources[1].resource_name.to_string();
                assert_eq!(setting(world, &name, "max.message.bytes").unwrap(), "2000");
                // What is not named goes back to its default, with which the server was started.
                assert_eq!(setting(world, &name, "retention.ms").unwrap(), "-1");
                assert_eq!(
                    setting(world, TOPIC, "retention.ms").unwrap(),
                    "9000000000000"
                );
            },
        ),
        case(
            "only to see whether it could be",
            |_, _| {
                AlterConfigsRequest::default()
                    .with_resources(vec![replace(OF_TOPIC, TOPIC, &[("retention.ms", "7")])])
                    .with_validate_only(true)
            },
            |world, _, _, answer| {
                assert_eq!(answer.responses[0].error_code, NONE);
                assert_eq!(
                    setting(world, TOPIC, "retention.ms").unwrap(),
                    "9000000000000"
                );
            },
        ),
        case(
            "nothing at all",
            |_, _| AlterConfigsRequest::default(),
            |_, _, _, answer| assert!(answer.responses.is_empty()),
        ),
    ]
}

/// What to do with settings of a topic: 0 set, 1 delete, 2 append, 3 subtract.
fn alter(name: &str, configs: &[(&str, i8, Option<&str>)]) -> incremental::AlterConfigsResource {
    let configs = configs.iter().map(|(name, operation, value)| {
        incremental::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    incremental::AlterConfigsResource::default()
        .with_resource_type(OF_TOPIC)
        .with_resource_name(text(name))
        .with_configs(configs.collect())
}

fn incremental_cases() -> Vec<Case> {
    vec![
        case(
            "good ones between bad ones",
            |world, _| {
                let name = world.fresh("altered");
                world.create(
                    &name,
                    1,
                    &[("retention.ms", "5000"), ("segment.bytes", "2000000")],
                );
                let (set, delete, append) = (0, 1, 2);
                IncrementalAlterConfigsRequest::default().with_resources(vec![
                    alter(NOWHERE, &[("retention.ms", set, Some("1"))]),
                    alter(
                        &name,
                        &[
                            ("max.message.bytes", set, Some("2000")),
                            ("retention.ms", delete, None),
                            ("cleanup.policy", append, Some("compact")),
                        ],
                    ),
                    alter(TOPIC, &[("retention.ms", set, Some("soon"))]),
                    alter("not/a/name", &[]),
                ])
            },
            |world, _, request, answer| {
                let codes = answer.responses.iter().map(|found| found.error_code);
                let expected = [
                    UNKNOWN_TOPIC_OR_PARTITION,
                    NONE,
                    INVALID_CONFIG,
                    INVALID_TOPIC,
                ];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
                let name = request.resources[1].resource_name.to_string();
                assert_eq!(setting(world, &name, "max.message.bytes").unwrap(), "2000");
                assert_eq!(setting(world, &name, "retention.ms").unwrap(), "-1");
                assert_eq!(
                    setting(world, &name, "cleanup.policy").unwrap(),
                    "delete,compact"
                );
                assert_eq!(setting(world, &name, "segment.bytes").unwrap(), "2000000");
            },
        ),
        case(
            "the default of all brokers, and one broker's",
            |world, _| {
                let of_broker = |name: &str| {
                    alter("", &[("message.max.bytes", 0, Some("5000000"))])
                        .with_resource_type(OF_BROKER)
                        .with_resource_name(text(name))
                };
                let broker = world.broker.to_string();
                IncrementalAlterConfigsRequest::default().with_resources(vec![
                    of_broker(""),
                    of_broker(&broker),
                    of_broker("x"),
                ])
            },
            |world, version, _, answer| {
                let codes = answer.responses.iter().map(|found| found.error_code);
                assert_eq!(
                    codes.collect::<Vec<_>>(),
                    [NONE, INVALID_REQUEST, INVALID_REQUEST]
                );
                assert_eq!(
                    setting(world, TOPIC, "max.message.bytes").unwrap(),
                    "5000000"
                );
                let back =
                    alter("", &[("message.max.bytes", 1, None)]).with_resource_type(OF_BROKER);
                let request = IncrementalAlterConfigsRequest::default().with_resources(vec![back]);
                assert_eq!(
                    world.client.ask(version, &request).responses[0].error_code,
                    NONE
                );
                assert_eq!(
                    setting(world, TOPIC, "max.message.bytes").unwrap(),
                    "1048588"
                );
            },
        ),
        case(
            "what one broker never had of its own",
            |world, _| {
                let broker = world.broker.to_string();
                let rate = alter("", &[("leader.replication.throttled.rate", 1, None)])
                    .with_resource_type(OF_BROKER)
                    .with_resource_name(text(&broker));
                IncrementalAlterConfigsRequest::default().with_resources(vec![rate])
            },
            |_, _, _, answer| assert_eq!(answer.responses[0].error_code, NONE),
        ),
        case(
            "what cannot be done to a setting",
            |world, _| {
                let topics = [(); 5].map(|()| world.fresh_topic(1).0);
                IncrementalAlterConfigsRequest::default().with_resources(vec![
                    alter(&topics[0], &[("no.such", 0, Some("1"))]),
                    alter(&topics[1], &[("retention.ms", 2, Some("1"))]),
                    alter(&topics[2], &[("retention.ms", 9, Some("1"))]),
                    alter(&topics[3], &[("retention.ms", 0, None)]),
                    alter(
                        &topics[4],
                        &[
                            ("retention.ms", 0, Some("1")),
                            ("retention.ms", 0, Some("2")),
                        ],
                    ),
                ])
            },
            |_, _, _, answer| {
                let codes = answer.responses.iter().map(|found| found.error_code);
                let expected = [
                    INVALID_CONFIG,
                    INVALID_CONFIG,
                    INVALID_REQUEST,
                    INVALID_REQUEST,
                    INVALID_REQUEST,
                ];
                assert_eq!(codes.collect::<Vec<_>>(), expected);
            },
        ),
        case(
            "a topic twice",
            |_, _| {
                let alter = || alter(TOPIC, &[("retention.ms", 0, Some("9"))]);
                IncrementalAlterConfigsRequest::default().with_resources(vec![alter(), alter()])
            },
            |world, _, _, answer| {
                assert!(
                    answer
                        .responses
                        .iter()
                        .all(|one| one.error_code == INVALID_REQUEST)
                );
                assert_eq!(
                    setting(world, TOPIC, "retention.ms").unwrap(),
                    "9000000000000"
                );
            },
        ),
        case(
            "only to see whether it could be",
            |_, _| {
                IncrementalAlterConfigsRequest::default()
                    .with_resources(vec![alter(TOPIC, &[("retention.ms", 0, Some("9"))])])
                    .with_validate_only(true)
            },
            |world, _, _, answer| {
                assert_eq!(answer.responses[0].error_code, NONE);
                assert_eq!(
                    setting(world, TOPIC, "retention.ms").unwrap(),
                    "9000000000000"
                );
            },
        ),
    ]
}
