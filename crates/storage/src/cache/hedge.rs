//! GETs that do not wait for the slow ones: who has waited longer than most GETs take asks again.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use metrics::Counter;
use tokio::time::{Instant, timeout};

use crate::bucket::{Bucket, BucketError};

/// GETs are compared with those of about their length.
const CLASSES: [u64; 2] = [1 << 20, 8 << 20];

/// So many of the latest GETs are remembered,
const REMEMBERED: usize = 64;

/// and with fewer than these nothing is known.
const LEAST: usize = 16;

/// No second GET before this: below, it cannot win enough.
const FLOOR: Duration = Duration::from_millis(10);

/// One GET in so many may be asked again,
const ONE_IN: u32 = 10;

/// and so many at once after a calm time.
const BURST: u32 = 8;

/// A bucket whose slow GETs are made again; the first answer counts.
#[derive(Debug)]
pub(super) struct Hedged {
    bucket: Bucket,
    classes: [Mutex<Latencies>; CLASSES.len() + 1],
    /// In parts of a second GET: [`ONE_IN`] of them pay for one.
    allowance: Mutex<u32>,
    hedges: Counter,
    wins: Counter,
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
            allowance: Mutex::new(BURST * ONE_IN),
            hedges: metrics::counter!("alluvium_cache_hedged_gets_total", "result" => "started"),
            wins: metrics::counter!("alluvium_cache_hedged_gets_total", "result" => "won"),
        }
    }

    pub(super) const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Reads a range, all of it.
    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        let class = self.class(range.end.saturating_sub(range.start));
        let started = Instant::now();
        self.earn();
        let answer = self.read_twice(key, range, class).await;
        if answer.is_ok() {
            lock(class).record(started.elapsed());
        }
        answer
    }

    async fn read_twice(
        &self,
        key: &str,
        range: Range<u64>,
        class: &Mutex<Latencies>,
    ) -> Result<Bytes, BucketError> {
        let mut first = pin!(self.bucket.read(key, range.clone()));
        let p95 = lock(class).p95;
        if let Some(p95) = p95 {
            if let Ok(answer) = timeout(p95.max(FLOOR), &mut first).await {
                return answer;
            }
            if self.spend() {
                self.hedges.increment(1);
                let second = pin!(self.bucket.read(key, range));
                return match select(first, second).await {
                    Either::Left((Ok(answer), _)) => Ok(answer),
                    Either::Right((Ok(answer), _)) => {
                        self.wins.increment(1);
                        Ok(answer)
                    }
                    // One failed: the other may yet answer.
                    Either::Left((Err(_), second)) => second.await,
                    Either::Right((Err(_), first)) => first.await,
                };
            }
        }
        first.await
    }

    fn class(&self, length: u64) -> &Mutex<Latencies> {
        let [small, middle, large] = &self.classes;
        match CLASSES.iter().position(|limit| length <= *limit) {
            Some(0) => small,
            Some(_) => middle,
            None => large,
        }
    }

    fn earn(&self) {
        let mut allowance = lock(&self.allowance);
        *allowance = (*allowance + 1).min(BURST * ONE_IN);
    }

    fn spend(&self) -> bool {
        let mut allowance = lock(&self.allowance);
        let left = allowance.checked_sub(ONE_IN);
        *allowance = left.unwrap_or(*allowance);
        left.is_some()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
