use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use alluvium_metadata::{Change, Command, CreateTopic, Outcome, State};
use alluvium_storage::disk::{Disk, ForgetfulDisk, LocalDisk};
use alluvium_types::{Millis, SystemClock, TopicId};

use super::{Node, NodeConfig, StartError, Timing};
use crate::applied::ProposeError;
use crate::client::Metadata;
use crate::testing::Net;

const DIR: &str = "/data/metadata";

/// A node that is alone.
fn config(snapshot_log_bytes: u64) -> NodeConfig {
    NodeConfig {
        dir: PathBuf::from(DIR),
        snapshot_log_bytes,
        node: 1,
        address: String::new(),
        nodes: Vec::new(),
        timing: Timing::default(),
        lease: Duration::from_secs(2),
        archive: None,
    }
}

async fn start_on(config: NodeConfig, disk: Arc<dyn Disk>) -> Result<Node, StartError> {
    let nobody = Net::default().transport("");
    Node::start(config, disk, nobody, Arc::new(SystemClock)).await
}

async fn start(disk: &ForgetfulDisk) -> Node {
    start_on(config(1 << 30), disk.shared()).await.unwrap()
}

fn topic(number: u128) -> Command {
    Command::CreateTopic(CreateTopic {
        name: format!("topic-{number}"),
        id: TopicId((number + 1).to_be_bytes()),
        partitions: 1,
        replication_factor: 1,
        configs: Vec::new(),
        at: Millis::default(),
    })
}

fn one_id() -> Command {
    Command::AllocateProducerIds { count: 1 }
}

async fn allocate(metadata: &Metadata) -> Result<i64, ProposeError> {
    match metadata.propose(one_id()).await?.outcome {
        Outcome::ProducerIds(id) => Ok(id),
        other => panic!("{other:?}"),
    }
}

fn state(node: &Node) -> State {
    node.metadata().read(State::clone)
}

#[tokio::test]
async fn a_proposer_sees_what_it_did_and_subscribers_hear_of_it() {
    for raft in [false, true] {
        let disk = ForgetfulDisk::default();
        let node = start(&disk).await;
        let metadata = if raft {
            node.metadata()
        } else {
            Metadata::in_memory()
        };
        let mut changes = metadata.subscribe();
        let first = metadata.propose(topic(1)).await.unwrap();
        assert_eq!(first.outcome, Outcome::Done);
        assert!(metadata.read(|state| state.topic_by_name("topic-1").is_some()));
        assert!(changes.recv().await.unwrap().contains(&Change::Topics));

        let again = metadata.propose(topic(1)).await.unwrap();
        assert!(matches!(again.outcome, Outcome::Refused(_)), "{again:?}");
        assert!(again.index > first.index);
        metadata.barrier().await.unwrap();

        let many = metadata
            .propose_many((2..50).map(topic).collect())
            .await
            .unwrap();
        assert_eq!(many.len(), 48);
        assert!(many.windows(2).all(|pair| pair[0].index < pair[1].index));
        assert!(metadata.propose_many(Vec::new()).await.unwrap().is_empty());
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_start_is_quick_and_brings_the_state_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        dir: dir.path().join("metadata"),
        ..config(1 << 30)
    };
    let mut expected = State::default();
    for round in 0..4_u128 {
        let began = Instant::now();
        let node = start_on(config.clone(), LocalDisk::shared()).await.unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(state(&node), expected);
        for number in 0..5 {
            node.metadata()
                .propose(topic(round * 5 + number))
                .await
                .unwrap();
        }
        expected = state(&node);
        node.shutdown().await;
    }
    assert_eq!(expected.topics().count(), 20);
}

#[tokio::test]
async fn many_proposers_are_all_answered_and_share_syncs() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    let before = disk.syncs();
    let mut tasks = JoinSet::new();
    for _ in 0..1_000 {
        let metadata = node.metadata();
        tasks.spawn(async move { allocate(&metadata).await.unwrap() });
    }
    let mut ids = tasks.join_all().await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_000, "an id was given twice");
    let syncs = disk.syncs() - before;
    assert!(syncs < 500, "{syncs} syncs for 1000 commands");
    node.shutdown().await;
}

