//! A network in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_storage::watch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use alluvium_metadata::{Command, CreateTopic};
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_transport::{Answers, Incoming, Lane, Refused, Service, Transport, TransportError};
use alluvium_types::{ManualClock, TopicId, random};

use crate::client::Metadata;
use crate::node::{Node, NodeConfig, Timing};
use crate::observer::{Observer, ObserverConfig};
use crate::rpc::{Answer, Envelope, Request};

/// Who can reach whom. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Net {
    shared: Arc<Shared>,
}

/// A node, and whether it has died.
type Listening = (Arc<dyn Service>, watch::Sender<bool>);

#[derive(Debug, Default)]
struct Shared {
    services: Mutex<BTreeMap<String, Listening>>,
    cuts: watch::Sender<BTreeSet<(String, String)>>,
}

impl Net {
    /// A node answers at this address from now on.
    pub(crate) fn listen(&self, address: &str, service: Arc<dyn Service>) {
        self.leave(address);
        let mut services = self.shared.services.lock().unwrap();
        services.insert(address.to_owned(), (service, watch::Sender::new(false)));
    }

    /// The node at this address dies: its connections break.
    pub(crate) fn leave(&self, address: &str) {
        let gone = self.shared.services.lock().unwrap().remove(address);
        if let Some((_, dead)) = gone {
            dead.send_replace(true);
        }
    }

    /// What one sends to the other vanishes.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        let way = (from.to_owned(), to.to_owned());
        self.shared.cuts.send_modify(|cuts| {
            cuts.insert(way);
        });
    }

    /// Nothing reaches or leaves this address.
    pub(crate) fn isolate(&self, address: &str) {
        self.cut("*", address);
        self.cut(address, "*");
    }

    /// Everything arrives again.
    pub(crate) fn heal(&self) {
        self.shared.cuts.send_modify(BTreeSet::clear);
    }

    /// The way out of the node at this address.
    pub(crate) fn transport(&self, from: &str) -> Arc<dyn Transport> {
        Arc::new(Outlet {
            net: self.clone(),
            from: from.to_owned(),
        })
    }

    fn is_cut(cuts: &BTreeSet<(String, String)>, from: &str, to: &str) -> bool {
        [(from, to), ("*", to), (from, "*")]
            .into_iter()
            .any(|(from, to)| cuts.contains(&(from.to_owned(), to.to_owned())))
    }

    /// Resolves when something sent would arrive.
    async fn open_way(&self, from: &str, to: &str) {
        let mut cuts = self.shared.cuts.subscribe();
        let _ = cuts.wait_for(|cuts| !Self::is_cut(cuts, from, to)).await;
    }

    fn find(&self, address: &str) -> Option<(Arc<dyn Service>, watch::Receiver<bool>)> {
        let services = self.shared.services.lock().unwrap();
        let (service, dead) = services.get(address)?;
        Some((Arc::clone(service), dead.subscribe()))
    }
}

/// The way out of one node.
struct Outlet {
    net: Net,
    from: String,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outlet of {}", self.from)
    }
}

impl Outlet {
    async fn reach<T, F>(
        &self,
        address: &str,
        within: Duration,
        ask: impl FnOnce(Arc<dyn Service>) -> F + Send,
    ) -> Result<T, TransportError>
    where
        F: Future<Output = Result<T, Refused>> + Send,
        T: Send,
    {
        let address = address.to_owned();
        let late = TransportError::TimedOut {
            address: address.clone(),
            within,
        };
        let work = async {
            self.net.open_way(&self.from, &address).await;
            let Some((service, mut dead)) = self.net.find(&address) else {
                return Err(TransportError::Unreachable {
                    address: address.clone(),
                    reason: "nobody listens".to_owned(),
                });
            };
            let answer = async {
                let answer = ask(service).await;
                self.net.open_way(&address, &self.from).await;
                answer
            };
            tokio::select! {
                biased;
                _ = dead.wait_for(|dead| *dead) => Err(TransportError::Broken {
                    address: address.clone(),
                    reason: "it died".to_owned(),
                }),
                answer = answer => answer.map_err(|refused| TransportError::Refused {
                    address: address.clone(),
                    reason: refused.0,
                }),
            }
        };
        timeout(within, work).await.unwrap_or(Err(late))
    }
}

#[async_trait]
impl Transport for Outlet {
    async fn call(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        self.reach(address, within, |service| async move {
            service.call(lane, request).await
        })
        .await
    }

    async fn open(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Incoming, TransportError> {
        let answers = self
            .reach(address, within, |service| async move {
                service.open(lane, request).await
            })
            .await?;
        let Some((_, dead)) = self.net.find(address) else {
            return Err(TransportError::Broken {
                address: address.to_owned(),
                reason: "it died".to_owned(),
            });
        };
        let (net, from, to) = (self.net.clone(), address.to_owned(), self.from.clone());
        let rest = stream::unfold(Some((answers, dead)), move |open| {
            let (net, from, to) = (net.clone(), from.clone(), to.clone());
            async move {
                let (mut answers, mut dead) = open?;
                let next = async {
                    let item = answers.next().await;
                    net.open_way(&from, &to).await;
                    item
                };
                let item = tokio::select! {
                    biased;
                    _ = dead.wait_for(|dead| *dead) => {
                        let broken = TransportError::Broken {
                            address: from.clone(),
                            reason: "it died".to_owned(),
                        };
                        return Some((Err(broken), None));
                    }
                    item = next => item?,
                };
                Some((Ok(item), Some((answers, dead))))
            }
        });
        Ok(rest.boxed())
    }
}

type Script = Box<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

/// A node that answers what a test wants and remembers what it was asked.
pub(crate) struct Scripted {
    answer: Script,
    stream: Mutex<Option<Answers>>,
    pub(crate) asked: Mutex<Vec<Request>>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").finish_non_exhaustive()
    }
}

