//! What a leader does in a round.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use alluvium_storage::bucket::BucketError;
use alluvium_storage::{Blocked, blocking};
use alluvium_types::{Clock, Millis, TopicId};

use super::file::FileError;
use super::marker::{Marker, MarkerError};
use super::piece::{PIECE_BYTES, Piece};
use super::progress::ArchiveProgress;
use super::source::Source;
use super::{ArchiveConfig, keys, listing, retention, snapshot};
use crate::view::{Current, View};

/// Pieces written before the fence is looked at again.
const PIECES_A_ROUND: usize = 16;
/// A snapshot is due after this many pieces: so many a restore reads quickly, and a listing shows
/// in a few pages.
pub(super) const SNAPSHOT_PIECES: u64 = 3600;
/// Or after this many bytes of them, or as many as the last snapshot had.
const SNAPSHOT_BYTES: u64 = 64 << 20;
/// Between two looks at what may go.
const SWEEP_MILLIS: Millis = 10 * 60 * 1000;

/// Why a round was not finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    /// Worth trying again.
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("metadata log: {0}")]
    Log(#[from] io::Error),
    #[error("{0}")]
    Damaged(#[from] FileError),
    /// This cluster goes on elsewhere.
    #[error("{0}")]
    Fenced(String),
}

impl From<MarkerError> for RoundError {
    fn from(error: MarkerError) -> Self {
        match error {
            MarkerError::Bucket(error) => Self::Bucket(error),
            MarkerError::File(error) => Self::Damaged(error),
            MarkerError::Encode(error) => Self::Log(error),
        }
    }
}

impl From<Blocked> for RoundError {
    fn from(error: Blocked) -> Self {
        Self::Log(error.into())
    }
}

/// Archives while this voter leads.
#[derive(Debug)]
pub(super) struct Archiver {
    pub(super) config: ArchiveConfig,
    pub(super) view: Arc<View>,
    pub(super) source: Arc<dyn Source>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) progress: ArchiveProgress,
    pub(super) office: Option<Office>,
}

/// What a leader knows of the bucket.
#[derive(Debug)]
pub(super) struct Office {
    history: u32,
    cluster: TopicId,
    /// Everything below is in the bucket.
    next: u64,
    /// Since the last snapshot.
    pieces: u64,
    bytes: u64,
    snapshot_bytes: u64,
    /// A snapshot is wanted that ends with the entry before this.
    snapshot_due: Option<Arc<Current>>,
    /// The entry an earlier leader archived last, until it was compared with this leader's own.
    inherited: Option<(u64, Bytes)>,
    swept_at: Millis,
}

impl Archiver {
    /// Brings the bucket up to what this leader has applied, a bounded part of it. True when there
    /// is more to do at once.
    pub(super) async fn round(&mut self) -> Result<bool, RoundError> {
        let (cluster, history, applied) = self.view.read(|current| {
            let state = &current.state;
            let next_index = current.checkpoint.next_index();
            (state.cluster_id(), state.restores(), next_index)
        });
        let Some(cluster) = cluster.filter(|_| self.source.leads()) else {
            self.office = None;
            self.progress.idle();
            return Ok(false);
        };
        let mut office = match self.office.take() {
            Some(office) if office.history == history => office,
            _ => self.take_office(cluster, history).await?,
        };
        let done = self.in_office(&mut office, applied).await;
        let now = self.clock.now();
        self.progress.reached(office.next, applied, now);
        if !matches!(done, Err(RoundError::Fenced(_))) {
            self.office = Some(office);
        }
        done
    }

    async fn in_office(&self, office: &mut Office, applied: u64) -> Result<bool, RoundError> {
        self.look_at_fence(office).await?;
        self.compare_inherited(office, applied).await?;
        let mut written = 0;
        loop {
            if let Some(current) = &office.snapshot_due
                && current.checkpoint.next_index() <= office.next
            {
                let current = Arc::clone(current);
                self.snapshot(office, current).await?;
                office.snapshot_due = None;
            }
            if office.next >= applied || written >= PIECES_A_ROUND {
                break;
            }
            if office.next < self.source.begin() {
                // The log was purged: what is missing is in the state.
                let current = Arc::new(self.view.read(Current::clone));
                office.next = current.checkpoint.next_index();
                office.snapshot_due = Some(current);
                continue;
            }
            // A snapshot that is due ends where a piece ends, so that a listing from it misses none.
            let end = office
                .snapshot_due
                .as_ref()
                .map_or(applied, |current| current.checkpoint.next_index())
                .min(applied);
            self.piece(office, end).await?;
            written += 1;
            if office.is_snapshot_due() {
                office.snapshot_due = Some(Arc::new(self.view.read(Current::clone)));
            }
        }
        self.sweep(office).await?;
        Ok(office.next < applied)
    }

