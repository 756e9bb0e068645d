//! Snapshots of the state as files.
//!
//! A snapshot is one file, `snapshot-NNNNNNNNNNNNNNNNNNNN`, named by the number of log entries it
//! covers. It is written under the name `snapshot.tmp`, synced, renamed, and the folder synced;
//! only then is the one before it removed. So there is always a whole one. One that another voter
//! sends arrives in `snapshot.incoming` and is renamed when it is whole.
//!
//! | bytes | field |
//! | --- | --- |
//! | 8 | `ALLUVSNP` |
//! | 2 | version, little-endian, 1 |
//! | 2 | zero |
//! | 4 | length of the checkpoint, little-endian |
//! | 8 | length of the state, little-endian |
//! | … | the checkpoint: postcard of the last applied log position (term, leader, index), the position of the membership, the voter sets and the nodes' addresses |
//! | … | the state, as `alluvium_metadata::State::to_snapshot` wrote it |
//! | 4 | CRC-32C of all bytes before it, little-endian |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use alluvium_metadata::{SnapshotError, State};
use alluvium_storage::disk::Disk;

use crate::checkpoint::Checkpoint;
use crate::view::Current;

mod incoming;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use incoming::{Incoming, Received};

const MAGIC: &[u8; 8] = b"ALLUVSNP";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
const PREFIX: &str = "snapshot-";
const TEMPORARY: &str = "snapshot.tmp";
const DAMAGED_SUFFIX: &str = ".damaged";

/// Why a snapshot file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotFileError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "{path}: damaged: {reason}; restore this file from a copy, or rebuild the node from its \
         peers or the bucket"
    )]
    Damaged { path: String, reason: String },
    #[error("{path}: written by a later release (version {version}); start that release")]
    Version { path: String, version: u16 },
}

/// A whole snapshot on disk.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub(crate) checkpoint: Checkpoint,
    /// What it holds, when it has just arrived and is no snapshot of the folder yet.
    state: Option<Arc<Current>>,
}

impl SnapshotFile {
    /// Reads and checks it. Blocks.
    pub(crate) fn read(&self) -> Result<Current, SnapshotFileError> {
        match &self.state {
            Some(current) => Ok(Current::clone(current)),
            None => read(self.disk.as_ref(), &self.path),
        }
    }

    /// Whether both are the very same file.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.disk, &other.disk) && self.path == other.path
    }
}

/// The folder of snapshots.
#[derive(Debug)]
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    current: Mutex<Option<SnapshotFile>>,
    /// One writer at a time: they share the temporary name.
    writing: Mutex<()>,
}

impl Snapshots {
    /// Opens a folder, which is there, and reads the newest snapshot. Blocks.
    ///
    /// A damaged one is passed over only if the log, which begins at entry `log_begin`, still
    /// holds everything after what an older one covers (or everything at all).
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        log_begin: u64,
    ) -> Result<(Self, Current), SnapshotFileError> {
        let names = list(disk.as_ref(), dir)?;
        let mut refused = None;
        let mut damaged = Vec::new();
        let mut found = None;
        for path in names.iter().rev() {
            match read(disk.as_ref(), path) {
                Ok(current) => {
                    found = Some((path.clone(), current));
                    break;
                }
                Err(error @ SnapshotFileError::Damaged { .. }) => {
                    damaged.push(path.clone());
                    refused = refused.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        let covered = found
            .as_ref()
            .map_or(0, |(_, current)| current.checkpoint.next_index());
        if let Some(error) = refused {
            if covered < log_begin {
                return Err(error);
            }
            tracing::warn!(%error, covered, "passing over a damaged snapshot: the log holds what it held");
        }
        set_aside(disk.as_ref(), &damaged)?;
        let file = found.as_ref().map(|(path, current)| SnapshotFile {
            disk: Arc::clone(&disk),
            path: path.clone(),
            checkpoint: current.checkpoint.clone(),
            state: None,
        });
        let snapshots = Self {
            disk,
            dir: dir.to_owned(),
            current: Mutex::new(file),
            writing: Mutex::new(()),
        };
        Ok((
            snapshots,
            found.map(|(_, current)| current).unwrap_or_default(),
        ))
    }

    /// The newest one.
    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes one; durable when it returns. Blocks.
    pub(crate) fn write(&self, current: &Current) -> io::Result<SnapshotFile> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = encode(current)?;
        let path = self.path_of(&current.checkpoint);
        let temporary = self.dir.join(TEMPORARY);
        match self.disk.remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create_new(&temporary)?;
        file.write_at(&parts, 0)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&self.dir)?;

        let bytes: usize = parts.iter().map(Bytes::len).sum();
        metrics::counter!("alluvium_metadata_snapshots_total").increment(1);
        metrics::gauge!("alluvium_metadata_snapshot_bytes").set(crate::growth::lossy(
            u64::try_from(bytes).unwrap_or(u64::MAX),
        ));
        Ok(self.replace(path, &current.checkpoint))
    }

    /// Makes `arrived`, which holds `current`, the newest snapshot; durable when it returns. Blocks.
    pub(crate) fn adopt(
        &self,
        arrived: &SnapshotFile,
        current: &Current,
    ) -> io::Result<SnapshotFile> {
        if self
            .current()
            .is_some_and(|kept| kept.is_same_file(arrived))
        {
            return Ok(arrived.clone());
        }
        let mine = Arc::ptr_eq(&self.disk, &arrived.disk) && arrived.state.is_some();
        if !mine || arrived.checkpoint != current.checkpoint {
            return self.write(current);
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path_of(&arrived.checkpoint);
        self.disk.rename(&arrived.path, &path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(self.replace(path, &arrived.checkpoint))
    }

    /// Where the next snapshot from another voter arrives.
    pub(crate) fn incoming(&self) -> Incoming {
        Incoming::new(Arc::clone(&self.disk), &self.dir)
    }

    fn path_of(&self, checkpoint: &Checkpoint) -> PathBuf {
        self.dir
            .join(format!("{PREFIX}{:020}", checkpoint.next_index()))
    }

    /// Names the newest, which is durable, and removes the one before.
    fn replace(&self, path: PathBuf, checkpoint: &Checkpoint) -> SnapshotFile {
        let file = SnapshotFile {
            disk: Arc::clone(&self.disk),
            path,
            checkpoint: checkpoint.clone(),
            state: None,
        };
        let before = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(file.clone());
        if let Some(before) = before.filter(|before| before.path != file.path)
            && let Err(error) = self.disk.remove_file(&before.path)
        {
            tracing::warn!(path = %before.path.display(), %error, "cannot remove an old snapshot");
        }
        file
    }
}

/// Paths of the snapshots in a folder, oldest first.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, SnapshotFileError> {
    let entries = disk.list(dir).map_err(|source| io_error(dir, source))?;
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .filter(|entry| !entry.is_dir)
        .map(|entry| entry.path)
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(|name| name.strip_prefix(PREFIX))
                .is_some_and(|number| {
                    number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit())
                })
        })
        .collect();
    paths.sort();
    Ok(paths)
}

