//! How long one attempt at a request may take.

use std::time::Duration;

use super::meter::Operation;

/// Slowest transfer that is waited for.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// Objects above go up in several requests, of which the last takes the store long.
const LARGE_BYTES: u64 = 16 << 20;

const LARGE: Duration = Duration::from_secs(60);

/// An attempt that takes longer hangs, and is given up. It may have been done all the same.
pub(super) fn of(operation: Operation, bytes: u64) -> Duration {
    let base = Duration::from_secs(match operation {
        Operation::Put | Operation::Get | Operation::Head | Operation::Delete => 10,
        Operation::List => 30,
    });
    let transfer = Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND);
    let large = if bytes > LARGE_BYTES {
        LARGE
    } else {
        Duration::ZERO
    };
    base + transfer + large
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_with_size() {
        assert_eq!(of(Operation::Get, 0), Duration::from_secs(10));
        assert_eq!(of(Operation::Put, 8 << 20), Duration::from_secs(18));
        assert_eq!(of(Operation::Put, 64 << 20), Duration::from_secs(134));
    }
}
