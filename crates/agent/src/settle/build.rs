//! The object that settled bytes go to.

use bytes::{Bytes, BytesMut};

use alluvium_metadata::SettleRun;
use alluvium_objects::{BuiltObject, Level, ObjectWriter};
use alluvium_protocol::batch::{self, BatchError, BatchHeader};
use alluvium_types::{ErrorCode, ObjectId, Offset, TopicPartition};

/// Every partition has had one leader: the cluster itself.
const LEADER_EPOCH: i32 = 0;

/// Waiting runs of one partition that follow one another.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) partition: TopicPartition,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) bytes: Vec<Bytes>,
}

/// The object that holds the stretches, and what lies where in it.
pub(super) fn build(
    object: ObjectId,
    at: i64,
    stretches: &[Stretch],
) -> (BuiltObject, Vec<SettleRun>) {
    let mut writer = ObjectWriter::new(object, Level::Settled, at);
    let mut settled = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        let batches = match stretch.batches() {
            Ok(batches) => batches,
            Err(error) => {
                // They were checked before they were sequenced, so this is a fault of ours.
                tracing::error!(partition = ?stretch.partition, %error, "inline bytes cannot be settled");
                continue;
            }
        };
        writer.begin_run(stretch.partition, Some(stretch.base_offset));
        for (header, bytes) in batches {
            let records = u32::try_from(i64::from(header.last_offset_delta) + 1).unwrap_or(0);
            writer.batch(&[bytes], records, header.max_timestamp);
        }
        settled.push(stretch);
    }
    let built = writer.finish();
    let runs = settled
        .iter()
        .zip(&built.runs)
        .map(|(stretch, written)| SettleRun {
            partition: stretch.partition,
            base_offset: stretch.base_offset,
            end_offset: stretch.end_offset,
            position: written.position,
            length: written.length,
        });
    let runs = runs.collect();
    (built, runs)
}

impl Stretch {
    /// Its batches with their offsets in place, in one buffer.
    fn batches(&self) -> Result<Vec<(BatchHeader, Bytes)>, BatchError> {
        let mut copy = BytesMut::with_capacity(self.bytes.iter().map(Bytes::len).sum());
        let mut headers = Vec::new();
        let mut offset = self.base_offset;
        for run in &self.bytes {
            for bytes in batch::split(run)? {
                let header = BatchHeader::parse(&bytes)?;
                if let Some((head, rest)) = bytes.split_first_chunk::<16>() {
                    copy.extend_from_slice(&batch::patched_head(head, offset, LEADER_EPOCH));
                    copy.extend_from_slice(rest);
                }
                offset = offset.saturating_add(i64::from(header.last_offset_delta) + 1);
                headers.push(header);
            }
        }
        if offset != self.end_offset {
            let reason = format!("batches end at {offset}, the run at {}", self.end_offset);
            return Err(BatchError {
                code: ErrorCode::CorruptMessage,
                reason,
            });
        }
        let mut copy = copy.freeze();
        let batches = headers.into_iter().map(|header| {
            let bytes = copy.split_to(header.bytes.min(copy.len()));
            (header, bytes)
        });
        Ok(batches.collect())
    }
}