    /// Finds the end of what earlier leaders archived.
    async fn take_office(&self, cluster: TopicId, history: u32) -> Result<Office, RoundError> {
        let bucket = &self.config.bucket;
        let mut marker = Marker::read(bucket, history).await?;
        if marker.is_none() {
            let begun = Marker::new(history, cluster, None, self.clock.now());
            if !begun.create(bucket).await? {
                marker = Marker::read(bucket, history).await?;
            }
        }
        if let Some(marker) = marker.filter(|marker| marker.cluster != cluster) {
            return Err(RoundError::Fenced(format!(
                "{} belongs to cluster {}, and this node is of cluster {cluster}; give one of them \
                 another bucket or prefix (store.url)",
                bucket.url(),
                marker.cluster
            )));
        }
        let snapshots = listing::list(bucket, &keys::snapshots(history), None).await?;
        let newest = snapshots.last();
        let covered = newest.map_or(0, |snapshot| snapshot.number);
        // Keys come after this one from the piece that begins where the snapshot ends.
        let after = covered
            .checked_sub(1)
            .map(|before| keys::piece(history, before));
        let pieces = listing::list(bucket, &keys::pieces(history), after.as_deref()).await?;
        let mut office = Office {
            history,
            cluster,
            next: covered,
            pieces: u64::try_from(pieces.len()).unwrap_or(u64::MAX),
            bytes: pieces.iter().map(|piece| piece.bytes).sum(),
            snapshot_bytes: newest.map_or(0, |snapshot| snapshot.bytes),
            snapshot_due: None,
            inherited: None,
            swept_at: self.clock.now(),
        };
        if let Some(last) = pieces.last() {
            office.next = last.number;
            let piece = self.go_behind(&mut office).await?;
            office.inherited = piece.and_then(|piece| {
                let index = piece.head.last.index;
                piece
                    .entries
                    .into_iter()
                    .next_back()
                    .map(|entry| (index, entry))
            });
        }
        tracing::info!(
            store = bucket.url(),
            history,
            next_index = office.next,
            "archiving the metadata log"
        );
        Ok(office)
    }

