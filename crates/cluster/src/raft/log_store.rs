//! The Raft log, in a journal.
//!
//! Votes, entries, truncations and purges are submitted to one journal, which makes them durable in
//! the order in which they came and answers many with one sync. The committed position needs no
//! sync of its own: it rides in front of the next append, and after a crash the voter finds out
//! again what is committed.
//!
//! Entries that were appended and are not applied yet are kept as they were proposed, up to
//! [`RECENT_BYTES`]: the apply loop takes them from there, undecoded. Everything else is read back
//! from the journal.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use alluvium_storage::disk::Disk;
use alluvium_storage::journal::{Journal, JournalError, JournalOptions, Write};

use crate::growth::{LogGrowth, LogSize};
use crate::raft::codec;
use crate::raft::state_machine::blocking;
use crate::raft::types::{Entry, LogId, TypeConfig, Vote, log_id, position};

/// Bytes of encoded entries that the journal keeps in memory.
const TAIL_BYTES: usize = 1 << 20;
/// Encoded bytes of entries kept as values until they are applied.
const RECENT_BYTES: usize = 8 << 20;
/// Bytes read from the journal at once.
const READ_BYTES: usize = 1 << 20;

const NOTE_VOTE: u8 = 0;
const NOTE_COMMITTED: u8 = 1;
const NOTE_PURGED: u8 = 2;

/// The log as openraft sees it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    journal: Journal,
    log: Mutex<Log>,
    growth: Arc<LogGrowth>,
}

/// What is in the journal, with everything that was submitted.
#[derive(Debug)]
struct Log {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The committed position has changed since it was last submitted.
    committed_is_news: bool,
    purged: Option<LogId>,
    /// Of the last entry, or the purged position if there is none.
    last: Option<LogId>,
    recent: Recent,
}

