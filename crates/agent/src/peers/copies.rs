//! This agent's write-ahead buffer, as others use it.

use std::ops::Range;

use alluvium_metadata::JournalChunkId;
use alluvium_storage::write_ahead::{ChunkName, WriteAhead, WriteAheadError};
use async_trait::async_trait;
use bytes::Bytes;

use super::Copies;

/// Keeps copies beside this agent's own chunks. Who trims the ones must trim the others.
#[derive(Debug)]
pub(crate) struct KeptCopies(pub(crate) WriteAhead);

/// What a chunk is called in a buffer.
pub(crate) const fn name_of(chunk: JournalChunkId) -> ChunkName {
    ChunkName {
        agent: chunk.agent,
        epoch: chunk.epoch,
        chunk: chunk.chunk,
    }
}

impl KeptCopies {
    /// A copy that came before: its answer was lost, or it is still on its way to the disk.
    async fn is_kept(&self, name: ChunkName, bytes: &Bytes) -> Result<(), WriteAheadError> {
        // Durable only when all that was queued before it is.
        let mark = self.0.marked(name).unwrap_or_default();
        self.0.mark(name, mark).await?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match self.0.read(name, 0..length).await {
            Ok(kept) if kept == *bytes => Ok(()),
            Ok(_) => Err(WriteAheadError::Known(name)),
            Err(error) => Err(error),
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
        match self.0.read(name_of(chunk), range).await {
            Ok(bytes) => Ok(vec![bytes]),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use alluvium_storage::disk::ForgetfulDisk;
    use alluvium_storage::write_ahead::WriteAheadOptions;
    use alluvium_types::{AgentEpoch, AgentId, ChunkNumber};

    use super::*;

    async fn open(disk: &ForgetfulDisk) -> KeptCopies {
        let options = WriteAheadOptions {
            bytes: 16 << 20,
            tail_bytes: 1 << 20,
        };
        let opened = WriteAhead::open(disk.shared(), Path::new("/journal"), options);
        KeptCopies(opened.await.unwrap())
    }

    #[tokio::test]
    async fn a_copy_outlives_a_crash_and_may_come_twice_but_not_differently() {
        let disk = ForgetfulDisk::default();
        let copies = open(&disk).await;
        let chunk = JournalChunkId {
            agent: AgentId(2),
            epoch: AgentEpoch(3),
            chunk: ChunkNumber(4),
        };
        let bytes = Bytes::from_static(b"a chunk");
        // At the same time, as when the first one's caller gave up and tries again.
        let (one, other) = tokio::join!(
            copies.append(chunk, bytes.clone()),
            copies.append(chunk, bytes.clone())
        );
        one.unwrap();
        other.unwrap();
        copies.append(chunk, bytes.clone()).await.unwrap();
        for wrong in ["a chunk of another length", "another"] {
            let wrong = Bytes::from_static(wrong.as_bytes());
            copies.append(chunk, wrong).await.unwrap_err();
        }
        let journal = copies.journal();
        let again = open(&disk.crash()).await;
        assert_eq!(again.journal(), journal);
        assert_eq!(again.read(chunk, 2..7).await.unwrap(), [bytes.slice(2..)]);
        again.read(chunk, 2..8).await.unwrap_err();
        // Another disk is another buffer.
        let lost = open(&ForgetfulDisk::default()).await;
        assert_ne!(lost.journal(), journal);
        lost.read(chunk, 0..1).await.unwrap_err();
    }
}
