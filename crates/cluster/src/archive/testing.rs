//! Logs, stores and leaders for tests of the archive and of restores.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};

use alluvium_metadata::{AgentOrigin, Command, CreateTopic, RegisterAgent};
use alluvium_storage::bucket::{Bucket, Failure, ObjectMeta, Store};
use alluvium_types::{AgentEpoch, AgentId, Clock, ManualClock, Millis, TopicId};

use super::archiver::{Archiver, RoundError};
use super::source::Source;
use super::{ArchiveConfig, ArchiveProgress};
use crate::checkpoint::LogPosition;
use crate::view::{Current, View};

pub(crate) const NOW: Millis = 1_700_000_000_000;
pub(crate) const CLUSTER: TopicId = TopicId([7; 16]);

/// A bucket in memory that can be tampered with.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    objects: Mutex<BTreeMap<String, (Bytes, Millis)>>,
    /// Every request fails.
    pub(crate) is_away: AtomicBool,
    /// Creates overwrite, as if they were not conditional.
    pub(crate) overwrites: AtomicBool,
}

impl Shelf {
    pub(crate) fn bucket(self: &Arc<Self>) -> Bucket {
        Bucket::over("test://shelf", Arc::clone(self) as Arc<dyn Store>)
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        let keys = objects.keys().filter(|key| key.starts_with(prefix));
        keys.cloned().collect()
    }

    pub(crate) fn put(&self, key: &str, bytes: Bytes, modified: Millis) {
        let mut objects = self.objects.lock().unwrap();
        objects.insert(key.to_owned(), (bytes, modified));
    }

    pub(crate) fn get(&self, key: &str) -> Bytes {
        self.objects.lock().unwrap()[key].0.clone()
    }

    pub(crate) fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key).unwrap();
    }

    /// Flips a bit in the middle.
    pub(crate) fn damage(&self, key: &str) {
        let mut bytes = self.get(key).to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.put(key, bytes.into(), NOW);
    }

    async fn there(&self) -> Result<(), Failure> {
        // Others come in between, as with a real store.
        tokio::task::yield_now().await;
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Failure::Unavailable("away".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Shelf {
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        self.there().await?;
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(key) && !self.overwrites.load(Ordering::SeqCst) {
            return Err(Failure::Exists);
        }
        objects.insert(key.to_owned(), (parts.concat().into(), NOW));
        Ok(())
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        self.there().await?;
        let objects = self.objects.lock().unwrap();
        let (bytes, _) = objects.get(key).ok_or(Failure::NotFound)?;
        let at = |at: u64| usize::try_from(at).unwrap();
        Ok(bytes.slice(at(range.start)..at(range.end)))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        self.there().await?;
        let objects = self.objects.lock().unwrap();
        let (bytes, modified) = objects.get(key).ok_or(Failure::NotFound)?;
        Ok(ObjectMeta {
            key: key.to_owned(),
            bytes: bytes.len() as u64,
            modified: *modified,
        })
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        self.there().await?;
        let objects = self.objects.lock().unwrap();
        let found = objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .map(|(key, (bytes, modified))| ObjectMeta {
                key: key.clone(),
                bytes: bytes.len() as u64,
                modified: *modified,
            });
        Ok(found.take(limit).collect())
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.there().await?;
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }
}

/// The log of a quorum: what was committed.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Mutex<Vec<(Bytes, Option<Command>)>>,
    pub(crate) term: AtomicU64,
}

impl Log {
    /// Commits a command.
    pub(crate) fn push(&self, command: Command) {
        let mut entries = self.entries.lock().unwrap();
        let (term, index) = (self.term.load(Ordering::SeqCst), entries.len());
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[1, 1]);
        bytes.put_u64_le(term);
        bytes.put_u64_le(1);
        bytes.put_u64_le(u64::try_from(index).unwrap());
        bytes.put_slice(&postcard::to_stdvec(&command).unwrap());
        entries.push((bytes.freeze(), Some(command)));
    }
}

