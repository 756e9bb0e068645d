//! The I/O thread's work: takes everything that is queued, writes it with one call, syncs once, then tells
//! the callers in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use metrics::{Counter, Histogram};

use super::JournalError;
use super::index::Location;
use super::record::{Batch, Kind, record_bytes};
use super::recover::Recovered;
use super::segment::{Kept, Previous, Segment, Segments, ZERO_STEP, write_zeros};
use super::state::{Op, Shared, Submission};

/// Owns the files. Lives on the journal's thread.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    segments: Segments,
    live: VecDeque<Arc<Segment>>,
    active: Arc<Segment>,
    position: u64,
    zeroed: u64,
    /// Last purge and notes at this point of the stream of writes, for the start of the next segment.
    kept: Kept,
    bytes_written: Counter,
    write_seconds: Histogram,
}

/// What one group of submissions did, to be shown to readers once it is durable.
#[derive(Debug, Default)]
struct Group {
    locations: Vec<Location>,
    made: Vec<Arc<Segment>>,
    purges: bool,
}

impl Writer {
    /// `None` when there is no segment, which recovery never leaves.
    pub(super) fn new(
        shared: Arc<Shared>,
        recovered: Recovered,
        purged: Option<u64>,
    ) -> Option<Self> {
        let Recovered {
            segments,
            live,
            position,
            zeroed,
            notes,
            ..
        } = recovered;
        Some(Self {
            shared,
            segments,
            active: Arc::clone(live.back()?),
            live,
            position,
            zeroed,
            kept: Kept { purged, notes },
            bytes_written: metrics::counter!("alluvium_journal_written_bytes_total"),
            write_seconds: metrics::histogram!("alluvium_journal_write_seconds"),
        })
    }

    /// Runs until the journal is closed or fails.
    pub(super) fn run(mut self) {
        let ending = Ending(Arc::clone(&self.shared));
        while let Some(group) = self.shared.take() {
            if !self.handle_or_stop(group) {
                break;
            }
        }
        drop(ending);
    }

    /// Writes out what is queued now, without waiting for more.
    pub(super) fn drain(&mut self) {
        while let Some(group) = self.shared.take_queued() {
            if !self.handle_or_stop(group) {
                break;
            }
        }
    }

    fn handle_or_stop(&mut self, group: Vec<Submission>) -> bool {
        let handled = self.handle(group);
        if let Err(error) = &handled {
            tracing::error!(%error, "the journal stops: a write failed, what it left is unknown");
            self.shared.fail(error);
        }
        handled.is_ok()
    }

    fn handle(&mut self, group: Vec<Submission>) -> Result<(), JournalError> {
        let started = Instant::now();
        match self.write(&group) {
            Ok(done) => {
                self.write_seconds.record(started.elapsed());
                let purges = done.purges;
                self.live.extend(done.made.iter().cloned());
                let oldest = self.shared.publish(&group, done.locations, done.made);
                group
                    .into_iter()
                    .for_each(|submission| (submission.on_durable)(Ok(())));
                if purges {
                    self.reclaim(oldest)?;
                }
                self.fill_ahead();
                Ok(())
            }
            Err(error) => {
                // Closed first, so that nobody submits more after hearing of the failure.
                self.shared.close(&error.to_string());
                for submission in group {
                    (submission.on_durable)(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    fn write(&mut self, group: &[Submission]) -> Result<Group, JournalError> {
        let mut done = Group::default();
        let mut batch = Batch::new(self.active.generation, self.position);
        for op in group.iter().flat_map(|submission| &submission.ops) {
            let bytes = record_bytes(op.payload().iter().map(Bytes::len).sum());
            if batch.position() + bytes > self.active.capacity {
                self.flush(batch)?;
                batch = self.roll(bytes, &mut done)?;
            }
            let (kind, slot, index) = match op {
                Op::Append { index, .. } => (Kind::Append, 0, *index),
                Op::TruncateAfter(index) => (Kind::Truncate, 0, *index),
                Op::PurgeTo(index) => (Kind::Purge, 0, *index),
                Op::Note { slot, .. } => (Kind::Note, *slot, 0),
            };
            let position = batch.push(kind, slot, index, op.payload());
            match op {
                Op::Append { .. } => {
                    done.locations
                        .push(Location::new(self.active.sequence, position));
                }
                Op::TruncateAfter(_) => {}
                Op::PurgeTo(index) => {
                    self.kept.purged = self.kept.purged.max(Some(*index));
                    done.purges = true;
                }
                Op::Note { slot, value } => {
                    if let Some(note) = self.kept.notes.get_mut(usize::from(*slot)) {
                        *note = Some(value.clone());
                    }
                }
            }
        }
        self.flush(batch)?;
        Ok(done)
    }

    /// One write, one sync.
    fn flush(&mut self, batch: Batch) -> Result<(), JournalError> {
        let (start, end, parts) = batch.finish();
        if start == end {
            return Ok(());
        }
        let file = &self.active.file;
        let written = file.write_at(&parts, start).and_then(|()| file.sync());
        written.map_err(|error| JournalError::io(&self.active.path, &error))?;
        self.bytes_written.increment(end - start);
        self.position = end;
        Ok(())
    }

    /// Goes on in a new segment, which begins with what must outlive the older ones.
    fn roll(&mut self, needed: u64, done: &mut Group) -> Result<Batch, JournalError> {
        let previous = Previous {
            generation: self.active.generation,
            end: self.position,
        };
        let sequence = self.active.sequence.saturating_add(1);
        let (segment, zeroed) = self.segments.make(sequence, previous, &self.kept, needed)?;
        self.active = Arc::new(segment);
        self.position = self.active.kept_end;
        self.zeroed = zeroed;
        done.made.push(Arc::clone(&self.active));
        Ok(Batch::new(self.active.generation, self.position))
    }

    /// Recycles the segments before `oldest`, the oldest one that holds an entry.
    fn reclaim(&mut self, oldest: Option<u32>) -> Result<(), JournalError> {
        let oldest = oldest.unwrap_or(self.active.sequence);
        while self
            .live
            .front()
            .is_some_and(|segment| segment.sequence < oldest)
        {
            if let Some(segment) = self.live.pop_front() {
                self.shared.forget(segment.sequence);
                self.segments.retire(&segment)?;
            }
        }
        Ok(())
    }

    /// Fills holes ahead of the next records; better now than while someone waits.
    fn fill_ahead(&mut self) {
        let end = (self.zeroed + ZERO_STEP).min(self.active.capacity);
        if self.zeroed >= end || self.zeroed > self.position + ZERO_STEP / 2 {
            return;
        }
        let start = self.zeroed.max(self.position);
        self.zeroed = end;
        if let Err(error) = write_zeros(self.active.file.as_ref(), start, end) {
            let file = self.active.path.display();
            tracing::warn!(%file, %error, "cannot fill the journal's file ahead of its records");
            self.zeroed = self.active.capacity;
        }
    }
}

/// However the thread ends, nobody waits for it in vain.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let reason = "its I/O thread has ended";
        self.0.fail(&JournalError::Closed(reason.to_owned()));
    }
}
