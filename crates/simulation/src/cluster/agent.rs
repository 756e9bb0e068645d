//! A machine with an agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_agent::peers::PeerAccess;
use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_cluster::{Metadata, Observer, ObserverConfig, StartError};
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_storage::write_ahead::{WriteAhead, WriteAheadOptions};
use alluvium_types::{Clock, TopicId, random};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use crate::clock::WallClock;
use crate::host::{Host, Port};
use crate::network::SimTransport;

/// How long what is left of a killed process is given to notice; nothing of it is seen outside.
const DECAY: Duration = Duration::from_secs(30);

const RESTART: Duration = Duration::from_millis(300);

/// Of a write-ahead buffer.
const JOURNAL: WriteAheadOptions = WriteAheadOptions {
    bytes: 16 << 20,
    tail_bytes: 128 << 10,
};

/// Where other agents reach one.
fn address(machine: usize) -> String {
    format!("a{machine}:9094")
}

/// A machine with an agent.
pub(crate) struct AgentMachine {
    pub(crate) host: Host,
    pub(crate) clock: Arc<WallClock>,
    machine: usize,
    /// Bytes a second that go inline.
    inline: u64,
    state: Mutex<State>,
}

struct State {
    /// What is on its disk.
    identity: u128,
    disk: ForgetfulDisk,
    /// When it last lost one.
    wiped: Option<Instant>,
    /// The buffer on it, and those on disks that were lost.
    journal: Option<u128>,
    lost: Vec<u128>,
    process: Option<Process>,
}

struct Process {
    port: Port,
    agent: Option<Arc<Agent>>,
    leave: mpsc::UnboundedSender<Leaving>,
}

/// A process is told to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving;

