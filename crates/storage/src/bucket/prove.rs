//! What a store must show before it is trusted with data.

use std::time::Duration;

use bytes::Bytes;

use super::Store as _;
use super::backend::Backend;
use super::error::{Failure, OpenError};

/// A store that answers none of the few requests in this time cannot carry a log.
const PROVE_TIME: Duration = Duration::from_secs(120);

/// Creates, reads, lists and deletes one small object, and sees to it that a second create with other
/// bytes is refused. Uses plain requests: the rule that equal bytes are success would hide a store
/// that ignores the condition.
pub(super) async fn prove(backend: &Backend, url: &str) -> Result<(), OpenError> {
    let key = format!("prove/{:016x}", alluvium_types::random::value::<u64>());
    let proved = tokio::time::timeout(PROVE_TIME, steps(backend, url, &key)).await;
    let proved = proved.unwrap_or_else(|_| {
        Err(OpenError(format!(
            "{url} took more than {} s to answer",
            PROVE_TIME.as_secs()
        )))
    });
    if proved.is_err() {
        // Tidy up where that is possible; the first error is the one to tell.
        let _ = tokio::time::timeout(Duration::from_secs(5), backend.delete(&key)).await;
    }
    proved
}

async fn steps(backend: &Backend, url: &str, key: &str) -> Result<(), OpenError> {
    let first = Bytes::from(format!("this object proves that {url} can be written to"));
    let second = Bytes::from_static(b"this write must be refused");
    let failed = |what: &'static str, permission: &'static str| {
        move |failure: Failure| OpenError(explain(url, what, permission, &failure))
    };
    let wrong = |what: &str| OpenError(format!("{url} cannot be used: {what}"));

    match backend.put(key, std::slice::from_ref(&first)).await {
        // A random key that is taken: the answer to a request that was repeated inside.
        Ok(()) | Err(Failure::Exists) => {}
        Err(failure) => return Err(failed("create an object", "s3:PutObject")(failure)),
    }
    refused(backend.put(key, std::slice::from_ref(&second)).await, url)?;
    if let Backend::Objects(objects) = backend
        && let Some(again) = objects.put_in_parts_again(key, second).await
    {
        refused(again, url)?;
    }
    let length = first.len() as u64;
    let whole = backend.get(key, 0..length).await;
    if whole.map_err(failed("read an object", "s3:GetObject"))? != first {
        return Err(wrong("an object read back differs from what was written"));
    }
    let range = backend.get(key, 5..11).await;
    if range.map_err(failed("read a range of an object", "s3:GetObject"))? != first.slice(5..11) {
        return Err(wrong("it does not honour ranged reads"));
    }
    let listed = backend.list("prove/", None, 1000).await;
    let listed = listed.map_err(failed("list objects", "s3:ListBucket"))?;
    // More than a page of others is possible only where their owners could not delete them.
    if listed.len() < 1000 && !listed.iter().any(|o| o.key == key && o.bytes == length) {
        return Err(wrong(
            "a listing does not show an object that was just created",
        ));
    }
    match backend.delete(key).await {
        Ok(()) | Err(Failure::NotFound) => Ok(()),
        Err(failure) => Err(failed("delete an object", "s3:DeleteObject")(failure)),
    }
}

fn refused(second: Result<(), Failure>, url: &str) -> Result<(), OpenError> {
    match second {
        Err(Failure::Exists) => Ok(()),
        Ok(()) => Err(OpenError(format!(
            "{url} does not honour conditional writes (If-None-Match); Alluvium would lose data on \
             it. Use a store that does: AWS S3, MinIO since 2024-12, the Versity gateway, or a \
             folder on a local disk"
        ))),
        Err(failure) => Err(OpenError(format!(
            "{url} does not answer a conditional write (If-None-Match) as it should: {}. Use a store \
             that supports them: AWS S3, MinIO since 2024-12, the Versity gateway, or a folder on a \
             local disk",
            failure.reason()
        ))),
    }
}

fn explain(url: &str, what: &str, permission: &str, failure: &Failure) -> String {
    let reason = failure.reason();
    let s3 = url.starts_with("s3://");
    match failure {
        Failure::Denied(_) if s3 => format!(
            "{url}: the credentials may not {what}: grant them {permission} on it (the store said: \
             {reason})"
        ),
        Failure::Denied(_) => format!("{url}: cannot {what}: {reason}; check its permissions"),
        _ => format!("{url}: cannot {what}: {reason}; check that the store is up and reachable"),
    }
}
