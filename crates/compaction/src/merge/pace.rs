//! How fast merging may go: a byte budget, and less of it while the store has enough to do.

use std::time::Duration;

use alluvium_storage::bucket::Bucket;
use alluvium_types::random;
use tokio::time::{Instant, sleep, sleep_until};

/// How often a store that does badly is asked whether it does better.
const BREATH: Duration = Duration::from_millis(500);

/// So often at most; then work goes on, slowly.
const BREATHS: u32 = 60;

/// Slowest, as a divisor of the budget.
const SLOWEST: u32 = 8;

/// About the size of a produced chunk, whose PUTs tell how producers fare.
const CHUNK_BYTES: u64 = 4 << 20;

/// What may be read, or written, in a time.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    free_at: Instant,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Instant::now(),
        }
    }

    /// Waits until the bytes before have had their time, and takes that of `bytes`.
    pub(crate) async fn take(&mut self, bytes: u64, slowdown: u32) {
        let nanos = u128::from(bytes) * u128::from(slowdown) * 1_000_000_000
            / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        sleep_until(self.free_at).await;
        self.free_at = self.free_at.max(Instant::now()) + cost;
    }
}

/// What is known of the store in good times.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    /// Median time of a producer's PUT, at its best.
    put: Option<Duration>,
}

impl Calm {
    /// Waits while the store cannot even take what producers send; then by how much to go slower.
    pub(crate) async fn wait(&mut self, bucket: &Bucket) -> u32 {
        for _ in 0..BREATHS {
            if !bucket.health().is_browned_out {
                return self.slowdown(bucket);
            }
            sleep(BREATH).await;
        }
        SLOWEST
    }

    fn slowdown(&mut self, bucket: &Bucket) -> u32 {
        let health = bucket.health();
        let fails = health.recent_failures.saturating_mul(10) > health.recent_requests;
        if fails || health.rate.is_some() {
            return SLOWEST / 2;
        }
        let Some(now) = bucket.put_latency(CHUNK_BYTES).map(|latency| latency.p50) else {
            return 1;
        };
        // The best there was is forgotten slowly: another day, another store.
        let best = self.put.map_or(now, |best| (best + best / 64).min(now));
        self.put = Some(best);
        let times = now.as_micros() / best.as_micros().max(1000) / 2;
        u32::try_from(times).unwrap_or(SLOWEST).clamp(1, SLOWEST)
    }
}

/// Pauses after failures: they double, and half of each is chance.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const LONGEST: Duration = Duration::from_secs(60);

    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    pub(super) fn next(&mut self) -> Duration {
        let whole = Duration::from_millis(250 << self.failures.min(8)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(random::range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_and_more_of_it_when_slowed() {
        let mut pace = Pace::new(1000);
        let started = Instant::now();
        pace.take(500, 1).await;
        pace.take(500, 4).await;
        assert_eq!(started.elapsed().as_millis(), 500);
        pace.take(1, 1).await;
        assert_eq!(started.elapsed().as_millis(), 2500);
    }

    #[test]
    fn pauses_grow_and_end_growing() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(pauses[0] < Duration::from_millis(251));
        assert!(pauses.iter().all(|pause| *pause <= Backoff::LONGEST));
        assert!(pauses[19] > Duration::from_secs(29));
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(251));
    }
}
