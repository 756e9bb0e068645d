//! Whole nodes: one archives and burns, one is restored and leads, the old one is fenced.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use alluvium_metadata::{Command, State};
use alluvium_storage::bucket::Bucket;
use alluvium_storage::disk::{Disk, ForgetfulDisk};
use alluvium_types::SystemClock;

use super::{RestoreConfig, restore};
use crate::archive::ArchiveConfig;
use crate::archive::testing::{Shelf, topic};
use crate::node::{Node, NodeConfig, StartError, Timing};
use crate::testing::Net;

const DIR: &str = "/data/metadata";
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(bucket: Bucket, disk: Arc<dyn Disk>) -> Result<Node, StartError> {
    let config = NodeConfig {
        dir: PathBuf::from(DIR),
        snapshot_log_bytes: 1 << 30,
        node: 1,
        address: String::new(),
        nodes: Vec::new(),
        timing: Timing::default(),
        lease: Duration::from_secs(2),
        archive: Some(ArchiveConfig {
            interval: Duration::from_millis(5),
            ..ArchiveConfig::new(bucket)
        }),
    };
    let nobody = Net::default().transport("");
    Node::start(config, disk, nobody, Arc::new(SystemClock)).await
}

async fn has(node: &Node, name: &str) -> bool {
    node.metadata().barrier().await.unwrap();
    node.metadata()
        .read(|state: &State| state.topic_by_name(name).is_some())
}

fn config(shelf: &Arc<Shelf>, disk: &ForgetfulDisk) -> RestoreConfig {
    RestoreConfig {
        bucket: shelf.bucket(),
        dir: PathBuf::from(DIR),
        disk: disk.shared(),
        node: 1,
        address: String::new(),
        at: None,
        plan: false,
        clock: Arc::new(SystemClock),
    }
}

#[tokio::test]
async fn a_burned_node_is_restored_and_the_old_one_is_fenced() {
    let shelf: Arc<Shelf> = Arc::default();
    let old = ForgetfulDisk::default();
    let node = start(shelf.bucket(), old.shared()).await.unwrap();
    node.formed().await;
    node.metadata().propose(topic("first", 1)).await.unwrap();
    node.shutdown().await;

    // An empty disk does not form another cluster over it, and what that left does not hinder.
    let new = ForgetfulDisk::default();
    let error = start(shelf.bucket(), new.shared()).await.unwrap_err();
    assert!(error.to_string().contains("alluvium restore"), "{error}");
    let report = restore(&config(&shelf, &new), &|_| ()).await.unwrap();
    assert_eq!(report.topics, 1);
    let node = start(shelf.bucket(), new.shared()).await.unwrap();
    assert!(has(&node, "first").await);
    let restores = node.metadata().read(State::restores);
    assert_eq!(restores, 1);
    node.metadata().propose(topic("second", 2)).await.unwrap();

    // The old disk was not lost after all.
    let late = start(shelf.bucket(), old.shared()).await.unwrap();
    let reason = timeout(PATIENCE, late.stopped()).await.unwrap();
    assert!(reason.contains("restored"), "{reason}");
    late.shutdown().await;

    // The new one goes on, starts again, and burns too.
    node.metadata()
        .propose(Command::AllocateProducerIds { count: 1 })
        .await
        .unwrap();
    node.shutdown().await;
    let node = start(shelf.bucket(), new.crash().shared()).await.unwrap();
    assert!(has(&node, "second").await);
    node.metadata().propose(topic("third", 3)).await.unwrap();
    node.shutdown().await;
    let newest = ForgetfulDisk::default();
    let report = restore(&config(&shelf, &newest), &|_| ()).await.unwrap();
    assert_eq!((report.topics, report.new_history), (3, 2));
    let node = start(shelf.bucket(), newest.shared()).await.unwrap();
    assert!(has(&node, "third").await);
    node.shutdown().await;
}
