//! When to seal. A pure decision, so that its cases can be read in one place and tested one by one.

use tokio::time::{Duration, Instant};

/// Most batches of a chunk: its command in the log stays well below a MiB.
pub(super) const CHUNK_BATCHES: usize = 16_384;

/// Inline and journal chunks of one lane that may wait for their sequencing at once.
pub(super) const FLYING_FAST: usize = 4;

/// A lane that holds one in so many of a full chunk's bytes is worth a PUT, where the budget for early
/// ones has a token: at rates at which chunks do not fill up, waiting for the interval would answer
/// producers later, and larger PUTs take longer.
const GROWN: usize = 8;

/// The agent's settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct SealRules {
    pub(super) interval: Duration,
    pub(super) chunk_bytes: usize,
    pub(super) concurrent_puts: usize,
}

/// What a lane of the buffer holds, and what may be done with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneView {
    pub(super) bytes: usize,
    pub(super) batches: usize,
    /// When the oldest batch came.
    pub(super) oldest: Instant,
    pub(super) last_seal: Option<Instant>,
    /// Every connection that has data here has spent its window.
    pub(super) all_spent: bool,
    /// It would travel inside a Raft entry, or to write-ahead buffers.
    pub(super) goes_fast: bool,
    /// Such chunks of this lane that were not sequenced yet.
    pub(super) flying_fast: usize,
    /// PUTs under way, over all lanes.
    pub(super) flying_puts: usize,
    /// When the budget for early PUTs has a token.
    pub(super) early_put_at: Option<Instant>,
    /// The agent shuts down.
    pub(super) closing: bool,
}

/// Why a chunk is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It is full.
    Full,
    /// Its oldest batch has waited long enough.
    Interval,
    /// The last flush was longer ago than the interval.
    Idle,
    /// It is large enough to be worth an early PUT.
    Grown,
    /// Whoever has data in it waits for an answer.
    Spent,
    /// The agent shuts down, or a topic changed its lane.
    Forced,
}

impl Reason {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Interval => "interval",
            Self::Idle => "idle",
            Self::Grown => "grown",
            Self::Spent => "spent",
            Self::Forced => "forced",
        }
    }

    /// Sooner than the interval asks for.
    pub(super) const fn is_early(self) -> bool {
        matches!(self, Self::Idle | Self::Grown | Self::Spent)
    }
}

/// What to do with a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now(Reason),
    At(Instant),
    /// When a chunk that is under way has landed.
    OnLanding,
}

