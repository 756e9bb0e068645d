//! This agent's write-ahead buffer, as others use it.

use std::ops::Range;

use alluvium_metadata::JournalChunkId;
use alluvium_storage::write_ahead::{ChunkName, WriteAhead, WriteAheadError};
use async_trait::async_trait;
use bytes::Bytes;

use super::name_of;
use crate::peers::Copies;

/// Keeps copies for others beside this agent's own chunks.
#[derive(Clone, Debug)]
pub(crate) struct KeptCopies(pub(crate) WriteAhead);

impl KeptCopies {
    /// A copy that came before: its answer was lost, or it is still on its way to the disk.
    async fn is_kept(&self, name: ChunkName, bytes: &Bytes) -> Result<(), WriteAheadError> {
        // Durable only when all that was queued before it is.
        self.0.mark(name, Bytes::new()).await?;
        match self.0.read(name, 0..bytes.len() as u64).await? {
            kept if kept == *bytes => Ok(()),
            _ => Err(WriteAheadError::Known(name)),
        }
    }
}

#[async_trait]
impl Copies for KeptCopies {
    fn journal(&self) -> u128 {
        self.0.incarnation()
    }

    async fn append(&self, chunk: JournalChunkId, bytes: Bytes) -> Result<(), String> {
        let name = name_of(chunk);
        let kept = match self.0.append(name, &[], vec![bytes.clone()]).await {
            Err(WriteAheadError::Known(_)) => self.is_kept(name, &bytes).await,
            kept => kept,
        };
        kept.map_err(|error| error.to_string())
    }

    async fn read(&self, chunk: JournalChunkId, range: Range<u64>) -> Result<Vec<Bytes>, String> {
        let read = self.0.read(name_of(chunk), range).await;
        read.map(|bytes| vec![bytes])
            .map_err(|error| error.to_string())
    }
}
