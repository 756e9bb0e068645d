//! Stores that `object_store` speaks to: memory and S3.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alluvium_types::random;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{GetOptions, MultipartId, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::bootstrap::Admin;
use super::error::Failure;
use super::folder::past_end;
use super::{ObjectMeta, OpenError};

/// Objects above this size go up in parts.
const MULTIPART_BYTES: u64 = 16 << 20;

/// Bytes of one part; S3 asks for at least 5 MiB.
const PART_BYTES: u64 = 8 << 20;

/// Parts of one object, if they are not too small: each is a request and costs money.
const PARTS: u64 = 4;

/// Parts of one object under way at the same time.
const PARTS_AT_ONCE: usize = 4;

/// Attempts at one part; the others need not go up again because of it.
const PART_ATTEMPTS: u32 = 3;

/// Requests of an upload besides its parts: one begins it, one completes it.
const AROUND_PARTS: u64 = 2;

/// A prefix of a store.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    s3: Option<S3>,
    prefix: String,
}

/// What S3 can do beyond the common interface.
#[derive(Debug)]
struct S3 {
    store: AmazonS3,
    admin: Admin,
}

impl Objects {
    pub(super) fn memory() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    pub(super) fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            s3: None,
            prefix: String::new(),
        }
    }

    /// Makes the bucket where there is none.
    pub(super) async fn ensure_bucket(&self) -> Result<(), OpenError> {
        match &self.s3 {
            Some(s3) => s3.admin.ensure_bucket().await,
            None => Ok(()),
        }
    }

    pub(super) fn s3(store: AmazonS3, admin: Admin, prefix: String) -> Self {
        Self {
            store: Arc::new(store.clone()),
            s3: Some(S3 { store, admin }),
            prefix,
        }
    }

    fn full(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(self.full(key))
    }

    pub(super) async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        match &self.s3 {
            Some(s3) if length > MULTIPART_BYTES => {
                s3.put_in_parts(&self.path(key), split(parts, part_bytes(length)))
                    .await
            }
            _ => {
                let payload: PutPayload = parts.iter().cloned().collect();
                let path = self.path(key);
                let put = self.store.put_opts(&path, payload, PutMode::Create.into());
                put.await
                    .map(drop)
                    .map_err(|error| Failure::of_store(&error))
            }
        }
    }

    /// Requests that a put of so many bytes is made of.
    pub(super) fn requests_of_put(&self, bytes: u64) -> u64 {
        if self.s3.is_some() && bytes > MULTIPART_BYTES {
            bytes.div_ceil(part_bytes(bytes)) + AROUND_PARTS
        } else {
            1
        }
    }

    /// A multipart upload onto a key that is taken, where the store has such uploads.
    pub(super) async fn put_in_parts_again(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Option<Result<(), Failure>> {
        let s3 = self.s3.as_ref()?;
        Some(s3.put_in_parts(&self.path(key), vec![bytes.into()]).await)
    }

    pub(super) async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        if range.start >= range.end {
            let held = self.head(key).await?.bytes;
            let inside = range.start == range.end && range.end <= held;
            return if inside {
                Ok(Bytes::new())
            } else {
                Err(past_end(held, &range))
            };
        }
        let path = self.path(key);
        let options = GetOptions::new().with_range(Some(range.clone()));
        let read = async { self.store.get_opts(&path, options).await?.bytes().await };
        match read.await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Ok(_) => Err(past_end(self.head(key).await?.bytes, &range)),
            Err(error) => match Failure::of_store(&error) {
                // A range that begins past the end is an error like any other to the library.
                Failure::Unavailable(reason) if self.s3.is_none() || reason.contains("416") => {
                    match self.head(key).await {
                        Ok(found) if found.bytes < range.end => Err(past_end(found.bytes, &range)),
                        _ => Err(Failure::Unavailable(reason)),
                    }
                }
                failure => Err(failure),
            },
        }
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        let found = self.store.head(&self.path(key)).await;
        let found = found.map_err(|error| Failure::of_store(&error))?;
        let modified = found.last_modified.timestamp_millis();
        Ok(ObjectMeta {
            key: key.to_owned(),
            bytes: found.size,
            modified,
        })
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        let mut found = match &self.s3 {
            Some(s3) => self.list_pages(&s3.store, prefix, after, limit).await,
            None => self.list_all(prefix, after).await,
        }
        .map_err(|error| Failure::of_store(&error))?;
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        found.truncate(limit);
        Ok(found)
    }

    async fn list_pages(
        &self,
        store: &AmazonS3,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> object_store::Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let mut page_token = None;
        while found.len() < limit {
            let options = PaginatedListOptions {
                offset: after.map(|after| self.full(after)),
                max_keys: Some(limit.saturating_sub(found.len()).min(1000)),
                page_token,
                ..PaginatedListOptions::default()
            };
            let page = store
                .list_paginated(Some(&self.full(prefix)), options)
                .await?;
            let objects = page.result.objects.into_iter();
            found.extend(objects.filter_map(|object| self.describe(object)));
            page_token = page.page_token;
            if page_token.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn list_all(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> object_store::Result<Vec<ObjectMeta>> {
        let objects: Vec<_> = self.store.list(None).try_collect().await?;
        let described = objects
            .into_iter()
            .filter_map(|object| self.describe(object));
        let after = after.unwrap_or_default();
        let wanted = |object: &ObjectMeta| object.key.starts_with(prefix) && *object.key > *after;
        Ok(described.filter(wanted).collect())
    }

    fn describe(&self, object: object_store::ObjectMeta) -> Option<ObjectMeta> {
        let whole = object.location.as_ref();
        let key = match self.prefix.as_str() {
            "" => whole,
            prefix => whole.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        let modified = object.last_modified.timestamp_millis();
        Some(ObjectMeta {
            key: key.to_owned(),
            bytes: object.size,
            modified,
        })
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.store
            .delete(&self.path(key))
            .await
            .map_err(|error| Failure::of_store(&error))
    }
}

impl S3 {
    /// Uploads in parts and completes on the condition that the key is free. The completing request is
    /// the AWS SDK's: `object_store` has no condition for it.
    async fn put_in_parts(&self, path: &Path, parts: Vec<PutPayload>) -> Result<(), Failure> {
        let failed = |error: object_store::Error| Failure::of_store(&error);
        let id = self.store.create_multipart(path).await.map_err(failed)?;
        let numbered = stream::iter(parts.into_iter().enumerate());
        let uploads = numbered.map(|(number, part)| self.put_part(path, &id, number, part));
        let uploaded = uploads
            .buffered(PARTS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await;
        let completed = match uploaded {
            Ok(parts) => {
                let tags = parts.into_iter().map(|part| part.content_id).collect();
                self.admin.complete(path.as_ref(), &id, tags).await
            }
            Err(failure) => Err(failure),
        };
        if completed.is_err() {
            // What is left of the upload costs money until the bucket's lifecycle rule removes it.
            if let Err(error) = self.store.abort_multipart(path, &id).await {
                tracing::debug!(%path, %error, "cannot abort a multipart upload");
            }
        }
        completed
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        number: usize,
        part: PutPayload,
    ) -> Result<PartId, Failure> {
        let mut attempt = 1;
        loop {
            let put = self.store.put_part(path, id, number, part.clone()).await;
            let failure = match put {
                Ok(part) => return Ok(part),
                Err(error) => Failure::of_store(&error),
            };
            if attempt == PART_ATTEMPTS || !matches!(failure, Failure::Unavailable(_)) {
                return Err(failure);
            }
            let limit = 200 << attempt;
            let pause = Duration::from_millis(random::range(limit / 2..limit));
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }
}

/// Bytes of each part but the last of an object.
fn part_bytes(length: u64) -> u64 {
    PART_BYTES.max(length.div_ceil(PARTS))
}

/// Cuts an object into parts of `part_bytes`, without copying.
fn split(pieces: &[Bytes], part_bytes: u64) -> Vec<PutPayload> {
    let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut part: Vec<Bytes> = Vec::new();
    let mut room = part_bytes;
    for piece in pieces {
        let mut piece = piece.clone();
        while !piece.is_empty() {
            let taken = piece.split_to(room.min(piece.len()));
            room -= taken.len();
            part.push(taken);
            if room == 0 {
                parts.push(part.drain(..).collect());
                room = part_bytes;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part.into_iter().collect());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_goes_up_in_few_parts_whatever_its_size() {
        assert_eq!(part_bytes(17 << 20), 8 << 20);
        assert_eq!(part_bytes(64 << 20), 16 << 20);
        assert_eq!(part_bytes(256 << 20), 64 << 20);
        assert_eq!(part_bytes((64 << 20) + 1), (16 << 20) + 1);
    }

    #[test]
    fn parts_are_cut_at_equal_sizes_whatever_the_pieces() {
        let pieces = [vec![1; 3], vec![], vec![2; 10], vec![3; 1]].map(Bytes::from);
        let parts: Vec<Bytes> = split(&pieces, 4).into_iter().map(Bytes::from).collect();
        assert_eq!(
            parts,
            [&[1, 1, 1, 2][..], &[2; 4], &[2; 4], &[2, 3]].map(Bytes::from)
        );
        assert!(split(&[], 4).is_empty());
        assert_eq!(split(&[Bytes::from_static(b"1234")], 4).len(), 1);
    }
}
