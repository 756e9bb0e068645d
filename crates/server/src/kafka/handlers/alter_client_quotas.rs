//! AlterClientQuotas: how much clients may have (KIP-546). Each entry is altered, or refused, by itself.

use alluvium_agent::quotas::QuotaKind;
use alluvium_metadata::{AlterQuota, QuotaValue};
use alluvium_protocol::message;
use alluvium_protocol::messages::alter_client_quotas_request::{EntryData, OpData};
use alluvium_protocol::messages::alter_client_quotas_response::{
    EntityData, EntryData as AnsweredEntry,
};
use alluvium_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use alluvium_types::ErrorCode;
use tracing::info;

use super::RequestContext;
use super::client_quota_entity as entity;

pub(crate) async fn handle(
    context: &RequestContext,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let read: Vec<Result<AlterQuota, String>> = request.entries.iter().map(read).collect();
    let good: Vec<AlterQuota> = read.iter().flatten().cloned().collect();
    let mut code = ErrorCode::None;
    if !request.validate_only && !good.is_empty() {
        info!(
            client = context.client_host,
            entries = good.len(),
            "client quotas are altered"
        );
        code = context
            .agent
            .quotas
            .alter(good)
            .await
            .err()
            .unwrap_or_default();
    }
    let entries = request.entries.into_iter().zip(read);
    let entries = entries.map(|(entry, read)| {
        let (code, why) = match read {
            Ok(_) if code == ErrorCode::None => (code, None),
            Ok(_) => (code, Some(code.name().to_owned())),
            Err(why) => (ErrorCode::InvalidRequest, Some(why)),
        };
        let entity = entry.entity.into_iter().map(|part| {
            message!(EntityData {
                entity_type: part.entity_type,
                entity_name: part.entity_name,
            })
        });
        message!(AnsweredEntry {
            error_code: code.code(),
            error_message: why.map(Into::into),
            entity: entity.collect(),
        })
    });
    message!(AlterClientQuotasResponse {
        entries: entries.collect()
    })
}

fn read(entry: &EntryData) -> Result<AlterQuota, String> {
    let parts = entry.entity.iter();
    let entity = entity::read(parts.map(|part| (&part.entity_type, part.entity_name.as_ref())))?;
    if entity.ip.is_some() {
        return Err("Quotas of an ip bound connections, which are not limited here.".to_owned());
    }
    let changes = entry
        .ops
        .iter()
        .map(change)
        .collect::<Result<_, String>>()?;
    Ok(AlterQuota { entity, changes })
}

fn change(op: &OpData) -> Result<(String, Option<QuotaValue>), String> {
    let key = op.key.to_string();
    let known = QuotaKind::ALL.map(QuotaKind::name);
    if !known.contains(&key.as_str()) {
        let known = known.join(", ");
        return Err(format!(
            "Quotas of kind '{key}' are not kept, only {known}."
        ));
    }
    if op.remove {
        return Ok((key, None));
    }
    if op.value.is_finite() && op.value > 0.0 {
        Ok((key, Some(QuotaValue::new(op.value))))
    } else {
        Err(format!("Quota {key} must be greater than 0."))
    }
}
