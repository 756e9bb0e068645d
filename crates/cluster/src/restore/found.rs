//! The new quorum: its marker, its first snapshot, its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use alluvium_storage::blocking;
use alluvium_storage::bucket::BucketError;
use alluvium_storage::disk::{Disk, create_dir_durable};
use alluvium_types::{Millis, random};

use super::{RestoreConfig, RestoreError, Restoring};
use crate::archive::marker::Marker;
use crate::archive::{keys, snapshot};
use crate::checkpoint::{Checkpoint, LogPosition, Members};
use crate::growth::{LogGrowth, LogSize};
use crate::raft::LogStore;
use crate::snapshots::Snapshots;
use crate::view::Current;
use crate::voter_id::{self, VoterId};

/// Bytes of a segment of a log that was just made; what is there has its own.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Refuses a folder that a voter of some quorum is in. What a start left that was refused to form one
/// is cleared away.
pub(super) async fn refuse_used(config: &RestoreConfig) -> Result<(), RestoreError> {
    let (disk, dir) = (Arc::clone(&config.disk), config.dir.clone());
    let named = |error: &dyn std::fmt::Display| {
        RestoreError::Folder(format!("{}: {error}", config.dir.display()))
    };
    let entries = blocking(move || match disk.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    })
    .await
    .map_err(|error| named(&error))?
    .map_err(|error| named(&error))?;
    if entries.is_empty() {
        return Ok(());
    }
    if is_unformed(config).await.map_err(|error| named(&error))? {
        let (disk, dir) = (Arc::clone(&config.disk), config.dir.clone());
        return blocking(move || clear(disk.as_ref(), &dir))
            .await
            .map_err(|error| named(&error))?
            .map_err(|error| named(&error));
    }
    Err(RestoreError::Folder(format!(
        "{} holds metadata already. If that voter is sound, start the server on it; else move the \
         folder away, or restore to another --data-dir",
        config.dir.display()
    )))
}

/// Whether the folder is that of a voter which never belonged to a quorum.
async fn is_unformed(config: &RestoreConfig) -> io::Result<bool> {
    let (disk, dir) = (Arc::clone(&config.disk), config.dir.clone());
    let log = blocking(move || {
        let log = dir.join("log");
        let snapshots = match disk.list(&dir.join("snapshots")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let named = voter_id::read(disk.as_ref(), &dir)?.is_some();
        if !named || !snapshots.is_empty() || !disk.is_dir(&log)? {
            return Ok::<_, io::Error>(None);
        }
        let growth = LogGrowth::new(LogSize {
            entries: u64::MAX,
            bytes: u64::MAX,
        });
        LogStore::open(disk, &log, SEGMENT_BYTES, Arc::new(growth)).map(Some)
    })
    .await??;
    let Some(log) = log else { return Ok(false) };
    let is_untouched = log.is_untouched().await;
    blocking(move || log.close()).await?;
    is_untouched
}

/// Removes the files of a folder and of its folders. Blocks.
fn clear(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for entry in disk.list(dir)? {
        if entry.is_dir {
            clear(disk, &entry.path)?;
        } else {
            disk.remove_file(&entry.path)?;
        }
    }
    disk.sync_dir(dir)
}

/// Begins the new history and writes the folder of its voter.
pub(super) async fn found(
    config: &RestoreConfig,
    restoring: &mut Restoring,
    now: Millis,
) -> Result<VoterId, RestoreError> {
    let voter = VoterId::new(random::range(1..=u32::MAX), config.node);
    let next_index = restoring.current.checkpoint.next_index();
    restoring.current.checkpoint = checkpoint(voter, &config.address, next_index);
    let history = restoring.history;
    let marker = Marker::new(
        history,
        restoring.cluster,
        Some((restoring.from, next_index)),
        now,
    );
    let bucket = &config.bucket;
    if !marker.create(bucket).await? {
        return Err(RestoreError::Raced(format!(
            "another restore of cluster {} began while this one was reading: {} is there. Wait for it \
             and use what it made; or run this one again to supersede it",
            restoring.cluster,
            keys::marker(history)
        )));
    }
    let current = Arc::new(restoring.current.clone());
    let named = (history, restoring.cluster);
    let bytes = blocking({
        let current = Arc::clone(&current);
        move || snapshot::encode(named, &current, now)
    })
    .await
    .map_err(io::Error::from)
    .and_then(|encoded| encoded)
    .map_err(|error| RestoreError::Archive(format!("the snapshot cannot be encoded: {error}")))?;
    let key = keys::snapshot(history, current.checkpoint.next_index());
    match bucket.create(&key, vec![bytes]).await {
        Ok(()) => {}
        Err(error @ BucketError::AlreadyExists { .. }) => {
            return Err(RestoreError::Raced(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    let (disk, dir) = (Arc::clone(&config.disk), config.dir.clone());
    blocking(move || write(&disk, &dir, &current, voter))
        .await
        .map_err(io::Error::from)
        .and_then(|written| written)
        .map_err(|error| {
            RestoreError::Folder(format!(
                "{}: {error}; empty the folder and run the restore again",
                config.dir.display()
            ))
        })?;
    Ok(voter)
}

/// A log that begins with one voter. Terms begin anew: no entry of the old history is in it.
fn checkpoint(voter: VoterId, address: &str, next_index: u64) -> Checkpoint {
    // Every log has a first entry; the membership's place must be one.
    let last = LogPosition {
        term: 0,
        leader: 0,
        index: next_index.saturating_sub(1),
    };
    Checkpoint {
        last: Some(last),
        members_at: Some(last),
        members: Members {
            configs: vec![BTreeSet::from([voter.0])],
            nodes: BTreeMap::from([(voter.0, address.to_owned())]),
        },
    }
}

/// Durable when it returns. The voter's name comes first: without it the folder is not a voter's.
fn write(disk: &Arc<dyn Disk>, dir: &Path, current: &Current, voter: VoterId) -> io::Result<()> {
    let snapshots = dir.join("snapshots");
    create_dir_durable(disk.as_ref(), &snapshots)?;
    voter_id::write(disk.as_ref(), dir, voter)?;
    let (snapshots, _) =
        Snapshots::open(Arc::clone(disk), &snapshots, 0).map_err(io::Error::other)?;
    snapshots.write(current)?;
    Ok(())
}
