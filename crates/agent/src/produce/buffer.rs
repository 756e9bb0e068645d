//! What was accepted and is not sealed yet: one queue per lane, and one for what needs no more than
//! one copy.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use alluvium_metadata::BatchStamp;
use alluvium_types::hash::HashMap;
use alluvium_types::{TopicPartition, limits::INLINE_CHUNK_BYTES};

use crate::topics::Lane;

use super::budget::Tokens;
use super::flight::ANSWER_DEADLINE;
use super::seal::{CHUNK_BATCHES, Due, LaneView, Reason, SealRules, due};
use super::seat::Seat;
use super::submission::Waiting;

/// Low-latency topics may take this many times the inline bytes of all others.
const LOW_LATENCY_SHARE: f64 = 4.0;

/// Low-latency batches go inline in several chunks as long as no more than this many are needed.
const INLINE_CHUNKS: usize = 16;

/// Accepted bytes, buffered and on their way, beyond which nothing is taken: in chunks. The leases
/// of the frames end long before.
const HELD_CHUNKS: usize = 128;

const LINES: [Line; 4] = [Line::LowLatency, Line::Weak, Line::Auto, Line::Object];

/// Which queue a batch waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its topic's lane.
    LowLatency,
    /// Its topic's lane.
    Auto,
    /// Its topic's lane.
    Object,
    /// Its producer is content with one copy (acks=1 and acks=0), whatever the topic's lane.
    Weak,
}

impl Line {
    pub(super) const fn of(lane: Lane, is_weak: bool) -> Self {
        match lane {
            _ if is_weak => Self::Weak,
            Lane::LowLatency => Self::LowLatency,
            Lane::Auto => Self::Auto,
            Lane::Object => Self::Object,
        }
    }
}

/// What write-ahead buffers would take now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Journals {
    /// This agent's own has room.
    pub(super) own: bool,
    /// As many as the cluster asks for.
    pub(super) enough: bool,
    /// The store takes nothing: what may go elsewhere should.
    pub(super) instead_of_store: bool,
}

/// A batch in the buffer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) partition: TopicPartition,
    pub(super) line: Line,
    pub(super) bytes: Bytes,
    pub(super) stamp: BatchStamp,
    pub(super) waiting: Waiting,
    pub(super) came: Instant,
}

/// Batches that travel together from here on, in the order in which they came.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: usize,
    pub(super) way: Way,
    pub(super) reason: Reason,
}

/// How a chunk becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Inside a Raft entry; from which queue it comes.
    Inline(Line),
    /// In write-ahead buffers; from which queue it comes.
    Journal(Line),
    /// In an object.
    Object,
}

/// Why the buffer takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    Closing,
    Overflow,
}

#[derive(Debug)]
pub(super) struct Buffer {
    rules: SealRules,
    queues: [Queue; 4],
    /// Sealed ahead of their time and not taken yet.
    forced: Vec<Sealed>,
    generation: u64,
    closing: bool,
    held: usize,
    flying_puts: usize,
    early_puts: Tokens,
    inline: Tokens,
    low_latency: Tokens,
    /// Whether the metadata has room for more inline bytes.
    inline_room: bool,
    journals: Journals,
}

impl Buffer {
    pub(super) fn new(
        rules: SealRules,
        inline_bytes_per_second: u64,
        early_puts_per_second: u32,
        now: Instant,
    ) -> Self {
        // A rate of bytes loses nothing that matters as a float.
        #[allow(clippy::cast_precision_loss)]
        let inline = inline_bytes_per_second as f64;
        let early = f64::from(early_puts_per_second);
        let fast = inline * LOW_LATENCY_SHARE;
        Self {
            rules,
            queues: std::array::from_fn(|_| Queue::default()),
            forced: Vec::new(),
            generation: 0,
            closing: false,
            held: 0,
            flying_puts: 0,
            early_puts: Tokens::new(early, early, now),
            inline: Tokens::new(inline, inline, now),
            low_latency: Tokens::new(fast, fast, now),
            inline_room: true,
            journals: Journals::default(),
        }
    }

