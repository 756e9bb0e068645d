//! Topic settings, kept per topic until topics change.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::{self, error::TryRecvError};

use alluvium_cluster::Metadata;
use alluvium_metadata::Change;
use alluvium_types::hash::HashMap;
use alluvium_types::{TopicId, TopicPartition};

use crate::topics::{TopicSettings, Topics};

/// What was looked up for one request.
#[derive(Debug)]
pub(super) struct Lookup {
    /// One entry per partition asked for; `None` when there is no such partition.
    pub(super) settings: Vec<Option<TopicSettings>>,
    /// Counts the changes of topics; what was looked up under another number may differ.
    pub(super) generation: u64,
}

#[derive(Debug)]
pub(super) struct SettingsCache {
    metadata: Metadata,
    topics: Topics,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    settings: HashMap<TopicId, TopicSettings>,
    generation: u64,
    changes: broadcast::Receiver<Arc<[Change]>>,
}

impl SettingsCache {
    pub(super) fn new(metadata: Metadata, topics: Topics) -> Self {
        let changes = metadata.subscribe();
        let known = Known {
            settings: HashMap::default(),
            generation: 0,
            changes,
        };
        Self {
            metadata,
            topics,
            known: Mutex::new(known),
        }
    }

    /// The settings for each of `partitions`.
    pub(super) fn look_up(&self, partitions: impl Iterator<Item = TopicPartition>) -> Lookup {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        known.forget_what_changed();
        let settings = self.metadata.read(|state| {
            partitions
                .map(|partition| {
                    state.partition(partition)?;
                    if let Some(settings) = known.settings.get(&partition.topic) {
                        return Some(*settings);
                    }
                    let settings = self.topics.settings(state, state.topic(partition.topic)?);
                    known.settings.insert(partition.topic, settings);
                    Some(settings)
                })
                .collect()
        });
        Lookup {
            settings,
            generation: known.generation,
        }
    }
}

impl Known {
    fn forget_what_changed(&mut self) {
        let mut changed = false;
        loop {
            match self.changes.try_recv() {
                Ok(changes) => changed |= changes.contains(&Change::Topics),
                Err(TryRecvError::Lagged(_)) => changed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if changed {
            self.settings.clear();
            self.generation += 1;
        }
    }
}
