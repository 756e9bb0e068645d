//! Reading a snapshot file in pieces, to send it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use alluvium_storage::blocking;
use alluvium_storage::disk::DiskFile;

use crate::raft::SnapshotLabel;
use crate::snapshots::{CHECKSUM_BYTES, SnapshotFile};

/// An open snapshot. A newer one may take its place meanwhile; this one stays readable.
#[derive(Debug)]
pub(crate) struct SnapshotReader {
    file: Arc<dyn DiskFile>,
    label: SnapshotLabel,
}

impl SnapshotFile {
    /// Opens it for sending.
    pub(crate) async fn reader(&self) -> io::Result<SnapshotReader> {
        let snapshot = self.clone();
        blocking(move || {
            let file = snapshot.disk.open(&snapshot.path)?;
            let length = file.len()?;
            let sum_at = length.saturating_sub(CHECKSUM_BYTES as u64);
            let sum = file.read_at(sum_at, CHECKSUM_BYTES)?;
            let sum: [u8; CHECKSUM_BYTES] = sum.as_ref().try_into().map_err(io::Error::other)?;
            Ok(SnapshotReader {
                file,
                label: SnapshotLabel {
                    checkpoint: snapshot.checkpoint,
                    length,
                    checksum: u32::from_le_bytes(sum),
                },
            })
        })
        .await?
    }
}

impl SnapshotReader {
    /// What tells this file from others.
    pub(crate) fn label(&self) -> SnapshotLabel {
        self.label.clone()
    }

    /// Reads at most `bytes` from `offset` on.
    pub(crate) async fn read(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        blocking(move || file.read_at(offset, bytes)).await?
    }
}
