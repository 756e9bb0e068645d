//! How the store does: how long its requests take lately, and whether it browns out.
//!
//! Latencies are kept per operation and class of size, the last [`SAMPLES`] of each. A PUT is *bad*
//! when it failed, or took several times what such a PUT usually takes; one that is still under way
//! is bad as soon as it has taken that long. The store browns out while at least half of the PUTs of
//! the last seconds, and no fewer than three, are bad. When nothing is asked of it for a while
//! nothing is known against it, and it is tried again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::meter::Operation;

/// Latencies kept per operation and class.
const SAMPLES: usize = 128;

/// Fewer samples than these say nothing.
const ENOUGH: usize = 8;

/// What is counted as lately.
const LATELY: Duration = Duration::from_secs(10);

/// Most PUTs that are remembered as lately.
const REMEMBERED: usize = 256;

/// Bad PUTs that make a brown-out.
const BAD: usize = 3;

/// A PUT that takes less than this, and its bytes at [`SLOW_BYTES_PER_SECOND`], is never bad.
const PATIENCE: Duration = Duration::from_secs(1);

const SLOW_BYTES_PER_SECOND: u64 = 8 << 20;

/// Nor one that takes less than so many times the usual.
const TIMES_USUAL: u32 = 5;

/// Upper bounds of the classes of size; there is one more above.
const CLASSES: [u64; 4] = [64 << 10, 1 << 20, 8 << 20, 64 << 20];

/// How long a kind of request takes lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Half of the requests take less.
    pub p50: Duration,
    /// 19 of 20 take less.
    pub p95: Duration,
}

/// How a store does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Creates of up to 64 KiB; `None` while too few were made.
    pub put: Option<Latency>,
    /// Reads of up to 64 KiB; `None` while too few were made.
    pub get: Option<Latency>,
    /// Requests of any kind that ended in the last 10 seconds.
    pub recent_requests: u32,
    /// Those of them that the store failed (not: found nothing, refused).
    pub recent_failures: u32,
    /// Whether creates fail, or take far longer than they usually do.
    pub is_browned_out: bool,
    /// Requests a second that are made at most, because the store asked for fewer.
    pub rate: Option<f64>,
}

/// What is known of a store.
#[derive(Debug)]
pub(super) struct Vitals {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    puts: [Samples; 5],
    gets: [Samples; 5],
    /// PUTs that ended: when, and whether they were bad.
    lately: VecDeque<(Instant, bool)>,
    /// PUTs under way: when they are overdue, and when hopelessly so.
    under_way: BTreeMap<u64, (Instant, Instant)>,
    serial: u64,
    ended: Window,
    failed: Window,
}

/// The last latencies of a kind of request.
#[derive(Debug, Default)]
struct Samples {
    ring: VecDeque<Duration>,
    usual: Option<Duration>,
    /// What the ring said when it was last looked at, and what came since.
    told: Option<Latency>,
    since: usize,
}

impl Samples {
    fn add(&mut self, took: Duration) {
        if self.ring.len() == SAMPLES {
            self.ring.pop_front();
        }
        self.ring.push_back(took);
        self.since += 1;
        self.usual = Some(match self.usual {
            // The first ones count for much, later ones for little.
            Some(usual) => {
                let weight = u32::try_from(self.ring.len()).unwrap_or(1).max(2);
                usual * (weight - 1) / weight + took.min(usual * TIMES_USUAL) / weight
            }
            None => took,
        });
    }

    fn latency(&mut self) -> Option<Latency> {
        if self.ring.len() < ENOUGH {
            return None;
        }
        // Looked at anew when an eighth of it is new.
        if self.told.is_none() || self.since * 8 >= self.ring.len() {
            let mut sorted: Vec<Duration> = self.ring.iter().copied().collect();
            sorted.sort_unstable();
            let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied();
            self.told = at(50).zip(at(95)).map(|(p50, p95)| Latency { p50, p95 });
            self.since = 0;
        }
        self.told
    }
}

/// Counts by second.
#[derive(Debug, Default)]
struct Window {
    seconds: VecDeque<(Instant, u32)>,
}

impl Window {
    fn add(&mut self, now: Instant) {
        match self.seconds.back_mut() {
            Some((second, count)) if now.duration_since(*second).as_secs() == 0 => *count += 1,
            _ => self.seconds.push_back((now, 1)),
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some((second, _)) = self.seconds.front()
            && now.duration_since(*second) > LATELY
        {
            self.seconds.pop_front();
        }
    }

    fn count(&mut self, now: Instant) -> u32 {
        self.forget(now);
        self.seconds.iter().map(|(_, count)| count).sum()
    }
}

fn class(bytes: u64) -> usize {
    CLASSES.iter().take_while(|bound| bytes > **bound).count()
}

impl Known {
    fn samples(&mut self, operation: Operation, bytes: u64) -> Option<&mut Samples> {
        match operation {
            Operation::Put => self.puts.get_mut(class(bytes)),
            Operation::Get => self.gets.get_mut(class(bytes)),
            _ => None,
        }
    }

    /// A PUT of so many bytes is bad when it takes longer.
    fn patience(&mut self, bytes: u64) -> Duration {
        let transfer = Duration::from_millis(bytes.saturating_mul(1000) / SLOW_BYTES_PER_SECOND);
        let usual = self.samples(Operation::Put, bytes);
        let usual = usual.and_then(|samples| samples.usual).unwrap_or_default();
        (PATIENCE + transfer).max(usual * TIMES_USUAL)
    }

