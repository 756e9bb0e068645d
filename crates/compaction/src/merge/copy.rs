//! Copies the batches of a run, checked one by one, so that damage is found here and not spread.

use alluvium_objects::ObjectWriter;
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_types::{Offset, TopicPartition};
use bytes::Bytes;

use super::backlog::Piece;

/// The part of a batch's header that may change without a new checksum.
const HEAD_BYTES: usize = 16;

/// Every partition has had one leader: the cluster itself.
const LEADER_EPOCH: i32 = 0;

/// Why bytes are not those of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the run: {reason}")]
pub(super) struct Damage {
    at: usize,
    reason: String,
}

/// Checks the batches of a run and fills their offsets in. In a dense run these follow from counting;
/// in a sparse one the batches say them.
pub(super) fn check(piece: &Piece, sparse: bool, bytes: &mut [u8]) -> Result<(), Damage> {
    let mut at = 0;
    let mut offset = piece.base_offset;
    while at < bytes.len() {
        let damage = |reason: String| Damage { at, reason };
        let rest = bytes.get_mut(at..).unwrap_or_default();
        let header = BatchHeader::parse(rest).map_err(|error| damage(error.reason))?;
        let left = rest.len();
        let Some(batch) = rest.get_mut(..header.bytes) else {
            let whole = header.bytes;
            return Err(damage(format!("a batch of {whole} bytes with {left} left")));
        };
        batch::check_crc(batch).map_err(|error| damage(error.reason))?;
        let base_offset = if sparse { header.base_offset } else { offset };
        if header.last_offset_delta < 0 || base_offset < offset {
            let delta = header.last_offset_delta;
            return Err(damage(format!(
                "base offset {base_offset} with last offset delta {delta}, expected {offset}"
            )));
        }
        if let Some(head) = batch.first_chunk_mut::<HEAD_BYTES>() {
            *head = batch::patched_head(head, base_offset, LEADER_EPOCH);
        }
        offset = end_of(base_offset, header.last_offset_delta);
        at += header.bytes;
    }
    let is_whole = if sparse {
        offset <= piece.end_offset
    } else {
        offset == piece.end_offset
    };
    if is_whole {
        return Ok(());
    }
    let end = piece.end_offset;
    Err(Damage {
        at,
        reason: format!("its batches end at {offset}, it should at {end}"),
    })
}

fn end_of(base_offset: Offset, last_offset_delta: i32) -> Offset {
    base_offset
        .saturating_add(i64::from(last_offset_delta))
        .saturating_add(1)
}

/// A run of the new object in the making.
#[derive(Debug)]
pub(super) struct RunInMaking {
    partition: TopicPartition,
    base_offset: Offset,
    /// One past the last offset of its batches.
    end: Option<Offset>,
}

impl RunInMaking {
    pub(super) const fn new(partition: TopicPartition, base_offset: Offset) -> Self {
        Self {
            partition,
            base_offset,
            end: None,
        }
    }

    /// Adds the batches of a piece that was checked.
    pub(super) fn add(&mut self, writer: &mut ObjectWriter, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut before = match self.end {
            Some(end) => end,
            None => {
                writer.begin_run(self.partition, Some(self.base_offset));
                self.base_offset
            }
        };
        let mut rest: &[u8] = bytes;
        let batches = std::iter::from_fn(|| {
            let header = BatchHeader::parse(rest).ok()?;
            rest = rest.get(header.bytes..)?;
            let end = end_of(header.base_offset, header.last_offset_delta);
            // Where offsets are missing, they count to the batch behind them.
            let taken = u32::try_from(end.saturating_sub(before)).unwrap_or(u32::MAX);
            before = end;
            let length = u64::try_from(header.bytes).unwrap_or(u64::MAX);
            Some((length, taken, header.max_timestamp))
        });
        writer.batches(bytes, batches);
        self.end = Some(before);
    }

    /// Whether the object has a run of it.
    pub(super) const fn has_begun(&self) -> bool {
        self.end.is_some()
    }
}
