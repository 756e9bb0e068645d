//! How well it went: rates, silences, latencies.

use std::collections::HashMap;

use serde::Serialize;

use crate::event::{Entry, Event, Micros};

/// Figures of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// From the first to the last entry, in microseconds.
    pub duration: Micros,
    /// Records acknowledged.
    pub acked: u64,
    /// Records acknowledged per second.
    pub acked_per_second: f64,
    /// The longest time in which nothing was acknowledged while something waited to be.
    pub longest_silence: Micros,
    /// When it began.
    pub longest_silence_at: Micros,
    /// Half of the acknowledgements came within this.
    pub latency_p50: Micros,
    /// 99 of 100 acknowledgements came within this.
    pub latency_p99: Micros,
    /// Batches given up with nothing known.
    pub unknown: u64,
}

/// Gathers figures entry by entry. Memory: what is in flight, and 2 KiB.
#[derive(Debug)]
pub struct Observer {
    in_flight: HashMap<u64, (Micros, u32)>,
    first: Option<Micros>,
    last: Micros,
    acked: u64,
    unknown: u64,
    /// The last acknowledgement, or the first sending after nothing was in flight.
    quiet_since: Option<Micros>,
    silence: (Micros, Micros),
    /// Counts by sixteenths of an octave.
    latencies: Vec<u64>,
}

const STEPS: u64 = 16;

impl Default for Observer {
    fn default() -> Self {
        Self {
            in_flight: HashMap::new(),
            first: None,
            last: 0,
            acked: 0,
            unknown: 0,
            quiet_since: None,
            silence: (0, 0),
            latencies: vec![0; 64 * 16],
        }
    }
}

impl Observer {
    /// Takes the next entry.
    pub fn observe(&mut self, entry: &Entry) {
        self.first.get_or_insert(entry.at);
        self.last = self.last.max(entry.at);
        match &entry.event {
            Event::ProduceInvoked { op, count, .. } => {
                if self.in_flight.is_empty() {
                    self.quiet_since.get_or_insert(entry.at);
                }
                self.in_flight.insert(*op, (entry.at, *count));
            }
            Event::ProduceAcked { op, .. } | Event::ProduceKept { op, .. } => {
                self.quiet_until(entry.at);
                self.quiet_since = Some(entry.at);
                if let Some((sent, count)) = self.in_flight.remove(op) {
                    self.acked += u64::from(count);
                    let bucket = bucket(entry.at.saturating_sub(sent));
                    if let Some(counted) = self.latencies.get_mut(bucket) {
                        *counted += 1;
                    }
                }
                if self.in_flight.is_empty() {
                    self.quiet_since = None;
                }
            }
            Event::ProduceFailed { op } | Event::ProduceUnknown { op } => {
                self.in_flight.remove(op);
                self.unknown += u64::from(matches!(entry.event, Event::ProduceUnknown { .. }));
            }
            _ => {}
        }
    }

    fn quiet_until(&mut self, at: Micros) {
        if let Some(since) = self.quiet_since {
            let silence = at.saturating_sub(since);
            if silence > self.silence.0 {
                self.silence = (silence, since);
            }
        }
    }

    /// The figures up to now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let duration = self.last.saturating_sub(self.first.unwrap_or(0));
        let mut silence = self.silence;
        if let Some(since) = self.quiet_since
            && self.last.saturating_sub(since) > silence.0
        {
            silence = (self.last - since, since);
        }
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let per_second = self.acked as f64 * 1e6 / duration.max(1) as f64;
        Figures {
            duration,
            acked: self.acked,
            acked_per_second: per_second,
            longest_silence: silence.0,
            longest_silence_at: silence.1,
            latency_p50: self.latency(50),
            latency_p99: self.latency(99),
            unknown: self.unknown,
        }
    }

    fn latency(&self, percent: u64) -> Micros {
        let all: u64 = self.latencies.iter().sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut counted = 0;
        for (bucket, count) in self.latencies.iter().enumerate() {
            counted += count;
            if counted >= wanted {
                return upper(bucket);
            }
        }
        0
    }
}

fn bucket(latency: Micros) -> usize {
    let latency = latency.max(STEPS);
    let octave = u64::from(latency.ilog2()) - u64::from(STEPS.ilog2());
    let step = (latency >> octave) - STEPS;
    usize::try_from(octave * STEPS + step).unwrap_or(0)
}

fn upper(bucket: usize) -> Micros {
    let bucket = bucket as u64;
    (STEPS + bucket % STEPS + 1) << (bucket / STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Place;

    fn sent(at: Micros, op: u64) -> Entry {
        let event = Event::ProduceInvoked {
            op,
            place: Place::new("t", 0),
            writer: 0,
            first: op,
            count: 1,
            producer: 1,
            sequence: 0,
        };
        Entry {
            at,
            client: 0,
            event,
        }
    }

    fn acked(at: Micros, op: u64) -> Entry {
        let event = Event::ProduceAcked { op, offset: 0 };
        Entry {
            at,
            client: 0,
            event,
        }
    }

    #[test]
    fn silence_counts_only_while_something_waits() {
        let mut observer = Observer::default();
        for entry in [
            sent(0, 1),
            acked(10_000, 1),
            // Nobody sends for ten seconds.
            sent(10_010_000, 2),
            sent(10_020_000, 3),
            acked(10_030_000, 2),
            acked(12_030_000, 3),
        ] {
            observer.observe(&entry);
        }
        let figures = observer.figures();
        assert_eq!(figures.longest_silence, 2_000_000);
        assert_eq!(figures.longest_silence_at, 10_030_000);
        assert_eq!(figures.acked, 3);
        assert!((20_000..23_000).contains(&figures.latency_p50));
        assert!((2_000_000..2_200_000).contains(&figures.latency_p99));
    }

    #[test]
    fn buckets_are_within_a_sixteenth() {
        for latency in [16, 17, 31, 32, 1000, 123_456, 1 << 40] {
            let upper = upper(bucket(latency));
            assert!(
                upper > latency && upper - latency <= latency / 8,
                "{latency}"
            );
        }
    }
}
