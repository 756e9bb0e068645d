//! Follows one node after another.

use std::sync::Arc;
use std::time::{Duration, Instant as WallInstant};

use alluvium_storage::watch;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use alluvium_metadata::Command;
use alluvium_transport::{Lane, TransportError};
use alluvium_types::random;

use super::arriving::Arriving;
use crate::checkpoint::LogPosition;
use crate::leader::LeaderClient;
use crate::rpc::{Envelope, FeedMessage, Identity, Request, Subscribe};
use crate::view::View;

/// A node that says nothing for this long is left.
const SILENCE: Duration = Duration::from_secs(2);
/// A node is left when it has had no more for this long although more is known to be committed.
const STUCK: Duration = Duration::from_secs(1);
/// How long a subscription may take to begin.
const OPEN: Duration = Duration::from_secs(1);
/// Pauses between two nodes that did not help.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often it is said in the log that no node serves.
const COMPLAIN: Duration = Duration::from_secs(10);
/// Entries applied under one hold of the view's lock.
const APPLY_BATCH: usize = 64;

/// Keeps a view fresh.
#[derive(Debug)]
pub(super) struct Follower {
    view: Arc<View>,
    leader: Arc<LeaderClient>,
    fresh: watch::Sender<bool>,
}

/// Why a node is followed no more.
#[derive(Debug)]
enum End {
    /// Another may do better.
    Elsewhere(String),
    /// None will.
    Stop(String),
}

/// One subscription.
#[derive(Debug, Default)]
struct Course {
    /// The view is fresh once it holds everything below.
    fresh_at: Option<u64>,
    arriving: Option<Arriving>,
    /// How far the node is.
    node_at: u64,
    /// The view's end when it was last seen to be behind, and when that was.
    behind: Option<(u64, Instant)>,
}

impl Follower {
    pub(super) fn new(
        view: Arc<View>,
        leader: Arc<LeaderClient>,
        fresh: watch::Sender<bool>,
    ) -> Self {
        Self {
            view,
            leader,
            fresh,
        }
    }

