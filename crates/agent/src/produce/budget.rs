//! A rate: tokens that come with time.

use tokio::time::{Duration, Instant};

/// Holds up to `burst` tokens, filled at `per_second`.
#[derive(Debug)]
pub(super) struct Tokens {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Tokens {
    pub(super) fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            at: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.at = now;
    }

    pub(super) fn has(&mut self, tokens: f64, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= tokens
    }

    pub(super) fn take(&mut self, tokens: f64) {
        self.tokens -= tokens;
    }

    /// How long until there will be as many; `None` if never.
    pub(super) fn wait_for(&self, tokens: f64) -> Option<Duration> {
        let missing = tokens - self.tokens;
        if missing <= 0.0 {
            return Some(Duration::ZERO);
        }
        if tokens > self.burst || self.per_second <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(missing / self.per_second).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_with_time_and_never_exceed_the_burst() {
        let start = Instant::now();
        let mut tokens = Tokens::new(10.0, 5.0, start);
        assert!(tokens.has(5.0, start));
        tokens.take(5.0);
        assert!(!tokens.has(1.0, start));
        assert_eq!(tokens.wait_for(1.0), Some(Duration::from_millis(100)));
        assert_eq!(tokens.wait_for(6.0), None);
        assert!(tokens.has(1.0, start + Duration::from_millis(150)));
        assert!(!tokens.has(5.1, start + Duration::from_secs(60)));
    }
}
