//! How the first voters find one another, and how later ones find the quorum.
//!
//! A node whose disk knows of no quorum says [`Hello`] to every address it was given, again and again.
//!
//! - When all answer, none belongs to a quorum, and all were given the same addresses, the one with
//!   the lowest [`VoterId`] writes the first membership. Each may be started first.
//! - When one belongs to a quorum, the node asks that quorum's leader to be taken in.
//! - A node that was given no addresses waits until it is named by `alluvium cluster init` or
//!   `alluvium cluster add-voter`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use alluvium_storage::bucket::Bucket;
use alluvium_transport::Lane;
use alluvium_types::{TopicId, random};

use crate::archive::refuse_claimed;
use crate::members::{Join, JoinAnswer};
use crate::peers::{Peers, unexpected};
use crate::raft::Voter;
use crate::rpc::{Answer, Request};
use crate::voter_id::{Peer, VoterId};

/// Between two rounds of greetings, about.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two requests to be taken in.
const JOIN_PAUSE: Duration = Duration::from_millis(500);
const HELLO_TIMEOUT: Duration = Duration::from_millis(500);
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node that is being named by an operator lets nobody else name it.
const NAMED: Duration = Duration::from_secs(10);
/// Voters of a quorum.
const MAX_NODES: usize = 15;
/// How long `cluster init` waits for the nodes it names.
const FORM_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a wait is written to the log.
const REPEAT_LOG: Duration = Duration::from_secs(10);

/// Said by every node to every other in its list until there is a quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who says it.
    pub peer: Peer,
    /// The addresses that are to form a quorum, the speaker's included, sorted; empty when the speaker
    /// only asks.
    pub nodes: Vec<String>,
}

/// What a node answers to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// Who answers.
    pub peer: Peer,
    /// The addresses it was given, its own included, sorted; empty when it waits to be named.
    pub nodes: Vec<String>,
    /// The quorum it belongs to, if any.
    pub formed: Option<Formed>,
}

/// A quorum, as one of its members knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formed {
    /// The cluster's id; `None` while the first leader has not given it.
    pub cluster: Option<TopicId>,
    /// Who leads, if the member knows.
    pub leader: Option<Peer>,
    /// Who votes.
    pub voters: Vec<Peer>,
    /// Who gets the log and does not vote.
    pub learners: Vec<Peer>,
}

/// Why a quorum was not formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct FormError(pub String);

impl Formed {
    /// Whether this voter is one of them.
    #[must_use]
    pub fn has(&self, voter: VoterId) -> bool {
        self.voters.iter().any(|peer| peer.voter == voter)
    }

    /// Whether this node gets the log and does not vote.
    #[must_use]
    pub fn listens(&self, voter: VoterId) -> bool {
        self.learners.iter().any(|peer| peer.voter == voter)
    }
}

/// Addresses, and until when they hold.
type Named = (Vec<String>, Instant);

/// A node's way into a quorum. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Forming {
    voter: Voter,
    peers: Peers,
    /// The addresses that were configured, its own included, sorted; empty if none were.
    nodes: Arc<[String]>,
    /// The addresses that an operator named, and until when no others are taken.
    named: Arc<Mutex<Option<Named>>>,
    /// Must not hold another cluster.
    bucket: Option<Bucket>,
}

impl Forming {
    pub(crate) fn new(
        voter: Voter,
        peers: Peers,
        nodes: &[String],
        bucket: Option<Bucket>,
    ) -> Self {
        let nodes = if nodes.is_empty() {
            Vec::new()
        } else {
            with_own(nodes, &voter.me().address)
        };
        Self {
            voter,
            peers,
            nodes: nodes.into(),
            named: Arc::default(),
            bucket,
        }
    }

    /// Writes the first membership, unless the bucket holds a cluster already.
    pub(crate) async fn found(&self, peers: &[Peer]) -> Result<(), String> {
        if let Some(bucket) = &self.bucket {
            refuse_claimed(bucket).await?;
        }
        self.voter.form(peers).await
    }

    /// The configured addresses.
    pub(crate) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Answers a greeting.
    pub(crate) fn hello(&self, hello: &Hello) -> HelloAnswer {
        let standing = self.voter.standing();
        let formed = standing.is_formed().then(|| Formed {
            cluster: self.peers.identity().map(|identity| identity.cluster),
            leader: standing.leader.clone(),
            voters: standing.voters.clone(),
            learners: standing.learners.clone(),
        });
        let nodes = if formed.is_some() || !self.nodes.is_empty() {
            self.nodes.to_vec()
        } else {
            self.be_named(&hello.nodes)
        };
        HelloAnswer {
            peer: self.voter.me().clone(),
            nodes,
            formed,
        }
    }

