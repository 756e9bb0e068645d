//! A store that misbehaves on purpose, for tests and benchmarks.
//!
//! [`SickStore`] wraps any store. It answers as slowly as a profile says, fails, hangs, cuts and
//! damages what is read, loses answers to what was written, and can be switched off. All of it
//! follows from a seed: the same requests in the same order meet the same fate. A bucket gets one by
//! its URL:
//!
//! ```text
//! sick:PROFILE[,key=value…]:URL
//! sick:standard,seed=7,errors=0.01,hang=0.001,ambiguous=0.005:file:///tmp/objects
//! ```
//!
//! `sickness` reads that, `latency` draws times, `counts` keeps the books.

mod counts;
mod latency;
mod sickness;

use std::future::{Future, pending};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep, sleep_until};

use crate::bucket::{Failure, ObjectMeta, Store};
use counts::Counts;

pub use counts::{Fault, Kind, KindCounts, SickCounts};
pub use latency::{Latencies, Times};
pub use sickness::{Off, Profile, Sickness};

/// How long a store that is switched off takes to say so.
const OFF_DELAY: Duration = Duration::from_millis(2);

/// A store that misbehaves.
#[derive(Debug)]
pub struct SickStore {
    sickness: Sickness,
    inner: Arc<dyn Store>,
    rng: Mutex<StdRng>,
    opened: Instant,
    second: Mutex<(Instant, u32)>,
    counts: Counts,
}

/// What becomes of one request, drawn when it comes in.
#[derive(Clone, Copy, Debug)]
struct Fate {
    takes: Duration,
    fault: Option<Fault>,
    /// Where a body is damaged: a share of it, and which bit.
    place: f64,
    bit: u8,
    /// Whether a write that hangs was done.
    lands: bool,
}

impl SickStore {
    /// Makes `inner` sick.
    #[must_use]
    pub fn new(sickness: Sickness, inner: Arc<dyn Store>) -> Self {
        let seed = sickness.seed.unwrap_or_else(alluvium_types::random::value);
        let now = Instant::now();
        Self {
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            inner,
            opened: now,
            second: Mutex::new((now, 0)),
            counts: Counts::new(),
            sickness,
        }
    }

    /// Requests, bytes and faults so far.
    #[must_use]
    pub fn counts(&self) -> SickCounts {
        self.counts.snapshot()
    }

    /// Draws a request's fate. Always as many draws, so that one request's answer does not shift the
    /// fates of all later ones.
    fn fate(&self, kind: Kind, bytes: u64) -> Fate {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = self.sickness.latencies.draw(kind, bytes, &mut *rng);
        let (chance, place): (f64, f64) = (rng.random(), rng.random());
        let (bit, lands): (u8, bool) = (rng.random_range(0..8), rng.random());
        drop(rng);
        Fate {
            takes,
            fault: self.sickness.fault(kind, chance),
            place,
            bit,
            lands,
        }
    }

    /// Whether there were more requests this second than the store takes.
    fn is_overrun(&self) -> bool {
        let Some(limit) = self.sickness.limit else {
            return false;
        };
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(second.0) >= Duration::from_secs(1) {
            *second = (now, 0);
        }
        second.1 = second.1.saturating_add(1);
        second.1 > limit
    }

    /// A request that has a fate; `act` is what a healthy store does.
    async fn suffer<T>(
        &self,
        kind: Kind,
        bytes: u64,
        act: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Fate), Failure> {
        let began = Instant::now();
        let fate = self.fate(kind, bytes);
        self.counts.request(kind);
        if self.sickness.is_off(began.duration_since(self.opened)) {
            self.counts.fault(kind, Fault::Off);
            if self.sickness.hangs_when_off {
                return pending().await;
            }
            sleep(OFF_DELAY).await;
            return Err(Failure::Unavailable("the store is switched off".to_owned()));
        }
        if self.is_overrun() {
            self.counts.fault(kind, Fault::SlowDown);
            sleep(OFF_DELAY).await;
            return Err(Failure::SlowDown("SlowDown: too many requests".to_owned()));
        }
        if let Some(fault) = fate.fault.filter(|fault| *fault != Fault::Ambiguous) {
            self.counts.fault(kind, fault);
        }
        match fate.fault {
            Some(Fault::Hang) => {
                if kind == Kind::Put && fate.lands {
                    // Done or not, the answer never comes.
                    let _ = act.await;
                }
                return pending().await;
            }
            Some(Fault::Error) => {
                sleep_until(began + fate.takes).await;
                let text = "InternalError: 500, please try again";
                return Err(Failure::Unavailable(text.to_owned()));
            }
            Some(Fault::SlowDown) => {
                sleep_until(began + fate.takes).await;
                return Err(Failure::SlowDown("SlowDown: 503".to_owned()));
            }
            _ => {}
        }
        let answer = act.await;
        // A store that takes no time at all does not make its callers wait for a timer either.
        if !fate.takes.is_zero() {
            sleep_until(began + fate.takes).await;
        }
        if fate.fault == Some(Fault::Ambiguous) && answer.is_ok() {
            self.counts.fault(kind, Fault::Ambiguous);
            return Err(Failure::Unavailable("the answer was lost".to_owned()));
        }
        Ok((answer?, fate))
    }
}

/// Damages a body as its fate has it.
fn damage(bytes: Bytes, fate: Fate) -> Bytes {
    // A share of a length is a length.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let place = (bytes.len() as f64 * fate.place) as usize;
    match fate.fault {
        Some(Fault::Truncated) => bytes.slice(..place.min(bytes.len().saturating_sub(1))),
        Some(Fault::Corrupt) => {
            let mut bytes = BytesMut::from(bytes);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << fate.bit;
            }
            bytes.freeze()
        }
        _ => bytes,
    }
}

#[async_trait]
impl Store for SickStore {
    async fn put(&self, key: &str, parts: &[Bytes]) -> Result<(), Failure> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let put = self.inner.put(key, parts);
        self.suffer(Kind::Put, bytes, put).await?;
        self.counts.bytes(Kind::Put, bytes);
        Ok(())
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let wanted = range.end.saturating_sub(range.start);
        let get = self.inner.get(key, range);
        let (bytes, fate) = self.suffer(Kind::Get, wanted, get).await?;
        let bytes = damage(bytes, fate);
        self.counts.bytes(Kind::Get, bytes.len() as u64);
        Ok(bytes)
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, Failure> {
        let head = self.inner.head(key);
        Ok(self.suffer(Kind::Head, 0, head).await?.0)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        let list = self.inner.list(prefix, after, limit);
        Ok(self.suffer(Kind::List, 0, list).await?.0)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let delete = self.inner.delete(key);
        self.suffer(Kind::Delete, 0, delete).await?;
        Ok(())
    }

    /// Part of a create as far as a bucket is concerned, and healthy.
    async fn settle(&self, key: &str) -> Result<(), Failure> {
        self.inner.settle(key).await
    }

    fn requests_of_put(&self, bytes: u64) -> u64 {
        self.inner.requests_of_put(bytes)
    }
}

#[cfg(test)]
mod tests;
