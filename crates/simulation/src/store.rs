//! The object store: slow, failing, ambiguous; but what it holds it holds, and it never overwrites.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_storage::bucket::{Failure, ObjectMeta, Store};
use alluvium_types::{Clock, Millis, random};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::time::sleep;

use crate::clock::WallClock;
use crate::host::Port;
use crate::trace::{Trace, digest};

/// How the store does at present. Out of a thousand requests each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    /// Fail and do nothing.
    pub(crate) failing: u32,
    /// Writes that are done, and answered with an error.
    pub(crate) ambiguous: u32,
    /// Take seconds.
    pub(crate) slow: u32,
}

/// Shared by all machines.
#[derive(Debug)]
pub(crate) struct Objects {
    state: Mutex<State>,
    clock: WallClock,
    trace: Arc<Trace>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, Millis)>,
    mood: Mood,
}

/// A process's way to the store.
#[derive(Clone, Debug)]
pub(crate) struct SimStore {
    pub(crate) port: Port,
    pub(crate) objects: Arc<Objects>,
}

impl Objects {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        Self {
            state: Mutex::default(),
            clock: WallClock::new(0),
            trace,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Waits as a request does; fails as one does.
    async fn request(&self) -> Result<(), Failure> {
        let (fails, slow) = {
            let mood = self.lock().mood;
            (chance(mood.failing), chance(mood.slow))
        };
        let millis = match random::range(0..50) {
            _ if slow => random::range(2_000..20_000),
            0 => random::range(50..500),
            _ => random::range(3..25),
        };
        sleep(Duration::from_millis(millis)).await;
        if fails {
            return Err(Failure::Unavailable("the store is out of sorts".to_owned()));
        }
        Ok(())
    }

    fn insert(&self, key: &str, bytes: Bytes) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.objects.contains_key(key) {
            return Err(Failure::Exists);
        }
        state.objects.insert(key.to_owned(), (bytes, now));
        Ok(())
    }

    fn find(&self, key: &str) -> Result<(Bytes, Millis), Failure> {
        let found = self.lock().objects.get(key).cloned();
        found.ok_or(Failure::NotFound)
    }
}

fn chance(of_thousand: u32) -> bool {
    random::range(0..1000) < of_thousand
}

#[async_trait]
impl Store for SimStore {
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        self.port.check().await;
        let mut bytes = BytesMut::new();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let (objects, key, bytes) = (Arc::clone(&self.objects), key.to_owned(), bytes.freeze());
        let who = self.port.host;
        // A task of its own: what was sent is stored whether or not the sender still waits.
        let put = tokio::spawn(async move {
            let name = (bytes.len(), digest(&bytes));
            objects.trace.note(format_args!("{who} put {key} {name:?}"));
            objects.request().await?;
            let done = objects.insert(&key, bytes);
            objects
                .trace
                .note(format_args!("{who} put {key} {}", done.is_ok()));
            let ambiguous = chance(objects.lock().mood.ambiguous);
            if ambiguous {
                return Err(Failure::Unavailable("the answer was lost".to_owned()));
            }
            done
        });
        let done = put.await;
        self.port.check().await;
        done.unwrap_or_else(|error| Err(Failure::Unavailable(error.to_string())))
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        self.port.check().await;
        self.objects.request().await?;
        self.port.check().await;
        let (bytes, _) = self.objects.find(key)?;
        let ends = (usize::try_from(range.start), usize::try_from(range.end));
        let (Ok(start), Ok(end)) = ends else {
            return Err(Failure::Denied("no such range".to_owned()));
        };
        if start > end || end > bytes.len() {
            return Err(Failure::Denied(format!("{range:?} of {}", bytes.len())));
        }
        Ok(bytes.slice(start..end))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        self.port.check().await;
        self.objects.request().await?;
        self.port.check().await;
        let (bytes, modified) = self.objects.find(key)?;
        Ok(ObjectMeta {
            key: key.to_owned(),
            bytes: bytes.len() as u64,
            modified,
        })
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        self.port.check().await;
        self.objects.request().await?;
        self.port.check().await;
        let state = self.objects.lock();
        let found = state
            .objects
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take(limit);
        Ok(found
            .map(|(key, (bytes, modified))| ObjectMeta {
                key: key.clone(),
                bytes: bytes.len() as u64,
                modified: *modified,
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.port.check().await;
        let who = self.port.host;
        self.objects.trace.note(format_args!("{who} delete {key}"));
        self.objects.request().await?;
        self.port.check().await;
        self.objects.lock().objects.remove(key);
        Ok(())
    }
}
