//! Reads the records that a member has acquired.

use alluvium_metadata::{Acquired, Partition};
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_types::{ErrorCode, Offset, TopicPartition};
use bytes::{Bytes, BytesMut};
use std::time::Duration;

use crate::fetch::{Fetch, ReadLimits, ReadPartition};

/// Bytes that are read at a time.
const AT_ONCE: usize = 1 << 20;

/// Records of a stretch.
pub(super) fn count(acquired: &Acquired) -> u64 {
    let offsets = acquired
        .last
        .saturating_sub(acquired.first)
        .saturating_add(1);
    offsets.unsigned_abs()
}

/// How many records of about the size of those around `offset` fit into so many bytes; at least one.
pub(super) fn records_that_fit(partition: &Partition, offset: Offset, bytes: usize) -> u32 {
    let near = partition.runs_from(offset).find(|run| run.length > 0);
    let average = near.map_or(1, |run| {
        let offsets = run
            .end_offset
            .saturating_sub(run.base_offset)
            .unsigned_abs();
        run.length.div_ceil(offsets.max(1))
    });
    let fit = u64::try_from(bytes).unwrap_or(u64::MAX) / average.max(1);
    u32::try_from(fit).unwrap_or(u32::MAX).max(1)
}

/// The batches that hold what was acquired, each once.
pub(super) async fn read(
    fetch: &Fetch,
    partition: TopicPartition,
    acquired: &[Acquired],
) -> Result<Bytes, ErrorCode> {
    let mut records = BytesMut::new();
    let mut next: Offset = -1;
    for stretch in acquired {
        let mut offset = stretch.first.max(next);
        while offset <= stretch.last {
            let limits = ReadLimits {
                max_wait: Duration::ZERO,
                min_bytes: 1,
                max_bytes: AT_ONCE,
                read_committed: false,
            };
            let asked = ReadPartition {
                partition,
                offset,
                max_bytes: AT_ONCE,
            };
            let result = fetch.read(&[asked], limits).await.into_iter().next();
            let result = result.ok_or(ErrorCode::UnknownServerError)?;
            if result.error != ErrorCode::None {
                return Err(result.error);
            }
            let mut chain = BytesMut::new();
            result
                .records
                .iter()
                .for_each(|part| chain.extend_from_slice(part));
            let batches = batch::split(&chain.freeze()).map_err(|_| ErrorCode::CorruptMessage)?;
            if batches.is_empty() {
                // No record is left from here on.
                break;
            }
            for batch in batches {
                let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::CorruptMessage)?;
                if header.base_offset > stretch.last {
                    offset = stretch.last + 1;
                    break;
                }
                next = header.last_offset().saturating_add(1);
                offset = next;
                records.extend_from_slice(&batch);
            }
        }
    }
    Ok(records.freeze())
}
