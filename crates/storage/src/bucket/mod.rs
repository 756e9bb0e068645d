//! One narrow interface to S3, a folder or memory. Objects are never overwritten.
//!
//! Consistency: an object is there whole or not at all; a listing shows what was created before it.
//! Retries: inside, with jittered back-off, for about a minute; then [`BucketError::Unavailable`].
//! Cancellation: dropping a call may or may not have created the object; the same call repeated finds
//! its own bytes and succeeds. Keys: no key may be another key's folder (a folder, and some S3
//! servers, cannot have both `a` and `a/b`).
//!
//! - `url`: which store; which keys. `error`: every store's errors, translated in one place.
//! - `folder`: `file://`. `objects`: `memory://` and `s3://` through `object_store`.
//! - `s3`: region, endpoint and credentials. `bootstrap`: what only the AWS SDK can do.
//! - `store`: the seam for another store. `prove`: what a store must show before it is used. `meter`: counts of requests.

mod bootstrap;
mod cause;
mod error;
mod folder;
mod meter;
mod objects;
mod prove;
mod s3;
mod store;
mod url;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alluvium_types::{Millis, random};
use bytes::Bytes;
use tokio::time::Instant;

use crate::disk::Disk;
use folder::Folder;
use meter::{Meter, Operation};
use objects::Objects;
use url::{StoreUrl, check_key, check_prefix};

pub use cause::Cause;
pub use error::{BucketError, Failure, OpenError};
pub use meter::Requests;
pub use store::Store;

/// How long a create is tried again after a failure that may pass.
const CREATE_SECONDS: u64 = 60;

/// How often.
const CREATE_ATTEMPTS: u32 = 4;

/// Bytes read at once where an object is compared with what should be in it.
const COMPARE_BYTES: u64 = 4 << 20;

/// A bucket, or a prefix of one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    inner: Arc<Inner>,
    cause: Cause,
}

#[derive(Debug)]
struct Inner {
    url: Arc<str>,
    backend: Backend,
    meter: Meter,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key below the prefix.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub modified: Millis,
}

/// The store itself: plain requests, nothing repeated, nothing forgiven.
#[derive(Debug)]
enum Backend {
    Folder(Folder),
    Objects(Objects),
    Given(Arc<dyn Store>),
}

impl Backend {
    /// Creates an object; fails with [`Failure::Exists`] when the key is taken, by whatever bytes.
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.put(key, parts).await,
            Self::Objects(objects) => objects.put(key, parts).await,
            Self::Given(store) => store.put(key, parts).await,
        }
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        match self {
            Self::Folder(folder) => folder.get(key, range).await,
            Self::Objects(objects) => objects.get(key, range).await,
            Self::Given(store) => store.get(key, range).await,
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        match self {
            Self::Folder(folder) => folder.head(key).await,
            Self::Objects(objects) => objects.head(key).await,
            Self::Given(store) => store.head(key).await,
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        match self {
            Self::Folder(folder) => folder.list(prefix, after, limit).await,
            Self::Objects(objects) => objects.list(prefix, after, limit).await,
            Self::Given(store) => store.list(prefix, after, limit).await,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.delete(key).await,
            Self::Objects(objects) => objects.delete(key).await,
            Self::Given(store) => store.delete(key).await,
        }
    }

    /// Makes an object durable that was found to be there.
    async fn settle(&self, key: &str) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.settle(key).await,
            Self::Objects(_) | Self::Given(_) => Ok(()),
        }
    }
}

impl Bucket {
    /// Opens `s3://bucket/prefix`, `file:///folder` or `memory://`, making the bucket or folder when
    /// it is missing, and proves it: a conditional write, the same write again (which must be
    /// refused), a read, a ranged read, a listing, a delete.
    ///
    /// Install the metrics recorder before.
    ///
    /// # Errors
    /// The URL is malformed, or the store cannot be reached, refuses, or does not honour conditional
    /// writes.
    pub async fn open(url: &str, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let backend = Self::backend(url, disk).await?;
        prove::prove(&backend, url).await?;
        Ok(Self::of(url, backend))
    }

