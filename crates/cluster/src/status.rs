//! How a cluster does, as its leader sees it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use alluvium_metadata::{Agent, Standing as AgentStanding};
use alluvium_types::{AgentId, TopicId};

use crate::liveness::Leases;
use crate::raft::Standing;
use crate::view::View;
use crate::voter_id::{Peer, VoterId};

/// Silence after which a node counts as out of reach.
const UNREACHABLE_MILLIS: u64 = 2_000;
/// Entries behind which a node is worth a word.
const LAG_ENTRIES: u64 = 10_000;
/// An archive that is further behind is worth a word.
const ARCHIVE_MILLIS: u64 = 30_000;

/// A cluster at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its id, once it has one.
    pub cluster: Option<TopicId>,
    /// How often it was restored from its bucket.
    pub restores: u32,
    /// Who leads the quorum.
    pub leader: Option<VoterId>,
    /// The leader's term.
    pub term: u64,
    /// Index of the last committed entry.
    pub committed: u64,
    /// The quorum, by id.
    pub voters: Vec<VoterStatus>,
    /// The agents that have not ended, by id.
    pub agents: Vec<AgentStatus>,
    /// What lies in the bucket; `None` when the leader archives nothing.
    pub archive: Option<ArchiveStatus>,
    /// What is unhealthy and what to do about it, most urgent first.
    pub advice: Vec<String>,
}

/// A node of the quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterStatus {
    /// Its id.
    pub id: VoterId,
    /// Its cluster address.
    pub address: String,
    /// Whether it votes, or only listens until it has caught up.
    pub votes: bool,
    /// Index of the last entry it is known to hold durably.
    pub last_index: Option<u64>,
    /// Entries that the leader has and it has not.
    pub lag: Option<u64>,
    /// Milliseconds since it last answered the leader; 0 for the leader itself.
    pub contact_millis: Option<u64>,
    /// Whether it answered lately.
    pub reachable: bool,
}

/// Where an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentCondition {
    /// It serves.
    Live,
    /// It serves until it has left.
    Draining,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its id.
    pub id: AgentId,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Where it stands.
    pub condition: AgentCondition,
    /// Milliseconds since it last renewed its lease with this leader; `None` when it has not yet.
    pub renewed_millis: Option<u64>,
    /// Entries its view was behind when it did.
    pub view_lag: Option<u64>,
}

/// How far the archive in the bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveStatus {
    /// Everything below this index is in the bucket.
    pub next_index: u64,
    /// Milliseconds for which something committed has been waiting to get there; 0 when all is there.
    pub behind_millis: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<ArchiveTrouble>,
}

/// Why the archive does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ArchiveTrouble {
    /// The object store does not take it.
    #[error("the object store does not take it; see the log of the leader")]
    Store,
    /// Another history of this cluster has begun in the bucket.
    #[error("the cluster was restored from the bucket elsewhere; stop these nodes")]
    Fenced,
}

/// What the leader knows.
pub(crate) fn of(
    me: VoterId,
    standing: &Standing,
    view: &View,
    leases: &Leases,
    archive: Option<ArchiveStatus>,
) -> ClusterStatus {
    let committed = standing.committed.unwrap_or(0);
    let mut voters: Vec<VoterStatus> = standing
        .members()
        .map(|peer| voter(me, peer, standing))
        .collect();
    voters.sort_unstable_by_key(|voter| voter.id);
    voters.dedup_by_key(|voter| voter.id);
    let (cluster, restores, agents) = view.read(|current| {
        let agents = current.state.agents();
        (
            current.state.cluster_id(),
            current.state.restores(),
            agents.filter_map(|it| agent(it, leases)).collect(),
        )
    });
    let mut status = ClusterStatus {
        cluster,
        restores,
        leader: Some(me),
        term: standing.term,
        committed,
        voters,
        agents,
        archive,
        advice: Vec::new(),
    };
    status.advice = advice(&status, standing.changing, leases.lease());
    status
}

fn voter(me: VoterId, peer: &Peer, standing: &Standing) -> VoterStatus {
    let progress = standing.progress.get(&peer.voter).copied();
    let own = peer.voter == me;
    let last_index = if own {
        standing.last
    } else {
        progress.and_then(|progress| progress.matched)
    };
    let contact_millis = if own {
        Some(0)
    } else {
        progress
            .and_then(|progress| progress.heard)
            .map(|heard| millis(heard.elapsed()))
    };
    let next = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
    VoterStatus {
        id: peer.voter,
        address: peer.address.clone(),
        votes: standing.votes(peer.voter),
        last_index,
        lag: (own || progress.is_some())
            .then(|| next(standing.last).saturating_sub(next(last_index))),
        contact_millis,
        reachable: contact_millis.is_some_and(|silence| silence < UNREACHABLE_MILLIS),
    }
}

