//! What nodes say to one another.
//!
//! A request is an [`Envelope`]: the sender's version of this protocol, the cluster it believes to
//! speak to, and the [`Request`]. It is answered by an [`Answer`]; a [`Request::Subscribe`] by a stream
//! of [`FeedMessage`], a [`Request::Attend`] by one that is silent. All are postcard. A new variant goes
//! to the end of its enum and a variant's fields never change, so that two neighbouring releases
//! understand what both know; what one does not know it refuses by name.
//!
//! What comes in is hostile: nothing here allocates by a length field alone, and every list that is
//! acted on one by one has a bound.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_metadata::{AgentOrigin, Outcome, State};
use alluvium_transport::Refused;
use alluvium_types::TopicId;

use crate::forming::{FormError, Hello, HelloAnswer};
use crate::members::{ChangeError, Join, JoinAnswer, MembershipChange};
use crate::status::ClusterStatus;

/// The version of this protocol that this release speaks.
pub(crate) const PROTOCOL: u16 = 1;
/// The oldest that it understands.
pub(crate) const OLDEST: u16 = 1;

/// Commands of one proposal.
pub(crate) const MAX_COMMANDS: usize = 100_000;
/// Encoded bytes of one proposal.
pub(crate) const MAX_PROPOSAL_BYTES: usize = 32 << 20;
/// Bytes of a request that is not known to be large.
const MAX_SMALL_BYTES: usize = 1 << 20;

/// Which cluster, and which of its histories: a cluster that was restored from its bucket is not the
/// one that went on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Given when it was formed.
    pub(crate) cluster: TopicId,
    /// How often it was restored.
    pub(crate) restores: u32,
}

impl Identity {
    /// `None` before the cluster was given its id.
    pub(crate) fn of(state: &State) -> Option<Self> {
        state.cluster_id().map(|cluster| Self {
            cluster,
            restores: state.restores(),
        })
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cluster {}", self.cluster)?;
        match self.restores {
            0 => Ok(()),
            restores => write!(f, " (restored {restores} times)"),
        }
    }
}

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// [`PROTOCOL`] of the sender.
    pub(crate) version: u16,
    /// Who the sender believes to speak to; `None` when it does not know yet.
    pub(crate) identity: Option<Identity>,
    /// What it asks.
    pub(crate) request: Request,
}

/// What a node can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Who are you? Answered by [`Answer::Hello`].
    Hello(Hello),
    /// Of the Raft library, as are the next four. Answered by [`Answer::Raft`].
    Vote(Bytes),
    PreVote(Bytes),
    Append(Bytes),
    InstallSnapshot(Bytes),
    TransferLeader(Bytes),
    /// To the leader: put these commands, encoded, into the log, in this order. Answered by
    /// [`Answer::Proposed`].
    Propose {
        commands: Vec<Bytes>,
    },
    /// To the leader: what is committed? Answered by [`Answer::ReadIndex`].
    ReadIndex,
    /// To the leader: this agent lives, and its view has applied what lies below `view`. Answered by
    /// [`Answer::Renewed`] or [`Answer::Ended`].
    Renew {
        origin: AgentOrigin,
        view: u64,
    },
    /// To the leader: how does the cluster do? Answered by [`Answer::Status`].
    Status,
    /// To the leader. Answered by [`Answer::Changed`].
    Change(MembershipChange),
    /// To the leader. Answered by [`Answer::Joined`].
    Join(Join),
    /// Form a quorum of these. Answered by [`Answer::Formed`].
    Form {
        nodes: Vec<String>,
    },
    /// Opens a stream of [`FeedMessage`].
    Subscribe(Subscribe),
    /// To the leader. Opens a stream that stays silent; by its end the leader sees that the agent's
    /// process has died, and the agent that it has to renew its lease.
    Attend {
        origin: AgentOrigin,
    },
}

