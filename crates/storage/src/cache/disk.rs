//! The tier on the local disk: blocks that are found again, after a restart too.
//!
//! What is written is a copy of what lies in the bucket, so nothing here is ever waited for or missed:
//! a write that the disk is too slow for is left out, a block that cannot be read or is not what was
//! written is fetched again. Entries leave in the order in which they came, one file of the disk's
//! at a time.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, Error, ErrorKind, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, HybridCachePolicy, Load, PsyncIoEngineConfig, RecoverMode,
};

use super::blocks::{BlockKey, block_len};
use crate::blocking;

/// The disk is divided into so many files at least, up to [`FILE_BYTES`] each.
const FILES: u64 = 16;

/// One file of the disk's; the unit that leaves at once.
const FILE_BYTES: u64 = 64 << 20;

/// The smallest file that holds blocks without much waste, and so the smallest budget.
const LEAST_FILE_BYTES: u64 = 2 << 20;

/// Waiting to be written; more is left out.
const QUEUE_BYTES: usize = 64 << 20;

/// Buffers that writes are gathered in.
const WRITE_BUFFER_BYTES: usize = 16 << 20;

/// Longest name of an object that a file may claim.
const KEY_BYTES: usize = 4 << 10;

/// Where blocks lie on the local disk, and how many bytes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskTier {
    /// A folder of its own. What lies in it and is not of this cache is removed.
    pub dir: PathBuf,
    /// Bytes of files. 0 is no tier at all.
    pub bytes: u64,
}

/// Blocks on the local disk.
#[derive(Debug)]
pub(super) struct DiskBlocks {
    cache: HybridCache<BlockKey, DiskBlock>,
    hits: metrics::Counter,
    damaged: metrics::Counter,
}

/// A block with its checksum, which names the block too: another block's bytes do not pass for it.
#[derive(Clone, Debug)]
struct DiskBlock {
    checksum: u64,
    bytes: Bytes,
}

impl DiskBlocks {
    /// Opens what is there, or makes it anew where the size has changed.
    pub(super) async fn open(tier: &DiskTier) -> Result<Self, String> {
        let file_bytes = (tier.bytes / FILES).clamp(LEAST_FILE_BYTES, FILE_BYTES);
        let capacity = (tier.bytes / file_bytes).max(2).saturating_mul(file_bytes);
        let dir = tier.dir.join(format!("blocks-1-{file_bytes}-{capacity}"));
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| "too large".to_owned());
        let (file_bytes, capacity) = (size(file_bytes)?, size(capacity)?);
        let (root, kept) = (tier.dir.clone(), dir.clone());
        blocking(move || sweep(&root, &kept))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("{}: {error}", tier.dir.display()))?;
        let failed = |error: Error| format!("{}: {error}", dir.display());
        let device = FsDeviceBuilder::new(&dir).with_capacity(capacity).build();
        let engine = BlockEngineConfig::new(device.map_err(failed)?)
            .with_block_size(file_bytes)
            .with_buffer_pool_size(WRITE_BUFFER_BYTES)
            .with_submit_queue_size_threshold(QUEUE_BYTES);
        // Nothing is kept in this cache's memory part: the tiers above have that.
        let cache = HybridCacheBuilder::new()
            .with_name("blocks_on_disk")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(true)
            .memory(block_len())
            .with_shards(1)
            .with_weighter(|_: &BlockKey, block: &DiskBlock| block.bytes.len())
            .storage()
            .with_engine_config(engine)
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await
            .map_err(failed)?;
        Ok(Self {
            cache,
            hits: metrics::counter!("alluvium_cache_blocks_total", "result" => "disk"),
            damaged: metrics::counter!("alluvium_cache_damaged_blocks_total", "where" => "disk"),
        })
    }

    /// Writes a block in the background, if the disk keeps up.
    pub(super) fn insert(&self, key: BlockKey, bytes: &Bytes) {
        let block = DiskBlock {
            checksum: sum(&key, bytes),
            // Apart, or a block in the queue would keep its neighbours' memory.
            bytes: Bytes::copy_from_slice(bytes),
        };
        self.cache.storage_writer(key).force().insert(block);
    }

    /// A block that is as it was written.
    pub(super) async fn get(&self, key: &BlockKey, expected_bytes: usize) -> Option<Bytes> {
        let store = self.cache.storage();
        let block = match store.load(key).await {
            Ok(Load::Entry { value, .. }) => value,
            Ok(Load::Piece { piece, .. }) => piece.value().clone(),
            Ok(Load::Throttled | Load::Miss) => return None,
            Err(error) => {
                tracing::debug!(object = %key.object, block = key.block, %error,
                    "a block on the local disk cannot be read; it is fetched again");
                self.damaged.increment(1);
                self.remove(key);
                return None;
            }
        };
        if block.bytes.len() != expected_bytes || sum(key, &block.bytes) != block.checksum {
            tracing::warn!(object = %key.object, block = key.block,
                "a block on the local disk is not what was written; it is fetched again");
            self.damaged.increment(1);
            self.remove(key);
            return None;
        }
        self.hits.increment(1);
        Some(block.bytes)
    }

    pub(super) fn remove(&self, key: &BlockKey) {
        self.cache.remove(key);
    }

    /// Writes what waits, so that a restart finds it.
    pub(super) async fn close(&self) {
        if let Err(error) = self.cache.close().await {
            tracing::warn!(%error, "the cache's disk tier was not closed; some of it is lost");
        }
    }
}

/// Makes the folder and removes what other sizes left in it.
fn sweep(root: &Path, kept: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(kept)?;
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        let is_ours = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("blocks-"));
        if is_ours && path != kept {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn sum(key: &BlockKey, bytes: &Bytes) -> u64 {
    let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(key.object.as_bytes());
    digest.update(&key.block.to_be_bytes());
    digest.finalize() ^ checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Parse, what)
}

fn number(reader: &mut impl Read) -> foyer::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes).map_err(Error::io_error)?;
    Ok(u64::from_be_bytes(bytes))
}

fn bounded(reader: &mut impl Read, most: usize) -> foyer::Result<Vec<u8>> {
    let length = usize::try_from(number(reader)?).unwrap_or(usize::MAX);
    if length > most {
        return Err(damaged("a length beyond its bound"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).map_err(Error::io_error)?;
    Ok(bytes)
}

fn put(writer: &mut impl Write, bytes: &[u8]) -> foyer::Result<()> {
    writer.write_all(bytes).map_err(Error::io_error)
}

impl Code for BlockKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        put(writer, &(self.object.len() as u64).to_be_bytes())?;
        put(writer, self.object.as_bytes())?;
        put(writer, &self.block.to_be_bytes())
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let object = String::from_utf8(bounded(reader, KEY_BYTES)?)
            .map_err(|_| damaged("a key that is no text"))?;
        Ok(Self {
            object: Arc::from(object),
            block: number(reader)?,
        })
    }

    fn estimated_size(&self) -> usize {
        16 + self.object.len()
    }
}

impl Code for DiskBlock {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        put(writer, &self.checksum.to_be_bytes())?;
        put(writer, &(self.bytes.len() as u64).to_be_bytes())?;
        put(writer, &self.bytes)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        Ok(Self {
            checksum: number(reader)?,
            bytes: bounded(reader, block_len())?.into(),
        })
    }

    fn estimated_size(&self) -> usize {
        16 + self.bytes.len()
    }
}