fn agent(agent: &Agent, leases: &Leases) -> Option<AgentStatus> {
    let condition = match agent.standing {
        AgentStanding::Live => AgentCondition::Live,
        AgentStanding::Draining => AgentCondition::Draining,
        AgentStanding::Ended { .. } => return None,
    };
    let asked = leases.of(agent.origin()).and_then(|renewed| renewed.asked);
    Some(AgentStatus {
        id: agent.id,
        host: agent.host.clone(),
        port: agent.port,
        zone: agent.zone.clone(),
        condition,
        renewed_millis: asked.map(|(at, _)| millis(at.elapsed())),
        view_lag: asked.map(|(_, lag)| lag),
    })
}

/// What is unhealthy and what to do about it.
fn advice(status: &ClusterStatus, changing: bool, lease: Duration) -> Vec<String> {
    let mut advice = Vec::new();
    let voters = status.voters.iter().filter(|voter| voter.votes);
    let count = voters.clone().count();
    let lost = voters.clone().filter(|voter| !voter.reachable).count();
    let spare = (count.saturating_sub(1) / 2).saturating_sub(lost);
    for voter in voters.filter(|voter| !voter.reachable) {
        let since = voter.contact_millis.map_or_else(
            || "has not answered this leader".to_owned(),
            |silence| format!("has not answered for {} s", silence / 1_000),
        );
        let left = match spare {
            _ if count <= 2 * lost => {
                advice.push(format!(
                    "metadata node {} ({}) {since}, and no majority of {count} is left: the cluster \
                     stands still. Start it again with its disk; if too many disks are gone, see \
                     `alluvium restore`",
                    voter.id, voter.address
                ));
                continue;
            }
            0 => "the death of one more stops the cluster",
            _ => "the cluster bears more",
        };
        advice.push(format!(
            "metadata node {} ({}) {since}; {left}. Start it again; if its disk is gone, start it \
             empty under the same node id and it is replaced",
            voter.id, voter.address
        ));
    }
    if count == 2 || count == 4 {
        advice.push(format!(
            "{count} metadata nodes bear no more deaths than {} do: add one, or remove one",
            count - 1
        ));
    }
    if changing {
        advice.push("the membership of the quorum is changing; wait until it has".to_owned());
    }
    let behind = status.voters.iter().filter(|voter| voter.reachable);
    for voter in behind.filter(|voter| voter.lag.is_some_and(|lag| lag > LAG_ENTRIES)) {
        advice.push(format!(
            "metadata node {} ({}) is {} entries behind; if that does not shrink, look at its disk \
             and its network",
            voter.id,
            voter.address,
            voter.lag.unwrap_or(0)
        ));
    }
    advice.extend(agent_advice(&status.agents, lease));
    if let Some(archive) = &status.archive {
        if let Some(trouble) = archive.error {
            advice.push(format!("the metadata does not reach the bucket: {trouble}"));
        } else if archive.behind_millis > ARCHIVE_MILLIS {
            advice.push(format!(
                "the metadata in the bucket is {} s old; look at the object store",
                archive.behind_millis / 1_000
            ));
        }
    }
    advice
}

fn agent_advice(agents: &[AgentStatus], lease: Duration) -> Vec<String> {
    let mut advice = Vec::new();
    let live = |agent: &&AgentStatus| agent.condition == AgentCondition::Live;
    if agents.iter().filter(live).count() == 0 {
        advice.push("no agent serves: start one".to_owned());
    }
    let half = millis(lease) / 2;
    for agent in agents {
        let place = format!("agent {} ({}:{})", agent.id, agent.host, agent.port);
        if let Some(silence) = agent.renewed_millis.filter(|silence| *silence > half) {
            advice.push(format!(
                "{place} last renewed its lease {silence} ms ago; look whether it runs and reaches \
                 the leader"
            ));
        }
        if let Some(lag) = agent.view_lag.filter(|lag| *lag > LAG_ENTRIES) {
            advice.push(format!(
                "{place} sees the metadata {lag} entries late; look at its network and its load"
            ));
        }
    }
    advice
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ClusterStatus {
    /// Of a state machine with no quorum behind it.
    pub(crate) fn in_memory(view: &View) -> Self {
        let leases = Leases::new(Duration::from_secs(3_600));
        view.read(|current| Self {
            cluster: current.state.cluster_id(),
            restores: current.state.restores(),
            committed: current.checkpoint.next_index().saturating_sub(1),
            agents: current
                .state
                .agents()
                .filter_map(|it| agent(it, &leases))
                .collect(),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests;
