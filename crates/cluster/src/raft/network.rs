//! The way to other voters.
//!
//! There is one voter, so nothing is ever sent. A cluster of several puts its transport here and
//! changes nothing else.

use std::future::Future;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::raft::types::{RaftSnapshot, TypeConfig, Vote};
use crate::snapshots::SnapshotFile;

/// Makes connections that reach nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoPeers;

/// A connection that reaches nobody.
#[derive(Clone, Debug)]
pub(crate) struct Nowhere {
    target: u64,
    address: String,
}

impl Nowhere {
    fn unreachable(&self) -> Unreachable<TypeConfig> {
        Unreachable::new(&AnyError::error(format!(
            "metadata node {} ({}) cannot be reached: this release has no transport between nodes",
            self.target, self.address
        )))
    }
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = Nowhere;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Nowhere {
        Nowhere {
            target,
            address: node.addr.clone(),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Nowhere {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: RaftSnapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(self.unreachable().into())
    }
}