    /// Opens a store for reading, with no proof and nothing made: for tools that look at what is
    /// there.
    ///
    /// # Errors
    /// The URL is malformed, or a folder is not there.
    pub async fn open_existing(url: &str, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let backend = match StoreUrl::parse(url)? {
            StoreUrl::Folder(root) => Backend::Folder(Folder::existing(root, disk)),
            StoreUrl::Memory => Backend::Objects(Objects::memory()),
            StoreUrl::S3 { bucket, prefix } => {
                Backend::Objects(s3::existing(&bucket, prefix).await?)
            }
        };
        Ok(Self::of(url, backend))
    }

    async fn backend(url: &str, disk: Arc<dyn Disk>) -> Result<Backend, OpenError> {
        Ok(match StoreUrl::parse(url)? {
            StoreUrl::Folder(root) => Backend::Folder(Folder::open(root, disk).await?),
            StoreUrl::Memory => Backend::Objects(Objects::memory()),
            StoreUrl::S3 { bucket, prefix } => Backend::Objects(s3::open(&bucket, prefix).await?),
        })
    }

    /// A bucket over a store of the caller's, under a name for messages. It is not proved.
    #[must_use]
    pub fn over(name: &str, store: Arc<dyn Store>) -> Self {
        Self::of(name, Backend::Given(store))
    }

    fn of(url: &str, backend: Backend) -> Self {
        Self {
            inner: Arc::new(Inner {
                url: url.into(),
                backend,
                meter: Meter::new(),
            }),
            cause: Cause::Other,
        }
    }

