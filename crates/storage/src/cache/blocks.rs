//! How objects are cut: into blocks, which are kept, and segments, which are fetched.

use std::ops::Range;
use std::sync::Arc;

use alluvium_types::limits::CACHE_BLOCK_BYTES;
use bytes::Bytes;

/// A GET that reads ahead fetches a segment: at least this, less than twice as much, if the object has
/// so much.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// A block of an object. Objects never change, so what it names never does either.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BlockKey {
    pub(super) object: Arc<str>,
    pub(super) block: u64,
}

/// The blocks that hold a range.
pub(super) const fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / CACHE_BLOCK_BYTES..range.end.div_ceil(CACHE_BLOCK_BYTES)
}

/// The bytes of some blocks of an object.
pub(super) fn bytes_of(blocks: &Range<u64>, object_bytes: u64) -> Range<u64> {
    let at = |block: u64| block.saturating_mul(CACHE_BLOCK_BYTES).min(object_bytes);
    at(blocks.start)..at(blocks.end)
}

/// Blocks in a segment of an object: segments are of equal length, and what an object has above a
/// multiple of [`SEGMENT_BYTES`] is shared out among them.
const fn segment_blocks(object_bytes: u64) -> u64 {
    let segments = object_bytes / SEGMENT_BYTES;
    let segments = if segments == 0 { 1 } else { segments };
    let blocks = object_bytes.div_ceil(CACHE_BLOCK_BYTES).div_ceil(segments);
    if blocks == 0 { 1 } else { blocks }
}

/// The number of the segment that holds a block.
pub(super) const fn segment_of(object_bytes: u64, block: u64) -> u64 {
    block / segment_blocks(object_bytes)
}

/// Where the segment that holds `position` ends.
#[must_use]
pub fn segment_end(object_bytes: u64, position: u64) -> u64 {
    let bytes = segment_blocks(object_bytes).saturating_mul(CACHE_BLOCK_BYTES);
    (position / bytes)
        .saturating_add(1)
        .saturating_mul(bytes)
        .min(object_bytes)
}

/// The part of block number `block` that lies in `range`.
pub(super) fn slice(bytes: &Bytes, block: u64, range: &Range<u64>) -> Bytes {
    let start = block.saturating_mul(CACHE_BLOCK_BYTES);
    let within = |position: u64| {
        let offset = usize::try_from(position.saturating_sub(start));
        offset.unwrap_or(usize::MAX).min(bytes.len())
    };
    bytes.slice(within(range.start)..within(range.end).max(within(range.start)))
}

/// A block's length in memory terms.
pub(super) fn block_len() -> usize {
    usize::try_from(CACHE_BLOCK_BYTES).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_segment_is_short_and_together_they_are_the_object() {
        for object_bytes in [
            1,
            CACHE_BLOCK_BYTES,
            SEGMENT_BYTES - 1,
            SEGMENT_BYTES,
            2 * SEGMENT_BYTES - 1,
            (64 << 20) + 4096,
            (72 << 20) + 1,
            256 << 20,
            (250 << 20) + 17,
        ] {
            let mut position = 0;
            let mut segments = 0;
            while position < object_bytes {
                let end = segment_end(object_bytes, position);
                let block = position / CACHE_BLOCK_BYTES;
                assert_eq!(segment_of(object_bytes, block), segments);
                assert!(end - position < 2 * SEGMENT_BYTES);
                segments += 1;
                position = end;
            }
            assert_eq!(position, object_bytes);
            assert!(
                segments <= (object_bytes / SEGMENT_BYTES).max(1),
                "{segments} segments of {object_bytes}"
            );
        }
    }
}
