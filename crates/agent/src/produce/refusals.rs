//! One log line per refused record set, within reason.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use alluvium_types::{ErrorCode, TopicPartition};

/// Lines per [`WINDOW`]; what comes beyond is counted.
const LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(5);

/// Says what was refused, without letting a client fill the disk with it.
#[derive(Debug)]
pub(super) struct RefusalLog {
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    untold: u64,
}

impl RefusalLog {
    pub(super) fn new() -> Self {
        Self {
            window: Mutex::new(Window {
                since: Instant::now(),
                lines: 0,
                untold: 0,
            }),
        }
    }

    pub(super) fn refused(&self, partition: TopicPartition, code: ErrorCode, reason: &str) {
        metrics::counter!("alluvium_produce_refused_total", "code" => code.name()).increment(1);
        let Some(untold) = self.admit(Instant::now()) else {
            return;
        };
        tracing::warn!(
            topic = %partition.topic,
            partition = partition.partition,
            code = code.name(),
            untold,
            "produced records were refused: {reason}",
        );
    }

    /// Whether to tell, and how many before this one were not told.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= window.since + WINDOW {
            window.since = now;
            window.lines = 0;
        }
        if window.lines >= LINES {
            window.untold += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_instead_of_told() {
        let log = RefusalLog::new();
        let now = Instant::now();
        let told = (0..200).filter(|_| log.admit(now).is_some()).count();
        assert_eq!(told, 50);
        assert_eq!(log.admit(now + WINDOW), Some(150));
    }
}
