//! Whether the object store seems able to take data.
//!
//! Whoever writes to it says how that went. After two failures or long waits in a row, with no success
//! between, it browns out: chunks that may go elsewhere do, until one write succeeds in time. Settling
//! goes on trying all the while, so a store that is back is noticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

/// A write that takes longer is a bad sign. S3's slowest PUTs in good health stay well below.
pub(crate) const SLOW: Duration = Duration::from_secs(2);

/// Bad signs in a row.
const SIGNS: u32 = 2;

/// After so long without any sign the store is given another chance.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Shared by all who write. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreHealth {
    signs: Arc<Mutex<Signs>>,
}

#[derive(Debug, Default)]
struct Signs {
    bad: u32,
    last: Option<Instant>,
}

impl StoreHealth {
    /// A write ended well, after so long.
    pub(crate) fn succeeded(&self, elapsed: Duration) {
        if elapsed < SLOW {
            self.lock().bad = 0;
        }
    }

    /// A write failed, or takes too long.
    pub(crate) fn suffered(&self) {
        let mut signs = self.lock();
        signs.bad = signs.bad.saturating_add(1);
        signs.last = Some(Instant::now());
        if signs.bad == SIGNS {
            metrics::counter!("alluvium_store_brown_outs_total").increment(1);
            tracing::warn!(
                "the object store fails or hangs: chunks that may go elsewhere do (lane auto)"
            );
        }
    }

    pub(crate) fn is_brown(&self) -> bool {
        let signs = self.lock();
        signs.bad >= SIGNS && signs.last.is_some_and(|last| last.elapsed() < FORGOTTEN)
    }

    fn lock(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_bad_signs_in_a_row_make_a_brown_out_and_one_good_write_ends_it() {
        let health = StoreHealth::default();
        health.suffered();
        health.succeeded(Duration::from_millis(50));
        health.suffered();
        assert!(!health.is_brown());
        health.suffered();
        assert!(health.is_brown());
        health.succeeded(SLOW);
        assert!(health.is_brown(), "that was no good write");
        health.succeeded(Duration::from_secs(1));
        assert!(!health.is_brown());
        health.suffered();
        health.suffered();
        tokio::time::advance(FORGOTTEN).await;
        assert!(!health.is_brown());
    }
}
