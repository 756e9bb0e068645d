//! Which history of the cluster is restored, and what its replay begins with.

use alluvium_storage::bucket::Bucket;
use alluvium_types::Millis;

use super::RestoreError;
use crate::archive::file::{FileError, HEAD_BYTES, Kind, decode_head};
use crate::archive::listing::{self, Listed};
use crate::archive::marker::Marker;
use crate::archive::piece::MOST_ENTRIES;
use crate::archive::{keys, snapshot};
use crate::view::Current;

/// What a replay begins with.
pub(super) struct Base {
    pub(super) marker: Marker,
    pub(super) current: Current,
    /// When the snapshot was taken, if it is one.
    pub(super) snapshot_at: Option<Millis>,
    /// The pieces of the history, by their first entries.
    pub(super) pieces: Vec<Listed>,
    /// Snapshots that could not be used.
    pub(super) damaged: Vec<String>,
}

/// The newest history that had begun at `at` and left something to begin with.
pub(super) async fn choose(
    bucket: &Bucket,
    markers: &[Marker],
    at: Option<Millis>,
) -> Result<Base, RestoreError> {
    let Some(first) = markers.first() else {
        return Err(RestoreError::Archive(format!(
            "{} holds no archived cluster: there is no key that begins with {}. Check the URL's \
             bucket and prefix; a cluster archives where store.url of its servers points",
            bucket.url(),
            keys::MARKERS
        )));
    };
    let mut damaged = Vec::new();
    for marker in markers.iter().rev() {
        if at.is_some_and(|at| marker.at > at) {
            continue;
        }
        let history = marker.history;
        let snapshots = listing::list(bucket, &keys::snapshots(history), None).await?;
        if let Some((current, taken)) = newest(bucket, &snapshots, at, &mut damaged).await? {
            let pieces = pieces_behind(bucket, history, &current).await?;
            return Ok(Base {
                marker: marker.clone(),
                current,
                snapshot_at: Some(taken),
                pieces,
                damaged,
            });
        }
        let pieces = listing::list(bucket, &keys::pieces(history), None).await?;
        if pieces.first().is_some_and(|piece| piece.number == 0) {
            return Ok(Base {
                marker: marker.clone(),
                current: Current::default(),
                snapshot_at: None,
                pieces,
                damaged,
            });
        }
        if let Some(piece) = pieces.first() {
            let what = if damaged.is_empty() {
                "there is no snapshot of before".to_owned()
            } else {
                damaged.join("; ")
            };
            return Err(RestoreError::Archive(format!(
                "{}: the log of history {history} begins with entry {}, and {what}{}",
                bucket.url(),
                piece.number,
                at.map_or("", |_| "; choose a later moment"),
            )));
        }
        // A restore that died between its marker and its snapshot: nothing happened in it.
    }
    Err(RestoreError::Archive(format!(
        "{}: the archive begins at {} (milliseconds since 1970); choose a later moment",
        bucket.url(),
        first.at
    )))
}

/// The pieces that may hold entries behind a snapshot: those that begin there or later, and the one
/// before, which may reach beyond it, wherever in the reach of a piece that begins.
async fn pieces_behind(
    bucket: &Bucket,
    history: u32,
    current: &Current,
) -> Result<Vec<Listed>, RestoreError> {
    let next_index = current.checkpoint.next_index();
    let after = next_index
        .checked_sub(MOST_ENTRIES)
        .map(|before| keys::piece(history, before));
    let pieces = listing::list(bucket, &keys::pieces(history), after.as_deref()).await?;
    Ok(pieces)
}

/// The newest snapshot of at or before `at` that can be read.
async fn newest(
    bucket: &Bucket,
    snapshots: &[Listed],
    at: Option<Millis>,
    damaged: &mut Vec<String>,
) -> Result<Option<(Current, Millis)>, RestoreError> {
    for listed in snapshots.iter().rev() {
        let key = &listed.key;
        if let Some(at) = at {
            let length = listed.bytes.min(HEAD_BYTES as u64);
            let head = bucket.read(key, 0..length).await?;
            match decode_head(key, &head, Kind::Snapshot) {
                Ok(head) if head.at > at => continue,
                Ok(_) => {}
                Err(error) => {
                    damaged.push(error.to_string());
                    continue;
                }
            }
        }
        let bytes = bucket.read(key, 0..listed.bytes).await?;
        match snapshot::decode(key, &bytes) {
            Ok((head, current)) => return Ok(Some((current, head.at))),
            Err(error @ FileError::Version { .. }) => {
                return Err(RestoreError::Archive(error.to_string()));
            }
            Err(error) => damaged.push(error.to_string()),
        }
    }
    Ok(None)
}
