//! This node's copy of the state, and the channel that tells of its changes.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::broadcast;

use alluvium_metadata::{Change, State};

use crate::checkpoint::Checkpoint;

/// Batches of changes a slow subscriber may fall behind before it is told that it lagged.
const CHANGE_BACKLOG: usize = 4096;

/// A state and where in the log it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Current {
    pub(crate) state: State,
    pub(crate) checkpoint: Checkpoint,
}

/// Readers share it; only the apply loop writes.
#[derive(Debug)]
pub(crate) struct View {
    current: RwLock<Current>,
    changes: broadcast::Sender<Arc<[Change]>>,
}

impl View {
    pub(crate) fn new(current: Current) -> Self {
        Self {
            current: RwLock::new(current),
            changes: broadcast::Sender::new(CHANGE_BACKLOG),
        }
    }

    /// Reads under the shared lock.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&Current) -> R) -> R {
        read(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes under the exclusive lock and, once it is released, tells subscribers what changed.
    pub(crate) fn update<R>(&self, update: impl FnOnce(&mut Current, &mut Vec<Change>) -> R) -> R {
        let mut changes = Vec::new();
        let result = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            update(&mut current, &mut changes)
        };
        if !changes.is_empty() {
            // An error only says that nobody listens.
            let _ = self.changes.send(changes.into());
        }
        result
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<[Change]>> {
        self.changes.subscribe()
    }
}
