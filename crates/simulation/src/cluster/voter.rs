//! A machine with a metadata node.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_cluster::{
    ArchiveConfig, MembershipChange, Metadata, Node, NodeConfig, Timing, VoterId,
};
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_types::{Clock, random};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Cluster;
use crate::clock::WallClock;
use crate::host::{Host, Port};
use crate::network::SimTransport;

/// Few, so that the log is purged and voters that lag need snapshots.
const SNAPSHOT_LOG_BYTES: u64 = 48 << 10;

/// How long a process takes to be started again by its machine.
const RESTART: Duration = Duration::from_millis(400);

/// What a disk says that was told to fail.
const DISK_FAULT: &str = "asked for by the test";

/// Longest that reading a disk may take.
const START: Duration = Duration::from_secs(60);

pub(super) fn address(machine: usize) -> String {
    format!("m{machine}:9093")
}

/// A machine with a metadata node.
pub(crate) struct VoterMachine {
    pub(crate) host: Host,
    pub(crate) clock: Arc<WallClock>,
    machine: usize,
    state: Mutex<State>,
}

struct State {
    disk: ForgetfulDisk,
    process: Option<Process>,
    /// Nobody switches it on.
    is_away: bool,
}

struct Process {
    port: Port,
    orders: mpsc::UnboundedSender<Order>,
    /// Once it has recovered.
    metadata: Option<(Metadata, VoterId)>,
}

/// What an operator, or the process itself, has a node do.
enum Order {
    Snapshot,
    HandOver,
}

impl VoterMachine {
    pub(super) fn new(machine: usize) -> Self {
        Self {
            host: Host::Metadata(machine),
            clock: Arc::new(WallClock::new(random::range(-500..500))),
            machine,
            state: Mutex::new(State {
                disk: ForgetfulDisk::default(),
                process: None,
                is_away: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock().process.is_some()
    }

    /// The node's metadata, once it has recovered.
    pub(crate) fn metadata(&self) -> Option<(Metadata, VoterId)> {
        self.lock().process.as_ref()?.metadata.clone()
    }

    /// Starts the process; nothing, if it runs.
    pub(crate) fn start(&self, cluster: &Arc<Cluster>) {
        let (port, disk, orders) = {
            let mut state = self.lock();
            if state.process.is_some() || state.is_away {
                return;
            }
            let port = Port::new(self.host);
            let (sender, orders) = mpsc::unbounded_channel();
            state.process = Some(Process {
                port: port.clone(),
                orders: sender,
                metadata: None,
            });
            (port, state.disk.clone(), orders)
        };
        let run = run(Arc::clone(cluster), self.machine, port, disk, orders);
        tokio::spawn(run);
    }

    /// Cuts the power.
    pub(crate) fn crash(&self, cluster: &Cluster) {
        let mut state = self.lock();
        let Some(process) = state.process.take() else {
            return;
        };
        process.port.kill();
        state.disk = state.disk.crash_torn(random::value());
        cluster.network.unserve(&address(self.machine));
    }

    /// Cuts the power and takes the disk away.
    pub(crate) fn wipe(&self, cluster: &Cluster) {
        self.crash(cluster);
        self.lock().disk = ForgetfulDisk::default();
    }

    /// Cuts the power, and takes the disk and whoever would switch the machine on again.
    pub(crate) fn take_away(&self, cluster: &Cluster) {
        self.wipe(cluster);
        self.lock().is_away = true;
    }

    /// Brings a machine back that was taken away, with a disk. It does not run.
    pub(crate) fn bring_back(&self, disk: ForgetfulDisk) {
        let mut state = self.lock();
        state.disk = disk;
        state.is_away = false;
    }

    /// The next syncs of the disk fail.
    pub(crate) fn fail_syncs(&self, count: u64) {
        self.lock().disk.fail_syncs(count);
    }

    fn order(&self, order: Order) {
        if let Some(process) = &self.lock().process {
            // An error says that it has just ended.
            let _ = process.orders.send(order);
        }
    }

    pub(crate) fn snapshot(&self) {
        self.order(Order::Snapshot);
    }

    pub(crate) fn hand_over(&self) {
        self.order(Order::HandOver);
    }

    /// The process has ended by itself.
    fn ended(&self, cluster: &Cluster, port: &Port) {
        if port.is_dead() {
            return;
        }
        port.kill();
        cluster.network.unserve(&address(self.machine));
        self.lock().process = None;
    }
}

async fn run(
    cluster: Arc<Cluster>,
    machine: usize,
    port: Port,
    disk: ForgetfulDisk,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let Some(here) = cluster.voters.get(machine) else {
        return;
    };
    let host = port.host;
    let archive = ArchiveConfig {
        interval: Duration::from_millis(300),
        ..ArchiveConfig::new(cluster.bucket(&port))
    };
    let config = NodeConfig {
        dir: PathBuf::from("/metadata"),
        snapshot_log_bytes: SNAPSHOT_LOG_BYTES,
        node: u32::try_from(machine + 1).unwrap_or(0),
        address: address(machine),
        nodes: cluster.addresses(),
        timing: Timing::default(),
        lease: Duration::from_secs(2),
        archive: Some(archive),
    };
    let transport = SimTransport {
        port: port.clone(),
        network: Arc::clone(&cluster.network),
    };
    let clock = Arc::clone(&here.clock) as Arc<dyn Clock>;
    let start = Node::start(config, disk.shared(), Arc::new(transport), clock);
    let node = match port.living(timeout(START, start)).await {
        None => return,
        Some(Ok(Ok(node))) => node,
        Some(Ok(Err(error))) => {
            let text = format!("{host} does not start: {error}");
            here.ended(&cluster, &port);
            if !text.contains(DISK_FAULT) {
                return cluster.recorder.failed(text);
            }
            cluster.recorder.tell(text);
            sleep(RESTART).await;
            return here.start(&cluster);
        }
        Some(Err(_)) => {
            cluster
                .recorder
                .failed(format!("{host} does not start in time"));
            return here.ended(&cluster, &port);
        }
    };
    if let Some(process) = &mut here.lock().process {
        process.metadata = Some((node.metadata(), node.voter_id()));
    }
    cluster
        .network
        .serve(&address(machine), port.clone(), node.service());
    cluster
        .recorder
        .tell(format!("{host} runs as voter {}", node.voter_id()));
    let reason = loop {
        tokio::select! {
            biased;
            () = port.killed() => return,
            reason = node.stopped() => break reason,
            order = orders.recv() => match order {
                Some(Order::Snapshot) => {
                    let taken = port.living(node.snapshot()).await;
                    if let Some(Err(error)) = taken {
                        cluster.recorder.tell(format!("{host}: no snapshot: {error}"));
                    }
                }
                Some(Order::HandOver) => {
                    let metadata = node.metadata();
                    let change = metadata.change(MembershipChange::HandOver { to: None });
                    let _ = port.living(timeout(Duration::from_secs(5), change)).await;
                }
                None => {}
            }
        }
    };
    cluster.recorder.tell(format!("{host} stops: {reason}"));
    here.ended(&cluster, &port);
    let _ = timeout(Duration::from_secs(10), node.shutdown()).await;
    sleep(RESTART).await;
    here.start(&cluster);
}