#[tokio::test]
async fn batches_of_one_proposer_keep_their_order_among_others() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let metadata = node.metadata();
        tasks.spawn(async move {
            let applied = metadata
                .propose_many((0..50).map(|_| one_id()).collect())
                .await
                .unwrap();
            let ids: Vec<i64> = applied
                .iter()
                .map(|applied| match applied.outcome {
                    Outcome::ProducerIds(id) => id,
                    ref other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(ids.len(), 50);
            assert!(ids.is_sorted());
        });
    }
    tasks.join_all().await;
    node.shutdown().await;
}

const PROPOSERS: usize = 8;

/// Cuts the power during a load and says which ids were answered. An answer implies a sync, and none
/// succeeds after the cut, so all of them must be on the disk that is left.
async fn cut_during_load(
    disk: &ForgetfulDisk,
    after: usize,
    seed: u64,
) -> (ForgetfulDisk, Vec<i64>) {
    let node = start(disk).await;
    let answered = Arc::new(Mutex::new(Vec::new()));
    let progress = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for _ in 0..PROPOSERS {
        let (metadata, answered, progress) = (
            node.metadata(),
            Arc::clone(&answered),
            Arc::clone(&progress),
        );
        tasks.spawn(async move {
            while let Ok(id) = allocate(&metadata).await {
                answered.lock().unwrap().push(id);
                progress.notify_one();
            }
        });
    }
    while answered.lock().unwrap().len() < after {
        progress.notified().await;
    }
    let left = if seed.is_multiple_of(2) {
        disk.crash()
    } else {
        disk.crash_torn(seed)
    };
    tasks.join_all().await;
    drop(node);
    let answered = answered.lock().unwrap().clone();
    (left, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_that_was_answered_and_doubles_nothing() {
    let mut random = StdRng::seed_from_u64(7);
    let mut disk = ForgetfulDisk::default();
    let mut answered: Vec<i64> = Vec::new();
    for round in 0..10 {
        let after = random.random_range(1..200);
        let before = answered.len();
        let (left, new) = cut_during_load(&disk, after, round).await;
        answered.extend(new);
        disk = left;

        let node = start(&disk).await;
        let next = allocate(&node.metadata()).await.unwrap();
        answered.push(next);
        node.shutdown().await;
        let mut distinct = answered.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), answered.len(), "an id was given twice");
        assert_eq!(distinct.last(), Some(&next), "an answered command is lost");
        // The ids since the first say how many commands were applied: those that were answered and
        // at most those under way at a cut, each once.
        let applied = usize::try_from(next - distinct[0]).unwrap() + 1;
        let under_way = PROPOSERS * usize::try_from(round + 1).unwrap();
        assert!(
            applied <= answered.len() + under_way,
            "{applied}, answered {}",
            answered.len()
        );
        assert!(
            answered.len() - before > after,
            "the cut fell into the load"
        );
    }
}

#[tokio::test]
async fn one_command_at_a_time_is_applied_exactly_once_across_cuts() {
    let mut disk = ForgetfulDisk::default();
    let mut proposed = 0_i64;
    let mut first = None;
    for round in 0..12_u64 {
        let node = start(&disk).await;
        for _ in 0..=round {
            let id = allocate(&node.metadata()).await.unwrap();
            let first = *first.get_or_insert(id);
            assert_eq!(id, first + proposed, "round {round}");
            proposed += 1;
        }
        disk = if round.is_multiple_of(2) {
            disk.crash()
        } else {
            disk.crash_torn(round)
        };
        drop(node);
    }
}

#[tokio::test]
async fn without_the_sync_of_the_log_answers_are_lost() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    disk.ignore_file_syncs(true);
    let first = allocate(&node.metadata()).await.unwrap();
    let left = disk.crash();
    drop(node);
    let node = start(&left).await;
    // This is what the tests above would see if a sync went missing.
    assert_eq!(allocate(&node.metadata()).await.unwrap(), first);
    node.shutdown().await;
}

