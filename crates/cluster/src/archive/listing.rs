//! What is in the bucket.

use alluvium_storage::bucket::{Bucket, BucketError, ObjectMeta};

use super::keys;

/// Keys asked for at once; S3 gives no more.
const PAGE: usize = 1000;

/// A file of the archive, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) bytes: u64,
    /// The number in its key.
    pub(crate) number: u64,
}

/// All files below `prefix`, after the key `after`, by number. Whatever else lies there is left out.
pub(crate) async fn list(
    bucket: &Bucket,
    prefix: &str,
    after: Option<&str>,
) -> Result<Vec<Listed>, BucketError> {
    let mut found = Vec::new();
    each(bucket, prefix, after, |meta| {
        if let Some(number) = keys::number(&meta.key, prefix) {
            found.push(Listed {
                key: meta.key,
                bytes: meta.bytes,
                number,
            });
        }
    })
    .await?;
    Ok(found)
}

/// Shows all objects below `prefix`, in order.
pub(crate) async fn each(
    bucket: &Bucket,
    prefix: &str,
    after: Option<&str>,
    mut see: impl FnMut(ObjectMeta),
) -> Result<(), BucketError> {
    let mut after = after.map(str::to_owned);
    loop {
        let page = bucket.list(prefix, after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|meta| meta.key.clone()).or(after);
        page.into_iter().for_each(&mut see);
        if is_last {
            return Ok(());
        }
    }
}

/// A file's bytes.
pub(crate) async fn read(bucket: &Bucket, key: &str) -> Result<bytes::Bytes, BucketError> {
    let bytes = bucket.head(key).await?.bytes;
    bucket.read(key, 0..bytes).await
}
