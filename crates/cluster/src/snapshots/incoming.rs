//! Receiving a snapshot in pieces.
//!
//! The pieces of one snapshot are written into a file of its own, `snapshot.incoming`. A transfer that
//! broke goes on where it stopped; one of another snapshot begins anew. The file becomes a snapshot
//! only when its length and checksum are right and its state can be read: nothing half-sent is ever
//! installed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use alluvium_storage::disk::{Disk, DiskFile};

use crate::raft::SnapshotLabel;
use crate::snapshots::{SnapshotFile, SnapshotFileError, read};

const INCOMING: &str = "snapshot.incoming";

/// Where a snapshot arrives. One at a time.
#[derive(Debug)]
pub(crate) struct Incoming {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    transfer: Mutex<Option<Transfer>>,
}

#[derive(Debug)]
struct Transfer {
    label: SnapshotLabel,
    file: Arc<dyn DiskFile>,
    received: u64,
}

/// What became of a piece.
#[derive(Debug)]
pub(crate) enum Received {
    /// So many bytes are here; the next piece begins there.
    Bytes(u64),
    /// All is here and whole.
    Whole(Box<SnapshotFile>),
}

impl Incoming {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self {
            disk,
            path: dir.join(INCOMING),
            transfer: Mutex::new(None),
        }
    }

    /// Takes a piece. One that does not begin where the file ends is passed over, and the answer
    /// says where that is. Blocks.
    pub(crate) fn take(
        &self,
        label: &SnapshotLabel,
        offset: u64,
        bytes: Bytes,
    ) -> io::Result<Received> {
        let mut place = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut transfer = match place.take() {
            Some(transfer) if transfer.label == *label => transfer,
            _ => self.begin(label)?,
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let end = offset.saturating_add(length);
        if offset == transfer.received && end <= label.length && !bytes.is_empty() {
            transfer.file.write_at(&[bytes], offset)?;
            transfer.received = end;
        }
        if transfer.received < label.length {
            let received = transfer.received;
            *place = Some(transfer);
            return Ok(Received::Bytes(received));
        }
        // Damaged or whole, this transfer is over.
        transfer.file.sync()?;
        let current = read(self.disk.as_ref(), &self.path).map_err(invalid)?;
        if current.checkpoint != label.checkpoint {
            return Err(invalid_data(
                "what arrived is another snapshot than was announced",
            ));
        }
        Ok(Received::Whole(Box::new(SnapshotFile {
            disk: Arc::clone(&self.disk),
            path: self.path.clone(),
            checkpoint: current.checkpoint.clone(),
            state: Some(Arc::new(current)),
        })))
    }

    fn begin(&self, label: &SnapshotLabel) -> io::Result<Transfer> {
        match self.disk.remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Transfer {
            label: label.clone(),
            file: self.disk.create_new(&self.path)?,
            received: 0,
        })
    }
}

fn invalid(error: SnapshotFileError) -> io::Error {
    invalid_data(error)
}

fn invalid_data(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
