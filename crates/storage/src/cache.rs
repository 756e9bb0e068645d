//! Blocks of immutable objects, read once and kept in memory.

use std::ops::Range;

use bytes::Bytes;

use crate::bucket::{Bucket, BucketError};

/// A read cache over a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {}

impl Cache {
    /// A cache of at most `capacity` bytes (keys and overhead counted).
    #[must_use]
    pub fn new(bucket: Bucket, capacity: usize) -> Self {
        let _ = (bucket, capacity);
        todo!()
    }

    /// Reads a range of an object whose whole length is `object_bytes`, as slices of cached blocks
    /// ([`alluvium_types::limits::CACHE_BLOCK_BYTES`], aligned), in order. Blocks that are missing are
    /// fetched with as few ranged GETs as possible; equal blocks asked for at the same time are
    /// fetched once.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn read(
        &self,
        key: &str,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, BucketError> {
        let _ = (key, object_bytes, range);
        todo!()
    }
}
