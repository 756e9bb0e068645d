//! What this voter answers the others.
//!
//! A message is acted on only when it is meant for this very voter: see [`Route`].

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::AppendEntriesResponse;
use serde::Serialize;
use tokio::time::Instant;

use alluvium_storage::blocking;

use crate::raft::messages::{
    AppendAnswer, AskVote, Ballot, HandOver, HandOverAnswer, PieceAnswer, Route, VoteAnswer,
    decode, decode_append, decode_piece, encode,
};
use crate::raft::types::{Raft, RaftSnapshot, Vote, meta};
use crate::snapshots::{Incoming, Received};
use crate::voter_id::VoterId;

/// Answers the messages of other voters.
#[derive(Clone)]
pub(crate) struct Receiver {
    me: VoterId,
    raft: Raft,
    incoming: Arc<Incoming>,
    /// When a leader was last listened to.
    heard: Arc<Mutex<Instant>>,
}

/// Why a message was not acted on: it is none, it was meant for another, or the voter has stopped.
type Unanswered = String;

impl Receiver {
    pub(crate) fn new(me: VoterId, raft: Raft, incoming: Incoming) -> Self {
        Self {
            me,
            raft,
            incoming: Arc::new(incoming),
            heard: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// How long no leader has been listened to.
    pub(crate) fn silence(&self) -> Duration {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(crate) async fn vote(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        let ask: AskVote = decode(request).map_err(said)?;
        self.check(ask.route)?;
        let answer = self.raft.vote(ask.request()).await.map_err(said)?;
        message(&VoteAnswer::from(answer))
    }

    pub(crate) async fn pre_vote(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        let ask: AskVote = decode(request).map_err(said)?;
        self.check(ask.route)?;
        let answer = self.raft.pre_vote(ask.request()).await.map_err(said)?;
        message(&VoteAnswer::from(answer))
    }

    pub(crate) async fn append(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        let (route, request) = decode_append(request).map_err(said)?;
        self.check(route)?;
        let answer = self.raft.append_entries(request).await.map_err(said)?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.heard();
        }
        message(&AppendAnswer::from(answer))
    }

    pub(crate) async fn hand_over(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        let request: HandOver = decode(request).map_err(said)?;
        self.check(request.route)?;
        let answer = self.raft.handle_transfer_leader(request.request()).await;
        message(&HandOverAnswer::from(answer.map_err(said)?))
    }

    /// Takes a piece of a snapshot; with the last one the snapshot is installed.
    pub(crate) async fn snapshot(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        let (piece, bytes) = decode_piece(request).map_err(said)?;
        self.check(piece.route)?;
        let mine = self.ballot();
        if mine.term > piece.ballot.term {
            return message(&PieceAnswer::Done(mine));
        }
        self.heard();
        let applied = self.raft.metrics().borrow_watched().last_applied;
        if applied.map_or(0, |id| id.index + 1) >= piece.label.checkpoint.next_index() {
            // It was installed, and the answer to that was lost.
            return message(&PieceAnswer::Done(piece.ballot));
        }
        let incoming = Arc::clone(&self.incoming);
        let label = piece.label.clone();
        let received = blocking(move || incoming.take(&label, piece.offset, bytes))
            .await
            .map_err(io::Error::from)
            .and_then(|received| received)
            .map_err(|error| {
                tracing::warn!(%error, from = %piece.route.from, "a snapshot from another voter was not taken");
                format!("snapshot not taken: {error}")
            })?;
        let file = match received {
            Received::Bytes(have) => return message(&PieceAnswer::Have(have)),
            Received::Whole(file) => file,
        };
        tracing::info!(entries = file.checkpoint.next_index(), from = %piece.route.from, "installing a snapshot");
        let snapshot = RaftSnapshot {
            meta: meta(&file.checkpoint),
            snapshot: *file,
        };
        let installed = self
            .raft
            .install_full_snapshot(Vote::from(piece.ballot), snapshot)
            .await
            .map_err(said)?;
        message(&PieceAnswer::Done((&installed.vote).into()))
    }

    fn ballot(&self) -> Ballot {
        (&self.raft.metrics().borrow_watched().vote).into()
    }

    fn check(&self, route: Route) -> Result<(), Unanswered> {
        if route.to == self.me {
            return Ok(());
        }
        Err(format!(
            "this is voter {}, not {}: the node's disk was replaced; the quorum has to let voter {} \
             go, which it does when the new one joins",
            self.me, route.to, route.to
        ))
    }
}

fn message<T: Serialize>(answer: &T) -> Result<Bytes, Unanswered> {
    encode(answer).map_err(said)
}

fn said(error: impl std::error::Error) -> Unanswered {
    error.to_string()
}
