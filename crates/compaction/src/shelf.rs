//! A bucket in memory that can be tampered with, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use alluvium_objects::key;
use alluvium_storage::bucket::{Bucket, Failure, ObjectMeta, Store};
use alluvium_types::{Millis, ObjectId};
use async_trait::async_trait;
use bytes::Bytes;

/// What is in it, and how it behaves.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    objects: Mutex<BTreeMap<String, (Bytes, Millis)>>,
    /// The store's clock.
    pub(crate) now: AtomicI64,
    /// Every request fails.
    pub(crate) is_away: AtomicBool,
    /// Keys that may not be deleted.
    pub(crate) locked: Mutex<BTreeSet<String>>,
}

impl Shelf {
    pub(crate) fn at(now: Millis) -> Arc<Self> {
        let shelf = Self::default();
        shelf.now.store(now, Ordering::SeqCst);
        Arc::new(shelf)
    }

    pub(crate) fn bucket(self: &Arc<Self>) -> Bucket {
        Bucket::over("test://shelf", Arc::clone(self) as Arc<dyn Store>)
    }

    /// Puts something there as if it had been written at that time.
    pub(crate) fn put_at(&self, key: &str, bytes: impl Into<Bytes>, modified: Millis) {
        let mut objects = self.objects.lock().unwrap();
        objects.insert(key.to_owned(), (bytes.into(), modified));
    }

    pub(crate) fn get(&self, object: ObjectId) -> Bytes {
        self.objects.lock().unwrap()[&key(object)].0.clone()
    }

    pub(crate) fn has(&self, object: ObjectId) -> bool {
        self.objects.lock().unwrap().contains_key(&key(object))
    }

    pub(crate) fn remove(&self, object: ObjectId) {
        self.objects.lock().unwrap().remove(&key(object)).unwrap();
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Flips a bit.
    pub(crate) fn flip(&self, object: ObjectId, at: usize) {
        let mut objects = self.objects.lock().unwrap();
        let (bytes, _) = objects.get_mut(&key(object)).unwrap();
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        *bytes = changed.into();
    }

    async fn there(&self) -> Result<(), Failure> {
        // Others come in between, as with a real store.
        tokio::task::yield_now().await;
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Failure::Unavailable("away".to_owned()));
        }
        Ok(())
    }
}

fn describe(key: &str, (bytes, modified): &(Bytes, Millis)) -> ObjectMeta {
    ObjectMeta {
        key: key.to_owned(),
        bytes: u64::try_from(bytes.len()).unwrap(),
        modified: *modified,
    }
}

#[async_trait]
impl Store for Shelf {
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        self.there().await?;
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(key) {
            return Err(Failure::Exists);
        }
        let now = self.now.load(Ordering::SeqCst);
        objects.insert(key.to_owned(), (parts.concat().into(), now));
        Ok(())
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        self.there().await?;
        let objects = self.objects.lock().unwrap();
        let (bytes, _) = objects.get(key).ok_or(Failure::NotFound)?;
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        if range.end > bytes.len() {
            return Err(Failure::Denied("the range is past the end".to_owned()));
        }
        Ok(bytes.slice(range))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        self.there().await?;
        let objects = self.objects.lock().unwrap();
        let held = objects.get(key).ok_or(Failure::NotFound)?;
        Ok(describe(key, held))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        self.there().await?;
        let objects = self.objects.lock().unwrap();
        let found = objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .map(|(key, held)| describe(key, held));
        Ok(found.take(limit).collect())
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.there().await?;
        if self.locked.lock().unwrap().contains(key) {
            return Err(Failure::Denied("the object is locked".to_owned()));
        }
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }
}
