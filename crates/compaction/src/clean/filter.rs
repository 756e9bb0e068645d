//! What stays of a batch.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_protocol::batch::{BatchError, patched_head};
use alluvium_protocol::records::{Marker, RecordView, UnpackedBatch};
use alluvium_types::{Millis, Offset, ProducerId, limits};
use bytes::{Bytes, BytesMut};

use super::aborted::Aborted;
use super::map::OffsetMap;
use super::read::PlacedBatch;

/// Every partition has had one leader: the cluster itself.
const LEADER_EPOCH: i32 = 0;

/// What decides over a record.
pub(super) struct Rules<'a> {
    /// The newest offset of each key, for the records below `end`.
    pub(super) newest: &'a OffsetMap,
    /// Transactions whose records go, whatever their keys.
    pub(super) aborted: Aborted,
    /// Records from here on are not judged.
    pub(super) end: Offset,
    /// The time of this cleaning.
    pub(super) now: Millis,
    /// How long a tombstone stays after it was first met.
    pub(super) delete_retention: Duration,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is as it was.
    Same,
    /// Records were taken, or a horizon was set; its greatest timestamp.
    Changed(Bytes, Millis),
    /// Nothing of it is left.
    Gone,
}

/// What was seen on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Records that were taken.
    pub(super) removed: u64,
    /// Records that stay.
    pub(super) kept: u64,
    /// Producers of which records stay in a transaction whose marker has not come yet.
    pub(super) open: BTreeSet<ProducerId>,
}

impl Rules<'_> {
    /// Judges a batch (Kafka's rules; KIP-534 for tombstones). Records of aborted transactions go, as if
    /// they had never been.
    ///
    /// # Errors
    /// Its records cannot be read.
    pub(super) fn judge(
        &self,
        batch: &PlacedBatch,
        tally: &mut Tally,
    ) -> Result<Verdict, BatchError> {
        if batch.base_offset >= self.end {
            return Ok(Verdict::Same);
        }
        if batch.header.is_control() {
            return Ok(self.judge_marker(batch, tally));
        }
        if self.aborted.hold(batch) {
            tally.removed += u64::try_from(batch.header.record_count).unwrap_or(0);
            return Ok(Verdict::Gone);
        }
        let verdict = self.judge_records(batch, tally);
        if batch.header.is_transactional() && !matches!(verdict, Ok(Verdict::Gone)) {
            tally.open.insert(batch.header.producer_id);
        }
        verdict
    }

    /// The marker of an aborted transaction stays for as long as readers are told of the transaction, or
    /// they would take its producer's next records for aborted ones too. One whose transaction nobody is
    /// told of any more says nothing; nor does one of a committed transaction of which no record is left.
    /// What the log ends with stays, for readers to come to its end.
    fn judge_marker(&self, batch: &PlacedBatch, tally: &mut Tally) -> Verdict {
        let has_records = tally.open.remove(&batch.header.producer_id);
        let is_last = batch.header.last_offset().saturating_add(1) >= self.end;
        let is_needed = match Marker::of(&batch.bytes) {
            Some(Marker::Commit) => has_records,
            Some(Marker::Abort) => self.aborted.end_with(batch),
            None => true,
        };
        if is_last || is_needed {
            Verdict::Same
        } else {
            Verdict::Gone
        }
    }

    fn judge_records(&self, batch: &PlacedBatch, tally: &mut Tally) -> Result<Verdict, BatchError> {
        let limit = limits::DECOMPRESSED_BATCH_BYTES;
        let unpacked = UnpackedBatch::open(&batch.bytes, batch.base_offset, limit)?;
        let known_horizon = unpacked.header().delete_horizon();
        let expired = known_horizon.is_some_and(|horizon| self.now >= horizon);
        let (mut kept, mut removed, mut tombstones) = (0u64, 0u64, false);
        for record in unpacked.records() {
            let record = record?;
            if self.stays(&record, expired) {
                kept += 1;
                tombstones |= record.is_tombstone && record.offset < self.end;
            } else {
                removed += 1;
            }
        }
        tally.kept += kept;
        tally.removed += removed;
        let horizon = (tombstones && known_horizon.is_none()).then(|| self.horizon());
        if removed == 0 && horizon.is_none() {
            return Ok(if kept == 0 {
                Verdict::Gone
            } else {
                Verdict::Same
            });
        }
        let retained = unpacked.retain(|record| self.stays(record, expired), horizon)?;
        Ok(retained.map_or(Verdict::Gone, |retained| {
            Verdict::Changed(retained.bytes, retained.max_timestamp)
        }))
    }

    fn stays(&self, record: &RecordView<'_>, tombstones_expired: bool) -> bool {
        if record.offset >= self.end {
            return true;
        }
        // A record without a key cannot be the newest of one. Kafka takes none into such a topic, but
        // the topic may not have been one always.
        let Some(key) = record.key else { return false };
        let is_newest = self
            .newest
            .get(key)
            .is_none_or(|newest| record.offset >= newest);
        is_newest && !(record.is_tombstone && tombstones_expired)
    }

    fn horizon(&self) -> Millis {
        let kept = Millis::try_from(self.delete_retention.as_millis()).unwrap_or(Millis::MAX);
        self.now.saturating_add(kept)
    }
}

/// A batch with its own offset in its header, in memory of its own.
pub(super) fn placed(bytes: &Bytes, base_offset: Offset) -> Bytes {
    let mut copy = BytesMut::with_capacity(bytes.len());
    if let Some((head, rest)) = bytes.split_first_chunk::<16>() {
        copy.extend_from_slice(&patched_head(head, base_offset, LEADER_EPOCH));
        copy.extend_from_slice(rest);
    }
    copy.freeze()
}
