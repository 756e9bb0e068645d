//! All metadata disks burn, and the bucket gives the cluster back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_cluster::{RestoreConfig, restore};
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_types::Clock;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::faults;
use crate::host::Port;

/// How long the archive is given to be complete: requests that were slow when things broke may take
/// some time yet.
const ARCHIVED: Duration = Duration::from_secs(150);

/// Longest, virtual, that a restore may take.
const RESTORED: Duration = Duration::from_secs(120);

/// Longest until the restored quorum is whole.
const WHOLE: Duration = Duration::from_secs(150);

/// Whether all that is committed is in the bucket.
async fn is_archived(cluster: &Cluster) -> bool {
    let mut voters = cluster.voters.iter();
    let Some((metadata, _)) = voters.find_map(|machine| machine.metadata()) else {
        return false;
    };
    let Ok(status) = metadata.status().await else {
        return false;
    };
    let committed = status.committed;
    let archive = status.archive;
    archive.is_some_and(|archive| archive.behind_millis == 0 && archive.next_index > committed)
}

/// Burns the disks and restores. Everything was quiet for a while, so nothing may be missing.
pub(crate) async fn burn_and_restore(cluster: &Arc<Cluster>) {
    let archived = async {
        while !is_archived(cluster).await {
            sleep(Duration::from_millis(500)).await;
        }
    };
    if timeout(ARCHIVED, archived).await.is_err() {
        let what = "the archive does not become complete".to_owned();
        return cluster.recorder.failed(what);
    }
    cluster.recorder.tell("all metadata disks burn".to_owned());
    cluster
        .agents
        .iter()
        .for_each(|machine| machine.crash(cluster));
    cluster
        .voters
        .iter()
        .for_each(|machine| machine.take_away(cluster));
    let Some(first) = cluster.voters.first() else {
        return;
    };
    let port = Port::new(first.host);
    let disk = ForgetfulDisk::default();
    let config = RestoreConfig {
        bucket: cluster.bucket(&port),
        dir: PathBuf::from("/metadata"),
        disk: disk.shared(),
        node: 1,
        address: cluster.addresses().swap_remove(0),
        at: None,
        plan: false,
        clock: Arc::clone(&first.clock) as Arc<dyn Clock>,
    };
    match timeout(RESTORED, restore(&config, &|_| {})).await {
        Ok(Ok(report)) => {
            let text = format!("restored: {report:?}");
            cluster.recorder.tell(text.chars().take(600).collect());
        }
        Ok(Err(error)) => {
            let what = format!("the bucket does not give the cluster back: {error}");
            return cluster.recorder.failed(what);
        }
        Err(_) => return cluster.recorder.failed("a restore hangs".to_owned()),
    }
    for machine in &cluster.voters {
        machine.bring_back(ForgetfulDisk::default());
    }
    first.bring_back(disk);
    cluster.start();
    if !faults::all_there(cluster, WHOLE).await {
        let what = "the restored quorum is not whole".to_owned();
        cluster.recorder.failed(what);
    }
}