impl Scripted {
    /// Without an answer it is silent.
    pub(crate) fn new(
        answer: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            answer: Box::new(answer),
            stream: Mutex::default(),
            asked: Mutex::default(),
        })
    }

    /// What the next subscriber gets.
    pub(crate) fn stream(&self, answers: Answers) {
        *self.stream.lock().unwrap() = Some(answers);
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Service for Scripted {
    async fn call(&self, _lane: Lane, request: Bytes) -> Result<Bytes, Refused> {
        let request = Envelope::decode(&request)?.request;
        let answer = (self.answer)(&request);
        self.asked.lock().unwrap().push(request);
        match answer {
            Some(answer) => Ok(answer.encode()),
            None => pending().await,
        }
    }

    async fn open(&self, _lane: Lane, request: Bytes) -> Result<Answers, Refused> {
        let request = Envelope::decode(&request)?.request;
        self.asked.lock().unwrap().push(request);
        let stream = self.stream.lock().unwrap().take();
        stream.ok_or_else(|| Refused("no stream".to_owned()))
    }
}

/// Metadata nodes in one process, over a [`Net`] and disks that a test can crash.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) net: Net,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) lease: Duration,
    disks: BTreeMap<u32, ForgetfulDisk>,
    nodes: BTreeMap<u32, Node>,
    addresses: Vec<String>,
}

impl Cluster {
    /// Nodes 1 to `count`, which have formed a quorum.
    pub(crate) async fn of(count: u32) -> Self {
        let mut cluster = Self {
            net: Net::default(),
            clock: Arc::default(),
            lease: Duration::from_secs(2),
            disks: (1..=count)
                .map(|it| (it, ForgetfulDisk::default()))
                .collect(),
            nodes: BTreeMap::new(),
            addresses: (1..=count).map(address).collect(),
        };
        for number in 1..=count {
            cluster.start(number).await;
        }
        for node in cluster.nodes.values() {
            node.formed().await;
        }
        cluster
    }

    /// Starts a node on what its disk holds.
    pub(crate) async fn start(&mut self, number: u32) {
        let config = NodeConfig {
            dir: "/metadata".into(),
            snapshot_log_bytes: 1 << 30,
            node: number,
            address: address(number),
            nodes: self.addresses.clone(),
            timing: Timing::default(),
            lease: self.lease,
            archive: None,
        };
        let node = Node::start(
            config,
            self.disks[&number].shared(),
            self.net.transport(&address(number)),
            self.clock.clone(),
        )
        .await
        .unwrap();
        self.net.listen(&address(number), node.service());
        self.nodes.insert(number, node);
    }

    /// The power of a node fails.
    pub(crate) fn kill(&mut self, number: u32) {
        self.net.leave(&address(number));
        let left = self.disks[&number].crash();
        self.disks.insert(number, left);
        self.nodes.remove(&number);
    }

    pub(crate) fn node(&self, number: u32) -> &Node {
        &self.nodes[&number]
    }

    pub(crate) fn metadata(&self, number: u32) -> Metadata {
        self.node(number).metadata()
    }

    /// Waits until a node that runs leads, and says which.
    pub(crate) async fn leader(&self) -> u32 {
        loop {
            for (number, node) in &self.nodes {
                let leads = node
                    .leader()
                    .is_some_and(|peer| peer.voter == node.voter_id());
                if leads && node.metadata().barrier().await.is_ok() {
                    return *number;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Somebody who runs and does not lead.
    pub(crate) async fn follower(&self) -> u32 {
        let leader = self.leader().await;
        *self.nodes.keys().find(|number| **number != leader).unwrap()
    }

    pub(crate) async fn observer(&self, name: &str) -> Observer {
        self.observer_of(name, self.addresses.clone()).await
    }

    pub(crate) async fn observer_of(&self, name: &str, nodes: Vec<String>) -> Observer {
        let config = ObserverConfig { nodes };
        Observer::start(config, self.net.transport(name))
            .await
            .unwrap()
    }
}

/// The cluster address of a node.
pub(crate) fn address(number: u32) -> String {
    format!("node-{number}")
}

/// Makes what runs on this thread follow from a seed, and keeps it on this thread.
pub(crate) fn one_thread() -> random::Seeded {
    random::seed(7)
}

/// A command that creates a topic of this number.
pub(crate) fn topic(number: u128) -> Command {
    Command::CreateTopic(CreateTopic {
        name: format!("topic-{number}"),
        id: TopicId((number + 1).to_be_bytes()),
        partitions: 1,
        replication_factor: 1,
        configs: Vec::new(),
        at: 0,
    })
}