/// A voter's side of the log.
#[derive(Debug)]
pub(crate) struct Side {
    log: Arc<Log>,
    pub(crate) leads: AtomicBool,
    pub(crate) begin: AtomicU64,
}

#[async_trait]
impl Source for Side {
    fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }

    fn begin(&self) -> u64 {
        self.begin.load(Ordering::SeqCst)
    }

    async fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Bytes>> {
        assert!(start >= self.begin() && start < end, "{start}..{end}");
        let entries = self.log.entries.lock().unwrap();
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        let mut room = max_bytes;
        let mut read = Vec::new();
        for (bytes, _) in &entries[range] {
            if !read.is_empty() && bytes.len() > room {
                break;
            }
            room = room.saturating_sub(bytes.len());
            read.push(bytes.clone());
        }
        Ok(read)
    }
}

/// A voter with an archiver, driven by hand.
#[derive(Debug)]
pub(crate) struct Voter {
    pub(in crate::archive) archiver: Archiver,
    pub(crate) side: Arc<Side>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Voter {
    pub(crate) fn new(log: &Arc<Log>, shelf: &Arc<Shelf>) -> Self {
        let side = Arc::new(Side {
            log: Arc::clone(log),
            leads: AtomicBool::new(true),
            begin: AtomicU64::new(0),
        });
        let clock = Arc::new(ManualClock::new(NOW));
        let archiver = Archiver {
            config: ArchiveConfig::new(shelf.bucket()),
            view: Arc::new(View::new(Current::default())),
            source: Arc::clone(&side) as Arc<dyn Source>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            progress: ArchiveProgress::default(),
            office: None,
        };
        Self {
            archiver,
            side,
            clock,
        }
    }

    /// Applies what was committed, up to the entry before `end`.
    pub(crate) fn apply_to(&self, end: usize) {
        let entries = self.side.log.entries.lock().unwrap();
        self.archiver.view.update(|current, changes| {
            let from = usize::try_from(current.checkpoint.next_index()).unwrap();
            for (index, (bytes, command)) in entries.iter().enumerate().take(end).skip(from) {
                if let Some(command) = command.clone() {
                    current.state.apply(command, changes);
                }
                let position = crate::raft::entry_position(bytes).unwrap();
                assert_eq!(position.index, u64::try_from(index).unwrap());
                current.checkpoint.last = Some(LogPosition { ..position });
            }
        });
    }

    /// Applies all that was committed.
    pub(crate) fn apply(&self) {
        self.apply_to(usize::MAX);
    }

    /// Archives all that was applied.
    pub(crate) async fn archive(&mut self) {
        while self.round().await.unwrap() {}
    }

    pub(crate) async fn round(&mut self) -> Result<bool, String> {
        self.archiver.round().await.map_err(|error| match error {
            RoundError::Fenced(reason) => format!("fenced: {reason}"),
            other => other.to_string(),
        })
    }

    pub(crate) fn current(&self) -> Current {
        self.archiver.view.read(Current::clone)
    }

    pub(crate) fn keep_for(&mut self, retention: Duration) {
        self.archiver.config.retention = retention;
    }
}

/// The commands with which a cluster begins: its name, an agent, a topic of four partitions.
pub(crate) fn beginning() -> Vec<Command> {
    vec![
        Command::FormCluster { id: CLUSTER },
        Command::RegisterAgent(RegisterAgent {
            identity: 5,
            host: "a".to_owned(),
            port: 9092,
            zone: None,
            at: NOW,
            cluster_id: CLUSTER,
        }),
        topic("clicks", 1),
    ]
}

pub(crate) fn topic(name: &str, id: u8) -> Command {
    Command::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id: TopicId([id; 16]),
        partitions: 4,
        replication_factor: 1,
        configs: Vec::new(),
        at: NOW,
    })
}

/// The agent of [`beginning`].
pub(crate) const ORIGIN: AgentOrigin = AgentOrigin {
    agent: AgentId(1),
    epoch: AgentEpoch(1),
};

pub(crate) fn ids() -> Command {
    Command::AllocateProducerIds { count: 1 }
}