/// Asks for everything that is committed from `next_index` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscribe {
    /// What the subscriber's view belongs to; `None` when it has none.
    pub(crate) identity: Option<Identity>,
    /// The first entry its view does not hold.
    pub(crate) next_index: u64,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Hello(HelloAnswer),
    /// Of the Raft library.
    Raft(Bytes),
    /// All were applied; one of each per command.
    Proposed(Vec<Proposed>),
    /// Nothing was done, for this node does not lead.
    NotLeader {
        /// Who does, if it knows.
        leader: Option<LeaderHint>,
    },
    /// Nothing was done. Says why.
    Unavailable(String),
    /// It may yet be done. Says why that is not known.
    Unknown(String),
    /// Everything that was committed when it was asked lies below this index.
    ReadIndex {
        next_index: u64,
    },
    /// The agent's lease runs from now for this long.
    Renewed {
        lease_millis: u64,
        /// Everything below is committed: a view that stays far behind should look elsewhere.
        next_index: u64,
    },
    /// The agent's registration was ended, or is not the current one.
    Ended,
    Status(ClusterStatus),
    Changed(Result<(), ChangeError>),
    Joined(JoinAnswer),
    Formed(Result<(), FormError>),
}

/// A command that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposed {
    pub(crate) index: u64,
    pub(crate) outcome: Outcome,
}

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FeedMessage {
    /// First of all, when the node serves the subscriber.
    Begin {
        identity: Identity,
        /// The first entry that the node has not applied yet.
        next_index: u64,
        /// Addresses of the voters.
        nodes: Vec<String>,
    },
    /// The subscriber's view is too old to be brought up by entries: this many bytes of a whole
    /// state follow, in which lies everything below `next_index`.
    Snapshot { next_index: u64, bytes: u64 },
    /// The next bytes of the state.
    Piece(Bytes),
    /// Committed entries, one after another from index `first` on. An entry that is no command is
    /// `None`.
    Entries {
        first: u64,
        commands: Vec<Option<Bytes>>,
    },
    /// The node is there, has applied what lies below `next_index`, and knows who leads.
    Beat {
        next_index: u64,
        leader: Option<LeaderHint>,
    },
    /// This node cannot serve the subscriber (any more). Another, or this one later, can.
    Elsewhere(String),
    /// The subscriber's view is of another cluster, or of a history that has ended.
    Foreign(Identity),
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaderHint {
    pub(crate) term: u64,
    pub(crate) address: String,
}

impl Envelope {
    pub(crate) fn new(identity: Option<Identity>, request: Request) -> Self {
        Self {
            version: PROTOCOL,
            identity,
            request,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads what came from the network.
    ///
    /// # Errors
    /// It is no request, too large, or of a release that is not understood.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let unreadable = || Refused("not a request of a node".to_owned());
        let (version, rest) = postcard::take_from_bytes::<u16>(bytes).map_err(|_| unreadable())?;
        if version < OLDEST {
            return Err(Refused(format!(
                "request of protocol version {version}, this release understands {OLDEST} and \
                 later; upgrade the node that asks"
            )));
        }
        let (identity, rest) = postcard::take_from_bytes(rest).map_err(|_| unreadable())?;
        let (request, rest) = postcard::take_from_bytes(rest).map_err(|error| {
            if version > PROTOCOL {
                return Refused(format!(
                    "request of protocol version {version} that version {PROTOCOL} does not \
                     know; upgrade this node"
                ));
            }
            Refused(format!("not a request of a node: {error}"))
        })?;
        if !rest.is_empty() {
            return Err(Refused(format!("{} bytes follow a request", rest.len())));
        }
        check(&request, bytes.len())?;
        Ok(Self {
            version,
            identity,
            request,
        })
    }
}

/// Refuses what no node sends.
fn check(request: &Request, bytes: usize) -> Result<(), Refused> {
    let (limit, what) = match request {
        // Their handlers know what they can take; the transport has its own bound.
        Request::Append(_) | Request::InstallSnapshot(_) => return Ok(()),
        Request::Propose { commands } if commands.len() > MAX_COMMANDS => {
            return Err(Refused(format!(
                "a proposal of {} commands; at most {MAX_COMMANDS} are taken",
                commands.len()
            )));
        }
        // Every command costs a few bytes of framing.
        Request::Propose { .. } => (MAX_PROPOSAL_BYTES + (1 << 20), "a proposal"),
        _ => (MAX_SMALL_BYTES, "a request"),
    };
    if bytes > limit {
        return Err(Refused(format!(
            "{what} of {bytes} bytes; at most {limit} are taken"
        )));
    }
    Ok(())
}

impl Answer {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

impl FeedMessage {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

/// Plain data into a vector cannot fail; were it to, the empty bytes would be refused by the reader.
fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_stdvec(value).unwrap_or_default().into()
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes follow an answer", rest.len())),
        Err(error) => Err(format!("an answer that cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests;