    fn is_browned_out(&mut self, now: Instant) -> bool {
        while let Some((ended, _)) = self.lately.front()
            && now.duration_since(*ended) > LATELY
        {
            self.lately.pop_front();
        }
        let mut total = self.lately.len();
        let mut bad = self.lately.iter().filter(|(_, is_bad)| *is_bad).count();
        for (overdue, hopeless) in self.under_way.values() {
            // One alone is enough where there is no other that got through.
            let weight = match (now > *overdue, now > *hopeless) {
                (_, true) => BAD,
                (true, false) => 1,
                (false, false) => 0,
            };
            bad += weight;
            total += weight;
        }
        bad >= BAD && bad * 2 >= total
    }
}

/// A request under way. Dropped, it says nothing about the store.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    vitals: &'a Vitals,
    operation: Operation,
    bytes: u64,
    began: Instant,
    patience: Duration,
    put: Option<u64>,
}

impl Vitals {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self, operation: Operation, bytes: u64) -> Watch<'_> {
        let mut known = self.known();
        let began = Instant::now();
        let patience = known.patience(bytes);
        let put = (operation == Operation::Put).then(|| {
            known.serial += 1;
            let serial = known.serial;
            let limits = (began + patience, began + patience * 2);
            known.under_way.insert(serial, limits);
            serial
        });
        Watch {
            vitals: self,
            operation,
            bytes,
            began,
            patience,
            put,
        }
    }

    pub(super) fn latency(&self, operation: Operation, bytes: u64) -> Option<Latency> {
        self.known().samples(operation, bytes)?.latency()
    }

    pub(super) fn health(&self, rate: Option<f64>) -> Health {
        let mut known = self.known();
        let now = Instant::now();
        Health {
            put: known.samples(Operation::Put, 0).and_then(Samples::latency),
            get: known.samples(Operation::Get, 0).and_then(Samples::latency),
            recent_requests: known.ended.count(now),
            recent_failures: known.failed.count(now),
            is_browned_out: known.is_browned_out(now),
            rate,
        }
    }
}

impl Watch<'_> {
    /// It ended; `failed` says that the store did not do what it should (not: that it refused).
    /// `timed_out`, that it took all the time that it was given.
    pub(super) fn ended(self, failed: bool, timed_out: bool) {
        let mut known = self.vitals.known();
        let now = Instant::now();
        let took = now.duration_since(self.began);
        known.ended.add(now);
        if failed {
            known.failed.add(now);
        }
        if self.operation == Operation::Put {
            if known.lately.len() == REMEMBERED {
                known.lately.pop_front();
            }
            known
                .lately
                .push_back((now, failed || took > self.patience));
        }
        // A failure that comes quickly says nothing about how long success takes.
        if (!failed || timed_out)
            && let Some(samples) = known.samples(self.operation, self.bytes)
        {
            samples.add(took);
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(serial) = self.put {
            self.vitals.known().under_way.remove(&serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(vitals: &Vitals, millis: u64, failed: bool) {
        let watch = vitals.watch(Operation::Put, 1000);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        watch.ended(failed, false);
    }

    fn is_out(vitals: &Vitals) -> bool {
        vitals.health(None).is_browned_out
    }

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_those_of_the_last_requests_of_their_size() {
        let vitals = Vitals::new();
        for millis in 1..=7 {
            put(&vitals, millis, false).await;
        }
        assert_eq!(vitals.health(None).put, None, "too few to tell");
        for millis in 1..=100 {
            put(&vitals, millis, false).await;
        }
        let put_latency = vitals.latency(Operation::Put, 64 << 10).unwrap();
        let millis = |time: Duration| time.as_millis();
        assert!(
            (40..60).contains(&millis(put_latency.p50)),
            "{put_latency:?}"
        );
        assert!(
            (88..100).contains(&millis(put_latency.p95)),
            "{put_latency:?}"
        );
        assert_eq!(vitals.latency(Operation::Put, 2 << 20), None);
        assert_eq!(vitals.latency(Operation::Get, 0), None);
        for _ in 0..SAMPLES {
            put(&vitals, 10, false).await;
        }
        let now = vitals.health(None).put.unwrap();
        assert_eq!((millis(now.p50), millis(now.p95)), (10, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn failing_puts_are_a_brown_out_until_they_are_forgotten_or_outnumbered() {
        let vitals = Vitals::new();
        put(&vitals, 10, true).await;
        put(&vitals, 10, true).await;
        assert!(!is_out(&vitals));
        put(&vitals, 10, true).await;
        assert!(is_out(&vitals));
        assert_eq!(vitals.health(None).recent_failures, 3);
        for _ in 0..4 {
            put(&vitals, 10, false).await;
        }
        assert!(!is_out(&vitals));
        for _ in 0..4 {
            put(&vitals, 10, true).await;
        }
        assert!(is_out(&vitals));
        tokio::time::advance(LATELY + PATIENCE).await;
        assert!(!is_out(&vitals), "what was is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_and_hanging_puts_are_a_brown_out_too() {
        let vitals = Vitals::new();
        for _ in 0..50 {
            put(&vitals, 40, false).await;
        }
        tokio::time::advance(LATELY).await;
        for _ in 0..3 {
            put(&vitals, 900, false).await;
        }
        assert!(!is_out(&vitals), "slow, not hopeless");
        tokio::time::advance(LATELY).await;
        let hanging = vitals.watch(Operation::Put, 1000);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!is_out(&vitals), "one is late");
        tokio::time::sleep(Duration::from_millis(1000)).await;
        assert!(is_out(&vitals), "one is hopeless and there is no other");
        drop(hanging);
        assert!(!is_out(&vitals), "it was given up by its caller");
        for _ in 0..3 {
            put(&vitals, 1600, false).await;
        }
        assert!(is_out(&vitals));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_always_slow_is_not_browned_out() {
        let vitals = Vitals::new();
        for _ in 0..20 {
            put(&vitals, 1200, false).await;
        }
        assert!(!is_out(&vitals), "{:?}", vitals.health(None));
    }
}
