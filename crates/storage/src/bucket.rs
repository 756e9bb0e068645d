//! One narrow interface to S3, a folder or memory. Objects are never overwritten.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use alluvium_types::Millis;

use crate::disk::Disk;

/// A bucket, or a prefix of one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {}

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

/// What can go wrong with one request, by what the caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BucketError {
    /// There is no such object.
    #[error("{key}: no such object in {store}")]
    NotFound {
        /// Which store.
        store: Arc<str>,
        /// Which object.
        key: String,
    },
    /// The key is taken by other bytes.
    #[error("{key}: exists already in {store}")]
    AlreadyExists {
        /// Which store.
        store: Arc<str>,
        /// Which object.
        key: String,
    },
    /// The credentials do not allow it.
    #[error("{store} refused {operation} of {key}: {reason}")]
    Denied {
        /// Which store.
        store: Arc<str>,
        /// PUT, GET, LIST, DELETE, HEAD.
        operation: &'static str,
        /// Which object.
        key: String,
        /// In the store's words.
        reason: String,
    },
    /// It may work later; the retries inside were spent.
    #[error("{store} failed {operation} of {key}: {reason}")]
    Unavailable {
        /// Which store.
        store: Arc<str>,
        /// PUT, GET, LIST, DELETE, HEAD.
        operation: &'static str,
        /// Which object.
        key: String,
        /// In the store's words.
        reason: String,
    },
}

/// Why a store cannot be used at all. The text names the store, what is missing and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

impl Bucket {
    /// Opens `s3://bucket/prefix`, `file:///folder` or `memory://`, making the bucket or folder when
    /// it is missing, and proves it: a conditional write, the same write again (which must be
    /// refused), a read, a ranged read, a listing, a delete.
    ///
    /// # Errors
    /// The URL is malformed, or the store cannot be reached, refuses, or does not honour conditional
    /// writes.
    pub async fn open(url: &str, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let _ = (url, disk);
        todo!()
    }

    /// The URL it was opened with.
    #[must_use]
    pub fn url(&self) -> &str {
        todo!()
    }

    /// Creates an object from `parts`. Durable when it returns. Equal bytes under the same key count
    /// as success, so the call may be repeated.
    ///
    /// # Errors
    /// [`BucketError::AlreadyExists`] when other bytes have the key.
    pub async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), BucketError> {
        let _ = (key, parts);
        todo!()
    }

    /// Reads a range, all of it.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], or the object is shorter than the range.
    pub async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        let _ = (key, range);
        todo!()
    }

    /// An object's length.
    ///
    /// # Errors
    /// [`BucketError::NotFound`].
    pub async fn head(&self, key: &str) -> Result<ObjectMeta, BucketError> {
        let _ = key;
        todo!()
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
        let _ = (prefix, after, limit);
        todo!()
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let _ = key;
        todo!()
    }
}