    /// Follows until nobody can be followed any more; the reason.
    pub(super) async fn run(self) -> String {
        let mut pause = FIRST_PAUSE;
        let mut turn = usize::from(random::value::<u16>());
        let mut complained = Instant::now();
        loop {
            let nodes = self.leader.addresses();
            turn = turn.wrapping_add(1);
            let before = self.view.next_index();
            let reason = match nodes.get(turn % nodes.len().max(1)) {
                None => "no metadata node is known".to_owned(),
                Some(address) => match self.follow(address).await {
                    End::Stop(reason) => return reason,
                    End::Elsewhere(reason) => {
                        tracing::debug!(address, reason, "leaving a metadata node");
                        format!("{address}: {reason}")
                    }
                },
            };
            if self.view.next_index() > before {
                pause = FIRST_PAUSE;
                complained = Instant::now();
                continue;
            }
            if complained.elapsed() > COMPLAIN {
                complained = Instant::now();
                tracing::warn!(reason, "no metadata node can be followed; trying on");
            }
            sleep(pause.mul_f64(random::range(0.5..1.0))).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one node as long as it serves.
    async fn follow(&self, address: &str) -> End {
        let identity = self.leader.identity();
        let request = Request::Subscribe(Subscribe {
            identity,
            next_index: self.view.next_index(),
        });
        let request = Envelope::new(identity, request).encode();
        let opened = self
            .leader
            .transport()
            .open(address, Lane::Commands, request, OPEN)
            .await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return End::Elsewhere(error.to_string()),
        };
        let mut course = Course::default();
        loop {
            let message = match timeout(SILENCE, stream.next()).await {
                Err(_) => return End::Elsewhere("it has fallen silent".to_owned()),
                Ok(None) => return End::Elsewhere("it ended the subscription".to_owned()),
                Ok(Some(message)) => message,
            };
            if let Err(end) = self.take(&mut course, identity, message).await {
                return end;
            }
            let reached = self.view.next_index();
            if course.fresh_at.is_some_and(|at| reached >= at) && !*self.fresh.borrow() {
                self.fresh.send_replace(true);
            }
            if self.is_stuck(&mut course, reached) {
                return End::Elsewhere("it is far behind".to_owned());
            }
        }
    }

    async fn take(
        &self,
        course: &mut Course,
        own: Option<Identity>,
        message: Result<Bytes, TransportError>,
    ) -> Result<(), End> {
        let elsewhere = |reason: String| End::Elsewhere(reason);
        let message = message.map_err(|error| elsewhere(error.to_string()))?;
        match FeedMessage::decode(&message).map_err(elsewhere)? {
            FeedMessage::Begin {
                identity,
                next_index,
                nodes,
            } => {
                if own.is_some_and(|own| own != identity) {
                    return Err(foreign(own, identity));
                }
                course.fresh_at = Some(next_index);
                course.node_at = next_index;
                self.leader.hear_nodes(nodes);
                Ok(())
            }
            FeedMessage::Snapshot { next_index, bytes } => {
                course.arriving = Some(Arriving::new(next_index, bytes).map_err(elsewhere)?);
                Ok(())
            }
            FeedMessage::Piece(piece) => {
                let mut arriving = course
                    .arriving
                    .take()
                    .ok_or_else(|| elsewhere("sent a piece of nothing".to_owned()))?;
                if arriving.add(&piece).map_err(elsewhere)? {
                    let current = arriving.open().await.map_err(elsewhere)?;
                    self.view.replace(current);
                } else {
                    course.arriving = Some(arriving);
                }
                Ok(())
            }
            FeedMessage::Entries { first, commands } => self.apply(first, &commands),
            FeedMessage::Beat { leader, next_index } => {
                course.node_at = next_index;
                self.view.announce(next_index);
                if let Some(leader) = leader {
                    self.leader.hear(leader);
                }
                Ok(())
            }
            FeedMessage::Elsewhere(reason) => Err(elsewhere(reason)),
            FeedMessage::Foreign(identity) => Err(foreign(own, identity)),
        }
    }

    /// Applies what follows the view.
    fn apply(&self, first: u64, commands: &[Option<Bytes>]) -> Result<(), End> {
        let next_index = self.view.next_index();
        let Some(skip) = next_index.checked_sub(first) else {
            return Err(End::Elsewhere(format!(
                "sent entries from {first} on when {next_index} was to follow"
            )));
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let commands = commands.get(skip..).unwrap_or_default();
        let mut index = next_index;
        for batch in commands.chunks(APPLY_BATCH) {
            let mut decoded = Vec::with_capacity(batch.len());
            for (at, command) in (index..).zip(batch) {
                decoded.push((at, decode(at, command.as_ref())?));
            }
            index = index.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            let started = WallInstant::now();
            self.view.update(|current, changes| {
                for (index, command) in decoded {
                    if let Some(command) = command {
                        current.state.apply(command, changes);
                    }
                    current.checkpoint.last = Some(LogPosition {
                        term: 0,
                        leader: 0,
                        index,
                    });
                }
            });
            metrics::histogram!("alluvium_metadata_apply_seconds")
                .record(started.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Whether more is known to be committed than this node has. One that has more and does not send
    /// it yet is looking for it: its beats say that it is alive.
    fn is_stuck(&self, course: &mut Course, reached: u64) -> bool {
        if course.node_at > reached || reached >= self.view.announced() {
            course.behind = None;
            return false;
        }
        match course.behind {
            Some((seen, since)) if seen == reached => since.elapsed() > STUCK,
            _ => {
                course.behind = Some((reached, Instant::now()));
                false
            }
        }
    }
}

fn decode(index: u64, command: Option<&Bytes>) -> Result<Option<Command>, End> {
    let Some(command) = command else {
        return Ok(None);
    };
    match postcard::take_from_bytes(command) {
        Ok((command, [])) => Ok(Some(command)),
        _ => Err(End::Stop(format!(
            "entry {index} of the metadata log cannot be read; a later release wrote it: start that \
             release"
        ))),
    }
}

fn foreign(own: Option<Identity>, theirs: Identity) -> End {
    let own = own.map_or_else(|| "of no cluster".to_owned(), |own| format!("of {own}"));
    End::Stop(format!(
        "the metadata nodes are of {theirs} and this view is {own}: the cluster was restored, or \
         cluster.nodes names another one; start this process again"
    ))
}
