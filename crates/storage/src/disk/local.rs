//! The machine's file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use super::{Disk, DiskEntry, DiskFile};

/// Writes up to this size are joined into one buffer; a copy is cheaper than many vectors.
const JOIN_BYTES: usize = 64 << 10;

/// Most vectors one system call takes (`IOV_MAX` on Linux).
const VECTORS: usize = 1024;

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl LocalDisk {
    /// A shared handle.
    #[must_use]
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for LocalDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Arc::new(LocalFile::new(file, 0)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Arc::new(LocalFile::new(file, length)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            entries.push(DiskEntry {
                path: entry.path(),
                is_dir,
            });
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An open file. Vectored writes go through the file's cursor, so they take the lock; reads never do.
#[derive(Debug)]
struct LocalFile {
    file: File,
    cursor: Mutex<()>,
    /// Length as of the last sync; a sync at another length takes the file's metadata along.
    synced_length: AtomicU64,
}

impl LocalFile {
    fn new(file: File, length: u64) -> Self {
        Self {
            file,
            cursor: Mutex::new(()),
            synced_length: AtomicU64::new(length),
        }
    }

    fn write_vectored_at(&self, parts: &[Bytes], offset: u64) -> io::Result<()> {
        let _cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        let slices: Vec<&[u8]> = parts
            .iter()
            .map(Bytes::as_ref)
            .filter(|p| !p.is_empty())
            .collect();
        let mut slices = slices.as_slice();
        let mut skip = 0;
        while let Some((first, rest)) = slices.split_first() {
            let mut vectors = Vec::with_capacity(slices.len().min(VECTORS));
            vectors.push(IoSlice::new(&first[skip..]));
            vectors.extend(rest.iter().take(VECTORS - 1).map(|part| IoSlice::new(part)));
            let mut written = match file.write_vectored(&vectors) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while let Some((first, rest)) = slices.split_first() {
                let left = first.len() - skip;
                if written < left {
                    skip += written;
                    break;
                }
                written -= left;
                skip = 0;
                slices = rest;
            }
        }
        Ok(())
    }
}

impl DiskFile for LocalFile {
    fn write_at(&self, parts: &[Bytes], offset: u64) -> io::Result<()> {
        match parts {
            [] => Ok(()),
            [only] => self.file.write_all_at(only, offset),
            many => {
                let total: usize = many.iter().map(Bytes::len).sum();
                if total > JOIN_BYTES {
                    return self.write_vectored_at(many, offset);
                }
                let mut joined = Vec::with_capacity(total);
                many.iter().for_each(|part| joined.extend_from_slice(part));
                self.file.write_all_at(&joined, offset)
            }
        }
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let held = self.file.metadata()?.len().saturating_sub(offset);
        let length = length.min(usize::try_from(held).unwrap_or(usize::MAX));
        let mut buffer = BytesMut::zeroed(length);
        let mut filled = 0;
        while filled < length {
            let position = offset + filled as u64;
            match self.file.read_at(&mut buffer[filled..], position) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        Ok(buffer.freeze())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if self.synced_length.load(Ordering::Acquire) == length {
            return self.file.sync_data();
        }
        self.file.sync_all()?;
        self.synced_length.store(length, Ordering::Release);
        Ok(())
    }
}
