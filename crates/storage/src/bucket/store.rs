//! The seam below a bucket.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Failure, ObjectMeta};

/// A store itself: plain requests, nothing repeated, nothing forgiven. [`Bucket::over`](super::Bucket::over)
/// makes a bucket of one.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Creates an object; fails with [`Failure::Exists`] when the key is taken, by whatever bytes.
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure>;
    /// Reads a range, all of it.
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure>;
    /// An object's length and age.
    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure>;
    /// Up to `limit` objects whose keys begin with `prefix` and come after `after`, by key.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure>;
    /// Deletes an object, if it is there.
    async fn delete(&self, key: &str) -> Result<(), Failure>;
    /// Makes an object durable that was found to be there, put by who knows whom.
    async fn settle(&self, _key: &str) -> Result<(), Failure> {
        Ok(())
    }
    /// Requests that a put of so many bytes is billed as: several where it goes up in parts.
    fn requests_of_put(&self, _bytes: u64) -> u64 {
        1
    }
}
