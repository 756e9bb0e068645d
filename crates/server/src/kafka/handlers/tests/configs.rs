//! Settings of topics, brokers and the cluster.

use alluvium_protocol::message;
use alluvium_protocol::messages::describe_configs_request::DescribeConfigsResource;
use alluvium_protocol::messages::describe_configs_response::DescribeConfigsResult;
use alluvium_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    alter_configs_request, incremental_alter_configs_request,
};

use super::super::{alter_configs, describe_configs, incremental_alter_configs};
use super::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

async fn with_topic(statics: &[(&str, &str)]) -> Arc<Agent> {
    let agent = agent(statics).await;
    agent
        .topics
        .auto_create(&agent.metadata, NOW, "t")
        .await
        .unwrap();
    agent
}

async fn describe(
    agent: &Arc<Agent>,
    version: i16,
    (resource_type, name): (i8, &str),
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let resource = message!(DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    });
    let request = message!(DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: version >= 3,
    });
    let response = describe_configs::handle(&context(agent, version), request).await;
    sendable(version, response).results.remove(0)
}

/// Sets one value and returns the error code and message.
async fn set(
    agent: &Arc<Agent>,
    version: i16,
    (resource_type, name): (i8, &str),
    (key, operation, value): (&str, i8, Option<&str>),
) -> (ErrorCode, Option<String>) {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = message!(AlterableConfig {
        name: key.into(),
        config_operation: operation,
        value: value.map(Into::into),
    });
    let resource = message!(AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: vec![config],
    });
    let request = message!(IncrementalAlterConfigsRequest {
        resources: vec![resource]
    });
    let response = incremental_alter_configs::handle(&context(agent, version), request).await;
    let one = sendable(version, response).responses.remove(0);
    (
        code(one.error_code),
        one.error_message.map(|message| message.to_string()),
    )
}

