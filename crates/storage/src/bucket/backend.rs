//! The stores that a URL can name, as one.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::folder::Folder;
use super::objects::Objects;
use super::{Failure, ObjectMeta, Store};

/// The store itself: plain requests, nothing repeated, nothing forgiven.
#[derive(Debug)]
pub(super) enum Backend {
    Folder(Folder),
    Objects(Objects),
    Given(Arc<dyn Store>),
}

#[async_trait]
impl Store for Backend {
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

    async fn settle(&self, key: &str) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.settle(key).await,
            Self::Objects(_) => Ok(()),
            Self::Given(store) => store.settle(key).await,
        }
    }

    fn requests_of_put(&self, bytes: u64) -> u64 {
        match self {
            Self::Folder(_) => 1,
            Self::Objects(objects) => objects.requests_of_put(bytes),
            Self::Given(store) => store.requests_of_put(bytes),
        }
    }
}
