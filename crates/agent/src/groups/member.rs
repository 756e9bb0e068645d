//! A member, and the answers it waits for.

use std::sync::Arc;

use alluvium_metadata::GroupMember;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::request::{JoinAnswer, JoinGroup, JoinedMember, SyncAnswer};

/// Somebody who waits for an answer. One that is dropped unanswered is told so by its channel.
#[derive(Debug)]
pub(crate) struct Waiter<T>(oneshot::Sender<T>);

impl<T> Waiter<T> {
    /// A waiter and where its answer will come.
    pub(crate) fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. Whoever has gone away is not told.
    pub(crate) fn answer(self, answer: T) {
        let _ = self.0.send(answer);
    }

    /// Whether the connection behind it is lost.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// A join that waits for the generation to form.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) waiter: Waiter<JoinAnswer>,
    /// See [`JoinGroup::takes_skip_assignment`].
    pub(crate) takes_skip_assignment: bool,
    /// A static leader restarted in a stable group, whose client cannot be told to skip the
    /// assignment, is told the leader's former id, so that it takes itself for a follower.
    pub(crate) leader_shown: Option<Arc<str>>,
}

/// A member of a group. Times are milliseconds.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: i32,
    pub(crate) rebalance_timeout: i32,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// It has not been part of a generation yet.
    pub(crate) is_new: bool,
    pub(crate) joining: Option<Joining>,
    pub(crate) syncing: Option<Waiter<SyncAnswer>>,
}

impl Member {
    pub(crate) fn new(id: Arc<str>, request: JoinGroup) -> Self {
        Self {
            id,
            instance_id: request.instance_id.map(Into::into),
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols,
            assignment: Bytes::new(),
            is_new: true,
            joining: None,
            syncing: None,
        }
    }

    /// A member of a generation that the quorum remembers.
    pub(crate) fn restore(record: &GroupMember) -> Self {
        let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self {
            id: record.member_id.as_str().into(),
            instance_id: record.instance_id.as_deref().map(Into::into),
            client_id: record.client_id.clone(),
            client_host: record.client_host.clone(),
            session_timeout: record.session_timeout.max(1),
            rebalance_timeout: record.rebalance_timeout,
            protocols: record
                .protocols
                .iter()
                .map(|(n, m)| (n.clone(), copied(m)))
                .collect(),
            assignment: copied(&record.assignment),
            is_new: false,
            joining: None,
            syncing: None,
        }
    }

    /// What the quorum keeps of it.
    pub(crate) fn record(&self, assignment: Bytes) -> GroupMember {
        GroupMember {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.as_deref().map(str::to_owned),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout: self.session_timeout,
            rebalance_timeout: self.rebalance_timeout,
            protocols: self.protocols.clone(),
            assignment,
        }
    }

    /// What its leader sees of it under an assignor.
    pub(crate) fn as_joined(&self, protocol: Option<&str>) -> JoinedMember {
        JoinedMember {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.as_deref().map(str::to_owned),
            metadata: self.metadata(protocol),
        }
    }

    /// Its subscription under an assignor.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Somebody waits for an answer on its behalf.
    pub(crate) fn waits(&self) -> bool {
        self.joining
            .as_ref()
            .is_some_and(|joining| !joining.waiter.is_gone())
            || self
                .syncing
                .as_ref()
                .is_some_and(|waiter| !waiter.is_gone())
    }

    /// Bytes that its subscriptions hold.
    pub(crate) fn bytes(&self) -> usize {
        self.protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum::<usize>()
            + self.client_id.len()
            + self.client_host.len()
            + 2 * (self.id.len() + self.instance_id.as_ref().map_or(0, |id| id.len()))
    }
}