/// Decides about a lane that holds something.
pub(super) fn due(lane: &LaneView, rules: &SealRules, now: Instant) -> Due {
    let has_room = if lane.goes_fast {
        lane.flying_fast < FLYING_FAST
    } else {
        lane.flying_puts < rules.concurrent_puts
    };
    if !has_room {
        return Due::OnLanding;
    }
    if lane.closing {
        return Due::Now(Reason::Forced);
    }
    if lane.bytes >= rules.chunk_bytes || lane.batches >= CHUNK_BATCHES {
        return Due::Now(Reason::Full);
    }
    let waited_enough = lane.oldest + rules.interval;
    if now >= waited_enough {
        return Due::Now(Reason::Interval);
    }
    let idle_at = lane.last_seal.map_or(now, |sealed| sealed + rules.interval);
    let has_grown = !lane.goes_fast && lane.bytes >= rules.chunk_bytes / GROWN;
    let reason = match (lane.all_spent, has_grown, now >= idle_at) {
        (true, _, _) => Reason::Spent,
        (false, true, _) => Reason::Grown,
        (false, false, true) => Reason::Idle,
        (false, false, false) => return Due::At(idle_at.min(waited_enough)),
    };
    if lane.goes_fast {
        // What gathers while one is being sequenced travels together: the quorum sets the pace.
        return if lane.flying_fast == 0 {
            Due::Now(reason)
        } else {
            Due::At(waited_enough)
        };
    }
    match lane.early_put_at {
        Some(at) if at <= now => Due::Now(reason),
        Some(at) => Due::At(at.min(waited_enough)),
        None => Due::At(waited_enough),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SealRules = SealRules {
        interval: Duration::from_millis(250),
        chunk_bytes: 1000,
        concurrent_puts: 2,
    };

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A lane whose batch came at `now`, 100 ms after the last seal, from a client that goes on.
    fn lane(now: Instant) -> LaneView {
        LaneView {
            bytes: 100,
            batches: 1,
            oldest: now,
            last_seal: now.checked_sub(millis(100)),
            all_spent: false,
            goes_fast: false,
            flying_fast: 0,
            flying_puts: 0,
            early_put_at: Some(now),
            closing: false,
        }
    }

    fn start() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn at_once_when_the_last_flush_is_long_ago_and_the_budget_allows() {
        let now = start();
        let idle = LaneView {
            last_seal: None,
            ..lane(now)
        };
        assert_eq!(due(&idle, &RULES, now), Due::Now(Reason::Idle));
        let poor = LaneView {
            early_put_at: Some(now + millis(40)),
            ..idle
        };
        assert_eq!(due(&poor, &RULES, now), Due::At(now + millis(40)));
        let broke = LaneView {
            early_put_at: None,
            ..idle
        };
        assert_eq!(due(&broke, &RULES, now), Due::At(now + millis(250)));
    }

    #[test]
    fn else_an_interval_after_the_last_flush() {
        let now = start();
        assert_eq!(due(&lane(now), &RULES, now), Due::At(now + millis(150)));
        let old = LaneView {
            oldest: now - millis(250),
            early_put_at: None,
            ..lane(now)
        };
        assert_eq!(due(&old, &RULES, now), Due::Now(Reason::Interval));
    }

    #[test]
    fn when_full_in_bytes_or_batches() {
        let now = start();
        let full = LaneView {
            bytes: 1000,
            early_put_at: None,
            ..lane(now)
        };
        assert_eq!(due(&full, &RULES, now), Due::Now(Reason::Full));
        let many = LaneView {
            batches: CHUNK_BATCHES,
            early_put_at: None,
            ..lane(now)
        };
        assert_eq!(due(&many, &RULES, now), Due::Now(Reason::Full));
    }

    #[test]
    fn when_it_has_grown_and_the_budget_allows() {
        let now = start();
        let grown = LaneView {
            bytes: 250,
            ..lane(now)
        };
        assert_eq!(due(&grown, &RULES, now), Due::Now(Reason::Grown));
        let poor = LaneView {
            early_put_at: Some(now + millis(40)),
            ..grown
        };
        assert_eq!(due(&poor, &RULES, now), Due::At(now + millis(40)));
        let fast = LaneView {
            goes_fast: true,
            ..grown
        };
        assert_eq!(due(&fast, &RULES, now), Due::At(now + millis(150)));
    }

    #[test]
    fn when_every_connection_has_spent_its_window() {
        let now = start();
        let spent = LaneView {
            all_spent: true,
            ..lane(now)
        };
        assert_eq!(due(&spent, &RULES, now), Due::Now(Reason::Spent));
    }

    #[test]
    fn inline_chunks_follow_one_another_without_a_put_budget() {
        let now = start();
        let inline = LaneView {
            goes_fast: true,
            all_spent: true,
            early_put_at: None,
            ..lane(now)
        };
        assert_eq!(due(&inline, &RULES, now), Due::Now(Reason::Spent));
        let behind = LaneView {
            flying_fast: 1,
            ..inline
        };
        assert_eq!(due(&behind, &RULES, now), Due::At(now + millis(250)));
        let stuck = LaneView {
            flying_fast: FLYING_FAST,
            ..inline
        };
        assert_eq!(due(&stuck, &RULES, now), Due::OnLanding);
    }

    #[test]
    fn never_more_puts_than_allowed_even_when_full() {
        let now = start();
        let full = LaneView {
            bytes: 5000,
            flying_puts: 2,
            closing: true,
            ..lane(now)
        };
        assert_eq!(due(&full, &RULES, now), Due::OnLanding);
    }
}
