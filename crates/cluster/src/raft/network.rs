//! The way to other voters.
//!
//! Three clients per voter: one for log entries and votes, one for heartbeats, one for snapshots. Each
//! speaks on a lane of its own, so that neither a snapshot nor a long batch holds up a heartbeat.
//!
//! Deadlines are the library's ([`RPCOption::soft_ttl`]) for what is a few bytes, and all the time it
//! gives for a heartbeat, since an answer counts for nothing when it comes later. Entries have to
//! reach the other side's disk, so they may take longer.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use alluvium_transport::{Lane, TransportError};

use crate::peers::{Peers, unexpected};
use crate::raft::messages::{
    AppendAnswer, AskVote, BadMessage, HandOver, HandOverAnswer, Piece, PieceAnswer, Route,
    VoteAnswer, decode, encode, encode_append, encode_piece,
};
use crate::raft::types::{RaftSnapshot, TypeConfig, Vote};
use crate::rpc::{Answer, Request};
use crate::snapshots::SnapshotFile;
use crate::voter_id::VoterId;

/// How long entries may take to be on the other side's disk.
const APPEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a snapshot that are sent at once. Few in tests, so that theirs has many pieces.
const PIECE_BYTES: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// The last piece is answered when the snapshot is installed.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes clients of other voters.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    me: VoterId,
    peers: Peers,
}

impl Network {
    pub(crate) fn new(me: VoterId, peers: Peers) -> Self {
        Self { me, peers }
    }

    fn client(&self, target: u64, node: &BasicNode, lane: Lane) -> Client {
        Client {
            route: Route {
                to: VoterId(target),
                from: self.me,
            },
            address: node.addr.clone(),
            lane,
            peers: self.peers.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Client {
        self.client(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Client {
        self.client(target, node, Lane::Bulk)
    }
}

/// The way to one voter.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    route: Route,
    address: String,
    /// For entries; votes always take the one for control.
    lane: Lane,
    peers: Peers,
}

impl Client {
    async fn ask(
        &self,
        lane: Lane,
        request: Request,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        match self.peers.ask(&self.address, lane, request, within).await? {
            Answer::Raft(answer) => Ok(answer),
            _ => Err(unexpected(&self.address)),
        }
    }

    /// The library's error for one of the transport. Whoever cannot be reached or refuses is asked
    /// again after a pause, the others at once.
    fn failed(&self, action: RPCTypes, error: &TransportError) -> RPCError<TypeConfig> {
        match error {
            TransportError::Unreachable { .. } | TransportError::Refused { .. } => {
                Unreachable::new(error).into()
            }
            TransportError::Broken { .. } => NetworkError::new(error).into(),
            TransportError::TimedOut { within, .. } => Timeout {
                action,
                id: self.route.from.0,
                target: self.route.to.0,
                timeout: *within,
            }
            .into(),
        }
    }

    async fn ask_vote(
        &self,
        rpc: &VoteRequest<TypeConfig>,
        request: impl FnOnce(Bytes) -> Request,
        within: Duration,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = encode(&AskVote::new(self.route, rpc)).map_err(bad)?;
        let answer = self.ask(Lane::Control, request(message), within).await;
        let answer = answer.map_err(|error| self.failed(RPCTypes::Vote, &error))?;
        Ok(decode::<VoteAnswer>(answer).map_err(bad)?.into())
    }

    /// Sends what the other side does not have yet. Asked again after an error it goes on where it
    /// stopped.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: RaftSnapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, RPCError<TypeConfig>> {
        let failed = |error| self.failed(RPCTypes::InstallSnapshot, &error);
        let unreadable = |error: std::io::Error| {
            tracing::error!(%error, "cannot read the snapshot that a voter needs");
            RPCError::from(Unreachable::new(&error))
        };
        let file = snapshot.snapshot;
        let reader = file.reader().await.map_err(unreadable)?;
        let mut piece = Piece {
            route: self.route,
            ballot: (&vote).into(),
            label: reader.label(),
            offset: 0,
        };
        let mut bytes = Bytes::new();
        loop {
            let end = piece
                .offset
                .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            let within = if end >= piece.label.length {
                INSTALL_TIMEOUT
            } else {
                PIECE_TIMEOUT
            };
            let message = encode_piece(&piece, &bytes).map_err(bad)?;
            let answer = self
                .ask(Lane::Bulk, Request::InstallSnapshot(message), within)
                .await
                .map_err(failed)?;
            match decode(answer).map_err(bad)? {
                PieceAnswer::Done(ballot) => return Ok(SnapshotResponse::new(ballot.into())),
                PieceAnswer::Have(offset) if offset < piece.label.length => piece.offset = offset,
                PieceAnswer::Have(_) => {
                    return Err(failed(unexpected(&self.address)));
                }
            }
            bytes = reader
                .read(piece.offset, PIECE_BYTES)
                .await
                .map_err(unreadable)?;
        }
    }
}

fn bad(error: BadMessage) -> RPCError<TypeConfig> {
    Unreachable::new(&error).into()
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let within = if self.lane == Lane::Control {
            option.hard_ttl()
        } else {
            option.soft_ttl().max(APPEND_TIMEOUT)
        };
        let message = encode_append(self.route, &rpc).map_err(bad)?;
        drop(rpc);
        let answer = self.ask(self.lane, Request::Append(message), within).await;
        let answer = answer.map_err(|error| self.failed(RPCTypes::AppendEntries, &error))?;
        Ok(decode::<AppendAnswer>(answer).map_err(bad)?.into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&rpc, Request::Vote, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&rpc, Request::PreVote, option.soft_ttl())
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = pin!(self.send_snapshot(vote, snapshot));
        match select(pin!(cancel), sending).await {
            Either::Left((closed, _)) => Err(closed.into()),
            Either::Right((sent, _)) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = encode(&HandOver::new(self.route, &req)).map_err(bad)?;
        let request = Request::TransferLeader(message);
        let answer = self.ask(Lane::Control, request, option.soft_ttl()).await;
        let answer = answer.map_err(|error| self.failed(RPCTypes::TransferLeader, &error))?;
        Ok(decode::<HandOverAnswer>(answer).map_err(bad)?.into())
    }
}
