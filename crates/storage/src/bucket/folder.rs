//! A folder as a store. An object is written under a staging name, synced, then linked to its own
//! name: it is there whole or not at all, never replaced, and durable when the call returns.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alluvium_types::hash::HashSet;
use alluvium_types::{Millis, random};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::ObjectMeta;
use super::error::{Failure, OpenError};
use crate::blocking::blocking;
use crate::disk::{Disk, create_dir_durable};

const STAGING: &str = ".staging";

/// Staging files older than this were left by a process that is gone.
const STAGING_AGE: Duration = Duration::from_secs(15 * 60);

/// Calls that block at the same time.
const CONCURRENCY: usize = 32;

/// A folder of objects. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    inner: Arc<Inner>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Makes staging names unique among processes and calls.
    run: u64,
    serial: AtomicU64,
    /// Folders whose names this process knows to be durable.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folder {
    /// The folder as it is: nothing is made and nothing swept.
    pub(super) fn existing(root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        let inner = Inner {
            disk,
            root,
            run: random::value(),
            serial: AtomicU64::new(0),
            durable: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            permits: Arc::new(Semaphore::new(CONCURRENCY)),
        }
    }

    pub(super) async fn open(root: PathBuf, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let folder = Self::existing(root, disk);
        let prepared = folder.blocking(|inner| inner.prepare().map_err(|e| Failure::of_disk(&e)));
        match prepared.await {
            Ok(()) => Ok(folder),
            Err(failure) => Err(OpenError(format!(
                "cannot use the folder {} as a store: {}; check that this user may write there",
                folder.inner.root.display(),
                failure.reason()
            ))),
        }
    }

    pub(super) async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        let (key, parts) = (key.to_owned(), parts.to_vec());
        let put = move |inner: &Inner| inner.put(&key, &parts).map_err(|e| Failure::of_disk(&e));
        self.blocking(put).await
    }

    /// Makes an object durable that another call, perhaps of a process that is gone, has put there.
    pub(super) async fn settle(&self, key: &str) -> Result<(), Failure> {
        let key = key.to_owned();
        self.blocking(move |inner| inner.settle(&key).map_err(|e| Failure::of_disk(&e)))
            .await
    }

    pub(super) async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let key = key.to_owned();
        self.blocking(move |inner| {
            let file = inner
                .disk
                .open(&inner.path(&key))
                .map_err(|e| Failure::of_disk(&e))?;
            let held = file.len().map_err(|e| Failure::of_disk(&e))?;
            let wanted = range.end.saturating_sub(range.start);
            let Some(wanted) = usize::try_from(wanted).ok().filter(|_| range.end <= held) else {
                return Err(past_end(held, &range));
            };
            let bytes = file
                .read_at(range.start, wanted)
                .map_err(|e| Failure::of_disk(&e))?;
            if bytes.len() < wanted {
                Err(past_end(held, &range))
            } else {
                Ok(bytes)
            }
        })
        .await
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        let key = key.to_owned();
        self.blocking(move |inner| {
            inner
                .describe(inner.path(&key), key)
                .map_err(|e| Failure::of_disk(&e))
        })
        .await
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        self.blocking(move |inner| {
            inner
                .list(&prefix, &after, limit)
                .map_err(|e| Failure::of_disk(&e))
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Failure> {
        let key = key.to_owned();
        self.blocking(move |inner| inner.delete(&key).map_err(|e| Failure::of_disk(&e)))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let inner = Arc::clone(&self.inner);
        let task = blocking(move || {
            let _permit = permit;
            call(&inner)
        });
        task.await
            .unwrap_or_else(|blocked| Err(Failure::Unavailable(blocked.to_string())))
    }
}

/// The answer to a range that the object does not have.
pub(super) fn past_end(held: u64, range: &Range<u64>) -> Failure {
    Failure::Denied(format!(
        "the object has {held} bytes, bytes {}..{} were asked for",
        range.start, range.end
    ))
}

impl Inner {
    fn prepare(&self) -> io::Result<()> {
        create_dir_durable(self.disk.as_ref(), &self.root)?;
        let staging = self.root.join(STAGING);
        self.disk.create_dir_all(&staging)?;
        for entry in self.disk.list(&staging)? {
            let age = self.disk.open(&entry.path).and_then(|file| file.modified());
            let age = age.map(|modified| SystemTime::now().duration_since(modified));
            if matches!(age, Ok(Ok(age)) if age > STAGING_AGE) {
                self.disk.remove_file(&entry.path)?;
            }
        }
        Ok(())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn put(&self, key: &str, parts: &[Bytes]) -> io::Result<()> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let staging = self
            .root
            .join(STAGING)
            .join(format!("{:016x}-{serial}", self.run));
        let path = self.path(key);
        let write = || {
            let file = self.disk.create_new(&staging)?;
            file.write_at(parts, 0)?;
            file.sync()?;
            let folder = self.make_folder(&path)?;
            self.disk.hard_link(&staging, &path)?;
            self.disk.sync_dir(folder)
        };
        let written = write();
        // A staging name that stays is swept later.
        if let Err(error) = self.disk.remove_file(&staging)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %staging.display(), %error, "cannot remove a staging file");
        }
        written
    }

    fn settle(&self, key: &str) -> io::Result<()> {
        let path = self.path(key);
        self.disk.open(&path)?.sync()?;
        let folder = self.make_folder(&path)?;
        self.disk.sync_dir(folder)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key);
        self.disk.remove_file(&path)?;
        self.disk.sync_dir(path.parent().unwrap_or(&self.root))
    }

    /// Makes the folders above `path`, durably. Those that this process has not seen are synced even
    /// where they exist: the process that made them may have been killed before it did.
    fn make_folder<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        let parent = path.parent().unwrap_or(path);
        if self.durable().contains(parent) {
            return Ok(parent);
        }
        self.disk.create_dir_all(parent)?;
        let above = parent.ancestors().take_while(|folder| *folder != self.root);
        let mut chain: Vec<&Path> = above.collect();
        chain.reverse();
        for folder in chain {
            if self.durable().contains(folder) {
                continue;
            }
            self.disk.sync_dir(folder.parent().unwrap_or(&self.root))?;
            self.durable().insert(folder.to_path_buf());
        }
        Ok(parent)
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, path: PathBuf, key: String) -> io::Result<ObjectMeta> {
        let file = self.disk.open(&path)?;
        let modified = file
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let modified = Millis::try_from(modified.as_millis()).unwrap_or(Millis::MAX);
        Ok(ObjectMeta {
            key,
            bytes: file.len()?,
            modified,
        })
    }

    /// Walks the tree in the order of keys, entering only folders that can hold what is asked for.
    fn list(&self, prefix: &str, after: &str, limit: usize) -> io::Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        // Keys (files) and keys with a slash at the end (folders), the next one last.
        let mut stack = vec![String::new()];
        while let Some(key) = stack.pop() {
            if found.len() >= limit {
                break;
            }
            if !key.is_empty() && !key.ends_with('/') {
                match self.describe(self.path(&key), key) {
                    Ok(object) => found.push(object),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let entries = match self.disk.list(&self.root.join(&key)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut inside: Vec<String> = entries
                .iter()
                .filter_map(|entry| {
                    let name = entry.path.file_name()?.to_str()?;
                    let slash = if entry.is_dir { "/" } else { "" };
                    (!name.starts_with('.')).then(|| format!("{key}{name}{slash}"))
                })
                .filter(|child| wanted(child, prefix, after))
                .collect();
            inside.sort_unstable_by(|one, other| other.cmp(one));
            stack.append(&mut inside);
        }
        Ok(found)
    }
}

/// Whether a key is asked for, or a folder may hold one that is.
fn wanted(key: &str, prefix: &str, after: &str) -> bool {
    if key.ends_with('/') {
        let may_match = key.starts_with(prefix) || prefix.starts_with(key);
        return may_match && (key > after || after.starts_with(key));
    }
    key.starts_with(prefix) && key > after
}
