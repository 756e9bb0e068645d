//! What the journal's handles and its I/O thread share.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::index::{Bounds, Index, Location};
use super::record::{HEADER_BYTES, PAYLOAD_BYTES};
use super::segment::Segment;
use super::{JournalError, NOTE_BYTES, NOTE_SLOTS, Notes, OnDurable, Write};

/// A write as it is queued.
#[derive(Debug)]
pub(super) enum Op {
    Append { index: u64, payload: Arc<[Bytes]> },
    TruncateAfter(u64),
    PurgeTo(u64),
    Note { slot: u8, value: Bytes },
}

impl Op {
    pub(super) fn payload(&self) -> &[Bytes] {
        match self {
            Self::Append { payload, .. } => payload,
            Self::Note { value, .. } => std::slice::from_ref(value),
            Self::TruncateAfter(_) | Self::PurgeTo(_) => &[],
        }
    }
}

/// Writes that were submitted together.
pub(super) struct Submission {
    ticket: u64,
    pub(super) ops: Vec<Op>,
    pub(super) on_durable: OnDurable,
}

/// An entry in memory.
#[derive(Debug)]
struct Recent {
    ticket: u64,
    bytes: usize,
    payload: Arc<[Bytes]>,
}

/// Where a reader gets an entry from.
#[derive(Debug)]
pub(super) enum Source {
    Memory(Arc<[Bytes]>),
    Disk(Arc<Segment>, u64),
}

/// Everything under the lock, which is never held during I/O.
pub(super) struct State {
    /// The log as submitted.
    bounds: Bounds,
    pub(super) notes: Notes,
    /// The newest entries, up to the last one submitted. Those not yet on disk are always here.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    tail_bytes: usize,
    /// The log as far as it is on disk.
    written: Index,
    written_ticket: u64,
    segments: VecDeque<Arc<Segment>>,
    queue: Vec<Submission>,
    next_ticket: u64,
    closed: Option<String>,
}

/// See the module.
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// The same for a simulation's task.
    wake_task: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("range", &self.lock().bounds.range())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        index: Index,
        notes: Notes,
        segments: VecDeque<Arc<Segment>>,
        tail_bytes: usize,
    ) -> Self {
        let state = State {
            bounds: index.bounds(),
            notes,
            recent: VecDeque::new(),
            recent_bytes: 0,
            tail_bytes,
            written: index,
            written_ticket: 0,
            segments,
            queue: Vec::new(),
            next_ticket: 1,
            closed: None,
        };
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            wake_task: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues writes, or calls back at once when they cannot be.
    pub(super) fn submit(&self, writes: Vec<Write>, on_durable: OnDurable) {
        let mut state = self.lock();
        let refused = match &state.closed {
            Some(reason) => Some(JournalError::Closed(reason.clone())),
            None => state.check(&writes).err().map(JournalError::Refused),
        };
        if let Some(error) = refused {
            drop(state);
            return on_durable(Err(error));
        }
        state.enqueue(writes, on_durable);
        drop(state);
        self.wake.notify_one();
        self.wake_task.notify_one();
    }

    /// Waits for work. `None` when the journal is closed and nothing is left.
    pub(super) fn take(&self) -> Option<Vec<Submission>> {
        let mut state = self.lock();
        while state.queue.is_empty() {
            if state.closed.is_some() {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut state.queue))
    }

    /// As [`Self::take`], without waiting.
    pub(super) fn take_queued(&self) -> Option<Vec<Submission>> {
        let queue = std::mem::take(&mut self.lock().queue);
        (!queue.is_empty()).then_some(queue)
    }

    /// Waits for work without a thread. False when the journal is closed and nothing is left.
    pub(super) async fn queued(&self) -> bool {
        loop {
            {
                let state = self.lock();
                if !state.queue.is_empty() {
                    return true;
                }
                if state.closed.is_some() {
                    return false;
                }
            }
            self.wake_task.notified().await;
        }
    }

    /// Refuses all further writes; the first reason stays.
    pub(super) fn close(&self, reason: &str) {
        self.lock().closed.get_or_insert_with(|| reason.to_owned());
        self.wake.notify_one();
        self.wake_task.notify_one();
    }

    /// Closes, and fails what is queued.
    pub(super) fn fail(&self, error: &JournalError) {
        self.close(&error.to_string());
        let (queue, reason) = {
            let mut state = self.lock();
            (
                std::mem::take(&mut state.queue),
                state.closed.clone().unwrap_or_default(),
            )
        };
        for submission in queue {
            (submission.on_durable)(Err(JournalError::Closed(reason.clone())));
        }
    }

    /// Shows readers where a group's entries are. Returns the oldest segment that holds an entry.
    pub(super) fn publish(
        &self,
        group: &[Submission],
        locations: Vec<Location>,
        made: Vec<Arc<Segment>>,
    ) -> Option<u32> {
        let mut state = self.lock();
        let state = &mut *state;
        state.segments.extend(made);
        let mut locations = locations.into_iter();
        for op in group.iter().flat_map(|submission| &submission.ops) {
            match op {
                Op::Append { index, .. } => {
                    // Checked when it was submitted, and every append has a location.
                    if let Some(location) = locations.next() {
                        let _ = state.written.append(*index, location);
                    }
                }
                Op::TruncateAfter(index) => state.written.truncate_after(*index),
                Op::PurgeTo(index) => state.written.purge_to(*index),
                Op::Note { .. } => {}
            }
        }
        state.written_ticket = group
            .last()
            .map_or(state.written_ticket, |submission| submission.ticket);
        state.evict();
        state.written.oldest_segment()
    }

    /// A segment is about to be recycled.
    pub(super) fn forget(&self, sequence: u32) {
        self.lock()
            .segments
            .retain(|segment| segment.sequence != sequence);
    }
}

