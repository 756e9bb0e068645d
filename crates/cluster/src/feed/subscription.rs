//! The stream that an observer follows.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium_storage::watch;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use alluvium_storage::blocking;
use alluvium_transport::Answers;

use super::snapshot::{SharedSnapshot, SnapshotInfo};
use super::{Feed, Stretch};
use crate::raft::LogStore;
use crate::rpc::{FeedMessage, Identity, LeaderHint, Subscribe};
use crate::view::View;

/// A subscriber hears of the node at least this often.
pub(crate) const BEAT: Duration = Duration::from_millis(200);
/// Bytes of entries in one message, about.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of a snapshot in one message.
const PIECE_BYTES: usize = 256 << 10;
/// How long a subscriber that is ahead of this node waits for it.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Subscribers at once.
const MAX_SUBSCRIBERS: usize = 1_000;

/// What the streams of a node are made from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) view: Arc<View>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) log: Option<LogStore>,
    pub(crate) snapshot: Arc<SharedSnapshot>,
    pub(crate) subscribers: Arc<AtomicUsize>,
    pub(crate) quorum: Arc<dyn Standing>,
}

/// How a node stands to its quorum.
pub(crate) trait Standing: fmt::Debug + Send + Sync + 'static {
    /// Who leads, as far as it knows.
    fn leader(&self) -> Option<LeaderHint>;

    /// Addresses of the voters.
    fn nodes(&self) -> Vec<String>;

    /// Why its view may be getting old, if it may: it has lost touch with the leader.
    fn out_of_touch(&self) -> Option<String>;

    /// Something came from a leader.
    fn heard(&self);
}

struct Subscription {
    source: Source,
    moved: watch::Receiver<u64>,
    next_index: u64,
    next_beat: Instant,
    /// Since when the subscriber has been ahead of this node.
    ahead_since: Option<Instant>,
    fetching: Option<Fetching>,
    sending: Option<(SnapshotInfo, usize)>,
    ended: bool,
    _counted: Counted,
}

/// What the feed does not hold is on its way; nobody works on it any more when this is dropped.
struct Fetching(JoinHandle<Result<Fetched, String>>);

enum Fetched {
    /// Entries from the log.
    Entries(Vec<Option<Bytes>>),
    /// The log does not hold them either.
    Snapshot(SnapshotInfo),
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("alluvium_metadata_subscribers").decrement(1.0);
    }
}

/// Begins a stream.
pub(crate) fn subscribe(source: Source, request: &Subscribe) -> Answers {
    let counted = Counted(Arc::clone(&source.subscribers));
    let others = source.subscribers.fetch_add(1, Ordering::Relaxed);
    metrics::gauge!("alluvium_metadata_subscribers").increment(1.0);
    let first = if others >= MAX_SUBSCRIBERS {
        FeedMessage::Elsewhere(format!("this node has {others} subscribers"))
    } else {
        greet(&source, request)
    };
    let subscription = Subscription {
        moved: source.view.watch(),
        next_index: request.next_index,
        next_beat: Instant::now(),
        ahead_since: None,
        fetching: None,
        sending: None,
        ended: !matches!(first, FeedMessage::Begin { .. }),
        source,
        _counted: counted,
    };
    let rest = stream::unfold(subscription, Subscription::next);
    stream::once(async move { first.encode() })
        .chain(rest)
        .boxed()
}

/// What a subscriber is told first.
fn greet(source: &Source, request: &Subscribe) -> FeedMessage {
    let (identity, next_index) = source.view.read(|current| {
        (
            Identity::of(&current.state),
            current.checkpoint.next_index(),
        )
    });
    let Some(identity) = identity else {
        return FeedMessage::Elsewhere("this node belongs to no cluster yet".to_owned());
    };
    match request.identity {
        Some(theirs)
            if theirs.cluster == identity.cluster && theirs.restores > identity.restores =>
        {
            FeedMessage::Elsewhere(format!(
                "this node is of a history that has ended: {identity}"
            ))
        }
        Some(theirs) if theirs != identity => FeedMessage::Foreign(identity),
        _ => FeedMessage::Begin {
            identity,
            next_index,
            nodes: source.quorum.nodes(),
        },
    }
}

