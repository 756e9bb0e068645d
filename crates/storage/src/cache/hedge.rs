//! GETs that do not wait for the slow ones: who has waited longer than most GETs take asks again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::bucket::{Bucket, BucketError};
use crate::hedge::Hedges;

/// GETs are compared with those of about their length.
const CLASSES: [u64; 2] = [1 << 20, 8 << 20];

/// So many of the latest GETs are remembered,
const REMEMBERED: usize = 64;

/// and with fewer than these nothing is known.
const LEAST: usize = 16;

/// No second GET before this: below, it cannot win enough.
const FLOOR: Duration = Duration::from_millis(10);

/// A bucket whose slow GETs are made again; the first answer counts.
#[derive(Debug)]
pub(super) struct Hedged {
    bucket: Bucket,
    classes: [Mutex<Latencies>; CLASSES.len() + 1],
    hedges: Hedges,
}

/// How long GETs took lately.
#[derive(Debug, Default)]
struct Latencies {
    latest: VecDeque<Duration>,
    /// What 95 of 100 stayed within, once enough is known.
    p95: Option<Duration>,
}

impl Latencies {
    fn record(&mut self, took: Duration) {
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(took);
        if self.latest.len() < LEAST {
            return;
        }
        let mut sorted: Vec<_> = self.latest.iter().copied().collect();
        let at = (sorted.len() * 95 / 100).min(sorted.len() - 1);
        self.p95 = Some(*sorted.select_nth_unstable(at).1);
    }
}

impl Hedged {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            classes: Default::default(),
            hedges: Hedges::new(
                metrics::counter!("alluvium_cache_hedged_gets_total", "result" => "started"),
                metrics::counter!("alluvium_cache_hedged_gets_total", "result" => "won"),
            ),
        }
    }

    pub(super) const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Reads a range, all of it.
    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        let class = self.class(range.end.saturating_sub(range.start));
        let started = Instant::now();
        let after = lock(class).p95.map(|p95| p95.max(FLOOR));
        let read = || self.bucket.read(key, range.clone());
        let answer = self.hedges.first_of(after, read).await;
        if answer.is_ok() {
            lock(class).record(started.elapsed());
        }
        answer
    }

    fn class(&self, length: u64) -> &Mutex<Latencies> {
        let [small, middle, large] = &self.classes;
        match CLASSES.iter().position(|limit| length <= *limit) {
            Some(0) => small,
            Some(_) => middle,
            None => large,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
