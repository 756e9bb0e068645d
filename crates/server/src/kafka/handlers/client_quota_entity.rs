//! Quota entities as requests name them: types and names.

use alluvium_metadata::{QuotaEntity, QuotaName};
use alluvium_protocol::messages::StrBytes;

/// Longest name of an entity, in bytes.
const NAME_BYTES: usize = 4096;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// The part of an entity that a type names.
///
/// # Errors
/// There is no such type.
pub(super) fn part<'a>(
    entity: &'a mut QuotaEntity,
    entity_type: &str,
) -> Result<&'a mut Option<QuotaName>, String> {
    match entity_type {
        USER => Ok(&mut entity.user),
        CLIENT_ID => Ok(&mut entity.client_id),
        IP => Ok(&mut entity.ip),
        other => Err(format!("Unknown quota entity type '{other}'.")),
    }
}

/// An entity from its parts.
///
/// # Errors
/// Why it is none, for people.
pub(super) fn read<'a>(
    parts: impl Iterator<Item = (&'a StrBytes, Option<&'a StrBytes>)>,
) -> Result<QuotaEntity, String> {
    let mut entity = QuotaEntity::default();
    for (entity_type, name) in parts {
        if name.is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES) {
            return Err(format!(
                "The name of a {entity_type} has 1 to {NAME_BYTES} bytes."
            ));
        }
        let part = part(&mut entity, entity_type)?;
        if part.is_some() {
            return Err(format!("The entity names two of type '{entity_type}'."));
        }
        *part = Some(name.map(ToString::to_string));
    }
    if entity == QuotaEntity::default() {
        return Err("The entity is empty.".to_owned());
    }
    if entity.ip.is_some() && (entity.user.is_some() || entity.client_id.is_some()) {
        return Err("An ip cannot be combined with a user or a client-id.".to_owned());
    }
    Ok(entity)
}

/// The parts of an entity: type, and name unless it is the default.
pub(super) fn parts(entity: &QuotaEntity) -> Vec<(&'static str, &QuotaName)> {
    let all = [
        (USER, &entity.user),
        (CLIENT_ID, &entity.client_id),
        (IP, &entity.ip),
    ];
    let named = all
        .into_iter()
        .filter_map(|(kind, name)| Some((kind, name.as_ref()?)));
    named.collect()
}
