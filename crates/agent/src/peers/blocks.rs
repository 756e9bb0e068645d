//! This agent's cache, as others read through it.

use std::ops::Range;

use alluvium_objects::key;
use alluvium_storage::cache::Cache;
use alluvium_types::ObjectId;
use async_trait::async_trait;
use bytes::Bytes;

use super::Blocks;

/// The cache and the bucket behind it, and nobody else.
#[derive(Debug)]
pub(crate) struct CachedBlocks(pub(crate) Cache);

#[async_trait]
impl Blocks for CachedBlocks {
    async fn read(
        &self,
        object: ObjectId,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, String> {
        let key = key(object);
        let read = self.0.read_for_neighbour(&key, object_bytes, range).await;
        read.map_err(|error| error.to_string())
    }
}
