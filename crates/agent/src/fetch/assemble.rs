//! Puts batches together for a client: offsets in place, small ones joined.

use bytes::{Bytes, BytesMut};

use alluvium_protocol::batch;
use alluvium_types::Offset;

/// Batches from this size on are passed on as they are; a system call for less costs more than the
/// copy.
const JOIN_BYTES: usize = 16 << 10;

/// A buffer of joined batches is closed at this size.
const JOINED_BYTES: usize = 128 << 10;

/// The part of a batch's header that may change without a new checksum.
const HEAD_BYTES: usize = 16;

/// Every partition has had one leader: the cluster itself.
const LEADER_EPOCH: i32 = 0;

/// A partition's answer in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    out: Vec<Bytes>,
    joined: BytesMut,
    bytes: usize,
}

impl Assembly {
    /// Adds a whole batch under its offset.
    pub(super) fn batch(&mut self, parts: Vec<Bytes>, base_offset: Offset) {
        let length: usize = parts.iter().map(Bytes::len).sum();
        self.bytes += length;
        let mut head = [0; HEAD_BYTES];
        let mut filled = 0;
        for part in parts {
            let count = part.len().min(HEAD_BYTES - filled);
            if count > 0 {
                head[filled..filled + count].copy_from_slice(&part[..count]);
                filled += count;
                if filled == HEAD_BYTES {
                    let head = batch::patched_head(&head, base_offset, LEADER_EPOCH);
                    self.joined.extend_from_slice(&head);
                }
            }
            self.pass_on(part.slice(count..), length < JOIN_BYTES);
        }
    }

    fn pass_on(&mut self, part: Bytes, join: bool) {
        if join || part.len() < JOIN_BYTES {
            self.joined.extend_from_slice(&part);
            if self.joined.len() >= JOINED_BYTES {
                self.close_joined();
            }
        } else {
            self.close_joined();
            self.out.push(part);
        }
    }

    fn close_joined(&mut self) {
        if !self.joined.is_empty() {
            self.out.push(self.joined.split().freeze());
        }
    }

    /// Bytes so far.
    pub(super) const fn len(&self) -> usize {
        self.bytes
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.close_joined();
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offset_and_epoch_change_whatever_the_parts() {
        let batch: Vec<u8> = (0..=255).cycle().take(40_000).collect();
        for cut in [3, 16, 17, 20_000] {
            let whole = Bytes::from(batch.clone());
            let mut assembly = Assembly::default();
            assembly.batch(vec![whole.slice(..cut), whole.slice(cut..)], 77);
            assembly.batch(vec![whole.slice(..100)], 78);
            assert_eq!(assembly.len(), 40_100);
            let out = assembly.finish().concat();
            assert_eq!(out[..8], 77i64.to_be_bytes());
            assert_eq!(out[8..12], batch[8..12]);
            assert_eq!(out[12..16], 0i32.to_be_bytes());
            assert_eq!(out[16..40_000], batch[16..]);
            assert_eq!(out[40_000..40_008], 78i64.to_be_bytes());
            assert_eq!(out[40_016..], batch[16..100]);
        }
    }

    #[test]
    fn large_batches_stay_slices_and_small_ones_are_joined() {
        let large = Bytes::from(vec![1; 100_000]);
        let small = Bytes::from(vec![2; 1000]);
        let mut assembly = Assembly::default();
        for batch in [&small, &small, &large, &small] {
            assembly.batch(vec![batch.clone()], 0);
        }
        let out = assembly.finish();
        assert_eq!(
            out.iter().map(Bytes::len).collect::<Vec<_>>(),
            [2016, 99_984, 1000]
        );
        assert_eq!(out[1].as_ptr(), large[16..].as_ptr());
    }
}