    /// A history after this leader's own says that the cluster was restored elsewhere.
    async fn look_at_fence(&self, office: &Office) -> Result<(), RoundError> {
        let Some(later) = office.history.checked_add(1) else {
            return Ok(());
        };
        let bucket = &self.config.bucket;
        match bucket.head(&keys::marker(later)).await {
            Err(BucketError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(RoundError::Fenced(format!(
                "cluster {} was restored from {} and goes on there (restore {later}, this node is \
                 of restore {}): what this node acknowledges from now on would be lost. It has \
                 stopped. Point clients at the restored cluster; to have this machine take part in \
                 it, empty its metadata folder and start it with cluster.nodes naming that cluster",
                office.cluster,
                bucket.url(),
                office.history,
            ))),
        }
    }

    /// What earlier leaders archived last must be in this leader's log too, once that has come so far.
    async fn compare_inherited(&self, office: &mut Office, applied: u64) -> Result<(), RoundError> {
        let Some((index, theirs)) = office.inherited.take_if(|(index, _)| *index < applied) else {
            return Ok(());
        };
        if index < self.source.begin() {
            return Ok(());
        }
        let mine = self.source.read(index, index + 1, 1).await?;
        if mine.first() == Some(&theirs) {
            return Ok(());
        }
        Err(self.two_clusters(office, index))
    }

    fn two_clusters(&self, office: &Office, index: u64) -> RoundError {
        RoundError::Fenced(format!(
            "{} in {} holds another entry {index} than this node's log: two clusters write one \
             history, which happens when a data directory was copied and both copies were started, \
             or when an old copy of one was. This node has stopped. To go on with what the bucket \
             holds, run `alluvium restore` into an empty folder; to go on with this node's records, \
             give it another bucket or prefix (store.url)",
            keys::pieces(office.history),
            self.config.bucket.url(),
        ))
    }

    /// Writes the next piece, up to the entry before `end`.
    async fn piece(&self, office: &mut Office, end: u64) -> Result<(), RoundError> {
        let entries = self.source.read(office.next, end, PIECE_BYTES).await?;
        let named = (office.history, office.cluster);
        let piece = Piece::new(named, entries, self.clock.now())?;
        let (piece, bytes) = blocking(move || {
            let bytes = piece.encode();
            bytes.map(|bytes| (piece, bytes))
        })
        .await??;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let key = keys::piece(office.history, office.next);
        match self.config.bucket.create(&key, vec![bytes]).await {
            Ok(()) => {
                metrics::counter!("alluvium_archive_pieces_total").increment(1);
                metrics::counter!("alluvium_archive_bytes_total").increment(length);
                office.next = piece.next_index();
                office.bytes += length;
                office.pieces += 1;
                Ok(())
            }
            Err(BucketError::AlreadyExists { .. }) => self.clash(office, &piece).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The key is taken: by another leader of this history, which can only have archived the same
    /// committed entries.
    async fn clash(&self, office: &mut Office, mine: &Piece) -> Result<(), RoundError> {
        let before = office.next;
        let Some(theirs) = self.go_behind(office).await? else {
            return Ok(());
        };
        let differs = mine
            .entries
            .iter()
            .zip(&theirs.entries)
            .position(|(mine, theirs)| mine != theirs);
        match differs {
            None => Ok(()),
            Some(at) => {
                let at = u64::try_from(at).unwrap_or(0);
                Err(self.two_clusters(office, before.saturating_add(at)))
            }
        }
    }

    /// Reads the piece at the next key and goes on behind it. One that is damaged is passed over
    /// with a snapshot, which holds what it should.
    async fn go_behind(&self, office: &mut Office) -> Result<Option<Piece>, RoundError> {
        let key = keys::piece(office.history, office.next);
        let bytes = listing::read(&self.config.bucket, &key).await?;
        let decoded = blocking({
            let key = key.clone();
            move || Piece::decode(&key, &bytes)
        })
        .await?
        .and_then(|piece| {
            let head = piece.head;
            if (head.history, head.cluster) != (office.history, office.cluster)
                || head.first.index != office.next
            {
                return Err(FileError::damaged(&key, "it is not what its key says"));
            }
            Ok(piece)
        });
        match decoded {
            Ok(piece) => {
                office.next = piece.next_index();
                Ok(Some(piece))
            }
            Err(error) => {
                let current = self.view.read(Current::clone);
                tracing::error!(
                    %error,
                    next_index = current.checkpoint.next_index(),
                    "a piece of the archive cannot be used; a snapshot takes its place"
                );
                if current.checkpoint.next_index() <= office.next {
                    return Err(error.into());
                }
                office.next = current.checkpoint.next_index();
                office.snapshot_due = Some(Arc::new(current));
                Ok(None)
            }
        }
    }

    async fn snapshot(&self, office: &mut Office, current: Arc<Current>) -> Result<(), RoundError> {
        let next_index = current.checkpoint.next_index();
        let (named, at) = ((office.history, office.cluster), self.clock.now());
        let bytes = blocking(move || snapshot::encode(named, &current, at)).await??;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let key = keys::snapshot(office.history, next_index);
        match self.config.bucket.create(&key, vec![bytes]).await {
            // The same entries give the same state.
            Ok(()) | Err(BucketError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        metrics::counter!("alluvium_archive_snapshots_total").increment(1);
        metrics::counter!("alluvium_archive_bytes_total").increment(length);
        office.next = office.next.max(next_index);
        (office.pieces, office.bytes, office.snapshot_bytes) = (0, 0, length);
        Ok(())
    }

    async fn sweep(&self, office: &mut Office) -> Result<(), RoundError> {
        let now = self.clock.now();
        if now.saturating_sub(office.swept_at) < SWEEP_MILLIS {
            return Ok(());
        }
        office.swept_at = now;
        let kept = Millis::try_from(self.config.retention.as_millis()).unwrap_or(Millis::MAX);
        let cutoff = now.saturating_sub(kept);
        let removed = retention::sweep(&self.config.bucket, office.history, cutoff).await?;
        if removed > 0 {
            tracing::info!(removed, "files of the archive that are no longer needed");
        }
        Ok(())
    }
}

impl Office {
    fn is_snapshot_due(&self) -> bool {
        let enough = SNAPSHOT_BYTES.max(self.snapshot_bytes);
        self.snapshot_due.is_none() && (self.pieces >= SNAPSHOT_PIECES || self.bytes >= enough)
    }
}