    /// Takes a request's batches. `generation` says under which settings they were checked: when
    /// these changed, a partition may have changed its lane, so what was there before is sealed
    /// first.
    ///
    /// Gives them back when it takes none.
    pub(super) fn push(
        &mut self,
        entries: Vec<Entry>,
        generation: u64,
        now: Instant,
    ) -> Result<(), (Rejected, Vec<Entry>)> {
        let held_most = HELD_CHUNKS.saturating_mul(self.rules.chunk_bytes);
        if self.closing || self.held >= held_most {
            let why = if self.closing {
                Rejected::Closing
            } else {
                Rejected::Overflow
            };
            return Err((why, entries));
        }
        if generation > self.generation {
            self.force(now);
        }
        for entry in entries {
            self.held += entry.bytes.len();
            self.queue(entry.line).push(entry);
        }
        if generation < self.generation {
            self.force(now);
        }
        self.generation = self.generation.max(generation);
        Ok(())
    }

    /// When the next batch will have waited too long for its sealing.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        let oldest = self.queues.iter().filter_map(|queue| queue.entries.front());
        oldest.map(|entry| entry.came + ANSWER_DEADLINE).min()
    }

    /// Takes the batches that have waited too long out: while the store is away, what nobody waits for
    /// any more must not fill the buffer.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Entry> {
        self.take_where(&|entry: &Entry| entry.came + ANSWER_DEADLINE <= now)
    }

    /// Takes everything out that is not on its way.
    pub(super) fn take_all(&mut self) -> Vec<Entry> {
        let forced = std::mem::take(&mut self.forced);
        for sealed in &forced {
            self.held = self.held.saturating_sub(sealed.bytes);
            match sealed.way {
                Way::Object => self.flying_puts = self.flying_puts.saturating_sub(1),
                Way::Inline(line) | Way::Journal(line) => {
                    let queue = self.queue(line);
                    queue.flying_fast = queue.flying_fast.saturating_sub(1);
                }
            }
        }
        let mut taken: Vec<Entry> = forced
            .into_iter()
            .flat_map(|sealed| sealed.entries)
            .collect();
        taken.extend(self.take_where(&|_| true));
        taken
    }

    fn take_where(&mut self, is_taken: &impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        for queue in &mut self.queues {
            queue.remove(is_taken, &mut taken);
        }
        self.held = self.held.saturating_sub(bytes_of(&taken));
        taken
    }

    /// Whether everything that was taken is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.forced.is_empty() && self.queues.iter().all(|queue| queue.entries.is_empty())
    }

    /// Says whether the metadata has room for more inline bytes.
    pub(super) const fn set_inline_room(&mut self, has_room: bool) {
        self.inline_room = has_room;
    }

    /// Says what write-ahead buffers would take.
    pub(super) const fn set_journals(&mut self, journals: Journals) {
        self.journals = journals;
    }

    /// From here on nothing is taken, and what is there is sealed without waiting.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether nothing is taken any more and everything that was has been answered.
    pub(super) const fn is_drained(&self) -> bool {
        self.closing && self.held == 0
    }

    /// Bytes taken and not answered yet.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// A PUT ended, well or not.
    pub(super) fn put_ended(&mut self) {
        self.flying_puts = self.flying_puts.saturating_sub(1);
    }

    /// A chunk was sequenced and answered, or given up.
    pub(super) fn landed(&mut self, bytes: usize, way: Way) {
        self.sequenced(way);
        self.answered(bytes);
    }

    /// A chunk was answered.
    pub(super) const fn answered(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// A chunk has its offsets: it does not keep others waiting any longer.
    pub(super) fn sequenced(&mut self, way: Way) {
        if let Way::Inline(line) | Way::Journal(line) = way {
            let queue = self.queue(line);
            queue.flying_fast = queue.flying_fast.saturating_sub(1);
        }
    }

    /// Seals what is due now, in the order in which it must be sequenced; and says when to look
    /// again if nothing happens before.
    pub(super) fn take_due(&mut self, now: Instant) -> (Vec<Sealed>, Option<Instant>) {
        let mut sealed = std::mem::take(&mut self.forced);
        let mut next: Option<Instant> = None;
        for line in LINES {
            while let Some(view) = self.view(line, now) {
                match due(&view, &self.rules, now) {
                    Due::Now(reason) => self.seal(line, view, reason, now, &mut sealed),
                    Due::At(at) => {
                        next = Some(next.map_or(at, |next| next.min(at)));
                        break;
                    }
                    Due::OnLanding => break,
                }
            }
        }
        (sealed, next)
    }

    fn queue(&mut self, line: Line) -> &mut Queue {
        let [low_latency, auto, object, weak] = &mut self.queues;
        match line {
            Line::LowLatency => low_latency,
            Line::Auto => auto,
            Line::Object => object,
            Line::Weak => weak,
        }
    }

    fn view(&mut self, line: Line, now: Instant) -> Option<LaneView> {
        let goes_fast = self.fast_way(line, now).is_some();
        let early_put_at = if self.early_puts.has(1.0, now) {
            Some(now)
        } else {
            self.early_puts.wait_for(1.0).map(|wait| now + wait)
        };
        let (flying_puts, closing) = (self.flying_puts, self.closing);
        let queue = self.queue(line);
        Some(LaneView {
            bytes: queue.bytes,
            batches: queue.entries.len(),
            oldest: queue.entries.front()?.came,
            last_seal: queue.last_seal,
            all_spent: queue.all_spent(),
            goes_fast,
            flying_fast: queue.flying_fast,
            flying_puts,
            early_put_at,
            closing,
        })
    }

    /// How what waits in a queue gets durable sooner than in an object, if it may.
    fn fast_way(&mut self, line: Line, now: Instant) -> Option<Way> {
        let journals = self.journals;
        if line == Line::Weak && journals.own {
            return Some(Way::Journal(line));
        }
        if self.goes_inline(line, now) {
            return Some(Way::Inline(line));
        }
        let goes_to_journals = match line {
            Line::Object => false,
            Line::LowLatency => journals.enough,
            Line::Auto | Line::Weak => journals.enough && journals.instead_of_store,
        };
        goes_to_journals.then_some(Way::Journal(line))
    }

    fn goes_inline(&mut self, line: Line, now: Instant) -> bool {
        let queue = self.queue(line);
        let (bytes, oversized) = (queue.bytes, queue.oversized > 0);
        // Sizes of at most a MiB are exact as floats.
        #[allow(clippy::cast_precision_loss)]
        let tokens = bytes as f64;
        if !self.inline_room {
            return false;
        }
        match line {
            Line::Object => false,
            Line::Auto | Line::Weak => bytes <= INLINE_CHUNK_BYTES && self.inline.has(tokens, now),
            Line::LowLatency => {
                !oversized
                    && bytes <= INLINE_CHUNKS * INLINE_CHUNK_BYTES
                    && self.low_latency.has(tokens, now)
            }
        }
    }

    fn seal(
        &mut self,
        line: Line,
        view: LaneView,
        reason: Reason,
        now: Instant,
        sealed: &mut Vec<Sealed>,
    ) {
        let half = self.rules.interval / 2;
        self.queue(line).learn(reason, now, half);
        let chunk_bytes = self.rules.chunk_bytes;
        match self.fast_way(line, now).filter(|_| view.goes_fast) {
            Some(Way::Inline(_)) => return self.seal_inline(line, reason, now, sealed),
            Some(way) => {
                let queue = self.queue(line);
                queue.flying_fast += 1;
                let entries = queue.take(chunk_bytes, now);
                return sealed.push(Sealed {
                    bytes: bytes_of(&entries),
                    entries,
                    way,
                    reason,
                });
            }
            None => {}
        }
        if reason.is_early() {
            self.early_puts.take(1.0);
        }
        self.flying_puts += 1;
        let mut entries = self.queue(line).take(chunk_bytes, now);
        if let Some(other) = self.companion(line, &entries, now) {
            entries.extend(self.queue(other).take(chunk_bytes, now));
        }
        sealed.push(Sealed {
            bytes: bytes_of(&entries),
            entries,
            way: Way::Object,
            reason,
        });
    }

    /// Another lane that goes to an object too and fits into the same one.
    fn companion(&mut self, line: Line, entries: &[Entry], now: Instant) -> Option<Line> {
        let other = match line {
            Line::Auto => Line::Object,
            Line::Object => Line::Auto,
            Line::LowLatency | Line::Weak => return None,
        };
        if self.fast_way(other, now).is_some() {
            return None;
        }
        let queue = self.queue(other);
        let bytes = queue.bytes + bytes_of(entries);
        let batches = queue.entries.len() + entries.len();
        let fits = bytes <= self.rules.chunk_bytes && batches <= CHUNK_BATCHES;
        fits.then_some(other)
    }

    fn seal_inline(&mut self, line: Line, reason: Reason, now: Instant, sealed: &mut Vec<Sealed>) {
        loop {
            let entries = self.queue(line).take(INLINE_CHUNK_BYTES, now);
            let bytes = bytes_of(&entries);
            if bytes == 0 {
                return;
            }
            #[allow(clippy::cast_precision_loss)]
            let tokens = bytes as f64;
            match line {
                Line::LowLatency => self.low_latency.take(tokens),
                Line::Auto | Line::Object | Line::Weak => self.inline.take(tokens),
            }
            self.queue(line).flying_fast += 1;
            sealed.push(Sealed {
                entries,
                bytes,
                way: Way::Inline(line),
                reason,
            });
        }
    }

    /// Seals everything, whatever the limits on PUTs say: this happens when topics change.
    fn force(&mut self, now: Instant) {
        let mut sealed = std::mem::take(&mut self.forced);
        for line in LINES {
            while let Some(view) = self.view(line, now) {
                self.seal(line, view, Reason::Forced, now, &mut sealed);
            }
        }
        self.forced = sealed;
    }
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.bytes.len()).sum()
}