#[tokio::test]
async fn a_topic_describes_its_settings_in_every_version() {
    let agent = with_topic(&[("log.retention.hours", "1")]).await;
    for version in 1..=4 {
        let all = describe(&agent, version, (TOPIC, "t"), None).await;
        assert_eq!(code(all.error_code), ErrorCode::None);
        assert!(all.configs.len() > 30);
        let keys = ["retention.ms", "nothing.known"];
        let some = describe(&agent, version, (TOPIC, "t"), Some(&keys)).await;
        assert_eq!(some.configs.len(), 1);
        let retention = &some.configs[0];
        assert_eq!(retention.value.as_deref(), Some("3600000"));
        assert_eq!((retention.config_source, retention.config_type), (4, 5));
        assert!(!retention.read_only && !retention.is_sensitive);
        assert_eq!(retention.synonyms[0].name.as_str(), "log.retention.hours");
        assert_eq!(retention.synonyms[0].source, 4);
        assert_eq!(retention.documentation.is_some(), version >= 3);
    }
    let nobody = describe(&agent, 4, (TOPIC, "nobody"), None).await;
    assert_eq!(code(nobody.error_code), ErrorCode::UnknownTopicOrPartition);
    let bad = describe(&agent, 4, (TOPIC, "a b"), None).await;
    assert_eq!(code(bad.error_code), ErrorCode::InvalidTopic);
    let group = describe(&agent, 4, (32, ""), None).await;
    assert_eq!(code(group.error_code), ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_broker_describes_itself_and_no_other() {
    let agent = with_topic(&[("num.partitions", "5")]).await;
    let own = agent.id().to_string();
    let keys = ["num.partitions"];
    let described = describe(&agent, 4, (BROKER, &own), Some(&keys)).await;
    let partitions = &described.configs[0];
    assert_eq!(partitions.value.as_deref(), Some("5"));
    assert!(partitions.read_only);
    assert_eq!(partitions.config_source, 4);
    assert_eq!(
        describe(&agent, 4, (BROKER, ""), None).await.configs.len(),
        0
    );
    for other in ["4711", "x"] {
        let refused = describe(&agent, 4, (BROKER, other), None).await;
        assert_eq!(
            code(refused.error_code),
            ErrorCode::InvalidRequest,
            "{other}"
        );
    }
}

#[tokio::test]
async fn settings_change_incrementally() {
    let agent = with_topic(&[]).await;
    let topic = (TOPIC, "t");
    for version in 0..=1 {
        let ok = (ErrorCode::None, None);
        let limit = version + 1000;
        let value = limit.to_string();
        assert_eq!(
            set(
                &agent,
                version,
                topic,
                ("max.message.bytes", 0, Some(&value))
            )
            .await,
            ok
        );
        let settings = agent.metadata.read(|state| {
            agent
                .topics
                .settings(state, state.topic_by_name("t").unwrap())
        });
        assert_eq!(settings.max_message_bytes, usize::try_from(limit).unwrap());
        assert_eq!(
            set(
                &agent,
                version,
                topic,
                ("cleanup.policy", 2, Some("compact"))
            )
            .await,
            ok
        );
        assert_eq!(
            set(
                &agent,
                version,
                topic,
                ("cleanup.policy", 3, Some("delete"))
            )
            .await,
            ok
        );
        let shown = describe(&agent, 4, topic, Some(&["cleanup.policy"])).await;
        assert_eq!(shown.configs[0].value.as_deref(), Some("compact"));
        assert_eq!(shown.configs[0].config_source, 1);
        assert_eq!(
            set(&agent, version, topic, ("cleanup.policy", 1, None)).await,
            ok
        );
        assert_eq!(
            set(&agent, version, topic, ("retention.ms", 0, Some("x")))
                .await
                .0,
            ErrorCode::InvalidConfig
        );
        assert_eq!(
            set(&agent, version, topic, ("retention.ms", 9, Some("1")))
                .await
                .0,
            ErrorCode::InvalidRequest
        );
    }
}

#[tokio::test]
async fn a_single_broker_is_not_changed_in_the_name_of_all() {
    let agent = with_topic(&[]).await;
    let own = agent.id().to_string();
    let change = ("message.max.bytes", 0, Some("5"));
    let (refused, message) = set(&agent, 1, (BROKER, &own), change).await;
    assert_eq!(refused, ErrorCode::InvalidRequest);
    assert!(message.unwrap().contains("--entity-default"));
    assert_eq!(
        set(&agent, 1, (BROKER, ""), change).await,
        (ErrorCode::None, None)
    );
    let cluster = describe(&agent, 4, (BROKER, ""), None).await;
    assert_eq!(cluster.configs.len(), 1);
    assert_eq!(cluster.configs[0].config_source, 3);
    let (fixed, message) = set(&agent, 1, (BROKER, ""), ("num.partitions", 0, Some("5"))).await;
    assert_eq!(fixed, ErrorCode::InvalidRequest);
    let message = message.unwrap();
    assert_eq!(
        message,
        "Cannot update these configs dynamically: [num.partitions]"
    );
}

#[tokio::test]
async fn the_older_api_replaces_everything() {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let agent = with_topic(&[]).await;
    for version in 0..=2 {
        set(&agent, 1, (TOPIC, "t"), ("flush.ms", 0, Some("7"))).await;
        let config = message!(AlterableConfig {
            name: "retention.ms".into(),
            value: Some("9".into()),
        });
        let resource = message!(AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".into(),
            configs: vec![config],
        });
        let mut request = message!(AlterConfigsRequest {
            resources: vec![resource.clone()]
        });
        let response = alter_configs::handle(&context(&agent, version), request.clone()).await;
        let response = sendable(version, response);
        assert_eq!(code(response.responses[0].error_code), ErrorCode::None);
        let configs = agent
            .metadata
            .read(|state| state.topic_by_name("t").unwrap().configs.clone());
        assert_eq!(
            configs.into_iter().collect::<Vec<_>>(),
            [("retention.ms".into(), "9".into())]
        );
        request.resources.push(resource);
        let response = alter_configs::handle(&context(&agent, version), request).await;
        for one in response.responses {
            assert_eq!(code(one.error_code), ErrorCode::InvalidRequest);
        }
    }
}
