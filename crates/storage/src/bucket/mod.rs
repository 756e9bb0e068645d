//! One narrow interface to S3, a folder or memory. Objects are never overwritten.
//!
//! Consistency: an object is there whole or not at all; a listing shows what was created before it.
//! Retries: inside, with jittered back-off, a few times and while the bucket's budget of retries
//! lasts; then [`BucketError::Unavailable`]. A store that asks for fewer requests gets fewer; an
//! attempt that hangs is given up after a time that grows with its size.
//! Cancellation: dropping a call may or may not have created the object; the same call repeated finds
//! its own bytes and succeeds. Keys: no key may be another key's folder (a folder, and some S3
//! servers, cannot have both `a` and `a/b`).
//!
//! - `url`: which store; which keys. `error`: every store's errors, translated in one place.
//! - `folder`: `file://`. `objects`: `memory://` and `s3://` through `object_store`.
//! - `s3`: region, endpoint and credentials. `bootstrap`: what only the AWS SDK can do.
//! - `store`: the seam for another store. `prove`: what a store must show before it is used.
//! - `request`: the way of every request: `pace` (its turn), `deadline`, `meter` (counts by cause),
//!   `vitals` (how the store does), `retry`.

mod backend;
mod bootstrap;
mod cause;
mod deadline;
mod error;
mod folder;
mod meter;
mod objects;
mod pace;
mod prove;
mod request;
mod retry;
mod s3;
mod store;
mod url;
mod vitals;

use std::ops::Range;
use std::sync::Arc;

use alluvium_types::Millis;
use bytes::Bytes;

use crate::disk::Disk;
use crate::sick::{SickStore, Sickness};
use backend::Backend;
use folder::Folder;
use meter::Operation;
use objects::Objects;
use request::Requester;
use retry::Attempts;
use url::{StoreUrl, check_key, check_prefix};

pub use cause::Cause;
pub use error::{BucketError, Failure, OpenError};
pub use meter::Requests;
pub use store::Store;
pub use url::plain_url;
pub use vitals::{Health, Latency};

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
    requester: Requester,
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

impl Bucket {
    /// Opens `s3://bucket/prefix`, `file:///folder` or `memory://`, making the bucket or folder when
    /// it is missing, and proves it: a conditional write, the same write again (which must be
    /// refused), a read, a ranged read, a listing, a delete.
    ///
    /// `sick:PROFILE[,key=value…]:URL` is one of those made to misbehave ([`crate::sick`]), for tests.
    ///
    /// Install the metrics recorder before.
    ///
    /// # Errors
    /// The URL is malformed, or the store cannot be reached, refuses, or does not honour conditional
    /// writes.
    pub async fn open(url: &str, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let (sickness, plain) = Sickness::of_url(url)?;
        let backend = Self::backend(plain, disk).await?;
        prove::prove(&backend, plain).await?;
        Ok(Self::of(url, Self::ailing(backend, sickness)))
    }

    /// Opens a store for reading, with no proof and nothing made: for tools that look at what is
    /// there.
    ///
    /// # Errors
    /// The URL is malformed, or a folder is not there.
    pub async fn open_existing(url: &str, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let (sickness, plain) = Sickness::of_url(url)?;
        let backend = match StoreUrl::parse(plain)? {
            StoreUrl::Folder(root) => Backend::Folder(Folder::existing(root, disk)),
            StoreUrl::Memory => Backend::Objects(Objects::memory()),
            StoreUrl::S3 { bucket, prefix } => {
                Backend::Objects(s3::existing(&bucket, prefix).await?)
            }
        };
        Ok(Self::of(url, Self::ailing(backend, sickness)))
    }

    async fn backend(url: &str, disk: Arc<dyn Disk>) -> Result<Backend, OpenError> {
        Ok(match StoreUrl::parse(url)? {
            StoreUrl::Folder(root) => Backend::Folder(Folder::open(root, disk).await?),
            StoreUrl::Memory => Backend::Objects(Objects::memory()),
            StoreUrl::S3 { bucket, prefix } => Backend::Objects(s3::open(&bucket, prefix).await?),
        })
    }

    fn ailing(backend: Backend, sickness: Option<Sickness>) -> Backend {
        match sickness {
            Some(sickness) => Backend::Given(Arc::new(SickStore::new(sickness, Arc::new(backend)))),
            None => backend,
        }
    }

    /// A store in memory, to be wrapped.
    #[must_use]
    pub fn memory() -> Arc<dyn Store> {
        Arc::new(Backend::Objects(Objects::memory()))
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
                requester: Requester::new(),
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
        self.inner.requester.meter.snapshot()
    }

