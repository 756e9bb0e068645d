//! Changes of who votes.
//!
//! All are made by the leader, one at a time. A node that is to vote first gets the log as a listener;
//! when it has caught up, one joint change makes it a voter, and lets go of the one it replaces. Every
//! step is derived from a membership and made only if that is still the one in force.
//!
//! Nothing is done that would leave a quorum whose living members are no majority.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use alluvium_transport::Lane;

use crate::forming::{Hello, HelloAnswer};
use crate::peers::{Peers, unexpected};
use crate::raft::{Standing, StepError, Voter};
use crate::rpc::{Answer, Request};
use crate::voter_id::{Peer, VoterId};

/// A new voter that makes no progress for so long is given up.
const STALLED: Duration = Duration::from_secs(30);
/// With at most so many entries to go it votes.
const CAUGHT_UP_ENTRIES: u64 = 256;
const PROGRESS_PAUSE: Duration = Duration::from_millis(50);
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// What an operator asks of the quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// Take a node in: it gets the log, and votes once it has caught up. The node must run.
    Add {
        /// Its cluster address, `host:port`.
        address: String,
        /// Who answers there; `None` takes whoever does.
        voter: Option<VoterId>,
    },
    /// Let a voter (or a node that is catching up) go.
    Remove {
        /// Who.
        voter: VoterId,
    },
    /// Have another voter lead.
    HandOver {
        /// Who; `None` leaves it to the leader.
        to: Option<VoterId>,
    },
}

/// A node with an empty disk that wants to vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Who asks.
    pub peer: Peer,
}

/// What the leader says to a [`Join`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// It votes.
    Voter,
    /// It is being taken in; ask again.
    Underway,
    /// It waits for an operator or for better times; the reason.
    Wait(String),
}

/// Why a change of the membership was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeError {
    /// It cannot be made, or not now. Says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// It is not known whether it was made: ask for the status.
    #[error("{0}")]
    Unknown(String),
}

fn refused<T>(reason: String) -> Result<T, StepError> {
    Err(StepError::Failed(ChangeError::Refused(reason)))
}

/// Makes changes where the leader is.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    pub(crate) voter: Voter,
    pub(crate) peers: Peers,
    /// As long as a voter may be silent and count as alive.
    pub(crate) silence: Duration,
}

impl Members {
    /// Takes in whoever answers at `address`, in place of the voter that was there before.
    pub(crate) async fn add(
        &self,
        address: &str,
        expected: Option<VoterId>,
    ) -> Result<(), StepError> {
        let peer = self.identify(address, expected).await?;
        let standing = self.voter.standing();
        if standing.votes(peer.voter) {
            return Ok(());
        }
        let replaced: BTreeSet<VoterId> = standing
            .voters
            .iter()
            .filter(|voter| voter.address == address)
            .map(|voter| voter.voter)
            .collect();
        let mut wanted = ids(&standing.voters);
        wanted.retain(|voter| !replaced.contains(voter));
        wanted.insert(peer.voter);
        self.check_majority(&standing, &wanted, Some(peer.voter))?;

        if !standing.learners.contains(&peer) {
            self.drop_stale_learners(address, peer.voter).await?;
            let mark = self.voter.membership_mark();
            self.voter.add_learner(&peer, mark).await?;
        }
        self.caught_up(&peer).await?;
        // Others may have come or gone meanwhile.
        let mark = self.voter.membership_mark();
        let standing = self.voter.standing();
        let mut wanted = ids(&standing.voters);
        wanted.retain(|voter| !replaced.contains(voter));
        wanted.insert(peer.voter);
        self.check_majority(&standing, &wanted, Some(peer.voter))?;
        self.voter.set_voters(&wanted, mark).await?;
        tracing::info!(voter = %peer, replaced = ?replaced, "the metadata quorum has a new voter");
        Ok(())
    }

    /// Lets a voter or listener go.
    pub(crate) async fn remove(&self, voter: VoterId) -> Result<(), StepError> {
        let mark = self.voter.membership_mark();
        let standing = self.voter.standing();
        if standing.learners.iter().any(|peer| peer.voter == voter) {
            return self.voter.drop_learner(voter, mark).await;
        }
        if !standing.votes(voter) {
            return refused(format!(
                "{voter} is not of the metadata quorum, whose voters are {}",
                list(&standing.voters)
            ));
        }
        let mut wanted = ids(&standing.voters);
        wanted.remove(&voter);
        if wanted.is_empty() {
            return refused(format!(
                "{voter} is the only metadata voter; add another before it is removed"
            ));
        }
        self.check_majority(&standing, &wanted, None)?;
        self.voter.set_voters(&wanted, mark).await?;
        tracing::info!(%voter, "the metadata quorum let a voter go");
        Ok(())
    }

