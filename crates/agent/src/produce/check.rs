//! Checks a partition's record set and gives it the form in which it is stored.

use bytes::{Bytes, BytesMut};

use alluvium_metadata::{BatchStamp, InTransaction, ProducerStamp};
use alluvium_protocol::batch::{self, BatchError, BatchHeader};
use alluvium_protocol::records::{self, RecordsSummary};
use alluvium_types::{ErrorCode, Millis, limits};

use crate::topics::TopicSettings;

/// A batch that may be stored.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) bytes: Bytes,
    pub(super) stamp: BatchStamp,
    /// When it was stamped, -1 where the producer's timestamps stand.
    pub(super) log_append_time: Millis,
}

/// Checks one record set for a topic with `settings`.
///
/// # Errors
/// Kafka's code for what is wrong with it, and the reason.
pub(super) fn check(
    set: &Bytes,
    settings: &TopicSettings,
    transaction: InTransaction,
    now: Millis,
) -> Result<Accepted, BatchError> {
    // Versions are the request's matter; the newest allows every codec.
    let header = batch::check_produced_set(Some(set), i16::MAX)?;
    if header.is_transactional() && transaction == InTransaction::No {
        return Err(refusal(
            ErrorCode::TransactionalIdAuthorizationFailed,
            "a batch of a transaction in a request without a transactional id".to_owned(),
        ));
    }
    check_size(set, settings)?;
    let summary = records::validate_records(set, limits::DECOMPRESSED_BATCH_BYTES)?;
    if settings.compacted && !summary.all_keyed {
        return Err(refusal(
            ErrorCode::InvalidRecord,
            "a compacted topic takes no record without a key".to_owned(),
        ));
    }
    if !settings.log_append_time {
        let times = (summary.min_timestamp, summary.max_timestamp);
        let (before, after) = (settings.timestamp_before_max, settings.timestamp_after_max);
        records::check_timestamps(times, now, before, after)?;
    }
    let recompressed = recompress(set, &header, settings)?;
    let (bytes, max_timestamp) = stamp(recompressed, &header, &summary, settings, now);
    let log_append_time = if settings.log_append_time { now } else { -1 };
    Ok(Accepted {
        stamp: batch_stamp(&bytes, &header, transaction, max_timestamp)?,
        bytes,
        log_append_time,
    })
}

fn refusal(code: ErrorCode, reason: String) -> BatchError {
    BatchError { code, reason }
}

fn check_size(batch: &Bytes, settings: &TopicSettings) -> Result<(), BatchError> {
    if batch.len() <= settings.max_message_bytes {
        return Ok(());
    }
    Err(refusal(
        ErrorCode::MessageTooLarge,
        format!(
            "the batch has {} bytes, the topic's max.message.bytes is {}",
            batch.len(),
            settings.max_message_bytes
        ),
    ))
}

fn recompress(
    batch: &Bytes,
    header: &BatchHeader,
    settings: &TopicSettings,
) -> Result<Bytes, BatchError> {
    match settings.compression {
        Some(codec) if codec != header.codec()? => {
            let other = records::recompress(batch, codec, limits::DECOMPRESSED_BATCH_BYTES)?;
            check_size(&other, settings)?;
            Ok(other)
        }
        _ => Ok(batch.clone()),
    }
}

/// Sets the broker's time, or puts right a greatest timestamp that its records deny. Only then is
/// the batch copied.
fn stamp(
    batch: Bytes,
    header: &BatchHeader,
    summary: &RecordsSummary,
    settings: &TopicSettings,
    now: Millis,
) -> (Bytes, Millis) {
    if settings.log_append_time {
        let mut stamped = BytesMut::from(batch);
        batch::stamp_log_append_time(&mut stamped, now);
        return (stamped.freeze(), now);
    }
    if header.max_timestamp == summary.max_timestamp {
        return (batch, header.max_timestamp);
    }
    let mut corrected = BytesMut::from(batch);
    batch::set_max_timestamp(&mut corrected, summary.max_timestamp);
    (corrected.freeze(), summary.max_timestamp)
}

fn batch_stamp(
    batch: &Bytes,
    header: &BatchHeader,
    transaction: InTransaction,
    max_timestamp: Millis,
) -> Result<BatchStamp, BatchError> {
    let bytes = u32::try_from(batch.len());
    let records = u32::try_from(i64::from(header.last_offset_delta) + 1);
    let (Ok(bytes), Ok(records)) = (bytes, records) else {
        return Err(refusal(
            ErrorCode::InvalidRecord,
            "the batch is too large".to_owned(),
        ));
    };
    let producer = (header.producer_id >= 0).then_some(ProducerStamp {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transaction: if header.is_transactional() {
            transaction
        } else {
            InTransaction::No
        },
    });
    Ok(BatchStamp {
        bytes,
        records,
        max_timestamp,
        producer,
    })
}
