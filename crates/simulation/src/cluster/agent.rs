//! A machine with an agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_agent::topics::Topics;
use alluvium_agent::{Agent, AgentConfig};
use alluvium_cluster::{Metadata, Observer, ObserverConfig, StartError};
use alluvium_types::{Clock, TopicId, random};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Cluster;
use crate::clock::WallClock;
use crate::host::{Host, Port};
use crate::network::SimTransport;

/// How long what is left of a killed process is given to notice; nothing of it is seen outside.
const DECAY: Duration = Duration::from_secs(30);

const RESTART: Duration = Duration::from_millis(300);

/// A machine with an agent.
pub(crate) struct AgentMachine {
    pub(crate) host: Host,
    pub(crate) clock: Arc<WallClock>,
    machine: usize,
    state: Mutex<State>,
}

struct State {
    /// What is on its disk.
    identity: u128,
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
            state: Mutex::new(State {
                identity: random::value(),
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
        let (port, identity, leaving) = {
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
            (port, state.identity, leaving)
        };
        tokio::spawn(run(
            Arc::clone(cluster),
            self.machine,
            port,
            identity,
            leaving,
        ));
    }

    /// Kills the process.
    pub(crate) fn crash(&self) {
        if let Some(process) = self.lock().process.take() {
            process.port.kill();
        }
    }

    /// Kills the process and takes the disk away.
    pub(crate) fn wipe(&self) {
        self.crash();
        self.lock().identity = random::value();
    }

    /// Asks the process to end in good order.
    pub(crate) fn leave(&self) {
        if let Some(process) = &self.lock().process {
            let _ = process.leave.send(Leaving);
        }
    }

    fn ended(&self, port: &Port) {
        if !port.is_dead() {
            port.kill();
            self.lock().process = None;
        }
    }
}

async fn connect(
    cluster: &Cluster,
    machine: usize,
    port: &Port,
    identity: u128,
) -> Result<(Observer, Arc<Agent>), StartError> {
    let here = cluster
        .agents
        .get(machine)
        .ok_or_else(|| StartError("no such machine".to_owned()))?;
    let clock = Arc::clone(&here.clock) as Arc<dyn Clock>;
    let transport = SimTransport {
        port: port.clone(),
        network: Arc::clone(&cluster.network),
    };
    let config = ObserverConfig {
        nodes: cluster.addresses(),
    };
    let observer = Observer::start(config, Arc::new(transport)).await?;
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
    identity: u128,
    mut leaving: mpsc::UnboundedReceiver<Leaving>,
) {
    let Some(here) = cluster.agents.get(machine) else {
        return;
    };
    let host = port.host;
    let (observer, agent) = loop {
        match port
            .living(connect(&cluster, machine, &port, identity))
            .await
        {
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
    here.ended(&port);
    observer.shutdown().await;
    sleep(RESTART).await;
    here.start(&cluster);
}