    /// Takes part in the quorum that an operator names, unless another was named just now.
    fn be_named(&self, nodes: &[String]) -> Vec<String> {
        let now = Instant::now();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.as_ref().is_some_and(|(_, until)| *until < now) {
            *named = None;
        }
        let mine = nodes.contains(&self.voter.me().address) && nodes.len() <= MAX_NODES;
        if mine && named.as_ref().is_none_or(|(others, _)| others == nodes) {
            *named = Some((nodes.to_vec(), now + NAMED));
        }
        named
            .as_ref()
            .map(|(nodes, _)| nodes.clone())
            .unwrap_or_default()
    }

    /// Forms a quorum of these addresses, as an operator wishes.
    pub(crate) async fn form(&self, nodes: Vec<String>) -> Result<(), FormError> {
        if self.voter.standing().is_formed() {
            return Err(in_a_quorum());
        }
        let me = &self.voter.me().address;
        let wanted = with_own(&nodes, me);
        if wanted.len() != nodes.iter().collect::<BTreeSet<_>>().len() {
            return Err(FormError(format!(
                "the node that is to form the quorum calls itself {me}, which is none of {}; name it \
                 so, or set its cluster.advertised",
                nodes.join(", ")
            )));
        }
        if wanted.len() > MAX_NODES {
            return Err(FormError(format!(
                "{} nodes are too many for a quorum; at most {MAX_NODES} vote",
                wanted.len()
            )));
        }
        let mine = if self.nodes.is_empty() {
            self.be_named(&wanted)
        } else {
            self.nodes.to_vec()
        };
        if mine != wanted {
            return Err(FormError(format!(
                "this node is to be in a quorum of {}; name the same nodes, or change its \
                 cluster.nodes",
                mine.join(", ")
            )));
        }
        let deadline = Instant::now() + FORM_TIMEOUT;
        loop {
            if self.voter.standing().is_formed() {
                return Err(in_a_quorum());
            }
            let reason = match self.meet(&wanted).await {
                Met::All(peers) => {
                    self.found(&peers).await.map_err(FormError)?;
                    return Ok(());
                }
                Met::Quorum(formed) => {
                    let voters: Vec<String> =
                        formed.voters.iter().map(ToString::to_string).collect();
                    return Err(FormError(format!(
                        "there is a quorum already, of {}; the nodes that are not in it join it with \
                         `alluvium cluster add-voter`",
                        voters.join(", ")
                    )));
                }
                Met::Waiting(reason) => reason,
            };
            if Instant::now() > deadline {
                return Err(FormError(reason));
            }
            sleep(PAUSE).await;
        }
    }

    /// Greets and joins until this node votes. Ends never, if it is to wait for an operator and none
    /// comes.
    pub(crate) async fn run(self) {
        let mut said: Option<(String, Instant)> = None;
        loop {
            let standing = self.voter.standing();
            if standing.votes(self.voter.me().voter) || standing.stopped.is_some() {
                return;
            }
            let mut pause = PAUSE + random::range(Duration::ZERO..PAUSE);
            let waiting = if standing.is_formed() {
                // It gets the log: it was added, or asked to be.
                pause = JOIN_PAUSE;
                let formed = Formed {
                    cluster: None,
                    leader: standing.leader,
                    voters: standing.voters,
                    learners: standing.learners,
                };
                self.join(&formed).await
            } else if self.nodes.is_empty() {
                Some(
                    "waiting to be named by `alluvium cluster init --nodes` or `alluvium cluster \
                     add-voter`"
                        .to_owned(),
                )
            } else {
                match self.meet(&self.nodes).await {
                    Met::All(peers) => self.form_if_lowest(&peers).await,
                    Met::Quorum(formed) => {
                        pause = JOIN_PAUSE;
                        self.join(&formed).await
                    }
                    Met::Waiting(reason) => Some(reason),
                }
            };
            if let Some(reason) = waiting {
                let again = said
                    .as_ref()
                    .is_none_or(|(before, at)| *before != reason || at.elapsed() > REPEAT_LOG);
                if again {
                    tracing::info!(voter = %self.voter.me(), "not in a metadata quorum yet: {reason}");
                    said = Some((reason, Instant::now()));
                }
            }
            sleep(pause).await;
        }
    }

