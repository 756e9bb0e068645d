//! Applies committed entries to the view and hands out snapshots.
//!
//! The state lives in memory; what makes it durable is the log and the newest snapshot file. A
//! snapshot is written by the node's snapshotter, outside the library, because the library takes an
//! error while building one for the end of the node. The library is then asked to "build" one and is
//! given what lies there.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use alluvium_metadata::{Change, Outcome};

use crate::feed::Feed;
use crate::raft::types::{
    Entry, LogId, Meta, RaftSnapshot, StoredMembership, TypeConfig, checkpoint, log_id, members,
    meta, position, stored_membership,
};
use crate::snapshots::{SnapshotFile, Snapshots};
use crate::view::{Current, View};

/// Entries applied under one hold of the view's lock: few, so that readers wait little.
const APPLY_BATCH: usize = 64;

/// The state machine as openraft sees it.
#[derive(Debug)]
pub(crate) struct StateMachine {
    view: Arc<View>,
    snapshots: Arc<Snapshots>,
    feed: Arc<Feed>,
}

impl StateMachine {
    pub(crate) fn new(view: Arc<View>, snapshots: Arc<Snapshots>, feed: Arc<Feed>) -> Self {
        Self {
            view,
            snapshots,
            feed,
        }
    }

    fn capture(&self) -> SnapshotBuilder {
        let current = self.view.read(Current::clone);
        SnapshotBuilder::Write(Arc::clone(&self.snapshots), Arc::new(current))
    }
}

fn apply_entry(entry: Entry, current: &mut Current, changes: &mut Vec<Change>) -> Outcome {
    let at = position(&entry.log_id);
    let outcome = match entry.payload {
        EntryPayload::Blank => Outcome::Done,
        EntryPayload::Normal(proposal) => current.state.apply(proposal.into_command(), changes),
        EntryPayload::Membership(membership) => {
            current.checkpoint.members_at = Some(at);
            current.checkpoint.members = members(&membership);
            Outcome::Done
        }
    };
    current.checkpoint.last = Some(at);
    outcome
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.view.read(|current| {
            (
                current.checkpoint.last.map(log_id),
                stored_membership(&current.checkpoint),
            )
        }))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH);
        while let Some(batch) = batches.next().await {
            let started = Instant::now();
            let mut answers = Vec::with_capacity(batch.len());
            let applied = self.view.update(|current, changes| {
                for item in batch {
                    let (entry, responder) = item?;
                    let command = match &entry.payload {
                        EntryPayload::Normal(proposal) => Some(proposal.encoded().clone()),
                        EntryPayload::Blank | EntryPayload::Membership(_) => None,
                    };
                    // Before the view says that it is there.
                    self.feed.push(entry.log_id.index, command);
                    let outcome = apply_entry(entry, current, changes);
                    answers.extend(responder.map(|responder| (responder, outcome)));
                }
                Ok(())
            });
            metrics::histogram!("alluvium_metadata_apply_seconds")
                .record(started.elapsed().as_secs_f64());
            for (responder, outcome) in answers {
                responder.send(outcome);
            }
            applied.inspect_err(|error: &io::Error| {
                tracing::error!(%error, "cannot read a committed log entry");
            })?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if force {
            return Some(self.capture());
        }
        self.snapshots.current().map(SnapshotBuilder::Written)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.capture()
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: SnapshotFile) -> io::Result<()> {
        let snapshots = Arc::clone(&self.snapshots);
        let checkpoint = checkpoint(meta);
        let installed = blocking(move || {
            let mut current = snapshot.read().map_err(io::Error::other)?;
            current.checkpoint = checkpoint;
            snapshots.adopt(&snapshot, &current)?;
            Ok(current)
        })
        .await?;
        self.view.replace(installed);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        Ok(self.snapshots.current().map(as_snapshot))
    }
}

/// Gives openraft a snapshot.
#[derive(Debug)]
pub(crate) enum SnapshotBuilder {
    /// It lies there already.
    Written(SnapshotFile),
    /// It has yet to be written.
    Write(Arc<Snapshots>, Arc<Current>),
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        match self {
            Self::Written(file) => Ok(as_snapshot(file.clone())),
            Self::Write(snapshots, current) => {
                let (snapshots, current) = (Arc::clone(snapshots), Arc::clone(current));
                blocking(move || snapshots.write(&current))
                    .await
                    .map(as_snapshot)
            }
        }
    }
}

fn as_snapshot(file: SnapshotFile) -> RaftSnapshot {
    RaftSnapshot {
        meta: meta(&file.checkpoint),
        snapshot: file,
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    alluvium_storage::blocking(work).await?
}