#[tokio::test]
async fn snapshots_purge_the_log_and_keep_the_state() {
    let disk = ForgetfulDisk::default();
    let node = start_on(config(20_000), disk.shared()).await.unwrap();
    for round in 0..40 {
        let commands = (0..50).map(|number| topic(round * 50 + number)).collect();
        node.metadata().propose_many(commands).await.unwrap();
    }
    // The state is far larger than a log may get.
    let mut waited = 0;
    while node.log.begin() < 500 && waited < 500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        waited += 1;
    }
    assert!(
        node.log.begin() >= 500,
        "log begins at {}",
        node.log.begin()
    );
    let expected = state(&node);
    assert_eq!(expected.topics().count(), 2_000);
    let left = disk.crash();
    drop(node);

    let node = start_on(config(20_000), left.shared()).await.unwrap();
    assert_eq!(state(&node), expected);
    node.snapshot().await.unwrap();
    let end = node.metadata().propose(one_id()).await.unwrap().index;
    assert!(
        end - node.log.begin() < 1_200,
        "{} entries left",
        end - node.log.begin()
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_by_name_once_the_log_is_purged() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    node.metadata()
        .propose_many((0..10).map(topic).collect())
        .await
        .unwrap();
    node.snapshot().await.unwrap();
    let expected = state(&node);
    node.shutdown().await;
    damage_snapshot(disk.shared().as_ref());
    // The log is whole, so nothing is missing.
    let node = start(&disk).await;
    assert_eq!(state(&node), expected);

    node.metadata()
        .propose_many((10..1_300).map(topic).collect())
        .await
        .unwrap();
    node.snapshot().await.unwrap();
    assert!(node.log.begin() > 0);
    node.shutdown().await;
    let name = damage_snapshot(disk.shared().as_ref());
    let error = start_on(config(1 << 30), disk.shared())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&name), "{error}");
}

fn damage_snapshot(disk: &dyn Disk) -> String {
    let dir = Path::new(DIR).join("snapshots");
    let entries = disk.list(&dir).unwrap();
    let path = entries
        .iter()
        .map(|entry| &entry.path)
        .find(|path| path.extension().is_none())
        .unwrap();
    let file = disk.open(path).unwrap();
    file.write_at(&[bytes::Bytes::from_static(&[0xA5; 3])], 40)
        .unwrap();
    file.sync().unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_start_does_not_grow_with_what_was_ever_written() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    for _ in 0..100 {
        node.metadata()
            .propose_many((0..1_000).map(|_| one_id()).collect())
            .await
            .unwrap();
    }
    let expected = state(&node);
    node.shutdown().await;
    let began = Instant::now();
    let node = start(&disk).await;
    let took = began.elapsed();
    assert_eq!(state(&node), expected);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let end = node.metadata().propose(one_id()).await.unwrap().index;
    assert!(
        end - node.log.begin() < 60_000,
        "{} entries to replay",
        end - node.log.begin()
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_failing_disk_stops_the_voter_and_says_so() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    let metadata = node.metadata();
    disk.fail_syncs(u64::MAX);
    disk.fail_writes(u64::MAX);
    // It may be on the disk in spite of the error.
    let error = metadata.propose(topic(1)).await.unwrap_err();
    assert_eq!(error, ProposeError::TimedOut);
    let reason = tokio::time::timeout(Duration::from_secs(10), node.stopped())
        .await
        .unwrap();
    assert!(!reason.is_empty());
    let error = metadata.propose(topic(1)).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
    metadata.barrier().await.unwrap_err();
    assert_eq!(metadata.read(|state| state.topics().count()), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn after_shutdown_reads_go_on_and_proposals_are_refused() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    let metadata = node.metadata();
    metadata.propose(topic(1)).await.unwrap();
    node.shutdown().await;
    assert_eq!(metadata.read(|state| state.topics().count()), 1);
    let error = metadata.propose(topic(2)).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_snapshot_that_fails_does_not_stop_the_voter() {
    let disk = ForgetfulDisk::default();
    let node = start(&disk).await;
    node.metadata()
        .propose_many((0..100).map(topic).collect())
        .await
        .unwrap();
    disk.fail_writes(1);
    node.snapshot().await.unwrap_err();
    node.metadata().propose(topic(100)).await.unwrap();
    node.snapshot().await.unwrap();
    let expected = state(&node);
    let left = disk.crash();
    drop(node);
    let node = start(&left).await;
    assert_eq!(state(&node), expected);
    node.shutdown().await;
}
