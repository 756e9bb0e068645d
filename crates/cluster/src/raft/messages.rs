//! What voters say to one another, as bytes.
//!
//! A message is the length of its head (4 bytes, little-endian), the head (postcard of a type of this
//! module, written out in values of our own), and what follows it: log entries, each with its length
//! before it and encoded as in the journal, or a piece of a snapshot.
//!
//! Every head begins with who is meant. A node whose disk was wiped is another voter at the same
//! address; what was meant for the one before is refused, or it could be taken for what that one
//! promised.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, LogPosition};
use crate::raft::codec;
use crate::raft::types::{LeaderId, TypeConfig, Vote, log_id, position};
use crate::voter_id::VoterId;

const LENGTH_BYTES: usize = 4;

/// From whom to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) to: VoterId,
    pub(crate) from: VoterId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) committed: bool,
}

impl From<&Vote> for Ballot {
    fn from(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            leader: vote.leader_id.node_id,
            committed: vote.committed,
        }
    }
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        Self {
            leader_id: LeaderId::new(ballot.term, ballot.leader),
            committed: ballot.committed,
        }
    }
}

/// A request for a vote, or the question whether one would be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskVote {
    pub(crate) route: Route,
    ballot: Ballot,
    last: Option<LogPosition>,
    transfer: bool,
}

impl AskVote {
    pub(crate) fn new(route: Route, request: &VoteRequest<TypeConfig>) -> Self {
        Self {
            route,
            ballot: (&request.vote).into(),
            last: request.last_log_id.as_ref().map(position),
            transfer: request.leadership_transfer,
        }
    }