    /// Has `to` lead, or the voter that is furthest.
    pub(crate) async fn hand_over(
        &self,
        to: Option<VoterId>,
        within: Duration,
    ) -> Result<(), StepError> {
        let me = self.voter.me().voter;
        let standing = self.voter.standing();
        if to == Some(me) {
            return Ok(());
        }
        if let Some(to) = to.filter(|to| !standing.votes(*to)) {
            return refused(format!(
                "{to} is not a metadata voter; the voters are {}",
                list(&standing.voters)
            ));
        }
        let heir = standing
            .voters
            .iter()
            .map(|peer| peer.voter)
            .filter(|voter| *voter != me && to.is_none_or(|to| to == *voter))
            .filter(|voter| self.is_alive(&standing, *voter))
            .max_by_key(|voter| standing.progress.get(voter).and_then(|at| at.matched));
        let Some(heir) = heir else {
            return refused(match to {
                Some(to) => {
                    format!("{to} has not answered lately, so it cannot lead; start it first")
                }
                None => "no other metadata voter answers, so nobody can lead instead".to_owned(),
            });
        };
        self.voter.hand_over_to(heir).await?;
        let mut watch = self.voter.watch();
        let handed = watch.until(|now| {
            let leader = now.leader.as_ref().map(|leader| leader.voter);
            now.term > standing.term && leader.is_some_and(|leader| leader != me)
        });
        let leader = timeout(within, handed).await.ok().flatten();
        let leader = leader.and_then(|now| now.leader).map(|leader| leader.voter);
        match leader {
            Some(leader) if to.is_none_or(|to| to == leader) => Ok(()),
            _ => Err(StepError::Failed(ChangeError::Unknown(
                "leadership was offered and it is not known who leads; look with `alluvium cluster \
                 status`"
                    .to_owned(),
            ))),
        }
    }

    /// Who answers at an address: the node itself says so, whatever was claimed.
    async fn identify(&self, address: &str, expected: Option<VoterId>) -> Result<Peer, StepError> {
        let hello = Request::Hello(Hello {
            peer: self.voter.me().clone(),
            nodes: Vec::new(),
        });
        let asked = self.peers.ask(address, Lane::Control, hello, HELLO_TIMEOUT);
        let answer: HelloAnswer = match asked.await {
            Ok(Answer::Hello(answer)) => answer,
            Ok(_) => return refused(unexpected(address).to_string()),
            Err(error) => {
                return refused(format!(
                    "{error}; start the node there before it is added to the quorum"
                ));
            }
        };
        let found = answer.peer;
        if expected.is_some_and(|expected| expected != found.voter) {
            return refused(format!(
                "at {address} answers voter {}, not the one that is to be added",
                found.voter
            ));
        }
        if found.address != address {
            return refused(format!(
                "the node at {address} calls itself {}; add it under that address, or set its \
                 cluster.advertised",
                found.address
            ));
        }
        let standing = self.voter.standing();
        let mine = standing.members().any(|peer| peer.voter == found.voter);
        if answer
            .formed
            .is_some_and(|formed| !formed.voters.is_empty())
            && !mine
        {
            return refused(format!(
                "the node at {address} has formed a quorum before; stop it, empty its metadata \
                 folder, and start it again"
            ));
        }
        Ok(found)
    }

    /// A learner of the same address has been wiped since.
    async fn drop_stale_learners(&self, address: &str, but: VoterId) -> Result<(), StepError> {
        for peer in self.voter.standing().learners {
            if peer.address == address && peer.voter != but {
                let mark = self.voter.membership_mark();
                self.voter.drop_learner(peer.voter, mark).await?;
            }
        }
        Ok(())
    }

    async fn caught_up(&self, peer: &Peer) -> Result<(), StepError> {
        let mut furthest = None;
        let mut moved = Instant::now();
        loop {
            let standing = self.voter.standing();
            if !standing.leads() {
                return Err(StepError::Failed(ChangeError::Unknown(
                    "another metadata node leads now; try again there".to_owned(),
                )));
            }
            let progress = standing.progress.get(&peer.voter).copied();
            let matched = progress.and_then(|progress| progress.matched);
            let last = standing.last.unwrap_or(0);
            if matched.is_some_and(|at| at.saturating_add(CAUGHT_UP_ENTRIES) >= last) {
                return Ok(());
            }
            // Whoever takes in a snapshot answers, and holds no more for a while.
            let heard = progress.and_then(|progress| progress.heard);
            if matched > furthest {
                furthest = matched;
                moved = Instant::now();
            } else if heard.is_some_and(|at| at.elapsed() < self.silence) {
                let now = Instant::now();
                moved = moved.max(now.checked_sub(STALLED / 2).unwrap_or(now));
            }
            if moved.elapsed() > STALLED {
                let mark = self.voter.membership_mark();
                self.voter.drop_learner(peer.voter, mark).await?;
                return refused(format!(
                    "{peer} does not catch up with the log; see to the node and add it again"
                ));
            }
            sleep(PROGRESS_PAUSE).await;
        }
    }

    fn is_alive(&self, standing: &Standing, voter: VoterId) -> bool {
        voter == self.voter.me().voter
            || standing
                .progress
                .get(&voter)
                .and_then(|progress| progress.heard)
                .is_some_and(|at| at.elapsed() < self.silence)
    }

    /// Refuses a set of voters of which no majority answers. `fresh` has just answered.
    fn check_majority(
        &self,
        standing: &Standing,
        wanted: &BTreeSet<VoterId>,
        fresh: Option<VoterId>,
    ) -> Result<(), StepError> {
        let silent: Vec<String> = wanted
            .iter()
            .filter(|voter| fresh != Some(**voter) && !self.is_alive(standing, **voter))
            .map(ToString::to_string)
            .collect();
        let living = wanted.len() - silent.len();
        if living > wanted.len() / 2 {
            return Ok(());
        }
        refused(format!(
            "of the {} voters that would be left only {living} answer, which is no majority; start \
             {} first, or replace it",
            wanted.len(),
            silent.join(" and ")
        ))
    }
}

fn ids(peers: &[Peer]) -> BTreeSet<VoterId> {
    peers.iter().map(|peer| peer.voter).collect()
}

fn list(peers: &[Peer]) -> String {
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    peers.join(", ")
}