/// The newest entries as values; contiguous, ending with the last entry or empty.
#[derive(Debug, Default)]
struct Recent {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, entry: Entry, size: usize) {
        if self.bytes.saturating_add(size) > RECENT_BYTES {
            // What lies here is applied late: let the journal serve all of it.
            self.clear();
        }
        if size <= RECENT_BYTES {
            self.bytes += size;
            self.entries.push_back((entry, size));
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    /// Takes the entries of `start..end`, and drops what lies before; `None` if `start` is not here.
    fn take(&mut self, start: u64, end: u64) -> Option<Vec<Entry>> {
        if self.first().is_none_or(|first| first > start) {
            return None;
        }
        let mut taken = Vec::new();
        while let Some((entry, size)) = self.entries.pop_front_if(|(e, _)| e.log_id.index < end) {
            self.bytes -= size;
            if entry.log_id.index >= start {
                taken.push(entry);
            }
        }
        (!taken.is_empty()).then_some(taken)
    }

    /// Copies the entries of `start..end`; `None` if not all are here.
    fn copy(&self, start: u64, end: u64) -> Option<Vec<Entry>> {
        let first = self.first().filter(|first| *first <= start)?;
        let from = usize::try_from(start - first).ok()?;
        let count = usize::try_from(end - start).ok()?;
        if self.entries.len() < from.checked_add(count)? {
            return None;
        }
        Some(
            self.entries
                .range(from..from + count)
                .map(|(entry, _)| entry.clone())
                .collect(),
        )
    }

    /// Copies entries of `start..end`, at least one, about `max_bytes`; `None` if the first is not
    /// here.
    fn copy_some(&self, start: u64, end: u64, max_bytes: usize) -> Option<Vec<Entry>> {
        let first = self.first().filter(|first| *first <= start)?;
        let from = usize::try_from(start - first).ok()?;
        let mut bytes = 0_usize;
        let some: Vec<Entry> = self
            .entries
            .iter()
            .skip(from)
            .take_while(|(entry, size)| {
                let fits = bytes == 0 || bytes.saturating_add(*size) <= max_bytes;
                bytes = bytes.saturating_add(*size);
                fits && entry.log_id.index < end
            })
            .map(|(entry, _)| entry.clone())
            .collect();
        (!some.is_empty()).then_some(some)
    }

    fn truncate_from(&mut self, index: u64) {
        while let Some((_, size)) = self.entries.pop_back_if(|(e, _)| e.log_id.index >= index) {
            self.bytes -= size;
        }
    }
}

impl LogStore {
    /// Opens the log in `dir`, made when there is none, in files of `segment_bytes`. Blocks.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
        growth: Arc<LogGrowth>,
    ) -> io::Result<Self> {
        let options = JournalOptions {
            segment_bytes,
            tail_bytes: TAIL_BYTES,
        };
        let journal = Journal::open(disk, dir, options).map_err(io_error)?;
        let named = |slot, what| move |error| io_named(dir, what, slot, error);
        let vote = journal
            .note(NOTE_VOTE)
            .map(codec::decode_vote)
            .transpose()
            .map_err(named(NOTE_VOTE, "vote"))?;
        let place = |slot, what| {
            let note = journal.note(slot).map(codec::decode_position).transpose();
            note.map(|place| place.map(log_id))
                .map_err(named(slot, what))
        };
        let committed = place(NOTE_COMMITTED, "committed position")?;
        let purged = place(NOTE_PURGED, "purged position")?;
        let last = settle_ends(&journal, dir, purged)?;
        let log = Log {
            vote,
            committed,
            committed_is_news: false,
            purged,
            last,
            recent: Recent::default(),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                journal,
                log: Mutex::new(log),
                growth,
            }),
        })
    }

    /// Index of the first entry that is still there, or would be.
    pub(crate) fn begin(&self) -> u64 {
        next_index(self.log().purged.as_ref())
    }

    /// Counts the entries from `index` on as log that no snapshot holds. Blocks.
    pub(crate) fn count_from(&self, index: u64) -> io::Result<()> {
        let (mut at, end) = self.clamp(&(index..));
        while at < end {
            let batch = self.read_raw(at, end, READ_BYTES)?;
            let bytes = batch.iter().map(|(_, bytes)| bytes.len()).sum();
            at += size_of_log(batch.len());
            self.shared.growth.add(LogSize {
                entries: size_of_log(batch.len()),
                bytes: size_of_log(bytes),
            });
        }
        Ok(())
    }

    /// Writes out what is queued and stops. Blocks.
    pub(crate) fn close(&self) {
        self.shared.journal.close();
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of `range` that is in the log.
    fn clamp(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let log = self.log();
        let held = self.shared.journal.range();
        let first = next_index(log.purged.as_ref()).max(held.start.saturating_sub(1));
        (start.max(first), end.min(next_index(log.last.as_ref())))
    }

    /// Encoded entries from `start`, at least one, about `max_bytes`. Blocks.
    pub(super) fn read_raw(
        &self,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        let range = journal_index(start)..journal_index(end);
        let batch = self
            .shared
            .journal
            .read(range, max_bytes)
            .map_err(io_error)?;
        let whole = batch
            .iter()
            .zip(start..)
            .all(|((at, _), index)| *at == journal_index(index));
        if batch.is_empty() || !whole {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the log has no entries from {start} on, though it ends at {end}"),
            ));
        }
        Ok(batch)
    }

    /// Entries from `start`, at least one, about `max_bytes`.
    async fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let store = self.clone();
        blocking(move || {
            let batch = store.read_raw(start, end, max_bytes)?;
            batch
                .into_iter()
                .map(|(_, bytes)| codec::decode_entry(bytes))
                .collect()
        })
        .await
    }

    /// What the apply loop gets next.
    async fn take(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (taken, end) = {
            let mut log = self.log();
            let taken = log.recent.take(start, end);
            (
                taken,
                log.recent
                    .first()
                    .filter(|first| *first > start)
                    .map_or(end, |f| end.min(f)),
            )
        };
        match taken {
            Some(entries) => Ok(entries),
            None => self.read(start, end, READ_BYTES).await,
        }
    }

    /// Submits and waits until it is durable.
    async fn write_durably(&self, writes: Vec<Write>) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        self.shared.journal.submit(
            writes,
            Box::new(move |result| {
                // Nobody waits any more when the voter is stopping.
                let _ = done.send(result);
            }),
        );
        durable.await.map_err(io::Error::other)?.map_err(io_error)
    }
}

