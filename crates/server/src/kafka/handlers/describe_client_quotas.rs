//! DescribeClientQuotas: who may have how much (KIP-546).

use alluvium_metadata::QuotaEntity;
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_client_quotas_request::ComponentData;
use alluvium_protocol::messages::describe_client_quotas_response::{
    EntityData, EntryData, ValueData,
};
use alluvium_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use alluvium_types::ErrorCode;

use super::RequestContext;
use super::client_quota_entity as entity;

/// How a component matches: a name, the default, anything of its type.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    if let Err(why) = check(&request.components) {
        return message!(DescribeClientQuotasResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            error_message: Some(why.into()),
            entries: None,
        });
    }
    let all = context.agent.quotas.all().into_iter();
    let entries = all
        .filter(|(entity, _)| matches(entity, &request.components, request.strict))
        .map(|(entity, quotas)| {
            let parts = entity::parts(&entity).into_iter().map(|(kind, name)| {
                message!(EntityData {
                    entity_type: kind.into(),
                    entity_name: name.as_deref().map(Into::into),
                })
            });
            let values = quotas.into_iter().map(|(key, value)| {
                message!(ValueData {
                    key: key.into(),
                    value
                })
            });
            message!(EntryData {
                entity: parts.collect(),
                values: values.collect(),
            })
        });
    message!(DescribeClientQuotasResponse {
        entries: Some(entries.collect())
    })
}

fn check(components: &[ComponentData]) -> Result<(), String> {
    for (at, component) in components.iter().enumerate() {
        let kind = &component.entity_type;
        entity::part(&mut QuotaEntity::default(), kind)?;
        let has_name = component.match_.is_some();
        match component.match_type {
            EXACT if !has_name => return Err(format!("A name of a {kind} to match is missing.")),
            DEFAULT | ANY if has_name => {
                return Err(format!("A name of a {kind} is given, and none is matched."));
            }
            EXACT | DEFAULT | ANY => {}
            other => return Err(format!("There is no match type {other}.")),
        }
        if components
            .iter()
            .take(at)
            .any(|other| other.entity_type == *kind)
        {
            return Err(format!("Two components are of type '{kind}'."));
        }
    }
    Ok(())
}

fn matches(entity: &QuotaEntity, components: &[ComponentData], strict: bool) -> bool {
    let parts = entity::parts(entity);
    let fits = |component: &ComponentData| {
        let part = parts
            .iter()
            .find(|(kind, _)| *kind == &*component.entity_type);
        part.is_some_and(|(_, name)| match component.match_type {
            EXACT => component.match_.as_deref() == name.as_deref(),
            DEFAULT => name.is_none(),
            _ => true,
        })
    };
    components.iter().all(fits) && (!strict || parts.len() == components.len())
}
