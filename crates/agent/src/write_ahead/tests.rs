//! What becomes of acks=1 records, and of chunks in the buffers of several agents.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{sleep, timeout};

use alluvium_cluster::Metadata;
use alluvium_metadata::{
    AnnounceAgent, Command, JournalChunkId, JournalCopy, Outcome, RunLocation, State,
};
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_storage::write_ahead::{WriteAhead, WriteAheadOptions};
use alluvium_types::{AgentId, ErrorCode, ObjectId, TopicPartition};

use super::*;
use crate::AgentConfig;
use crate::peers::{Copies, NoPeers, PeerError, Peers};
use crate::produce::{Acks, PartitionRecords};
use crate::testing::{Mood, MoodyDisk, NOW, Rig, batch, decode, large_batch, values};

const PATIENCE: Duration = Duration::from_secs(20);

async fn buffer(disk: &ForgetfulDisk) -> WriteAhead {
    let options = WriteAheadOptions {
        bytes: 64 << 20,
        tail_bytes: 1 << 20,
    };
    WriteAhead::open(disk.shared(), Path::new("/journal"), options)
        .await
        .unwrap()
}

async fn config(disk: &ForgetfulDisk, min_copies: usize) -> AgentConfig {
    AgentConfig {
        identity: 1,
        journal: Some(buffer(disk).await),
        journal_min_copies: min_copies,
        settle_bytes: 64 << 20,
        settle_interval: Duration::from_secs(3600),
        ..AgentConfig::default()
    }
}

async fn send_weak(rig: &Rig, partition: TopicPartition, records: Bytes) -> i64 {
    let connection = rig.produce.connect();
    let request = vec![PartitionRecords { partition, records }];
    let pending = connection.submit_with(request, Acks::One);
    let result = timeout(PATIENCE, pending).await.unwrap().unwrap().remove(0);
    assert_eq!(result.error, ErrorCode::None, "{:?}", result.message);
    result.base_offset
}

