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

/// A batch that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    header: BatchHeader,
    base_offset: Offset,
    bytes: Bytes,
}

/// Why bytes are not those of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the run: {reason}")]
pub(super) struct Damage {
    at: usize,
    reason: String,
}

/// The batches of a run. In a dense run their offsets follow from counting; in a sparse one they say
/// them.
pub(super) fn check(piece: &Piece, sparse: bool, bytes: &Bytes) -> Result<Vec<Checked>, Damage> {
    let mut checked = Vec::new();
    let mut rest = bytes.clone();
    let mut offset = piece.base_offset;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let damage = |reason: String| Damage { at, reason };
        let header = BatchHeader::parse(&rest).map_err(|error| damage(error.reason))?;
        if header.bytes > rest.len() {
            let (whole, left) = (header.bytes, rest.len());
            return Err(damage(format!("a batch of {whole} bytes with {left} left")));
        }
        let batch = rest.split_to(header.bytes);
        batch::check_crc(&batch).map_err(|error| damage(error.reason))?;
        let base_offset = if sparse { header.base_offset } else { offset };
        if header.last_offset_delta < 0 || base_offset < offset {
            let delta = header.last_offset_delta;
            return Err(damage(format!(
                "base offset {base_offset} with last offset delta {delta}, expected {offset}"
            )));
        }
        offset = base_offset
            .saturating_add(i64::from(header.last_offset_delta))
            .saturating_add(1);
        checked.push(Checked {
            header,
            base_offset,
            bytes: batch,
        });
    }
    let is_whole = if sparse {
        offset <= piece.end_offset
    } else {
        offset == piece.end_offset
    };
    if !is_whole {
        return Err(Damage {
            at: bytes.len(),
            reason: format!(
                "its batches end at {offset}, it should at {}",
                piece.end_offset
            ),
        });
    }
    Ok(checked)
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

    /// Adds the batches of one piece, their offsets filled in.
    pub(super) fn add(&mut self, writer: &mut ObjectWriter, batches: &[Checked]) {
        for batch in batches {
            let before = match self.end {
                Some(end) => end,
                None => {
                    writer.begin_run(self.partition, Some(self.base_offset));
                    self.base_offset
                }
            };
            let end = batch
                .base_offset
                .saturating_add(i64::from(batch.header.last_offset_delta))
                .saturating_add(1);
            // Where offsets are missing, they count to the batch behind them.
            let taken = u32::try_from(end.saturating_sub(before)).unwrap_or(u32::MAX);
            let parts = batch.parts();
            writer.batch(&parts, taken, batch.header.max_timestamp);
            self.end = Some(end);
        }
    }

    /// Whether the object has a run of it.
    pub(super) const fn has_begun(&self) -> bool {
        self.end.is_some()
    }
}

impl Checked {
    fn parts(&self) -> Vec<Bytes> {
        let is_right =
            self.header.base_offset == self.base_offset && self.header.leader_epoch == LEADER_EPOCH;
        match self.bytes.first_chunk::<HEAD_BYTES>() {
            Some(head) if !is_right => {
                let head = batch::patched_head(head, self.base_offset, LEADER_EPOCH);
                vec![
                    Bytes::copy_from_slice(&head),
                    self.bytes.slice(HEAD_BYTES..),
                ]
            }
            _ => vec![self.bytes.clone()],
        }
    }
}
