//! The file operations that durability depends on.
//!
//! [`LocalDisk`] is the machine's file system. [`ForgetfulDisk`] is for tests: it loses what was not
//! synced, so that a missing sync makes a test fail.

mod forgetful;
mod local;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

pub use forgetful::ForgetfulDisk;
pub use local::LocalDisk;

/// A disk. Calls block; callers keep them off the async threads.
///
/// Nothing is durable until [`DiskFile::sync`] (contents) and [`Disk::sync_dir`] (names) returned.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a new file for reading and writing; fails if the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Names in a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>>;
    /// Gives a file another name, replacing what bore it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails with `AlreadyExists` if that is taken.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether there is a folder of this name.
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match self.list(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskEntry {
    /// The whole path.
    pub path: PathBuf,
    /// A folder, not a file.
    pub is_dir: bool,
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes all of `parts`, one after another, at `offset`.
    fn write_at(&self, parts: &[Bytes], offset: u64) -> io::Result<()>;
    /// Reads up to `length` bytes at `offset`; fewer at the end of the file.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// When its contents last changed.
    fn modified(&self) -> io::Result<SystemTime> {
        Ok(SystemTime::UNIX_EPOCH)
    }
    /// Cuts or extends (with zeros) to `length`.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes the contents durable.
    fn sync(&self) -> io::Result<()>;
}

/// Makes a folder and those above it, durable when it returns: names that were missing are synced,
/// from the top down. The folder's own name is synced in any case, for a process that was killed
/// between making and syncing it.
///
/// # Errors
/// The disk's.
pub fn create_dir_durable(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut folder = path;
    while !folder.as_os_str().is_empty() && !disk.is_dir(folder)? {
        missing.push(folder);
        match folder.parent() {
            Some(parent) => folder = parent,
            None => break,
        }
    }
    disk.create_dir_all(path)?;
    if missing.is_empty() {
        return match sync_parent(disk, path) {
            // The folder above is not ours: whoever made this one has seen to it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    missing
        .iter()
        .rev()
        .try_for_each(|made| sync_parent(disk, made))
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent),
        Some(_) => disk.sync_dir(Path::new(".")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