    /// The same by what they were made for; every cause once.
    #[must_use]
    pub fn requests_by_cause(&self) -> Vec<(Cause, Requests)> {
        let of = |cause| (cause, self.inner.requester.meter.of_cause(cause));
        Cause::ALL.map(of).to_vec()
    }

    /// How the store does, by all that was asked of it through any clone.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.requester.health()
    }

    /// How long creates of about so many bytes take lately; `None` while too few were made.
    #[must_use]
    pub fn put_latency(&self, bytes: u64) -> Option<Latency> {
        let vitals = &self.inner.requester.vitals;
        vitals.latency(Operation::Put, bytes)
    }

    /// How long reads of about so many bytes take lately; `None` while too few were made.
    #[must_use]
    pub fn get_latency(&self, bytes: u64) -> Option<Latency> {
        let vitals = &self.inner.requester.vitals;
        vitals.latency(Operation::Get, bytes)
    }

    /// Creates an object from `parts`. Durable when it returns. Equal bytes under the same key count
    /// as success, so the call may be repeated.
    ///
    /// Objects above 16 MiB go up in several requests where the store has such; the object appears
    /// with the last of them. Nothing is copied.
    ///
    /// # Errors
    /// [`BucketError::AlreadyExists`] when other bytes have the key.
    pub async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), BucketError> {
        self.checked(Operation::Put, key, check_key(key))?;
        let (inner, requester) = (&self.inner, &self.inner.requester);
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let billed = inner.backend.requests_of_put(length);
        let mut attempts = Attempts::new();
        loop {
            let put = inner.backend.put(key, &parts);
            let asked = request::Asked {
                cause: self.cause,
                operation: Operation::Put,
                bytes: length,
                billed,
            };
            let failure = match requester.once(asked, put, |()| length).await {
                Ok(()) => return Ok(()),
                Err(Failure::Exists) => match self.holds(key, length, &parts).await? {
                    Some(true) => {
                        let settled = inner.backend.settle(key).await;
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
            if !requester.retries.again(&mut attempts, &failure).await {
                return Err(self.error(Operation::Put, key, failure));
            }
        }
    }

    /// [`Self::equals`], asked again before it is believed that the bytes differ: the store's
    /// answer may have been damaged on the way.
    async fn holds(
        &self,
        key: &str,
        length: u64,
        parts: &[Bytes],
    ) -> Result<Option<bool>, BucketError> {
        match self.equals(key, length, parts).await? {
            Some(false) => self.equals(key, length, parts).await,
            held => Ok(held),
        }
    }

    /// Whether an object has exactly these bytes; `None` when there is no object.
    ///
    /// Asked after a create found the key taken: by this very call, where an answer was lost and the
    /// request repeated, or by someone else.
    async fn equals(
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
        let wanted = range.end.saturating_sub(range.start);
        let get = || async {
            let bytes = self.inner.backend.get(key, range.clone()).await?;
            if bytes.len() as u64 == wanted {
                return Ok(bytes);
            }
            let got = bytes.len();
            Err(Failure::Unavailable(format!(
                "the answer ended after {got} of {wanted} bytes"
            )))
        };
        let length = |bytes: &Bytes| bytes.len() as u64;
        self.request(Operation::Get, key, wanted, get, length).await
    }

    /// An object's length.
    ///
    /// # Errors
    /// [`BucketError::NotFound`].
    pub async fn head(&self, key: &str) -> Result<ObjectMeta, BucketError> {
        self.checked(Operation::Head, key, check_key(key))?;
        let head = || self.inner.backend.head(key);
        self.request(Operation::Head, key, 0, head, |_| 0).await
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
        let list = || self.inner.backend.list(prefix, after, limit);
        self.request(Operation::List, prefix, 0, list, |_| 0).await
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.checked(Operation::Delete, key, check_key(key))?;
        let delete = || async {
            match self.inner.backend.delete(key).await {
                Err(Failure::NotFound) => Ok(()),
                deleted => deleted,
            }
        };
        self.request(Operation::Delete, key, 0, delete, |()| 0)
            .await
    }

    /// Makes a request, again while that may help.
    async fn request<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        operation: Operation,
        key: &str,
        bytes: u64,
        attempt: impl Fn() -> F,
        length: impl Fn(&T) -> u64,
    ) -> Result<T, BucketError> {
        let asked = request::Asked {
            cause: self.cause,
            operation,
            bytes,
            billed: 1,
        };
        let answer = self.inner.requester.repeatedly(asked, attempt, length);
        answer
            .await
            .map_err(|failure| self.error(operation, key, failure))
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
            Failure::Unavailable(reason) | Failure::SlowDown(reason) => BucketError::Unavailable {
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