    pub(crate) fn request(&self) -> VoteRequest<TypeConfig> {
        let mut request = VoteRequest::new(self.ballot.into(), self.last.map(log_id));
        request.leadership_transfer = self.transfer;
        request
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteAnswer {
    ballot: Ballot,
    granted: bool,
    last: Option<LogPosition>,
}

impl From<VoteResponse<TypeConfig>> for VoteAnswer {
    fn from(response: VoteResponse<TypeConfig>) -> Self {
        Self {
            ballot: (&response.vote).into(),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(position),
        }
    }
}

impl From<VoteAnswer> for VoteResponse<TypeConfig> {
    fn from(answer: VoteAnswer) -> Self {
        Self::new(
            Vote::from(answer.ballot),
            answer.last.map(log_id),
            answer.granted,
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) route: Route,
    ballot: Ballot,
    before: Option<LogPosition>,
    committed: Option<LogPosition>,
}

/// Entries and their place. They are bounded where they are read from the log.
pub(crate) fn encode_append(
    route: Route,
    request: &AppendEntriesRequest<TypeConfig>,
) -> Result<Bytes, BadMessage> {
    let head = Append {
        route,
        ballot: (&request.vote).into(),
        before: request.prev_log_id.as_ref().map(position),
        committed: request.leader_commit.as_ref().map(position),
    };
    let mut message = begin(&head)?;
    for entry in &request.entries {
        let parts = codec::encode_entry(entry).map_err(|error| BadMessage(error.to_string()))?;
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        message.reserve(LENGTH_BYTES + bytes);
        message.put_u32_le(length(bytes)?);
        for part in parts {
            message.put_slice(&part);
        }
    }
    Ok(message.freeze())
}

pub(crate) fn decode_append(
    message: Bytes,
) -> Result<(Route, AppendEntriesRequest<TypeConfig>), BadMessage> {
    let (head, mut rest): (Append, _) = split(message)?;
    let mut entries = Vec::new();
    let mut next = head
        .before
        .map_or(0, |before| before.index.saturating_add(1));
    while !rest.is_empty() {
        let bytes = take_length(&mut rest)?;
        if rest.len() < bytes {
            return Err(BadMessage("an entry is cut short".to_owned()));
        }
        let entry = codec::decode_entry(rest.split_to(bytes))
            .map_err(|error| BadMessage(error.to_string()))?;
        if entry.log_id.index != next {
            return Err(BadMessage(format!(
                "entry {} stands where {next} should",
                entry.log_id.index
            )));
        }
        next = next.saturating_add(1);
        entries.push(entry);
    }
    let request = AppendEntriesRequest {
        vote: head.ballot.into(),
        prev_log_id: head.before.map(log_id),
        entries,
        leader_commit: head.committed.map(log_id),
    };
    Ok((head.route, request))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendAnswer {
    Success,
    PartialSuccess(Option<LogPosition>),
    Conflict,
    HigherVote(Ballot),
}

impl From<AppendEntriesResponse<TypeConfig>> for AppendAnswer {
    fn from(response: AppendEntriesResponse<TypeConfig>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => {
                Self::PartialSuccess(id.as_ref().map(position))
            }
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote((&vote).into()),
        }
    }
}

impl From<AppendAnswer> for AppendEntriesResponse<TypeConfig> {
    fn from(answer: AppendAnswer) -> Self {
        match answer {
            AppendAnswer::Success => Self::Success,
            AppendAnswer::PartialSuccess(at) => Self::PartialSuccess(at.map(log_id)),
            AppendAnswer::Conflict => Self::Conflict,
            AppendAnswer::HigherVote(ballot) => Self::HigherVote(ballot.into()),
        }
    }
}

/// "Lead from now on."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandOver {
    pub(crate) route: Route,
    ballot: Ballot,
    to: u64,
    last: Option<LogPosition>,
}

impl HandOver {
    pub(crate) fn new(route: Route, request: &TransferLeaderRequest<TypeConfig>) -> Self {
        Self {
            route,
            ballot: request.from_leader().into(),
            to: *request.to_node_id(),
            last: request.last_log_id().map(position),
        }
    }

    pub(crate) fn request(&self) -> TransferLeaderRequest<TypeConfig> {
        TransferLeaderRequest::new(self.ballot.into(), self.to, self.last.map(log_id))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HandOverAnswer {
    Taken,
    VoteChanged {
        expected: Ballot,
        actual: Ballot,
    },
    LogNotFlushed {
        expected: Option<LogPosition>,
        actual: Option<LogPosition>,
    },
}

impl From<TransferLeaderResponse<TypeConfig>> for HandOverAnswer {
    fn from(response: TransferLeaderResponse<TypeConfig>) -> Self {
        use openraft::raft::TransferLeaderError;
        match response {
            Ok(()) => Self::Taken,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => Self::VoteChanged {
                expected: (&expected).into(),
                actual: (&actual).into(),
            },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Self::LogNotFlushed {
                expected: expected.as_ref().map(position),
                actual: actual.as_ref().map(position),
            },
        }
    }
}

impl From<HandOverAnswer> for TransferLeaderResponse<TypeConfig> {
    fn from(answer: HandOverAnswer) -> Self {
        use openraft::raft::TransferLeaderError;
        match answer {
            HandOverAnswer::Taken => Ok(()),
            HandOverAnswer::VoteChanged { expected, actual } => {
                Err(TransferLeaderError::VoteChanged {
                    expected: expected.into(),
                    actual: actual.into(),
                })
            }
            HandOverAnswer::LogNotFlushed { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed {
                    expected: expected.map(log_id),
                    actual: actual.map(log_id),
                })
            }
        }
    }
}

/// Which snapshot a piece belongs to. Two files with the same of all of these hold the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotLabel {
    pub(crate) checkpoint: Checkpoint,
    /// Bytes of the file.
    pub(crate) length: u64,
    /// CRC-32C of the file, as its last four bytes say.
    pub(crate) checksum: u32,
}

/// A piece of a snapshot. An empty one asks how much the other side has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) route: Route,
    pub(crate) ballot: Ballot,
    pub(crate) label: SnapshotLabel,
    /// Where in the file the piece begins.
    pub(crate) offset: u64,
}

pub(crate) fn encode_piece(piece: &Piece, bytes: &[u8]) -> Result<Bytes, BadMessage> {
    let mut message = begin(piece)?;
    message.put_slice(bytes);
    Ok(message.freeze())
}

pub(crate) fn decode_piece(message: Bytes) -> Result<(Piece, Bytes), BadMessage> {
    split(message)
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PieceAnswer {
    /// It has this many bytes of that snapshot and wants those from there on.
    Have(u64),
    /// It has all and has installed it, or knows of a later leader.
    Done(Ballot),
}

/// Bytes that are no message of this module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message between voters: {0}")]
pub(crate) struct BadMessage(String);

/// A message that is a head alone.
pub(crate) fn encode<T: Serialize>(head: &T) -> Result<Bytes, BadMessage> {
    begin(head).map(BytesMut::freeze)
}

/// Reads a message that is a head alone.
pub(crate) fn decode<T: DeserializeOwned>(message: Bytes) -> Result<T, BadMessage> {
    let (head, rest) = split(message)?;
    if rest.is_empty() {
        Ok(head)
    } else {
        Err(BadMessage("something follows its end".to_owned()))
    }
}

fn begin<T: Serialize>(head: &T) -> Result<BytesMut, BadMessage> {
    let head = postcard::to_stdvec(head).map_err(|error| BadMessage(error.to_string()))?;
    let mut message = BytesMut::with_capacity(LENGTH_BYTES + head.len());
    message.put_u32_le(length(head.len())?);
    message.put_slice(&head);
    Ok(message)
}

fn split<T: DeserializeOwned>(mut message: Bytes) -> Result<(T, Bytes), BadMessage> {
    let bytes = take_length(&mut message)?;
    if message.len() < bytes {
        return Err(BadMessage("its head is cut short".to_owned()));
    }
    let head = message.split_to(bytes);
    let (head, rest) =
        postcard::take_from_bytes(&head).map_err(|error| BadMessage(error.to_string()))?;
    if !rest.is_empty() {
        return Err(BadMessage("its head is too long".to_owned()));
    }
    Ok((head, message))
}

fn take_length(message: &mut Bytes) -> Result<usize, BadMessage> {
    if message.len() < LENGTH_BYTES {
        return Err(BadMessage("it is cut short".to_owned()));
    }
    usize::try_from(message.get_u32_le()).map_err(|error| BadMessage(error.to_string()))
}

fn length(bytes: usize) -> Result<u32, BadMessage> {
    u32::try_from(bytes).map_err(|error| BadMessage(error.to_string()))
}
