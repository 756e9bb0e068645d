//! Settings of single groups, and what has settings: ListConfigResources.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use kafka_protocol::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesResponse,
};

use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::text;
use crate::world::{TOPIC, World};

const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;
const OF_CLIENT_METRICS: i8 = 16;
const OF_GROUP: i8 = 32;
const GROUP_CONFIG: i8 = 8;
const RESET: &str = "share.auto.offset.reset";

fn alter(group: &str, name: &str, value: Option<&str>) -> IncrementalAlterConfigsRequest {
    let config = AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(i8::from(value.is_none()))
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(OF_GROUP)
        .with_resource_name(text(group))
        .with_configs(vec![config]);
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

fn describe(group: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(OF_GROUP)
        .with_resource_name(text(group))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

/// Has a group begin at the first record.
fn configured(world: &mut World) -> String {
    let group = world.fresh("group");
    let answer = world.client.ask(1, &alter(&group, RESET, Some("earliest")));
    assert_eq!(answer.responses[0].error_code, NONE, "{answer:?}");
    group
}

/// What its setting is, and where it was set.
fn reset_of(world: &mut World, group: &str) -> (String, i8) {
    let answer = world.client.ask(4, &describe(group, Some(&[RESET])));
    let found = &answer.results[0];
    assert_eq!((found.error_code, found.configs.len()), (NONE, 1));
    let config = &found.configs[0];
    let value = config.value.as_ref().unwrap().to_string();
    (value, config.config_source)
}

pub(super) fn alter_cases() -> Vec<Case> {
    let refused = |name, group: &'static str, setting: &'static str, value, code| {
        case(
            name,
            move |_, _| alter(group, setting, Some(value)),
            move |_, _, _, answer: kafka_protocol::messages::IncrementalAlterConfigsResponse| {
                assert_eq!(answer.responses[0].error_code, code);
                assert!(answer.responses[0].error_message.is_some());
            },
        )
    };
    vec![
        case(
            "a group's, which is forgotten again",
            |world, _| alter(&world.fresh("group"), RESET, Some("by_duration:PT1H")),
            |world, version, request, answer| {
                assert_eq!(answer.responses[0].error_code, NONE);
                let group = request.resources[0].resource_name.to_string();
                let set = ("by_duration:PT1H".to_owned(), GROUP_CONFIG);
                assert_eq!(reset_of(world, &group), set);
                world.client.ask(version, &alter(&group, RESET, None));
                assert_eq!(reset_of(world, &group), ("latest".to_owned(), 5));
            },
        ),
        refused(
            "a group setting that is not known",
            "g",
            "retention.ms",
            "1",
            INVALID_CONFIG,
        ),
        refused(
            "a group setting that is wrong",
            "g",
            RESET,
            "later",
            INVALID_CONFIG,
        ),
        refused(
            "a group setting that brokers do not allow",
            "g",
            "share.session.timeout.ms",
            "44999",
            INVALID_CONFIG,
        ),
        refused(
            "a setting of no group",
            "",
            RESET,
            "latest",
            INVALID_REQUEST,
        ),
    ]
}

pub(super) fn describe_cases() -> Vec<Case> {
    vec![
        case(
            "a group's settings",
            |world, _| describe(&configured(world), None).with_include_synonyms(true),
            |_, _, _, answer| {
                let found = &answer.results[0];
                assert_eq!(found.error_code, NONE);
                let one = |name: &str| {
                    let mut configs = found.configs.iter();
                    configs.find(|config| config.name.as_str() == name).unwrap()
                };
                let reset = one(RESET);
                assert_eq!(reset.value, Some(text("earliest")));
                assert_eq!(
                    (reset.config_source, reset.read_only),
                    (GROUP_CONFIG, false)
                );
                let session = one("share.session.timeout.ms");
                assert_eq!(session.value, Some(text("45000")));
                let synonym = session.synonyms[0].name.as_str();
                assert_eq!(synonym, "group.share.session.timeout.ms");
            },
        ),
        case(
            "those of no group",
            |_, _| describe("", None),
            |_, _, _, answer| assert_eq!(answer.results[0].error_code, INVALID_REQUEST),
        ),
    ]
}

fn names(answer: &ListConfigResourcesResponse, kind: i8) -> Vec<&str> {
    let resources = answer.config_resources.iter();
    resources
        .filter(|resource| resource.resource_type == kind)
        .map(|resource| resource.resource_name.as_str())
        .collect()
}

pub(super) fn list_cases() -> Vec<Case> {
    let list =
        |kinds: &[i8]| ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
    vec![
        case(
            "client metrics",
            move |world, _| {
                configured(world);
                let mut request = alter("all", "interval.ms", Some("60000"));
                request.resources[0].resource_type = OF_CLIENT_METRICS;
                let answer = world.client.ask(1, &request);
                assert_eq!(answer.responses[0].error_code, NONE);
                list(&[])
            },
            |_, _, _, answer| {
                assert_eq!(answer.error_code, NONE);
                assert_eq!(names(&answer, OF_CLIENT_METRICS), ["all"]);
                assert_eq!(answer.config_resources.len(), 1);
            },
        )
        .until(0),
        case(
            "everything that has settings",
            move |world, _| {
                configured(world);
                list(&[])
            },
            |world, _, _, answer| {
                assert_eq!(answer.error_code, NONE);
                assert!(names(&answer, OF_TOPIC).contains(&TOPIC));
                let broker = world.broker.to_string();
                assert_eq!(names(&answer, OF_BROKER), [broker.as_str()]);
                assert!(!names(&answer, OF_GROUP).is_empty());
            },
        )
        .since(1),
        case(
            "groups alone",
            move |world, _| {
                configured(world);
                list(&[OF_GROUP])
            },
            |_, _, _, answer| {
                let groups = names(&answer, OF_GROUP);
                assert!(!groups.is_empty());
                assert_eq!(groups.len(), answer.config_resources.len());
            },
        )
        .since(1),
        case(
            "a kind that there is not",
            move |_, _| list(&[OF_TOPIC, 99]),
            |_, _, _, answer| {
                assert_eq!(answer.error_code, UNSUPPORTED_VERSION);
                assert!(answer.config_resources.is_empty());
            },
        )
        .since(1),
    ]
}