    /// Greets all of `nodes`.
    async fn meet(&self, nodes: &[String]) -> Met {
        let me = self.voter.me();
        let others = nodes.iter().filter(|node| **node != me.address);
        let hello = Hello {
            peer: me.clone(),
            nodes: nodes.to_vec(),
        };
        let answers = join_all(others.map(|node| self.greet(node, &hello))).await;
        let mut peers = vec![me.clone()];
        let mut waiting = None;
        for answer in answers {
            match answer {
                Ok(HelloAnswer {
                    formed: Some(formed),
                    ..
                }) => return Met::Quorum(formed),
                Ok(answer) if answer.nodes != nodes => {
                    waiting = Some(format!(
                        "{} is to be in a quorum of {}, this node in one of {}; set the same \
                         cluster.nodes everywhere",
                        answer.peer.address,
                        answer.nodes.join(", "),
                        nodes.join(", ")
                    ));
                }
                Ok(answer) => peers.push(answer.peer),
                Err(reason) => waiting = waiting.or(Some(reason)),
            }
        }
        if let Some(reason) = waiting {
            return Met::Waiting(reason);
        }
        let addresses: BTreeSet<&String> = peers.iter().map(|peer| &peer.address).collect();
        let ids: BTreeSet<VoterId> = peers.iter().map(|peer| peer.voter).collect();
        let numbers: BTreeSet<u32> = peers.iter().map(|peer| peer.voter.node()).collect();
        if !addresses.iter().copied().eq(nodes) || ids.len() != nodes.len() {
            return Met::Waiting(format!(
                "the nodes at {} call themselves {}; cluster.nodes has to list their \
                 cluster.advertised",
                nodes.join(", "),
                peers
                    .iter()
                    .map(|peer| peer.address.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        if numbers.len() != nodes.len() {
            return Met::Waiting(
                "two nodes have the same metadata.node_id; give each its own".to_owned(),
            );
        }
        Met::All(peers)
    }

    async fn greet(&self, node: &str, hello: &Hello) -> Result<HelloAnswer, String> {
        let request = Request::Hello(hello.clone());
        match self
            .peers
            .ask(node, Lane::Control, request, HELLO_TIMEOUT)
            .await
        {
            Ok(Answer::Hello(answer)) => Ok(answer),
            Ok(_) => Err(unexpected(node).to_string()),
            Err(error) => Err(format!("waiting for the others: {error}")),
        }
    }

    async fn form_if_lowest(&self, peers: &[Peer]) -> Option<String> {
        let lowest = peers.iter().map(|peer| peer.voter).min();
        if lowest != Some(self.voter.me().voter) {
            return Some("all nodes have met; one of them forms the quorum".to_owned());
        }
        match self.found(peers).await {
            Ok(()) => {
                tracing::info!(voters = peers.len(), "formed a metadata quorum");
                None
            }
            Err(reason) => Some(reason),
        }
    }

    /// Asks to be taken in. Says what it waits for.
    async fn join(&self, formed: &Formed) -> Option<String> {
        let me = self.voter.me();
        if formed.has(me.voter) {
            return Some("waiting for the leader to send the log".to_owned());
        }
        let Some(leader) = &formed.leader else {
            return Some("the metadata quorum has no leader".to_owned());
        };
        let join = Request::Join(Join { peer: me.clone() });
        let asked = self
            .peers
            .ask(&leader.address, Lane::Control, join, JOIN_TIMEOUT);
        match asked.await {
            Ok(Answer::Joined(JoinAnswer::Voter)) => None,
            Ok(Answer::Joined(JoinAnswer::Underway)) => {
                Some("the metadata quorum is taking this node in".to_owned())
            }
            Ok(Answer::Joined(JoinAnswer::Wait(reason))) => Some(reason),
            Ok(Answer::NotLeader { .. }) => Some("the metadata quorum has no leader".to_owned()),
            Ok(_) => Some(unexpected(&leader.address).to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// What came of a round of greetings.
#[derive(Debug)]
enum Met {
    /// All are there and ready.
    All(Vec<Peer>),
    /// There is a quorum.
    Quorum(Formed),
    /// Not yet; the reason.
    Waiting(String),
}

fn in_a_quorum() -> FormError {
    FormError(
        "the node belongs to a quorum already; add nodes to it with `alluvium cluster add-voter`"
            .to_owned(),
    )
}

/// Sorted, each once, and this node's among them.
fn with_own(nodes: &[String], own: &str) -> Vec<String> {
    let all: BTreeSet<&str> = nodes
        .iter()
        .map(String::as_str)
        .chain(std::iter::once(own))
        .collect();
    all.into_iter().map(str::to_owned).collect()
}
