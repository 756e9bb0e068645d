//! The seam to others that have a cache too.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

/// Caches nearby that share the GETs: each segment of an object is fetched from the store by one of
/// them and by the others from that one.
#[async_trait]
pub trait Neighbours: Debug + Send + Sync + 'static {
    /// Whether this process fetches the segment itself. Must not wait.
    fn is_mine(&self, key: &str, segment: u64) -> bool;

    /// Reads a range, all of it and within one segment, from whoever fetches that segment; nothing
    /// when that one cannot give it now. Ends within a few seconds.
    async fn read(
        &self,
        key: &str,
        object_bytes: u64,
        segment: u64,
        range: Range<u64>,
    ) -> Option<Bytes>;
}
