//! What need not be in the archive any more.
//!
//! A restore to any moment since the cutoff begins with the newest snapshot before that moment. So
//! what stays is the newest snapshot before the cutoff, and everything after what it covers.

use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::Millis;

use super::file::{self, HEAD_BYTES, Kind};
use super::listing::Listed;
use super::{keys, listing};

/// Most files removed at once; the rest follows the next time.
const REMOVED_AT_ONCE: usize = 500;
/// Most snapshots that are kept, however young, with the pieces behind them: a week of an hour each,
/// which is as often as a steady load brings one.
const SNAPSHOTS_KEPT: usize = 200;

/// Removes what lies before the cutoff. Returns how many files went.
pub(super) async fn sweep(
    bucket: &Bucket,
    history: u32,
    cutoff: Millis,
) -> Result<usize, BucketError> {
    let mut doomed = ended_histories(bucket, history, cutoff).await?;
    let snapshots = listing::list(bucket, &keys::snapshots(history), None).await?;
    if let Some(base) = base(bucket, &snapshots, cutoff).await? {
        let before = |file: &&Listed| file.number < base;
        doomed.extend(snapshots.iter().filter(before).map(|file| file.key.clone()));
        let prefix = keys::pieces(history);
        let oldest = bucket.list(&prefix, None, REMOVED_AT_ONCE + 1).await?;
        let begins = |key: &str| keys::number(key, &prefix).unwrap_or(u64::MAX);
        // The piece that begins last before the base may reach beyond it.
        let covered = oldest
            .iter()
            .zip(oldest.iter().skip(1))
            .take_while(|(_, next)| begins(&next.key) <= base);
        doomed.extend(covered.map(|(piece, _)| piece.key.clone()));
    }
    doomed.truncate(REMOVED_AT_ONCE);
    for key in &doomed {
        bucket.delete(key).await?;
    }
    let count = u64::try_from(doomed.len()).unwrap_or(u64::MAX);
    metrics::counter!("alluvium_archive_removed_total").increment(count);
    Ok(doomed.len())
}

/// The snapshot to keep: the newest before the cutoff, or a later one where there are too many.
async fn base(
    bucket: &Bucket,
    snapshots: &[Listed],
    cutoff: Millis,
) -> Result<Option<u64>, BucketError> {
    for (newer, snapshot) in snapshots.iter().rev().enumerate() {
        if newer + 1 == SNAPSHOTS_KEPT {
            return Ok(Some(snapshot.number));
        }
        let head = bucket.read(&snapshot.key, 0..HEAD_BYTES as u64).await?;
        match file::decode_head(&snapshot.key, &head, Kind::Snapshot) {
            Ok(head) if head.at <= cutoff => return Ok(Some(snapshot.number)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "passing over a snapshot of the archive"),
        }
    }
    Ok(None)
}

/// Files of histories that had ended before the cutoff. Markers stay: they are the fence.
async fn ended_histories(
    bucket: &Bucket,
    history: u32,
    cutoff: Millis,
) -> Result<Vec<String>, BucketError> {
    let mut files = Vec::new();
    for ended in (0..history).rev() {
        let successor = keys::marker(ended.saturating_add(1));
        let began = match listing::read(bucket, &successor).await {
            Ok(bytes) => file::decode(&successor, &bytes, Kind::Marker).map(|(head, _)| head.at),
            Err(BucketError::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        if began.is_ok_and(|began| began > cutoff) {
            continue;
        }
        for prefix in [keys::pieces(ended), keys::snapshots(ended)] {
            let page = bucket.list(&prefix, None, REMOVED_AT_ONCE).await?;
            files.extend(page.into_iter().map(|meta| meta.key));
        }
        if files.is_empty() || files.len() >= REMOVED_AT_ONCE {
            // Older ones went before this one did.
            break;
        }
    }
    Ok(files)
}
