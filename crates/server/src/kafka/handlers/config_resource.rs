//! Whose settings a request is about: Kafka's resource types and names.

use alluvium_metadata::Refusal;
use alluvium_types::ErrorCode;

use super::RequestContext;

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;

/// A resource that has settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The topic of that name.
    Topic,
    /// The default of all brokers: the cluster's own settings.
    Cluster,
    /// This agent.
    Broker,
    /// Groups of that id.
    Group,
    /// The client metrics subscription of that name.
    ClientMetrics,
}

/// Reads a resource's type and name.
///
/// # Errors
/// `INVALID_REQUEST`: a type without settings here, or another broker's.
pub(crate) fn parse(
    context: &RequestContext,
    resource_type: i8,
    name: &str,
) -> Result<Resource, Refusal> {
    let refuse = |message: String| {
        Err(Refusal {
            code: ErrorCode::InvalidRequest,
            message,
        })
    };
    match resource_type {
        TOPIC => Ok(Resource::Topic),
        BROKER if name.is_empty() => Ok(Resource::Cluster),
        BROKER => match name.parse::<i32>() {
            Ok(id) if id == context.agent.id().0 => Ok(Resource::Broker),
            Ok(id) => refuse(format!(
                "Unexpected broker id, expected {} or empty string, but received {id}",
                context.agent.id()
            )),
            Err(_) => refuse(format!("Broker id must be an integer, but it is: {name}")),
        },
        BROKER_LOGGER => refuse(
            "Log levels are set in the process's configuration, there are no Kafka loggers."
                .to_owned(),
        ),
        CLIENT_METRICS if name.is_empty() => refuse("Subscription name can't be empty".to_owned()),
        CLIENT_METRICS => Ok(Resource::ClientMetrics),
        GROUP if name.is_empty() => refuse("Default group resources are not allowed.".to_owned()),
        GROUP => Ok(Resource::Group),
        other => refuse(format!("Unsupported resource type {other}")),
    }
}