fn high_watermark(rig: &Rig, at: TopicPartition) -> i64 {
    rig.metadata
        .read(|state| state.partition(at).unwrap().high_watermark())
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

fn keeper(rig: &Rig) -> Keeper {
    let journal = rig.paths.journal.clone().unwrap();
    let metadata = rig.metadata.clone();
    Keeper::start(
        journal,
        rig.registration.id(),
        metadata,
        rig.produce.connect(),
    )
}

async fn rig(disk: &ForgetfulDisk, min_copies: usize) -> (Rig, Arc<Mood>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let rig = Rig::over(config(disk, min_copies).await, bucket).await;
    (rig, mood, dir)
}

/// The process was killed; another begins, with what is on the disk.
async fn restart(rig: Rig, disk: &ForgetfulDisk, min_copies: usize) -> Rig {
    let (metadata, bucket) = (rig.metadata.clone(), rig.bucket.clone());
    drop(rig);
    let config = config(disk, min_copies).await;
    Rig::beside(config, bucket, metadata, Arc::new(NoPeers)).await
}

#[tokio::test]
async fn one_copy_is_acknowledged_before_the_store_has_it_and_read_when_it_has() {
    let (rig, mood, _dir) = rig(&ForgetfulDisk::default(), 2).await;
    let topic = rig.topic("t", 2, &[]).await;
    let (at, apart) = (TopicPartition::new(topic, 0), TopicPartition::new(topic, 1));
    let files = mood.files();
    mood.hold(0);
    let settler = rig.settler();
    let keeper = keeper(&rig);
    assert_eq!(send_weak(&rig, at, batch(&["weak"])).await, 0);
    mood.begun(files + 1).await;
    // Acknowledged, and not to be read. What comes behind it with acks=all has its offset at once, and
    // is answered when it can be read.
    let next_offset = || {
        let read = |state: &State| state.partition(at).unwrap().next_offset();
        rig.metadata.read(read)
    };
    let mut strong = futures::stream::FuturesOrdered::new();
    for offset in 1..8 {
        strong.push_back(rig.append(at, batch(&["strong"])));
        while next_offset() <= offset {
            let early = timeout(Duration::from_millis(5), strong.next()).await;
            assert!(early.is_err(), "answered before the high watermark");
        }
    }
    let early = timeout(Duration::from_millis(100), strong.next()).await;
    assert!(early.is_err(), "answered before the high watermark");
    // Who has nothing to do with it does not wait.
    for offset in 0..4 {
        let other = timeout(PATIENCE, rig.append(apart, batch(&["apart"]))).await;
        assert_eq!(other, Ok(offset));
    }
    assert_eq!(high_watermark(&rig, at), 0);
    assert!(decode(&rig.read_from(at, 0).await).is_empty());
    mood.free();
    let answered: Vec<i64> = timeout(PATIENCE, strong.collect()).await.unwrap();
    assert_eq!(answered, (1..8).collect::<Vec<_>>());
    assert_eq!(high_watermark(&rig, at), 8);
    assert_eq!(
        values(&rig.read_all(at, usize::MAX).await)[..2],
        ["weak", "strong"]
    );
    // The buffer lets it go once that is applied.
    let journal = rig.paths.journal.clone().unwrap();
    until("the chunk is trimmed", || {
        journal.buffer().names().is_empty()
    })
    .await;
    settler.shutdown().await;
    keeper.shutdown().await;
}

#[tokio::test]
async fn records_with_one_copy_outlive_a_power_cut_with_their_disk() {
    let disk = ForgetfulDisk::default();
    let (rig, _mood, _dir) = rig(&disk, 2).await;
    let topic = rig.topic("t", 2, &[]).await;
    let (at, other) = (TopicPartition::new(topic, 0), TopicPartition::new(topic, 1));
    send_weak(&rig, at, batch(&["a", "b"])).await;
    send_weak(&rig, other, batch(&["elsewhere"])).await;
    send_weak(&rig, at, batch(&["c"])).await;
    assert_eq!(high_watermark(&rig, at), 0);

    let rig = restart(rig, &disk.crash(), 2).await;
    // Their offsets are a gap that nobody has read into.
    assert_eq!(high_watermark(&rig, at), 3);
    assert!(rig.read_from(at, 0).await.records.is_empty());
    let keeper = keeper(&rig);
    let is_back = || high_watermark(&rig, at) == 6 && high_watermark(&rig, other) == 2;
    until("they are produced again", is_back).await;
    let read = rig.read_from(at, 3).await;
    assert_eq!(values(&decode(&read)), ["a", "b", "c"]);
    let read = rig.read_from(other, 1).await;
    assert_eq!(values(&decode(&read)), ["elsewhere"]);
    // Once.
    let journal = rig.paths.journal.clone().unwrap();
    until("the chunks are trimmed", || {
        journal.buffer().names().is_empty()
    })
    .await;
    keeper.shutdown().await;
    let offsets = rig
        .metadata
        .read(|state| state.partition(at).unwrap().next_offset());
    assert_eq!(offsets, 6);
}

#[tokio::test]
async fn records_with_one_copy_are_gone_with_their_disk_and_nobody_has_read_them() {
    let (rig, _mood, _dir) = rig(&ForgetfulDisk::default(), 2).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    rig.append(at, batch(&["before"])).await;
    send_weak(&rig, at, batch(&["lost"])).await;
    assert_eq!(high_watermark(&rig, at), 1);
    let rig = restart(rig, &ForgetfulDisk::default(), 2).await;
    assert_eq!(high_watermark(&rig, at), 2);
    let keeper = keeper(&rig);
    assert_eq!(rig.append(at, batch(&["after"])).await, 2);
    // One answer spans the gap.
    let read = Bytes::from(rig.read_from(at, 0).await.records.concat());
    let batches = alluvium_protocol::batch::split(&read).unwrap();
    let records = batches
        .iter()
        .flat_map(|batch| alluvium_protocol::records::decode(batch, 1 << 20).unwrap());
    let records: Vec<_> = records.collect();
    assert_eq!(values(&records), ["before", "after"]);
    assert_eq!(
        records
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<_>>(),
        [0, 2]
    );
    keeper.shutdown().await;
}

#[tokio::test]
async fn a_chunk_that_was_settled_or_never_sequenced_is_not_produced_again() {
    let disk = ForgetfulDisk::default();
    let (rig, _mood, _dir) = rig(&disk, 2).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let settler = rig.settler();
    send_weak(&rig, at, batch(&["settled"])).await;
    until("the chunk is settled", || high_watermark(&rig, at) == 1).await;
    settler.shutdown().await;
    // On the disk, and not in the log.
    let journal = rig.paths.journal.clone().unwrap();
    let lone = journal.begin(rig.registration.origin());
    let parts = vec![batch(&["never"])];
    let name = name_of(lone.chunk);
    journal.buffer().append(name, b"", parts).await.unwrap();
    assert_eq!(journal.buffer().names().len(), 2);
    drop((lone, journal));
    let rig = restart(rig, &disk.crash(), 2).await;
    let keeper = keeper(&rig);
    let journal = rig.paths.journal.clone().unwrap();
    until("both are trimmed", || journal.buffer().names().is_empty()).await;
    keeper.shutdown().await;
    assert_eq!(values(&rig.read_all(at, usize::MAX).await), ["settled"]);
}

#[tokio::test]
async fn alone_one_copy_is_enough_and_is_settled_after_a_restart() {
    let disk = ForgetfulDisk::default();
    let (rig, mood, _dir) = rig(&disk, 1).await;
    let topic = rig.topic("t", 1, &[("alluvium.lane", "low-latency")]).await;
    let at = TopicPartition::new(topic, 0);
    let files = mood.files();
    send_weak(&rig, at, batch(&["acks=1"])).await;
    rig.append(at, large_batch(200 << 10, 1)).await;
    assert_eq!(mood.files(), files, "the store was asked");
    assert_eq!(high_watermark(&rig, at), 2);
    let mut rig = restart(rig, &disk.crash(), 1).await;
    assert_eq!(high_watermark(&rig, at), 2);
    rig.config.settle_interval = Duration::from_millis(100);
    let settler = rig.settler();
    let is_settled = || rig.metadata.read(|state| state.journal_bytes()) == 0;
    until("the chunks are settled", is_settled).await;
    settler.shutdown().await;
    assert_eq!(rig.read_all(at, usize::MAX).await.len(), 2);
    assert_eq!(mood.files(), files + 1, "one object is enough");
}

/// Agents that reach one another's buffers directly.
#[derive(Debug, Default)]
struct Neighbours {
    copies: Mutex<BTreeMap<AgentId, Option<WriteAhead>>>,
}

impl Neighbours {
    fn put(&self, agent: AgentId, buffer: Option<WriteAhead>) {
        self.copies.lock().unwrap().insert(agent, buffer);
    }

    fn get(&self, peer: AgentId) -> Result<KeptCopies, PeerError> {
        let known = self.copies.lock().unwrap().get(&peer).cloned().flatten();
        known.map(KeptCopies).ok_or(PeerError::Unreachable {
            peer,
            reason: "it is dead".to_owned(),
        })
    }
}

#[async_trait]
impl Peers for Neighbours {
    async fn append(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        parts: &[Bytes],
    ) -> Result<JournalCopy, PeerError> {
        let copies = self.get(peer)?;
        let appended = Copies::append(&copies, chunk, parts.concat().into()).await;
        appended.map_err(|reason| PeerError::Refused { peer, reason })?;
        Ok(JournalCopy {
            agent: peer,
            journal: copies.journal(),
        })
    }

    async fn read_chunk(
        &self,
        peer: AgentId,
        chunk: JournalChunkId,
        range: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        let read = Copies::read(&self.get(peer)?, chunk, range).await;
        let read = read.map_err(|reason| PeerError::Refused { peer, reason })?;
        Ok(read.concat().into())
    }

    async fn read_object(
        &self,
        peer: AgentId,
        _object: ObjectId,
        _object_bytes: u64,
        _range: Range<u64>,
    ) -> Result<Bytes, PeerError> {
        self.get(peer)?;
        Err(PeerError::Refused {
            peer,
            reason: "it has no cache".to_owned(),
        })
    }
}

async fn announce(rig: &Rig, buffer: &WriteAhead) {
    let announce = AnnounceAgent {
        origin: rig.registration.origin(),
        peer: Some("somewhere:1".to_owned()),
        journal: Some(buffer.incarnation()),
    };
    let announced = rig.metadata.propose(Command::AnnounceAgent(announce)).await;
    assert_eq!(announced.unwrap().outcome, Outcome::Done);
}

/// Two agents in two zones over one bucket.
async fn two(neighbours: &Arc<Neighbours>) -> (Rig, Rig, Arc<Mood>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let metadata = Metadata::in_memory();
    let mut rigs = Vec::new();
    for (identity, zone) in [(1, "a"), (2, "b")] {
        let config = AgentConfig {
            identity,
            zone: Some(zone.to_owned()),
            ..config(&ForgetfulDisk::default(), 2).await
        };
        let journal = config.journal.clone().unwrap();
        let peers = Arc::clone(neighbours) as Arc<dyn Peers>;
        let rig = Rig::beside(config, bucket.clone(), metadata.clone(), peers).await;
        announce(&rig, &journal).await;
        neighbours.put(rig.registration.id(), Some(journal));
        rigs.push(rig);
    }
    let (second, first) = (rigs.pop().unwrap(), rigs.pop().unwrap());
    (first, second, mood, dir)
}

#[tokio::test]
async fn two_copies_outlive_an_agent_and_its_disk_and_are_settled_by_the_other() {
    let neighbours = Arc::new(Neighbours::default());
    let (first, second, mood, _dir) = two(&neighbours).await;
    let topic = first
        .topic("t", 1, &[("alluvium.lane", "low-latency")])
        .await;
    let at = TopicPartition::new(topic, 0);
    let files = mood.files();
    for seed in 0..3 {
        let offset = first.append(at, large_batch(200 << 10, seed)).await;
        assert_eq!(offset, i64::from(seed));
    }
    assert_eq!(mood.files(), files, "the store was asked");
    // Stable at once, and nobody is in a hurry.
    assert_eq!(high_watermark(&first, at), 3);
    let is_there = |state: &State| {
        let copies = state.journal_chunks().map(|(_, chunk)| chunk.copies.len());
        copies.collect::<Vec<_>>()
    };
    let copies = first.metadata.read(is_there);
    assert!(!copies.is_empty() && copies.iter().all(|copies| *copies == 2));
    let settler = second.settler();
    let keeper = keeper(&second);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(first.metadata.read(is_there), copies);

    // The first dies with its disk, and its lease ends.
    neighbours.put(first.registration.id(), None);
    let agents = vec![first.registration.origin()];
    drop(first);
    let end = Command::EndAgents { agents, at: NOW };
    second.metadata.propose(end).await.unwrap();
    let is_settled = || second.metadata.read(|state| state.journal_bytes()) == 0;
    until("the other one settles", is_settled).await;
    assert_eq!(second.read_all(at, usize::MAX).await.len(), 3);
    let journal = second.paths.journal.clone().unwrap();
    until("its copies are trimmed", || {
        journal.buffer().names().is_empty()
    })
    .await;
    settler.shutdown().await;
    keeper.shutdown().await;
}

#[tokio::test]
async fn chunks_that_are_left_with_one_copy_are_settled_first() {
    let neighbours = Arc::new(Neighbours::default());
    let (first, second, mood, _dir) = two(&neighbours).await;
    let topic = first
        .topic("t", 1, &[("alluvium.lane", "low-latency")])
        .await;
    let at = TopicPartition::new(topic, 0);
    first.append(at, large_batch(200 << 10, 1)).await;
    let settler = first.settler();
    let files = mood.files();
    let agents = vec![second.registration.origin()];
    let end = Command::EndAgents { agents, at: NOW };
    first.metadata.propose(end).await.unwrap();
    let is_settled = || first.metadata.read(|state| state.journal_bytes()) == 0;
    until("it is settled at once", is_settled).await;
    assert_eq!(mood.files(), files + 1);
    // With nobody to copy to, the next one goes to the store.
    neighbours.put(second.registration.id(), None);
    first.append(at, large_batch(200 << 10, 2)).await;
    let locations = first.metadata.read(|state| {
        let runs = state.partition(at).unwrap().runs();
        runs.map(|run| run.location.clone()).collect::<Vec<_>>()
    });
    let is_object = |location: &RunLocation| matches!(location, RunLocation::Object { .. });
    assert!(locations.iter().all(is_object), "{locations:?}");
    settler.shutdown().await;
}

#[tokio::test]
async fn while_the_store_is_away_producers_on_auto_go_on_up_to_the_buffers_size() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let config = AgentConfig {
        chunk_bytes: 1 << 20,
        ..config(&ForgetfulDisk::default(), 1).await
    };
    let rig = Rig::over(config, bucket).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    mood.fail(true);
    let connection = rig.produce.connect();
    let mut stored = 0;
    let (offset, waiting) = loop {
        let records = large_batch(900 << 10, stored);
        let request = vec![PartitionRecords {
            partition: at,
            records,
        }];
        let mut pending = connection.submit(request);
        let offset = i64::from(stored);
        // The first ones show that the store is away.
        let patience = Duration::from_secs(if stored < 2 { 10 } else { 1 });
        match timeout(patience, &mut pending).await {
            Ok(answered) => {
                let result = answered.unwrap().remove(0);
                assert_eq!(
                    (result.error, result.base_offset),
                    (ErrorCode::None, offset)
                );
            }
            Err(_) => break (offset, pending),
        }
        stored += 1;
        assert!(stored < 100, "the buffer is bounded");
    };
    assert!(stored > 20, "{stored} were stored");
    assert_eq!(rig.runs(at).1, usize::from(stored));
    // Then they wait for the store, and go on by themselves.
    mood.fail(false);
    let result = timeout(PATIENCE, waiting).await.unwrap().unwrap().remove(0);
    assert_eq!(
        (result.error, result.base_offset),
        (ErrorCode::None, offset)
    );
    let settler = rig.settler();
    settler.shutdown().await;
    assert_eq!(rig.metadata.read(State::journal_bytes), 0);
    let read = rig.read_all(at, 8 << 20).await;
    assert_eq!(read.len(), usize::from(stored) + 1);
}

#[tokio::test]
async fn an_idempotent_producer_is_never_left_with_one_copy() {
    let (rig, _mood, _dir) = rig(&ForgetfulDisk::default(), 2).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let numbered = crate::testing::idempotent(&["numbered"], 7, 0);
    send_weak(&rig, at, numbered).await;
    assert_eq!(high_watermark(&rig, at), 1);
}
