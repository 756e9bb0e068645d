//! Wall clocks that jump.

use std::sync::atomic::{AtomicI64, Ordering};

use alluvium_types::{Clock, Millis};
use tokio::time::Instant;

/// When all simulations begin.
const EPOCH: Millis = 1_700_000_000_000;

/// A machine's wall clock: virtual time, and how wrong it is.
#[derive(Debug)]
pub(crate) struct WallClock {
    started: Instant,
    wrong_by: AtomicI64,
}

impl WallClock {
    pub(crate) fn new(wrong_by: Millis) -> Self {
        Self {
            started: Instant::now(),
            wrong_by: AtomicI64::new(wrong_by),
        }
    }

    pub(crate) fn jump(&self, by: Millis) {
        self.wrong_by.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for WallClock {
    fn now(&self) -> Millis {
        let passed = Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX);
        EPOCH + passed + self.wrong_by.load(Ordering::SeqCst)
    }
}
