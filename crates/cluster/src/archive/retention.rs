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
/// Most pieces that are kept, however young: a listing of them must stay cheap.
const PIECES_KEPT: usize = 100_000;

/// Removes what lies before the cutoff. Returns how many files went.
pub(super) async fn sweep(
    bucket: &Bucket,
    history: u32,
    cutoff: Millis,
) -> Result<usize, BucketError> {
    let mut doomed = ended_histories(bucket, history, cutoff).await?;
    let snapshots = listing::list(bucket, &keys::snapshots(history), None).await?;
    let pieces = listing::list(bucket, &keys::pieces(history), None).await?;
    if let Some(base) = base(bucket, &snapshots, &pieces, cutoff).await? {
        let before = |file: &&Listed| file.number < base;
        doomed.extend(snapshots.iter().filter(before).map(|file| file.key.clone()));
        // The piece that begins last before the base may reach beyond it.
        let covered = pieces.partition_point(|piece| piece.number <= base);
        let covered = pieces.iter().take(covered.saturating_sub(1));
        doomed.extend(covered.map(|piece| piece.key.clone()));
    }
    doomed.truncate(REMOVED_AT_ONCE);
    for key in &doomed {
        bucket.delete(key).await?;
    }
    let count = u64::try_from(doomed.len()).unwrap_or(u64::MAX);
    metrics::counter!("alluvium_archive_removed_total").increment(count);
    Ok(doomed.len())
}

/// The snapshot to keep: the newest before the cutoff, or a later one where there are too many
/// pieces.
async fn base(
    bucket: &Bucket,
    snapshots: &[Listed],
    pieces: &[Listed],
    cutoff: Millis,
) -> Result<Option<u64>, BucketError> {
    let kept_from = pieces
        .len()
        .checked_sub(PIECES_KEPT)
        .and_then(|surplus| pieces.get(surplus))
        .map_or(0, |piece| piece.number);
    for snapshot in snapshots.iter().rev() {
        if snapshot.number <= kept_from {
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
