//! How long requests of a sick store take.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::{Rng, RngCore};

use super::counts::Kind;

const MEBIBYTE: f64 = 1_048_576.0;

/// How long one kind of request takes: log-normal around a median that grows with the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Median without any bytes, in milliseconds.
    pub median_millis: f64,
    /// What MiB^`exponent` of bytes add to it, in milliseconds.
    pub millis_per_mebibyte: f64,
    /// How the transfer grows with the bytes; 1 is a steady rate.
    pub exponent: f64,
    /// Spread: the standard deviation of the logarithm.
    pub sigma: f64,
}

impl Times {
    const NONE: Self = Self::of(0.0, 0.0, 1.0, 0.0);

    const fn of(median_millis: f64, millis_per_mebibyte: f64, exponent: f64, sigma: f64) -> Self {
        Self {
            median_millis,
            millis_per_mebibyte,
            exponent,
            sigma,
        }
    }
}

/// How long every kind of request takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latencies {
    /// Creates.
    pub put: Times,
    /// Ranged reads: to the first byte, and the transfer at 80 MiB/s and the like.
    pub get: Times,
    /// Looking up and deleting.
    pub head: Times,
    /// Listings.
    pub list: Times,
    /// Share of requests that take much longer, whatever their kind.
    pub tail: f64,
    /// How long those take, in milliseconds: from, to; each decade as likely.
    pub tail_millis: (f64, f64),
    /// Everything times this.
    pub scale: f64,
}

impl Latencies {
    /// Nothing takes any time.
    pub const ZERO: Self = Self {
        put: Times::NONE,
        get: Times::NONE,
        head: Times::NONE,
        list: Times::NONE,
        tail: 0.0,
        tail_millis: (0.0, 0.0),
        scale: 1.0,
    };

    /// S3 Standard from within its region.
    pub const STANDARD: Self = Self {
        put: Times::of(32.0, 11.0, 0.8, 0.38),
        get: Times::of(22.0, 12.5, 1.0, 0.38),
        head: Times::of(15.0, 0.0, 1.0, 0.38),
        list: Times::of(40.0, 0.0, 1.0, 0.38),
        tail: 0.004,
        tail_millis: (150.0, 8_000.0),
        scale: 1.0,
    };

    /// S3 Express One Zone.
    pub const EXPRESS: Self = Self {
        put: Times::of(6.5, 6.0, 0.8, 0.3),
        get: Times::of(4.5, 8.0, 1.0, 0.3),
        head: Times::of(4.0, 0.0, 1.0, 0.3),
        list: Times::of(15.0, 0.0, 1.0, 0.3),
        tail: 0.001,
        tail_millis: (50.0, 1_000.0),
        scale: 1.0,
    };

    /// A store in trouble.
    pub const BAD_DAY: Self = Self {
        put: Times::of(180.0, 60.0, 0.8, 0.8),
        get: Times::of(120.0, 40.0, 1.0, 0.8),
        head: Times::of(80.0, 0.0, 1.0, 0.8),
        list: Times::of(300.0, 0.0, 1.0, 0.8),
        tail: 0.03,
        tail_millis: (1_000.0, 15_000.0),
        scale: 1.0,
    };

    /// How long a request takes.
    pub(super) fn draw(&self, kind: Kind, bytes: u64, rng: &mut dyn RngCore) -> Duration {
        let times = match kind {
            Kind::Put => self.put,
            Kind::Get => self.get,
            Kind::Head | Kind::Delete => self.head,
            Kind::List => self.list,
        };
        // Always four draws.
        let (tail, far): (f64, f64) = (rng.random(), rng.random());
        let normal = normal(rng);
        let (from, to) = self.tail_millis;
        let millis = if tail < self.tail {
            from * (to / from).powf(far)
        } else {
            // Exact enough: sizes are far below 2^52.
            #[allow(clippy::cast_precision_loss)]
            let mebibytes = bytes as f64 / MEBIBYTE;
            let transfer = times.millis_per_mebibyte * mebibytes.powf(times.exponent);
            (times.median_millis + transfer) * (times.sigma * normal).exp()
        };
        Duration::try_from_secs_f64(millis * self.scale / 1000.0).unwrap_or(Duration::MAX)
    }
}

/// A draw from the normal distribution (Box and Muller's transform).
fn normal(rng: &mut dyn RngCore) -> f64 {
    let (one, other): (f64, f64) = (rng.random(), rng.random());
    // 1 - x lies above 0, where the logarithm is.
    (-2.0 * (1.0 - one).ln()).sqrt() * (TAU * other).cos()
}