/// Checks that the journal goes on where it was purged, and returns where the log ends.
fn settle_ends(journal: &Journal, dir: &Path, purged: Option<LogId>) -> io::Result<Option<LogId>> {
    let range = journal.range();
    if range.is_empty() {
        return Ok(purged);
    }
    let newest = journal
        .read(range.end - 1..range.end, READ_BYTES)
        .map_err(io_error)?;
    let (_, newest) = newest.first().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the last log entry cannot be read",
        )
    })?;
    let newest = codec::decode_entry_position(newest)?;
    let begin = journal_index(next_index(purged.as_ref()));
    if range.start > begin || journal_index(newest.index) + 1 != range.end {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{}: the log should hold entries from {begin} on but holds {range:?}; restore it \
                 from a copy, or rebuild the node from its peers or the bucket",
                dir.display()
            ),
        ));
    }
    if purged.is_some_and(|purged| purged.index >= newest.index) {
        // The note was durable before the purge was.
        let index = range.end - 1;
        journal.submit(vec![Write::PurgeTo { index }], Box::new(log_failure));
        return Ok(purged);
    }
    Ok(Some(log_id(newest)))
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.clamp(&range);
        let store = self.clone();
        stream::try_unfold((store, start), move |(store, at)| async move {
            if at >= end {
                return Ok(None);
            }
            let batch = store.take(at, end).await?;
            let next = at + size_of_log(batch.len());
            Ok::<_, io::Error>(Some((stream::iter(batch).map(Ok), (store, next))))
        })
        .try_flatten()
    }

    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.clamp(&range);
        if start >= end {
            return Ok(Vec::new());
        }
        if let Some(entries) = self.log().recent.copy(start, end) {
            return Ok(entries);
        }
        let mut entries = Vec::new();
        let mut at = start;
        while at < end {
            let batch = self.read(at, end, READ_BYTES).await?;
            at += size_of_log(batch.len());
            entries.extend(batch);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (start, end) = self.clamp(&(start..end));
        if start >= end {
            return Ok(Vec::new());
        }
        // The first voter that gets them finds them here; what is applied is read from the journal.
        let recent = self.log().recent.copy_some(start, end, READ_BYTES);
        if let Some(entries) = recent {
            return Ok(entries);
        }
        self.read(start, end, READ_BYTES).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = self.log();
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: log.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let note = Write::Note {
            slot: NOTE_VOTE,
            value: codec::encode_vote(vote),
        };
        self.log().vote = Some(*vote);
        self.write_durably(vec![note]).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut log = self.log();
        log.committed_is_news |= log.committed != committed;
        log.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut writes = Vec::new();
        let mut grown = LogSize {
            entries: 0,
            bytes: 0,
        };
        {
            let mut log = self.log();
            if let Some(committed) = log.committed.filter(|_| log.committed_is_news) {
                let value = codec::encode_position(position(&committed));
                writes.push(Write::Note {
                    slot: NOTE_COMMITTED,
                    value,
                });
                log.committed_is_news = false;
            }
            for entry in entries {
                let payload = codec::encode_entry(&entry)?;
                let size = payload.iter().map(Bytes::len).sum();
                grown.entries += 1;
                grown.bytes += size_of_log(size);
                writes.push(Write::Append {
                    index: journal_index(entry.log_id.index),
                    payload,
                });
                log.last = Some(entry.log_id);
                log.recent.push(entry, size);
            }
            self.shared.journal.submit(
                writes,
                Box::new(move |result| callback.io_completed(result.map_err(io_error))),
            );
        }
        self.shared.growth.add(grown);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let keep = next_index(last.as_ref());
        let mut log = self.log();
        if keep >= next_index(log.last.as_ref()) {
            return Ok(());
        }
        log.last = last.max(log.purged);
        log.recent.truncate_from(keep);
        // Journal indexes are one higher, so the number of entries to keep is the last to keep.
        let writes = vec![Write::TruncateAfter { index: keep }];
        self.shared.journal.submit(writes, Box::new(log_failure));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut log = self.log();
        if log.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        let value = codec::encode_position(position(&upto));
        let mut writes = vec![Write::Note {
            slot: NOTE_PURGED,
            value,
        }];
        let last = log.last.map_or(0, |last| journal_index(last.index));
        let held = !self.shared.journal.range().is_empty();
        if held {
            writes.push(Write::PurgeTo {
                index: journal_index(upto.index).min(last),
            });
        }
        log.purged = Some(upto);
        log.last = log.last.max(Some(upto));
        // A snapshot has run ahead of the log, or nothing that is kept as a value is needed.
        if log.recent.first().is_some_and(|first| first <= upto.index) {
            log.recent.take(0, upto.index.saturating_add(1));
        }
        self.shared.journal.submit(writes, Box::new(log_failure));
        Ok(())
    }
}

/// The journal counts from 1.
fn journal_index(index: u64) -> u64 {
    index.saturating_add(1)
}

fn next_index(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index.saturating_add(1))
}

fn size_of_log(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn io_error(error: JournalError) -> io::Error {
    io::Error::other(error)
}

fn io_named(dir: &Path, what: &str, slot: u8, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{}: note {slot} ({what}): {error}", dir.display()),
    )
}

/// For writes nobody waits for: the next append fails too, and stops the voter.
fn log_failure(result: Result<(), JournalError>) {
    if let Err(error) = result {
        tracing::error!(%error, "metadata log cannot be written");
    }
}
