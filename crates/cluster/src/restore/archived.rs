//! What the archive holds, read and left as it is.

use alluvium_metadata::State;
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{Millis, TopicId};

use super::report::Replayed;
use super::{RestoreError, Watcher, history, replay};
use crate::archive::keys;
use crate::archive::listing::Listed;
use crate::archive::marker::Marker;

/// Attempts at reading an archive of which files come and go meanwhile.
const ATTEMPTS: u32 = 3;

/// The newest state that a bucket's archive holds.
#[derive(Clone, Debug)]
pub struct ArchivedState {
    /// The state itself.
    pub state: State,
    /// The cluster's id.
    pub cluster: TopicId,
    /// Which of its histories: how often it was restored before.
    pub history: u32,
    /// How the state came about, and up to when it goes.
    pub log: Replayed,
    /// When the archive's last file was written, by the store's clock. What was written before, and
    /// long enough before, the state would know.
    pub written: Millis,
}

/// Reads the newest state that the archive in a bucket holds. Changes nothing, and needs no cluster;
/// one may run on the bucket meanwhile, and is up to an archive interval ahead of it.
///
/// # Errors
/// See [`RestoreError`]: the store's, or there is no archive, or it cannot be used.
pub async fn read_archive(
    bucket: &Bucket,
    watch: Watcher<'_>,
) -> Result<ArchivedState, RestoreError> {
    let mut attempt = 1;
    loop {
        let read = read(bucket, watch).await;
        match read {
            // The cluster removes what it needs no longer; what it needs is there by then.
            Err(RestoreError::Bucket(BucketError::NotFound { .. })) if attempt < ATTEMPTS => {}
            // A piece or a snapshot came in between, or a store that errs on the way.
            Ok(archived) if attempt < ATTEMPTS && !archived.log.is_whole() => {}
            other => return other,
        }
        attempt += 1;
    }
}

impl Replayed {
    /// Everything that should be in the archive was there and sound.
    fn is_whole(&self) -> bool {
        self.ended_early.is_none() && self.damaged.is_empty()
    }
}

async fn read(bucket: &Bucket, watch: Watcher<'_>) -> Result<ArchivedState, RestoreError> {
    let markers = Marker::all(bucket).await?;
    let base = history::choose(bucket, &markers, None).await?;
    let (cluster, history) = (base.marker.cluster, base.marker.history);
    let last = last_file(&base.pieces, history);
    let (current, log) = replay::replay(bucket, base, None, watch).await?;
    let written = bucket.head(&last).await?.modified;
    Ok(ArchivedState {
        state: current.state,
        cluster,
        history,
        log,
        written,
    })
}

/// The file that was written last of those that the state is read from.
fn last_file(pieces: &[Listed], history: u32) -> String {
    pieces
        .last()
        .map_or_else(|| keys::marker(history), |piece| piece.key.clone())
}

/// Whether a key is one that an archive may have.
#[must_use]
pub fn is_archive_key(key: &str) -> bool {
    let Some((folder, _)) = key.rsplit_once('/') else {
        return false;
    };
    let in_history = |root: &str| {
        key.strip_prefix(root)
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(history, _)| history.parse().ok())
            .is_some_and(|history: u32| {
                let prefixes = [keys::pieces(history), keys::snapshots(history)];
                prefixes.iter().any(|prefix| is_numbered(key, prefix))
            })
    };
    (folder == keys::MARKERS.trim_end_matches('/') && is_numbered(key, keys::MARKERS))
        || in_history("quorum/log/")
        || in_history("quorum/snapshots/")
}

fn is_numbered(key: &str, prefix: &str) -> bool {
    keys::number(key, prefix).is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::testing::{Log, NOW, Shelf, Voter, beginning, topic};

    #[test]
    fn archive_keys_are_told_from_others() {
        for key in [keys::marker(3), keys::piece(3, 17), keys::snapshot(0, 5)] {
            assert!(is_archive_key(&key), "{key}");
        }
        for key in [
            "quorum/history/x",
            "quorum/log/0000000003/17",
            "quorum/log/17",
            "quorum/log/0000000003/00000000000000000017.alv",
            "ab/ab000000000000000000000000000000.alv",
            "prove/1",
            "",
        ] {
            assert!(!is_archive_key(key), "{key}");
        }
    }

    #[tokio::test]
    async fn the_newest_state_is_read_and_nothing_is_changed() {
        let (log, shelf): (Arc<Log>, Arc<Shelf>) = Default::default();
        let error = read_archive(&shelf.bucket(), &|_| ()).await.unwrap_err();
        assert!(matches!(error, RestoreError::Archive(_)), "{error}");
        let mut voter = Voter::new(&log, &shelf);
        for command in beginning() {
            log.push(command);
        }
        voter.apply();
        voter.archive().await;
        log.push(topic("late", 2));
        voter.apply();
        voter.archive().await;
        let before = shelf.keys("");
        let read = read_archive(&shelf.bucket(), &|_| ()).await.unwrap();
        assert_eq!(read.state, voter.current().state);
        assert_eq!((read.history, read.written), (0, NOW));
        assert_eq!(shelf.keys(""), before);
    }
}
