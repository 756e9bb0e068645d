//! Waiting at the tail: one task hears of every change and wakes only those who wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use alluvium_cluster::Metadata;
use alluvium_metadata::Change;
use alluvium_types::TopicPartition;
use alluvium_types::hash::HashMap;

/// Who waits for which partition. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    waiters: Arc<Mutex<Waiters>>,
}

#[derive(Debug, Default)]
struct Waiters {
    by_partition: HashMap<TopicPartition, HashMap<u64, Arc<Notify>>>,
    next_id: u64,
}

/// A seat at the tail of some partitions; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Waiter {
    tail: Tail,
    id: u64,
    partitions: Vec<TopicPartition>,
    notify: Arc<Notify>,
}

impl Tail {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on no change of these partitions is missed.
    pub(super) fn wait_for(&self, partitions: impl Iterator<Item = TopicPartition>) -> Waiter {
        let notify = Arc::new(Notify::new());
        let partitions: Vec<_> = partitions.collect();
        let mut waiters = self.waiters();
        let id = waiters.next_id;
        waiters.next_id += 1;
        for partition in &partitions {
            let seats = waiters.by_partition.entry(*partition).or_default();
            seats.insert(id, Arc::clone(&notify));
        }
        drop(waiters);
        Waiter {
            tail: self.clone(),
            id,
            partitions,
            notify,
        }
    }

    /// Wakes waiters of partitions that changed, until the metadata ends or `stop`.
    pub(super) async fn run(
        self,
        mut changes: Receiver<Arc<[Change]>>,
        metadata: Metadata,
        stop: CancellationToken,
    ) {
        loop {
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                received = changes.recv() => received,
            };
            match received {
                Ok(changes) => self.tell(&changes, &metadata),
                Err(RecvError::Lagged(_)) => self.wake_all(),
                Err(RecvError::Closed) => {
                    self.wake_all();
                    return;
                }
            }
        }
    }

    fn tell(&self, changes: &[Change], metadata: &Metadata) {
        let mut topics_changed = false;
        let waiters = self.waiters();
        for change in changes {
            match change {
                Change::Partition(partition) | Change::Share(partition) => waiters.wake(partition),
                Change::Topics => topics_changed = true,
                Change::Agents | Change::Groups => {}
            }
        }
        if topics_changed {
            let gone: Vec<_> = metadata.read(|state| {
                let waited_for = waiters.by_partition.keys();
                waited_for
                    .filter(|partition| state.partition(**partition).is_none())
                    .collect()
            });
            gone.into_iter()
                .for_each(|partition| waiters.wake(partition));
        }
    }

    fn wake_all(&self) {
        let waiters = self.waiters();
        waiters
            .by_partition
            .keys()
            .for_each(|partition| waiters.wake(partition));
    }
}

impl Waiters {
    fn wake(&self, partition: &TopicPartition) {
        for notify in self
            .by_partition
            .get(partition)
            .into_iter()
            .flat_map(HashMap::values)
        {
            notify.notify_one();
        }
    }
}

impl Waiter {
    /// Resolves when something changed since the last call or since the seat was taken.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.tail.waiters();
        for partition in &self.partitions {
            if let Some(seats) = waiters.by_partition.get_mut(partition) {
                seats.remove(&self.id);
                if seats.is_empty() {
                    waiters.by_partition.remove(partition);
                }
            }
        }
    }
}
