//! What the buffer knows of a connection: how much it sends before it waits for answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// A connection's counts. They steer when a chunk is sealed and nothing else, so a glimpse of them
/// in between does no harm.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    /// Requests that were not answered yet.
    outstanding: AtomicU32,
    /// Batches that were not answered yet,
    batches: AtomicU32,
    /// and those of them that lie in the buffer.
    buffered: AtomicU32,
    /// The number of outstanding requests at which the client is believed to wait. It grows with what
    /// is seen and shrinks when a whole interval brought no more.
    window: AtomicU32,
    closed: AtomicBool,
}

impl Seat {
    pub(super) const fn new(id: u64) -> Self {
        Self {
            id,
            outstanding: AtomicU32::new(0),
            batches: AtomicU32::new(0),
            buffered: AtomicU32::new(0),
            window: AtomicU32::new(1),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn submitted(&self) {
        let outstanding = self.outstanding.fetch_add(1, Relaxed) + 1;
        self.window.fetch_max(outstanding, Relaxed);
    }

    pub(super) fn answered(&self) {
        self.outstanding.fetch_sub(1, Relaxed);
    }

    pub(super) fn batch_taken(&self) {
        self.batches.fetch_add(1, Relaxed);
    }

    pub(super) fn batch_done(&self) {
        self.batches.fetch_sub(1, Relaxed);
    }

    pub(super) fn buffered(&self) {
        self.buffered.fetch_add(1, Relaxed);
    }

    pub(super) fn sealed(&self) {
        self.buffered.fetch_sub(1, Relaxed);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    /// Whether waiting longer can bring no more from this connection: it has sent what it sends at a
    /// time, and all of it lies in the buffer. While some of it is on its way to the store the
    /// answer will bring more, and one chunk for both is cheaper.
    pub(super) fn is_spent(&self) -> bool {
        self.closed.load(Relaxed)
            || (self.batches.load(Relaxed) <= self.buffered.load(Relaxed)
                && self.outstanding.load(Relaxed) >= self.window.load(Relaxed))
    }

    /// A whole interval brought no more than this.
    pub(super) fn interval_passed(&self) {
        self.window
            .store(self.outstanding.load(Relaxed).max(1), Relaxed);
    }
}
