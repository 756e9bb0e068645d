//! This node's copy of the state, and the channels that tell of its changes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use alluvium_storage::watch;
use tokio::sync::broadcast;

use alluvium_metadata::{Change, State};
use alluvium_types::TopicPartition;

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
    /// The first entry that is not in it.
    next_index: watch::Sender<u64>,
    /// Everything below is known to be committed, be it here or not.
    announced: AtomicU64,
}

impl View {
    pub(crate) fn new(current: Current) -> Self {
        let next_index = current.checkpoint.next_index();
        Self {
            current: RwLock::new(current),
            changes: broadcast::Sender::new(CHANGE_BACKLOG),
            next_index: watch::Sender::new(next_index),
            announced: AtomicU64::new(next_index),
        }
    }

    /// Reads under the shared lock.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&Current) -> R) -> R {
        read(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes under the exclusive lock and, once it is released, tells subscribers what changed and
    /// those who wait for an entry how far it is.
    pub(crate) fn update<R>(&self, update: impl FnOnce(&mut Current, &mut Vec<Change>) -> R) -> R {
        let mut changes = Vec::new();
        let (result, next_index) = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            let result = update(&mut current, &mut changes);
            (result, current.checkpoint.next_index())
        };
        if !changes.is_empty() {
            // An error only says that nobody listens.
            let _ = self.changes.send(changes.into());
        }
        self.next_index.send_if_modified(|known| {
            let moved = *known < next_index;
            *known = next_index.max(*known);
            moved
        });
        result
    }

    /// Puts another state in the place of this one, unless that is older, and tells subscribers what
    /// differs.
    pub(crate) fn replace(&self, with: Current) {
        self.update(|current, changes| {
            if with.checkpoint.next_index() < current.checkpoint.next_index() {
                return;
            }
            changes.extend([Change::Topics, Change::Agents, Change::Groups]);
            changes.extend(moved_partitions(&current.state, &with.state).map(Change::Partition));
            *current = with;
        });
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<[Change]>> {
        self.changes.subscribe()
    }

    /// The first entry that is not in it.
    pub(crate) fn next_index(&self) -> u64 {
        *self.next_index.borrow()
    }

    /// Told whenever the first entry that is not in it is another.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.next_index.subscribe()
    }

    /// Resolves when everything below `next_index` is in it.
    pub(crate) async fn reach(&self, next_index: u64) {
        let mut watch = self.next_index.subscribe();
        // The sender lives as long as this view.
        let _ = watch.wait_for(|reached| *reached >= next_index).await;
    }

    /// Notes that everything below `next_index` is committed somewhere.
    pub(crate) fn announce(&self, next_index: u64) {
        self.announced.fetch_max(next_index, Ordering::Relaxed);
    }

    /// Everything below is known to be committed.
    pub(crate) fn announced(&self) -> u64 {
        self.announced.load(Ordering::Relaxed)
    }
}

/// Partitions whose ends are not the same in both.
fn moved_partitions<'a>(
    old: &'a State,
    new: &'a State,
) -> impl Iterator<Item = TopicPartition> + 'a {
    new.topics().flat_map(move |topic| {
        let places = (0..).zip(&topic.partitions);
        places.filter_map(move |(index, partition)| {
            let place = TopicPartition::new(topic.id, index);
            let same = old.partition(place).is_some_and(|known| {
                known.high_watermark() == partition.high_watermark()
                    && known.last_stable_offset() == partition.last_stable_offset()
                    && known.log_start() == partition.log_start()
            });
            (!same).then_some(place)
        })
    })
}
