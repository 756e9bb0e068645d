//! The cluster: its machines, and the processes on them.
//!
//! - `voter`: a machine with a metadata node. `agent`: a machine with an agent.

mod agent;
mod voter;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_agent::Agent;
use alluvium_storage::bucket::Bucket;
use alluvium_types::{AgentId, TopicId, random};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::host::{Host, Port};
use crate::network::{Lost, Network};
use crate::recorder::Recorder;
use crate::store::{Objects, SimStore};
use crate::trace::Trace;

pub(crate) use agent::AgentMachine;
pub(crate) use voter::VoterMachine;

/// Everything that is simulated.
pub(crate) struct Cluster {
    pub(crate) network: Arc<Network>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) voters: Vec<VoterMachine>,
    pub(crate) agents: Vec<AgentMachine>,
    /// Copies in write-ahead buffers that a chunk must have to be safe.
    pub(crate) min_copies: usize,
    /// Topics that clients use, by the name they have in the history.
    topics: Mutex<BTreeMap<String, TopicId>>,
    healed: AtomicBool,
}

impl Cluster {
    pub(crate) fn new(trace: &Arc<Trace>, voters: usize, agents: usize) -> Arc<Self> {
        Arc::new(Self {
            network: Arc::new(Network::new(Arc::clone(trace))),
            objects: Arc::new(Objects::new(Arc::clone(trace))),
            recorder: Arc::new(Recorder::new(Arc::clone(trace))),
            voters: (0..voters).map(VoterMachine::new).collect(),
            agents: (0..agents).map(AgentMachine::new).collect(),
            min_copies: if voters == 1 { 1 } else { 2 },
            topics: Mutex::default(),
            healed: AtomicBool::new(false),
        })
    }

    /// Cluster addresses of the metadata nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (0..self.voters.len()).map(voter::address).collect()
    }

    pub(crate) fn bucket(&self, port: &Port) -> Bucket {
        let store = SimStore {
            port: port.clone(),
            objects: Arc::clone(&self.objects),
        };
        Bucket::over("simulated", Arc::new(store))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, TopicId>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<TopicId> {
        self.lock().get(name).copied()
    }

    pub(crate) fn add_topic(&self, name: &str, id: TopicId) {
        self.lock().insert(name.to_owned(), id);
    }

    pub(crate) fn remove_topic(&self, name: &str) {
        self.lock().remove(name);
    }

    /// From now on nothing breaks any more, and whoever hangs has no excuse.
    pub(crate) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::SeqCst)
    }

    pub(crate) fn heal(&self) {
        self.network.heal();
        self.objects.mood(crate::store::Mood::default());
        self.healed.store(true, Ordering::SeqCst);
    }

    /// Starts every machine that does not run.
    pub(crate) fn start(self: &Arc<Self>) {
        for machine in &self.voters {
            machine.start(self);
        }
        for machine in &self.agents {
            machine.start(self);
        }
    }

    pub(crate) fn running(&self, agent: usize) -> Option<(Port, Arc<Agent>)> {
        self.agents.get(agent)?.running()
    }

    /// Whether a write-ahead buffer was on a disk that was lost.
    pub(crate) fn is_lost(&self, journal: u128) -> bool {
        self.agents.iter().any(|machine| machine.has_lost(journal))
    }

    /// The machine on which an agent runs now.
    pub(crate) fn machine_of(&self, id: AgentId) -> Option<usize> {
        let is_there = |at: &usize| self.running(*at).is_some_and(|(_, agent)| agent.id() == id);
        (0..self.agents.len()).find(is_there)
    }

    /// Has an agent do something for a client, over the network.
    pub(crate) async fn ask<T, F, W>(
        &self,
        client: Host,
        agent: usize,
        within: Duration,
        call: F,
    ) -> Result<T, Lost>
    where
        T: Send + 'static,
        W: Future<Output = T> + Send,
        F: FnOnce(Arc<Agent>) -> W + Send + 'static,
    {
        let Some((port, target)) = self.running(agent) else {
            sleep(Duration::from_millis(random::range(1..20))).await;
            return Err(Lost);
        };
        let network = Arc::clone(&self.network);
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            // A client that gave up has closed its connection: what was on its way is dropped, or it
            // would overtake what the client says next.
            if network.pass(client, port.host).await.is_err() || sender.is_closed() {
                return;
            }
            let Some(answer) = port.living(call(target)).await else {
                return;
            };
            if network.pass(port.host, client).await.is_ok() {
                // An error says that the client waits no more.
                let _ = sender.send(answer);
            }
        });
        match timeout(within, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Lost),
        }
    }
}
