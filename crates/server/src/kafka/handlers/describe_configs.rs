//! DescribeConfigs for topics, brokers and groups.

use std::collections::BTreeSet;

use alluvium_agent::topics::{DescribedConfig, Synonym, check_name};
use alluvium_metadata::Refusal;
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_configs_request::DescribeConfigsResource;
use alluvium_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use alluvium_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse, StrBytes};
use alluvium_types::ErrorCode;

use super::config_resource::{self, Resource};
use super::{RequestContext, refusal};

/// What the request wants to know of each setting.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
}

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let wanted = Wanted {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let results = request
        .resources
        .into_iter()
        .map(|resource| {
            let described = describe(context, &resource);
            let mut result = message!(DescribeConfigsResult {
                error_message: None,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
            });
            match described {
                Ok(configs) => {
                    let configs = configs.into_iter().map(|config| entry(config, wanted));
                    result.configs = configs.collect();
                }
                Err(refused) => {
                    refusal::log(context, "DescribeConfigs", &result.resource_name, &refused);
                    result.error_code = refused.code.code();
                    result.error_message = Some(refused.message.into());
                }
            }
            result
        })
        .collect();
    message!(DescribeConfigsResponse { results })
}

fn describe(
    context: &RequestContext,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribedConfig>, Refusal> {
    // To name no setting is to ask for all of them, whether by null or by an empty list.
    let keys: Option<BTreeSet<&str>> = resource
        .configuration_keys
        .as_ref()
        .filter(|keys| !keys.is_empty())
        .map(|keys| keys.iter().map(StrBytes::as_str).collect());
    let (agent, keys) = (&context.agent, keys.as_ref());
    let name = resource.resource_name.as_str();
    match config_resource::parse(context, resource.resource_type, name)? {
        Resource::Topic => {
            check_name(name)?;
            agent.metadata.read(|state| {
                let topic = state.topic_by_name(name).ok_or_else(|| Refusal {
                    code: ErrorCode::UnknownTopicOrPartition,
                    message: format!("The topic '{name}' does not exist."),
                })?;
                Ok(agent.topics.describe_topic(state, topic, keys))
            })
        }
        Resource::Group => Ok(agent
            .metadata
            .read(|state| agent.topics.describe_group(state, name, keys))),
        Resource::ClientMetrics => Ok(agent
            .metadata
            .read(|state| agent.topics.describe_client_metrics(state, name, keys))),
        Resource::Cluster => Ok(agent
            .metadata
            .read(|state| agent.topics.describe_cluster(state, keys))),
        Resource::Broker => Ok(agent
            .metadata
            .read(|state| agent.topics.describe_broker(state, keys))),
    }
}

fn entry(config: DescribedConfig, wanted: Wanted) -> DescribeConfigsResourceResult {
    let documentation = wanted
        .documentation
        .then(|| config.definition.describe().into());
    let synonyms = if wanted.synonyms {
        config.synonyms
    } else {
        Vec::new()
    };
    message!(DescribeConfigsResourceResult {
        name: config.definition.name.into(),
        value: config.value.map(StrBytes::from),
        read_only: config.read_only,
        config_source: config.source.number(),
        is_sensitive: config.definition.is_sensitive(),
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: config.definition.kind.number(),
        documentation,
    })
}

fn synonym(synonym: Synonym) -> DescribeConfigsSynonym {
    message!(DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(StrBytes::from),
        source: synonym.source.number(),
    })
}
