//! Pauses between attempts: they double, and half of each is chance, so that many who failed
//! together do not try again together.

use std::time::Duration;

use alluvium_types::random;

/// The pauses of one task.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            attempts: 0,
        }
    }

    /// How long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        let whole = doubled.min(self.longest);
        whole.mul_f64(random::range(0.5..1.0))
    }

    /// Attempts that failed so far.
    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It worked: the next failure begins anew.
    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next();
            assert!(
                pause >= Duration::from_millis(whole / 2),
                "{pause:?} of {whole}"
            );
            assert!(
                pause <= Duration::from_millis(whole),
                "{pause:?} of {whole}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