    /// The same bucket, whose requests are counted as made for `cause`.
    #[must_use]
    pub fn for_cause(&self, cause: Cause) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            cause,
        }
    }

    /// What its requests are made for.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// The URL it was opened with.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Requests made so far, by all clones.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.inner.meter.snapshot()
    }

    /// Creates an object from `parts`. Durable when it returns. Equal bytes under the same key count
    /// as success, so the call may be repeated.
    ///
    /// Large objects go up in several requests; the object appears with the last of them.
    ///
    /// # Errors
    /// [`BucketError::AlreadyExists`] when other bytes have the key.
    pub async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), BucketError> {
        self.checked(Operation::Put, key, check_key(key))?;
        let started = Instant::now();
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let mut attempt = 0;
        loop {
            let put = self.inner.backend.put(key, &parts);
            let failure = match self
                .inner
                .meter
                .measure(Operation::Put, put, |()| length)
                .await
            {
                Ok(()) => return Ok(()),
                Err(Failure::Exists) => match self.holds(key, length, &parts).await? {
                    Some(true) => {
                        let settled = self.inner.backend.settle(key).await;
                        return settled.map_err(|f| self.error(Operation::Put, key, f));
                    }
                    Some(false) => return Err(self.error(Operation::Put, key, Failure::Exists)),
                    // A write that collided with this one and left nothing, or a delete.
                    None => {
                        Failure::Unavailable("conflicting writes, none of which won".to_owned())
                    }
                },
                Err(failure) => failure,
            };
            attempt += 1;
            let passing = matches!(failure, Failure::Unavailable(_));
            if !passing
                || attempt == CREATE_ATTEMPTS
                || started.elapsed().as_secs() >= CREATE_SECONDS
            {
                return Err(self.error(Operation::Put, key, failure));
            }
            let limit = 100 << attempt;
            let pause = Duration::from_millis(random::range(limit / 2..limit));
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether an object has exactly these bytes; `None` when there is no object.
    ///
    /// Asked after a create found the key taken: by this very call, where an answer was lost and the
    /// request repeated, or by someone else.
    async fn holds(
        &self,
        key: &str,
        length: u64,
        parts: &[Bytes],
    ) -> Result<Option<bool>, BucketError> {
        match self.head(key).await {
            Ok(found) if found.bytes != length => return Ok(Some(false)),
            Ok(_) => {}
            Err(BucketError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut parts = parts.iter().cloned();
        let mut part = Bytes::new();
        let mut position = 0;
        while position < length {
            let end = length.min(position + COMPARE_BYTES);
            let mut held = match self.read(key, position..end).await {
                Ok(held) => held,
                Err(BucketError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            while !held.is_empty() {
                if part.is_empty() {
                    let Some(next) = parts.next() else {
                        return Ok(Some(false));
                    };
                    part = next;
                    continue;
                }
                let common = held.len().min(part.len());
                if held.split_to(common) != part.split_to(common) {
                    return Ok(Some(false));
                }
            }
            position = end;
        }
        Ok(Some(true))
    }

    /// Reads a range, all of it.
    ///
    /// # Errors
    /// [`BucketError::NotFound`]; [`BucketError::Denied`] when the object is shorter than the range.
    pub async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        self.checked(Operation::Get, key, check_key(key))?;
        let get = self.inner.backend.get(key, range);
        let read = self
            .inner
            .meter
            .measure(Operation::Get, get, |bytes| bytes.len() as u64)
            .await;
        read.map_err(|failure| self.error(Operation::Get, key, failure))
    }

    /// An object's length.
    ///
    /// # Errors
    /// [`BucketError::NotFound`].
    pub async fn head(&self, key: &str) -> Result<ObjectMeta, BucketError> {
        self.checked(Operation::Head, key, check_key(key))?;
        let head = self.inner.backend.head(key);
        let found = self.inner.meter.measure(Operation::Head, head, |_| 0).await;
        found.map_err(|failure| self.error(Operation::Head, key, failure))
    }

    /// Up to `limit` objects whose keys begin with `prefix` and come after `after`, by key.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, BucketError> {
        let wrong = check_prefix(prefix).or_else(|| after.and_then(check_prefix));
        self.checked(Operation::List, prefix, wrong)?;
        let list = self.inner.backend.list(prefix, after, limit);
        let found = self.inner.meter.measure(Operation::List, list, |_| 0).await;
        found.map_err(|failure| self.error(Operation::List, prefix, failure))
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.checked(Operation::Delete, key, check_key(key))?;
        let delete = self.inner.backend.delete(key);
        match self
            .inner
            .meter
            .measure(Operation::Delete, delete, |()| 0)
            .await
        {
            Ok(()) | Err(Failure::NotFound) => Ok(()),
            Err(failure) => Err(self.error(Operation::Delete, key, failure)),
        }
    }

    fn checked(
        &self,
        operation: Operation,
        key: &str,
        wrong: Option<&'static str>,
    ) -> Result<(), BucketError> {
        match wrong {
            None => Ok(()),
            Some(wrong) => {
                let reason = format!("the key {wrong}");
                Err(self.error(
                    operation,
                    &key.escape_debug().to_string(),
                    Failure::Denied(reason),
                ))
            }
        }
    }

    fn error(&self, operation: Operation, key: &str, failure: Failure) -> BucketError {
        let (store, key) = (Arc::clone(&self.inner.url), key.to_owned());
        let reading = matches!(operation, Operation::Get | Operation::Head);
        let operation = operation.name();
        match failure {
            Failure::NotFound if reading => BucketError::NotFound { store, key },
            Failure::NotFound => {
                let reason = "the bucket or folder is gone".to_owned();
                BucketError::Denied {
                    store,
                    operation,
                    key,
                    reason,
                }
            }
            Failure::Exists => BucketError::AlreadyExists { store, key },
            Failure::Denied(reason) => BucketError::Denied {
                store,
                operation,
                key,
                reason,
            },
            Failure::Unavailable(reason) => BucketError::Unavailable {
                store,
                operation,
                key,
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests;