impl AgentMachine {
    pub(super) fn new(machine: usize) -> Self {
        Self {
            host: Host::Agent(machine),
            clock: Arc::new(WallClock::new(random::range(-500..500))),
            machine,
            // Little, so that the low-latency lane needs write-ahead buffers.
            inline: if random::range(0..2) == 0 {
                1 << 20
            } else {
                2 << 10
            },
            state: Mutex::new(State {
                identity: random::value(),
                disk: ForgetfulDisk::default(),
                wiped: None,
                journal: None,
                lost: Vec::new(),
                process: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock().process.is_some()
    }

    pub(crate) fn running(&self) -> Option<(Port, Arc<Agent>)> {
        let state = self.lock();
        let process = state.process.as_ref()?;
        Some((process.port.clone(), Arc::clone(process.agent.as_ref()?)))
    }

    /// Starts the process; nothing, if it runs.
    pub(crate) fn start(&self, cluster: &Arc<Cluster>) {
        let (port, disk, identity, leaving) = {
            let mut state = self.lock();
            if state.process.is_some() {
                return;
            }
            let port = Port::new(self.host);
            let (leave, leaving) = mpsc::unbounded_channel();
            state.process = Some(Process {
                port: port.clone(),
                agent: None,
                leave,
            });
            (port, state.disk.clone(), state.identity, leaving)
        };
        tokio::spawn(run(
            Arc::clone(cluster),
            self.machine,
            port,
            disk,
            identity,
            leaving,
        ));
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
        let mut state = self.lock();
        state.identity = random::value();
        state.disk = ForgetfulDisk::default();
        state.wiped = Some(Instant::now());
        let lost = state.journal.take();
        state.lost.extend(lost);
        cluster.recorder.disk_lost(self.host);
    }

    /// When it last lost a disk.
    pub(crate) fn wiped(&self) -> Option<Instant> {
        self.lock().wiped
    }

    /// Whether a write-ahead buffer was on a disk that it lost.
    pub(crate) fn has_lost(&self, journal: u128) -> bool {
        self.lock().lost.contains(&journal)
    }

    /// Asks the process to end in good order.
    pub(crate) fn leave(&self) {
        if let Some(process) = &self.lock().process {
            let _ = process.leave.send(Leaving);
        }
    }

    fn ended(&self, cluster: &Cluster, port: &Port) {
        if !port.is_dead() {
            port.kill();
            cluster.network.unserve(&address(self.machine));
            self.lock().process = None;
        }
    }
}

async fn connect(
    cluster: &Cluster,
    machine: usize,
    port: &Port,
    identity: u128,
    journal: WriteAhead,
) -> Result<(Observer, Arc<Agent>), StartError> {
    let here = cluster
        .agents
        .get(machine)
        .ok_or_else(|| StartError("no such machine".to_owned()))?;
    let clock = Arc::clone(&here.clock) as Arc<dyn Clock>;
    let transport = Arc::new(SimTransport {
        port: port.clone(),
        network: Arc::clone(&cluster.network),
    });
    let config = ObserverConfig {
        nodes: cluster.addresses(),
    };
    let observer = Observer::start(config, Arc::clone(&transport) as Arc<_>).await?;
    let metadata = observer.metadata();
    let cluster_id = cluster_id(&metadata).await;
    let config = AgentConfig {
        identity,
        host: format!("a{machine}"),
        port: 9092,
        zone: Some(format!("zone-{}", machine % 2)),
        flush_interval: Duration::from_millis(50),
        settle_interval: Duration::from_secs(1),
        settle_bytes: 64 << 10,
        recent_bytes: 256 << 10,
        inline_bytes_per_second: here.inline,
        journal: Some(journal),
        journal_min_copies: cluster.min_copies,
        peers: Some(PeerAccess {
            transport,
            address: Some(address(machine)),
        }),
        cache_bytes: 4 << 20,
        ..AgentConfig::default()
    };
    let at_once = (
        "group.initial.rebalance.delay.ms".to_owned(),
        "50".to_owned(),
    );
    let topics = Topics::new(BTreeMap::from([at_once])).map_err(StartError)?;
    let bucket = cluster.bucket(port);
    let agent = Agent::start(config, metadata, bucket, clock, topics, cluster_id).await;
    let agent = agent.map_err(|error| StartError(error.to_string()))?;
    Ok((observer, agent))
}

async fn cluster_id(metadata: &Metadata) -> TopicId {
    loop {
        if let Some(id) = metadata.read(|state| state.cluster_id()) {
            return id;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn run(
    cluster: Arc<Cluster>,
    machine: usize,
    port: Port,
    disk: ForgetfulDisk,
    identity: u128,
    mut leaving: mpsc::UnboundedReceiver<Leaving>,
) {
    let Some(here) = cluster.agents.get(machine) else {
        return;
    };
    let host = port.host;
    let opening = WriteAhead::open(disk.shared(), Path::new("/journal"), JOURNAL);
    let journal = match port.living(opening).await {
        None => return,
        Some(Ok(journal)) => journal,
        Some(Err(error)) => {
            let text = format!("{host} cannot open its write-ahead buffer: {error}");
            return cluster.recorder.failed(text);
        }
    };
    if port.is_dead() {
        return;
    }
    here.lock().journal = Some(journal.incarnation());
    if !journal.damages().is_empty() {
        let text = format!(
            "{host} damaged its write-ahead buffer: {:?}",
            journal.damages()
        );
        cluster.recorder.failed(text);
    }
    let (observer, agent) = loop {
        let connecting = connect(&cluster, machine, &port, identity, journal.clone());
        match port.living(connecting).await {
            None => return,
            Some(Ok(connected)) => break connected,
            Some(Err(error)) => {
                cluster.recorder.refused(&format!("agent start: {error}"));
                sleep(RESTART).await;
            }
        }
    };
    if port.is_dead() {
        return;
    }
    if let Some(process) = &mut here.lock().process {
        process.agent = Some(Arc::clone(&agent));
    }
    let service = agent.peer_service();
    cluster
        .network
        .serve(&address(machine), port.clone(), service);
    let id = agent.id();
    cluster.recorder.tell(format!("{host} runs as agent {id}"));
    let reason = tokio::select! {
        biased;
        () = port.killed() => {
            // Its tasks go on for a while, unheard, as if they had not noticed yet.
            let _ = timeout(DECAY, agent.shutdown()).await;
            return;
        }
        reason = observer.stopped() => reason,
        reason = agent.failed() => reason,
        _ = leaving.recv() => "told to".to_owned(),
    };
    cluster.recorder.tell(format!("{host} leaves: {reason}"));
    let left = async {
        agent.drain().await;
        agent.shutdown().await;
    };
    if timeout(DECAY, port.living(left)).await.is_err() && cluster.is_healed() {
        cluster
            .recorder
            .failed(format!("{host} does not end when told to"));
    }
    here.ended(&cluster, &port);
    journal.close();
    observer.shutdown().await;
    sleep(RESTART).await;
    here.start(&cluster);
}