impl Subscription {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        let message = self.message().await;
        self.ended = matches!(message, FeedMessage::Elsewhere(_));
        Some((message.encode(), self))
    }

    async fn message(&mut self) -> FeedMessage {
        loop {
            if Instant::now() >= self.next_beat {
                if let Some(reason) = self.must_leave() {
                    return FeedMessage::Elsewhere(reason);
                }
                return self.beat();
            }
            if let Some((snapshot, sent)) = self.sending {
                return self.piece(snapshot, sent);
            }
            if let Some(message) = self.fetched().await {
                return message;
            }
            self.moved.mark_unchanged();
            match self.stretch() {
                Stretch::Entries(commands) => return self.entries(commands),
                Stretch::Gone => {
                    let fetch = fetch(self.source.clone(), self.next_index);
                    self.fetching = Some(Fetching(tokio::spawn(fetch)));
                }
                Stretch::End => {
                    let beat = self.next_beat;
                    before(beat, self.moved.changed()).await;
                }
            }
        }
    }

    /// What there is for the subscriber's place.
    fn stretch(&self) -> Stretch {
        // Entries come into the feed before they show in the view.
        let reached = self.source.view.next_index();
        match self.source.feed.read(self.next_index, BATCH_BYTES) {
            // A snapshot was installed here: what it holds never came through the feed.
            Stretch::End if reached > self.next_index => Stretch::Gone,
            stretch => stretch,
        }
    }

    fn entries(&mut self, commands: Vec<Option<Bytes>>) -> FeedMessage {
        let first = self.next_index;
        let count = u64::try_from(commands.len()).unwrap_or(u64::MAX);
        self.next_index = first.saturating_add(count);
        FeedMessage::Entries { first, commands }
    }

    /// Waits for what is on its way, until the next beat.
    async fn fetched(&mut self) -> Option<FeedMessage> {
        let fetching = self.fetching.as_mut()?;
        let result = before(self.next_beat, &mut fetching.0).await?;
        self.fetching = None;
        let snapshot = match result {
            Ok(Ok(Fetched::Entries(commands))) => return Some(self.entries(commands)),
            Ok(Ok(Fetched::Snapshot(snapshot))) => snapshot,
            Ok(Err(reason)) => return Some(FeedMessage::Elsewhere(reason)),
            Err(error) => return Some(FeedMessage::Elsewhere(error.to_string())),
        };
        self.sending = Some((snapshot, 0));
        Some(FeedMessage::Snapshot {
            next_index: snapshot.next_index,
            bytes: u64::try_from(snapshot.bytes).unwrap_or(u64::MAX),
        })
    }

    fn piece(&mut self, snapshot: SnapshotInfo, sent: usize) -> FeedMessage {
        let Some(piece) = self.source.snapshot.read(snapshot, sent, PIECE_BYTES) else {
            return FeedMessage::Elsewhere(
                "the snapshot was dropped before it was read; come again".to_owned(),
            );
        };
        let sent = sent.saturating_add(piece.len());
        if sent >= snapshot.bytes {
            self.next_index = snapshot.next_index;
            self.sending = None;
        } else {
            self.sending = Some((snapshot, sent));
        }
        FeedMessage::Piece(piece)
    }

    fn beat(&mut self) -> FeedMessage {
        self.next_beat = Instant::now() + BEAT;
        FeedMessage::Beat {
            next_index: self.source.view.next_index(),
            leader: self.source.quorum.leader(),
        }
    }

    /// Why the subscriber is better served by another.
    fn must_leave(&mut self) -> Option<String> {
        if self.source.view.next_index() >= self.next_index {
            self.ahead_since = None;
        } else if self.ahead_since.get_or_insert_with(Instant::now).elapsed() >= CATCH_UP {
            return Some("this node is behind the subscriber".to_owned());
        }
        self.source.quorum.out_of_touch()
    }
}

/// Finds what lies behind the feed: in the log, or else in a snapshot.
async fn fetch(source: Source, next_index: u64) -> Result<Fetched, String> {
    let reached = source.view.next_index();
    let begin = source.feed.begin(reached);
    if let Some(log) = source.log.filter(|log| log.begin() <= next_index) {
        // Only what is applied: the rest may not be committed.
        let end = begin.min(reached);
        let read = blocking(move || log.read_commands(next_index, end, BATCH_BYTES));
        match read.await.map_err(|error| error.to_string())? {
            Ok(commands) => return Ok(Fetched::Entries(commands)),
            // It was purged meanwhile, or cannot be read: the state holds it all the same.
            Err(error) => tracing::debug!(%error, next_index, "a subscriber gets a snapshot"),
        }
    }
    let covering = begin.max(next_index.saturating_add(1));
    source
        .snapshot
        .covering(covering)
        .await
        .map(Fetched::Snapshot)
}

/// What `future` brings, if it does by then.
async fn before<T>(at: Instant, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = sleep_until(at) => None,
    }
}
