//! Whether manifests and bucket agree.
//!
//! Needs no cluster: the state is read from the archive in the bucket, by the same code that restores
//! one. A cluster may run meanwhile; it is up to an archive interval ahead, so whatever looks wrong is
//! looked at again with the state as it is archived by then, and what is young is not judged.
//!
//! 1. [`manifest`]: each partition's runs tile its offsets; each run has a place.
//! 2. [`compare`]: the bucket is listed, in the order of keys, beside the objects that the state names.
//! 3. [`content`]: with [`FsckConfig::deep`], every object that is named is read whole.
//! 4. [`suspects`]: the second look at what was found.
//!
//! [`check`] changes nothing. [`repair`] deletes what it found to be an orphan, and nothing else.
//! [`Report`] is for people and scripts: counts, and a [`Finding`] for everything that is not as it
//! should be.

mod compare;
mod content;
mod finding;
mod manifest;
mod repair;
mod report;
mod suspects;

#[cfg(test)]
mod tests;

use futures::{StreamExt, stream};

use alluvium_cluster::{ArchivedState, RestoreError, RestoreStep, read_archive};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{Millis, ObjectId, limits};

use compare::{Comparison, Terms};
use content::Examined;
use manifest::Claims;
use suspects::Suspects;

pub use finding::{Finding, Problem, Severity, Stretch};
pub use repair::{Repaired, repair};
pub use report::{Counts, Report};

/// An object that no manifest names is an orphan when it was written so long before the archive's last
/// file, by the store's clock. Younger ones may yet be named, or the sweeper, which takes them after an
/// hour, has not come by yet.
pub const ORPHAN_AGE: Millis = 3 * limits::CHUNK_AGE_MILLIS;

/// Sweepers need a moment: a dead object is late so long after its grace, which whoever takes the sweep
/// over measures anew.
const LATE: Millis = 5 * 60 * 1000;

/// Objects asked for at once; S3 gives no more.
const PAGE: usize = 1000;

/// Readings of an object before it is called damaged.
const READINGS: u32 = 3;

/// Objects that are read at once.
const AT_ONCE: usize = 4;

/// What to check, and how.
#[derive(Clone, Debug)]
pub struct FsckConfig {
    /// The bucket that holds the cluster.
    pub bucket: Bucket,
    /// The sweepers' grace, in milliseconds.
    pub grace: Millis,
    /// Also read every object that a manifest names, and check all of it.
    pub deep: bool,
}

/// How far a check is, for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsckStep {
    /// The archive is being read.
    Archive(RestoreStep),
    /// So many objects are listed, of about so many.
    Listed {
        /// So many,
        done: u64,
        /// of about so many.
        about: u64,
    },
    /// Objects were read.
    Read {
        /// So many,
        done: u64,
        /// of so many.
        all: u64,
    },
    /// Orphans were deleted.
    Deleted {
        /// So many,
        done: u64,
        /// of so many.
        all: u64,
    },
}

/// Is told how far a check is.
pub type Watcher<'a> = &'a (dyn Fn(FsckStep) + Send + Sync);