/// Renames damaged files, so that they can be looked at but are not found again.
fn set_aside(disk: &dyn Disk, damaged: &[PathBuf]) -> Result<(), SnapshotFileError> {
    for path in damaged {
        let mut aside = path.clone().into_os_string();
        aside.push(DAMAGED_SUFFIX);
        disk.rename(path, Path::new(&aside))
            .map_err(|source| io_error(path, source))?;
    }
    Ok(())
}

fn encode(current: &Current) -> io::Result<[Bytes; 3]> {
    let checkpoint = postcard::to_stdvec(&current.checkpoint).map_err(io::Error::other)?;
    let state = current.state.to_snapshot();
    let mut head = BytesMut::with_capacity(HEADER_BYTES + checkpoint.len());
    head.put_slice(MAGIC);
    head.put_u16_le(VERSION);
    head.put_u16_le(0);
    head.put_u32_le(u32::try_from(checkpoint.len()).map_err(io::Error::other)?);
    head.put_u64_le(u64::try_from(state.len()).map_err(io::Error::other)?);
    head.put_slice(&checkpoint);
    let checksum = checksum(&[&head, &state]);
    Ok([head.freeze(), state, Bytes::copy_from_slice(&checksum)])
}

fn checksum(parts: &[&[u8]]) -> [u8; CHECKSUM_BYTES] {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    // A 32-bit sum fills the low half.
    u32::try_from(digest.finalize())
        .unwrap_or_default()
        .to_le_bytes()
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Current, SnapshotFileError> {
    let content = read_all(disk, path).map_err(|source| io_error(path, source))?;
    let damaged = |reason: &str| SnapshotFileError::Damaged {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let version = |version| SnapshotFileError::Version {
        path: path.display().to_string(),
        version,
    };
    if content.len() < HEADER_BYTES + CHECKSUM_BYTES {
        return Err(damaged("it is cut short"));
    }
    let (body, sum) = content.split_at(content.len() - CHECKSUM_BYTES);
    if checksum(&[body]) != sum {
        return Err(damaged("its checksum does not match"));
    }
    if &body[..8] != MAGIC {
        return Err(damaged("it does not begin as a snapshot does"));
    }
    let found = u16::from_le_bytes([body[8], body[9]]);
    if found != VERSION {
        return Err(version(found));
    }
    let checkpoint_bytes = u32_at(body, 12).and_then(|length| usize::try_from(length).ok());
    let state_bytes = u64_at(body, 16).and_then(|length| usize::try_from(length).ok());
    let (Some(checkpoint_bytes), Some(state_bytes)) = (checkpoint_bytes, state_bytes) else {
        return Err(damaged("its lengths are impossible"));
    };
    let rest = &body[HEADER_BYTES..];
    if checkpoint_bytes.checked_add(state_bytes) != Some(rest.len()) {
        return Err(damaged("its lengths do not add up"));
    }
    let (checkpoint, state) = rest.split_at(checkpoint_bytes);
    let checkpoint =
        postcard::from_bytes(checkpoint).map_err(|error| damaged(&error.to_string()))?;
    let state = State::from_snapshot(state).map_err(|error| match error {
        SnapshotError::Version { found, .. } => version(found),
        SnapshotError::Damaged(reason) => damaged(&reason),
    })?;
    Ok(Current { state, checkpoint })
}

fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let file = disk.open(path)?;
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    file.read_at(0, length)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

fn io_error(path: &Path, source: io::Error) -> SnapshotFileError {
    SnapshotFileError::Io {
        path: path.display().to_string(),
        source,
    }
}
