//! Deleting orphans.

use alluvium_objects::key;
use alluvium_storage::bucket::BucketError;
use serde::Serialize;

use super::{FsckConfig, FsckError, FsckStep, ORPHAN_AGE, Report, Watcher, archive};

/// Orphans that are deleted by one reading of the archive.
const BY_ONE_READING: usize = 5_000;

/// What a repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Orphans deleted.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Objects that were orphans when the bucket was checked, and are named or gone by now.
    pub left: u64,
}

/// Deletes the orphans of a report, and nothing else: the archive is read again before, and what it
/// names by now stays.
///
/// # Errors
/// See [`FsckError`]: [`FsckError::Unsure`] when the archive is not whole, or another than that of the
/// report. Some orphans may be deleted by then.
pub async fn repair(
    config: &FsckConfig,
    report: &Report,
    watch: Watcher<'_>,
) -> Result<Repaired, FsckError> {
    let bucket = &config.bucket;
    let orphans: Vec<_> = report.orphans().collect();
    let all = u64::try_from(orphans.len()).unwrap_or(u64::MAX);
    let mut repaired = Repaired::default();
    for piece in orphans.chunks(BY_ONE_READING) {
        let now = archive(bucket, watch).await?;
        if let Some(reason) = &now.log.ended_early {
            return Err(FsckError::Unsure(format!(
                "{}: the archive ends early ({reason}), so objects that nothing seems to name may be \
                 named; nothing is deleted",
                bucket.url()
            )));
        }
        if (now.cluster, now.history) != (report.cluster_id, report.history) {
            return Err(FsckError::Unsure(format!(
                "the cluster in {} was restored since it was checked; check it again",
                bucket.url()
            )));
        }
        let settled_before = now.written.saturating_sub(ORPHAN_AGE);
        for (object, bytes) in piece {
            let key = key(*object);
            let is_orphan = now.state.object_bytes(*object).is_none()
                && match bucket.head(&key).await {
                    Ok(meta) => meta.modified < settled_before,
                    Err(BucketError::NotFound { .. }) => false,
                    Err(error) => return Err(error.into()),
                };
            if is_orphan {
                bucket.delete(&key).await?;
                repaired.deleted += 1;
                repaired.deleted_bytes = repaired.deleted_bytes.saturating_add(*bytes);
            } else {
                repaired.left += 1;
            }
            let done = repaired.deleted + repaired.left;
            watch(FsckStep::Deleted { done, all });
        }
    }
    Ok(repaired)
}