/// Why nothing can be said of a bucket, or nothing repaired.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The archive cannot be read.
    #[error("{0}")]
    Archive(#[from] RestoreError),
    /// The store's.
    #[error("{0}")]
    Store(#[from] BucketError),
    /// It is not certain what is an orphan.
    #[error("{0}")]
    Unsure(String),
}

/// Compares manifests and bucket.
///
/// # Errors
/// See [`FsckError`]: it says that nothing was proved, not that something is wrong.
pub async fn check(config: &FsckConfig, watch: Watcher<'_>) -> Result<Report, FsckError> {
    let archived = archive(&config.bucket, watch).await?;
    let again = || archive(&config.bucket, watch);
    compare_with(config, archived, again, watch).await
}

/// Compares the bucket with a state, and what looks wrong with the state as `again` says it is then.
async fn compare_with<Again>(
    config: &FsckConfig,
    archived: ArchivedState,
    again: impl FnOnce() -> Again,
    watch: Watcher<'_>,
) -> Result<Report, FsckError>
where
    Again: Future<Output = Result<ArchivedState, FsckError>>,
{
    let bucket = &config.bucket;
    let mut report = Report::new(bucket.url(), &archived);
    report.deep = config.deep;
    let claims = Claims::read(&archived.state, &mut report);
    let terms = Terms {
        settled_before: archived.written.saturating_sub(ORPHAN_AGE),
        // By the archive's time: the state's clock is that of whoever is ahead of the others.
        died_before: archived
            .log
            .until
            .saturating_sub(config.grace.saturating_mul(2).saturating_add(LATE)),
    };
    let mut suspects = list(bucket, &archived, terms, &mut report, watch).await?;
    if config.deep {
        read_all(
            bucket,
            &archived,
            &claims,
            &mut suspects,
            &mut report,
            watch,
        )
        .await?;
    }
    // Let go: two states of a large cluster need not be there at once.
    let (cluster, history) = (archived.cluster, archived.history);
    drop(archived);
    if suspects.is_empty() {
        return Ok(report);
    }
    // What was found may have changed since: merged, swept, or named just now.
    let later = again().await?;
    if (later.cluster, later.history) != (cluster, history) {
        return Err(FsckError::Unsure(format!(
            "the cluster in {} was restored while it was checked; check again",
            bucket.url()
        )));
    }
    suspects.judge(bucket, &later, &claims, &mut report).await?;
    Ok(report)
}

async fn archive(bucket: &Bucket, watch: Watcher<'_>) -> Result<ArchivedState, FsckError> {
    let step = |step| watch(FsckStep::Archive(step));
    Ok(read_archive(bucket, &step).await?)
}

async fn list(
    bucket: &Bucket,
    archived: &ArchivedState,
    terms: Terms,
    report: &mut Report,
    watch: Watcher<'_>,
) -> Result<Suspects, FsckError> {
    let mut comparison = Comparison::new(&archived.state, terms);
    let about = comparison.expected();
    let mut after: Option<String> = None;
    loop {
        let page = bucket.list("", after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|meta| meta.key.clone()).or(after);
        for meta in page {
            comparison.see(meta, &mut report.counts);
        }
        watch(FsckStep::Listed {
            done: report.counts.listed,
            about: about.max(report.counts.listed),
        });
        if is_last {
            return Ok(comparison.finish());
        }
    }
}

/// Reads every object that is named and was listed.
async fn read_all(
    bucket: &Bucket,
    archived: &ArchivedState,
    claims: &Claims,
    suspects: &mut Suspects,
    report: &mut Report,
    watch: Watcher<'_>,
) -> Result<(), FsckError> {
    let objects: Vec<(ObjectId, u64)> = archived
        .state
        .live_objects()
        .filter(|(object, _)| !suspects.is_suspect(*object))
        .collect();
    let all = u64::try_from(objects.len()).unwrap_or(u64::MAX);
    let reads = objects.into_iter().map(|(object, bytes)| async move {
        let examined = examine(bucket, (object, bytes), claims.of(object)).await;
        (object, bytes, examined)
    });
    let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
    let mut done = 0;
    while let Some((object, bytes, examined)) = reads.next().await {
        match examined? {
            Examined::Gone => suspects.missing.push((object, bytes)),
            Examined::Read(damages) => suspects
                .damaged
                .extend(damages.into_iter().map(|damage| (object, damage))),
        }
        done += 1;
        report.counts.read_objects += 1;
        report.counts.read_bytes = report.counts.read_bytes.saturating_add(bytes);
        watch(FsckStep::Read { done, all });
    }
    Ok(())
}

/// What is wrong with an object in each of a few readings: a store may err on the way.
async fn examine(
    bucket: &Bucket,
    object: (ObjectId, u64),
    claims: &[manifest::Claim],
) -> Result<Examined, BucketError> {
    let mut examined = content::examine(bucket, object, claims).await?;
    for _ in 1..READINGS {
        if matches!(&examined, Examined::Read(damages) if damages.is_empty()) {
            break;
        }
        examined = content::examine(bucket, object, claims).await?;
    }
    Ok(examined)
}