impl State {
    pub(super) fn range(&self) -> Range<u64> {
        self.bounds.range()
    }

    fn check(&self, writes: &[Write]) -> Result<(), String> {
        let mut bounds = self.bounds;
        for write in writes {
            match write {
                Write::Append { index, payload } => {
                    bounds.append(*index)?;
                    let bytes: usize = payload.iter().map(Bytes::len).sum();
                    if bytes > PAYLOAD_BYTES {
                        return Err(format!(
                            "entry {index} has {bytes} bytes (at most {PAYLOAD_BYTES})"
                        ));
                    }
                }
                Write::TruncateAfter { index } => bounds.truncate_after(*index),
                Write::PurgeTo { index } => bounds.purge_to(*index),
                Write::Note { slot, value } => {
                    if usize::from(*slot) >= NOTE_SLOTS || value.len() > NOTE_BYTES {
                        let bytes = value.len();
                        return Err(format!("note {slot} of {bytes} bytes is out of bounds"));
                    }
                }
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, writes: Vec<Write>, on_durable: OnDurable) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let ops = writes
            .into_iter()
            .map(|write| self.show(write, ticket))
            .collect();
        self.queue.push(Submission {
            ticket,
            ops,
            on_durable,
        });
    }

    /// Makes a checked write visible.
    fn show(&mut self, write: Write, ticket: u64) -> Op {
        match write {
            Write::Append { index, payload } => {
                let _ = self.bounds.append(index);
                let payload: Arc<[Bytes]> = payload.into();
                let bytes = HEADER_BYTES + payload.iter().map(Bytes::len).sum::<usize>();
                self.recent_bytes += bytes;
                self.recent.push_back(Recent {
                    ticket,
                    bytes,
                    payload: Arc::clone(&payload),
                });
                Op::Append { index, payload }
            }
            Write::TruncateAfter { index } => {
                let before = self.bounds.range().end;
                self.bounds.truncate_after(index);
                for _ in self.bounds.range().end..before {
                    let Some(gone) = self.recent.pop_back() else {
                        break;
                    };
                    self.recent_bytes -= gone.bytes;
                }
                Op::TruncateAfter(index)
            }
            Write::PurgeTo { index } => {
                self.bounds.purge_to(index);
                let range = self.bounds.range();
                while self.recent.len() as u64 > range.end - range.start {
                    let Some(gone) = self.recent.pop_front() else {
                        break;
                    };
                    self.recent_bytes -= gone.bytes;
                }
                Op::PurgeTo(index)
            }
            Write::Note { slot, value } => {
                // Copied, so that it does not hold on to a larger buffer.
                let value = Bytes::copy_from_slice(&value);
                if let Some(note) = self.notes.get_mut(usize::from(slot)) {
                    *note = Some(value.clone());
                }
                Op::Note { slot, value }
            }
        }
    }

    /// Lets entries go that are on disk, down to the tail's size.
    fn evict(&mut self) {
        while self.recent_bytes > self.tail_bytes
            && self
                .recent
                .front()
                .is_some_and(|entry| entry.ticket <= self.written_ticket)
        {
            let Some(gone) = self.recent.pop_front() else {
                break;
            };
            self.recent_bytes -= gone.bytes;
        }
    }

    /// Where the entries of `range` are, as many as hold about `max_bytes`.
    pub(super) fn plan(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Source)>, JournalError> {
        let held = self.bounds.range();
        if range.start >= range.end {
            return Ok(Vec::new());
        }
        if range.start < held.start {
            return Err(JournalError::Purged {
                index: range.start,
                first: held.start,
            });
        }
        let recent_start = held.end - self.recent.len() as u64;
        let mut plan = Vec::new();
        let mut bytes = 0_u64;
        let mut before: Option<Location> = None;
        for index in range.start..range.end.min(held.end) {
            let source = match index.checked_sub(recent_start) {
                Some(at) => {
                    let at = usize::try_from(at).unwrap_or(usize::MAX);
                    let Some(entry) = self.recent.get(at) else {
                        break;
                    };
                    bytes += entry.bytes as u64;
                    Source::Memory(Arc::clone(&entry.payload))
                }
                None => {
                    let Some(location) = self.written.get(index) else {
                        break;
                    };
                    // The size of the entry before, as far as two positions tell it.
                    bytes += match before.replace(location) {
                        Some(last) if last.segment == location.segment => {
                            location.position().saturating_sub(last.position())
                        }
                        _ => 0,
                    };
                    let found = self
                        .segments
                        .binary_search_by_key(&location.segment, |segment| segment.sequence);
                    let Some(segment) = found.ok().and_then(|at| self.segments.get(at)) else {
                        break;
                    };
                    Source::Disk(Arc::clone(segment), location.position())
                }
            };
            plan.push((index, source));
            if bytes >= max_bytes as u64 {
                break;
            }
        }
        Ok(plan)
    }
}