/// The batches of one lane.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Batches too large for an inline chunk.
    oversized: usize,
    /// Whose batches these are, and how many of each.
    seats: HashMap<u64, (Arc<Seat>, usize)>,
    last_seal: Option<Instant>,
    flying_fast: usize,
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        let seat = entry.waiting.seat();
        seat.buffered();
        self.seats
            .entry(seat.id())
            .or_insert_with(|| (Arc::clone(seat), 0))
            .1 += 1;
        self.bytes += entry.bytes.len();
        self.oversized += usize::from(entry.bytes.len() > INLINE_CHUNK_BYTES);
        self.entries.push_back(entry);
    }

    /// Takes the oldest batches: at least one, then up to `bytes`.
    fn take(&mut self, bytes: usize, now: Instant) -> Vec<Entry> {
        let mut taken = 0;
        let mut count = 0;
        for entry in &self.entries {
            let fits = taken + entry.bytes.len() <= bytes && count < CHUNK_BATCHES;
            if count > 0 && !fits {
                break;
            }
            taken += entry.bytes.len();
            count += 1;
        }
        let entries: Vec<_> = self.entries.drain(..count).collect();
        for entry in &entries {
            let seat = entry.waiting.seat();
            seat.sealed();
            if let Some((_, left)) = self.seats.get_mut(&seat.id()) {
                *left -= 1;
                if *left == 0 {
                    self.seats.remove(&seat.id());
                }
            }
            self.oversized -= usize::from(entry.bytes.len() > INLINE_CHUNK_BYTES);
        }
        self.bytes -= taken;
        self.last_seal = Some(now);
        entries
    }

    /// Moves the batches for which `is_taken` holds over to `taken`.
    fn remove(&mut self, is_taken: &impl Fn(&Entry) -> bool, taken: &mut Vec<Entry>) {
        if !self.entries.iter().any(is_taken) {
            return;
        }
        let last_seal = self.last_seal;
        let mut entries = Vec::with_capacity(self.entries.len());
        while !self.entries.is_empty() {
            entries.extend(self.take(usize::MAX, Instant::now()));
        }
        self.last_seal = last_seal;
        for entry in entries {
            if is_taken(&entry) {
                taken.push(entry);
            } else {
                self.push(entry);
            }
        }
    }

    fn all_spent(&self) -> bool {
        self.seats.values().all(|(seat, _)| seat.is_spent())
    }

    /// Connections that sent no more in a good part of an interval have a smaller window than was
    /// thought.
    fn learn(&self, reason: Reason, now: Instant, at_least: std::time::Duration) {
        let waited = self
            .entries
            .front()
            .is_some_and(|oldest| now >= oldest.came + at_least);
        if waited && matches!(reason, Reason::Interval | Reason::Idle) {
            for (seat, _) in self.seats.values().filter(|(seat, _)| !seat.is_spent()) {
                seat.interval_passed();
            }
        }
    }
}
