//! How fast requests may be made: as fast as they come, until the store says to slow down.
//!
//! Additive increase, multiplicative decrease. A SlowDown (503) halves the rate, from what was
//! really asked for at the time; each second without one adds a little; when there was none for long,
//! there is no rate any more. A request that would wait too long is refused: its caller backs off and
//! so do, in the end, the clients.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Gauge;
use tokio::time::Instant;

use super::error::Failure;

/// Requests a second that are always allowed.
const FLOOR: f64 = 5.0;

/// What a SlowDown leaves of the rate.
const DECREASE: f64 = 0.5;

/// Requests a second that a second without SlowDown adds.
const INCREASE: f64 = 5.0;

/// Several SlowDowns within this time are answers to one burst.
const BURST: Duration = Duration::from_millis(500);

/// After so long without a SlowDown the rate is not bounded any more.
const FORGIVEN: Duration = Duration::from_secs(120);

/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A bucket's rate of requests.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    gauge: Gauge,
}

#[derive(Debug)]
struct State {
    /// Requests a second; `None` is without bound.
    rate: Option<f64>,
    /// When the next request may be made.
    next: Instant,
    cut: Instant,
    raised: Instant,
    /// The second that is being counted, its requests, and those of the one before.
    second: Instant,
    count: u32,
    before: u32,
}

impl State {
    /// Counts a request, and forgets seconds that are over.
    fn count(&mut self, now: Instant) {
        let seconds = now.duration_since(self.second).as_secs();
        if seconds > 0 {
            self.before = if seconds == 1 { self.count } else { 0 };
            self.count = 0;
            self.second = now;
        }
        self.count = self.count.saturating_add(1);
    }

    fn raise(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        if now.duration_since(self.cut) >= FORGIVEN {
            self.rate = None;
            return;
        }
        let seconds = now.duration_since(self.raised).as_secs_f64();
        self.rate = Some(rate + INCREASE * seconds);
        self.raised = now;
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let state = State {
            rate: None,
            next: now,
            cut: now,
            raised: now,
            second: now,
            count: 0,
            before: 0,
        };
        Self {
            state: Mutex::new(state),
            gauge: metrics::gauge!("alluvium_store_requests_per_second_allowed"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests a second that are allowed at present, if there is a bound.
    pub(super) fn rate(&self) -> Option<f64> {
        let mut state = self.state();
        state.raise(Instant::now());
        state.rate
    }

    /// Waits for its turn, not for long.
    pub(super) async fn turn(&self) -> Result<(), Failure> {
        let wait = {
            let mut state = self.state();
            let now = Instant::now();
            state.count(now);
            let bounded = state.rate.is_some();
            state.raise(now);
            let Some(rate) = state.rate else {
                if bounded {
                    self.gauge.set(f64::INFINITY);
                }
                return Ok(());
            };
            let at = state.next.max(now);
            let wait = at.duration_since(now);
            if wait > LONGEST_WAIT {
                return Err(Failure::SlowDown(format!(
                    "the store asked for fewer requests ({rate:.0} a second are made)"
                )));
            }
            state.next = at + Duration::from_secs_f64(1.0 / rate);
            wait
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// The store said to slow down.
    pub(super) fn slow_down(&self) {
        let mut state = self.state();
        let now = Instant::now();
        if state.rate.is_some() && now.duration_since(state.cut) < BURST {
            return;
        }
        let asked = f64::from(state.count.max(state.before));
        let rate = state.rate.map_or(asked, |rate| rate.min(asked.max(FLOOR)));
        let rate = (rate * DECREASE).max(FLOOR);
        if state.rate.is_none() {
            tracing::warn!(
                requests_per_second = rate,
                "the store asks for fewer requests; slowing down"
            );
        }
        state.rate = Some(rate);
        state.cut = now;
        state.raised = now;
        state.next = state.next.max(now);
        self.gauge.set(rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that get their turn within a time, one after another.
    async fn made_in(pace: &Pace, time: Duration) -> u32 {
        let until = Instant::now() + time;
        let mut made = 0;
        while Instant::now() < until {
            pace.turn().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            made += 1;
        }
        made
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_down_halves_the_rate_and_quiet_seconds_raise_it() {
        let pace = Pace::new();
        assert!(made_in(&pace, Duration::from_secs(2)).await > 1500);
        assert_eq!(pace.rate(), None);
        pace.slow_down();
        let halved = pace.rate().unwrap();
        assert!((400.0..=520.0).contains(&halved), "{halved}");
        // The same burst.
        pace.slow_down();
        assert!(pace.rate().unwrap() >= halved);
        let made = made_in(&pace, Duration::from_secs(1)).await;
        assert!((350..=530).contains(&made), "{made}");
        tokio::time::advance(Duration::from_secs(10)).await;
        let raised = pace.rate().unwrap() - halved;
        assert!((45.0..65.0).contains(&raised), "{raised}");
        tokio::time::advance(FORGIVEN).await;
        assert_eq!(pace.rate(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_floor_and_a_longest_wait() {
        let pace = Pace::new();
        for _ in 0..20 {
            pace.slow_down();
            tokio::time::advance(BURST).await;
        }
        let rate = pace.rate().unwrap();
        assert!((FLOOR..FLOOR + 3.0).contains(&rate), "{rate}");
        let turns: Vec<_> = (0..200).map(|_| pace.turn()).collect();
        let began = Instant::now();
        let turns = futures::future::join_all(turns).await;
        let refused = turns.iter().filter(|turn| turn.is_err()).count();
        assert!(refused > 100, "{refused}");
        assert!(began.elapsed() <= LONGEST_WAIT + Duration::from_millis(2));
        assert!(matches!(turns.last(), Some(Err(Failure::SlowDown(_)))));
    }
}
