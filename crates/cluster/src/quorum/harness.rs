//! Several nodes in one process, on disks that forget and a network that can be cut.
//!
//! While a [`Cluster`] lives its thread is a simulation: with a paused clock a test runs in virtual
//! time and takes the same way every time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_storage::watch;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use alluvium_metadata::{Command, CreateTopic, State};
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_transport::{Incoming, Lane, Transport, TransportError};
use alluvium_types::{Millis, SystemClock, TopicId, random};

use crate::applied::{Applied, ProposeError};
use crate::client::Metadata;
use crate::node::{Node, NodeConfig, Timing};
use crate::raft::Standing;
use crate::testing::Net;
use crate::voter_id::VoterId;

/// A node's plug: pulled, nothing it sent leaves it any more. Loses and delays at random, too.
#[derive(Clone)]
struct Plug {
    inner: Arc<dyn Transport>,
    pulled: watch::Receiver<bool>,
    weather: Arc<Mutex<Weather>>,
}

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Of a hundred messages.
    pub(super) lost: u32,
    /// At most.
    pub(super) delay: Duration,
}

impl fmt::Debug for Plug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plug").finish_non_exhaustive()
    }
}

impl Plug {
    async fn way(&self, address: &str, within: Duration) -> Result<(), TransportError> {
        let weather = *self.weather.lock().unwrap();
        if !weather.delay.is_zero() {
            sleep(random::range(Duration::ZERO..weather.delay)).await;
        }
        if *self.pulled.borrow() || random::range(0..100) < weather.lost {
            sleep(within).await;
            return Err(TransportError::TimedOut {
                address: address.to_owned(),
                within,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Transport for Plug {
    async fn call(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        self.way(address, within).await?;
        let answer = self.inner.call(address, lane, request, within).await;
        self.way(address, within).await?;
        answer
    }

    async fn open(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Incoming, TransportError> {
        self.way(address, within).await?;
        self.inner.open(address, lane, request, within).await
    }
}

/// A machine: its disk stays when its node dies.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) disk: ForgetfulDisk,
    pub(super) node: Option<Node>,
    plug: watch::Sender<bool>,
}

pub(super) struct Cluster {
    pub(super) net: Net,
    pub(super) machines: BTreeMap<u32, Machine>,
    pub(super) weather: Arc<Mutex<Weather>>,
    pub(super) snapshot_log_bytes: u64,
    /// What nodes are given as `cluster.nodes`.
    pub(super) nodes: Vec<String>,
    _seed: random::Seeded,
}

pub(super) fn address(number: u32) -> String {
    format!("node-{number}:9000")
}

pub(super) fn topic(number: u64) -> Command {
    Command::CreateTopic(CreateTopic {
        name: format!("topic-{number}"),
        id: TopicId((u128::from(number) + 1).to_be_bytes()),
        partitions: 1,
        replication_factor: 1,
        configs: Vec::new(),
        at: Millis::default(),
    })
}

pub(super) fn has_topic(state: &State, number: u64) -> bool {
    state.topic_by_name(&format!("topic-{number}")).is_some()
}

impl Cluster {
    /// Nothing runs yet.
    pub(super) fn new(seed: u64, listed: u32) -> Self {
        Self {
            net: Net::default(),
            machines: BTreeMap::new(),
            weather: Arc::default(),
            snapshot_log_bytes: 1 << 30,
            nodes: (1..=listed).map(address).collect(),
            _seed: random::seed(seed),
        }
    }

    /// A quorum of `size` that leads.
    pub(super) async fn formed(seed: u64, size: u32) -> Self {
        let mut cluster = Self::new(seed, size);
        for number in 1..=size {
            cluster.start(number).await;
        }
        cluster.leader().await;
        for number in 1..=size {
            cluster.node(number).formed().await;
        }
        cluster
    }

    pub(super) fn config(&self, number: u32) -> NodeConfig {
        NodeConfig {
            dir: PathBuf::from("/data/metadata"),
            snapshot_log_bytes: self.snapshot_log_bytes,
            node: number,
            address: address(number),
            nodes: self.nodes.clone(),
            timing: Timing::default(),
            lease: Duration::from_secs(2),
            archive: None,
        }
    }

    pub(super) async fn try_start(&mut self, number: u32) -> Result<(), String> {
        let (plug, pulled) = watch::channel(false);
        let transport = Plug {
            inner: self.net.transport(&address(number)),
            pulled,
            weather: Arc::clone(&self.weather),
        };
        let disk = self
            .machines
            .get(&number)
            .map_or_else(ForgetfulDisk::default, |machine| machine.disk.clone());
        let node = Node::start(
            self.config(number),
            disk.shared(),
            Arc::new(transport),
            Arc::new(SystemClock),
        )
        .await
        .map_err(|error| error.to_string())?;
        self.net.listen(&address(number), node.service());
        let node = Some(node);
        self.machines.insert(number, Machine { disk, node, plug });
        Ok(())
    }

    /// Gives a machine, whose node does not run, another disk.
    pub(super) fn put(&mut self, number: u32, disk: ForgetfulDisk) {
        let machine = Machine {
            disk,
            node: None,
            plug: watch::Sender::new(false),
        };
        self.machines.insert(number, machine);
    }

    pub(super) async fn start(&mut self, number: u32) {
        self.try_start(number).await.unwrap();
    }

    /// Cuts the power; what was not synced is lost, or lies there torn.
    pub(super) fn kill(&mut self, number: u32) {
        let machine = self.machines.get_mut(&number).unwrap();
        machine.plug.send_replace(true);
        self.net.leave(&address(number));
        machine.disk = machine.disk.crash_torn(random::value());
        machine.node = None;
    }

    /// Ends the node in good order.
    pub(super) async fn stop(&mut self, number: u32) {
        let machine = self.machines.get_mut(&number).unwrap();
        machine.node.take().unwrap().shutdown().await;
        self.net.leave(&address(number));
    }

    /// Kills it and gives it an empty disk.
    pub(super) fn wipe(&mut self, number: u32) {
        self.kill(number);
        self.put(number, ForgetfulDisk::default());
    }

    pub(super) fn node(&self, number: u32) -> &Node {
        self.machines[&number].node.as_ref().unwrap()
    }

    pub(super) fn is_up(&self, number: u32) -> bool {
        self.machines
            .get(&number)
            .is_some_and(|machine| machine.node.is_some())
    }

    pub(super) fn metadata(&self, number: u32) -> Metadata {
        self.node(number).metadata()
    }

    pub(super) fn voter(&self, number: u32) -> VoterId {
        self.node(number).voter_id()
    }

    pub(super) fn standing(&self, number: u32) -> Standing {
        self.node(number).quorum.voter().standing()
    }

    pub(super) fn up(&self) -> impl Iterator<Item = u32> + '_ {
        self.machines
            .iter()
            .filter(|(_, machine)| machine.node.is_some())
            .map(|(number, _)| *number)
    }

    fn leader_now(&self) -> Option<u32> {
        let mut leaders = self.up().filter(|number| {
            self.standing(*number).leads() && self.node(*number).quorum.voter().is_heard().is_ok()
        });
        leaders.next()
    }

    /// Waits until a node leads that a majority answers.
    pub(super) async fn leader(&self) -> u32 {
        self.eventually("somebody leads", |cluster| cluster.leader_now())
            .await
    }

    pub(super) async fn eventually<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        match timeout(Duration::from_secs(60), waiting).await {
            Ok(found) => found,
            Err(_) => {
                let standings: Vec<Standing> = self.up().map(|n| self.standing(n)).collect();
                panic!("never: {what}; {standings:#?}")
            }
        }
    }

    pub(super) async fn until(&self, what: &str, look: impl Fn(&Self) -> bool) {
        self.eventually(what, |cluster| look(cluster).then_some(()))
            .await;
    }

    /// All nodes that run have applied the same.
    pub(super) async fn agree(&self) {
        self.until("all agree", |cluster| {
            let mut places = cluster.up().map(|number| {
                let standing = cluster.standing(number);
                (
                    standing.applied,
                    standing.last,
                    standing.applied == standing.last,
                )
            });
            let first = places.next();
            first.is_some_and(|first| first.2 && places.all(|place| place == first))
        })
        .await;
        let mut states = self.up().map(|n| self.metadata(n).read(State::clone));
        let first = states.next().unwrap();
        assert!(states.all(|state| state == first), "states differ");
    }
}

pub(super) async fn propose(metadata: &Metadata, number: u64) -> Result<Applied, ProposeError> {
    metadata.propose(topic(number)).await
}

/// How long something took, in virtual time.
pub(super) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let result = work.await;
    (result, began.elapsed())
}
