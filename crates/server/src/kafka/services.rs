//! What all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use alluvium_agent::Agent;
use alluvium_agent::budget::ByteBudget;
use tokio_util::sync::CancellationToken;

use crate::config::Budgets;
use crate::costs::Traffic;

use super::fetch_sessions::FetchSessions;
use super::metrics::Metrics;
use super::reader::RequestMemory;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) agent: Arc<Agent>,
    pub(crate) limits: Limits,
    pub(crate) requests: RequestMemory,
    /// Records read for fetches and not sent yet.
    pub(crate) responses: ByteBudget,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) metrics: Metrics,
    /// Records of clients, for the books.
    pub(crate) traffic: Arc<Traffic>,
    /// Requests read and not answered yet.
    in_flight: AtomicUsize,
    /// Cancelled when no more requests are to be read and nothing is to be waited for.
    pub(crate) stopping: CancellationToken,
    pub(crate) complaints: Complaints,
}

/// Kafka's settings that the listener heeds, as they stood at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `socket.request.max.bytes`.
    pub(crate) request_bytes: usize,
    /// `connections.max.idle.ms`.
    pub(crate) idle: Duration,
    /// Longest pause within a frame.
    pub(crate) stall: Duration,
    /// `max.connections`.
    pub(crate) connections: usize,
    /// `fetch.max.bytes`.
    pub(crate) fetch_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub(crate) fetch_sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 100 << 20,
            idle: Duration::from_secs(600),
            stall: Duration::from_secs(60),
            connections: 20_000,
            fetch_bytes: 55 << 20,
            fetch_sessions: 1000,
        }
    }
}

impl Limits {
    fn configured(agent: &Agent) -> Self {
        let default = Self::default();
        let setting = |name: &str| -> Option<u64> {
            agent
                .metadata
                .read(|state| agent.topics.broker(state, name))?
                .parse()
                .ok()
        };
        let size = |name: &str, default: usize| {
            setting(name)
                .and_then(|value| usize::try_from(value).ok())
                .unwrap_or(default)
        };
        let idle = setting("connections.max.idle.ms").map_or(default.idle, Duration::from_millis);
        Self {
            request_bytes: size("socket.request.max.bytes", default.request_bytes)
                .min(alluvium_protocol::request::LIMITS.frame_bytes),
            idle,
            stall: idle.min(default.stall),
            // Each connection needs a file descriptor; Kafka's default is no limit at all.
            connections: size("max.connections", default.connections).clamp(1, 1 << 20),
            fetch_bytes: size("fetch.max.bytes", default.fetch_bytes),
            fetch_sessions: size(
                "max.incremental.fetch.session.cache.slots",
                default.fetch_sessions,
            ),
        }
    }
}

impl Services {
    pub(crate) fn new(agent: Arc<Agent>, memory: &Budgets) -> Self {
        let limits = Limits::configured(&agent);
        let length = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            requests: RequestMemory::new(length(memory.requests)),
            responses: ByteBudget::new(length(memory.responses)),
            fetch_sessions: FetchSessions::new(limits.fetch_sessions),
            metrics: Metrics::new(),
            traffic: Arc::default(),
            in_flight: AtomicUsize::new(0),
            stopping: CancellationToken::new(),
            complaints: Complaints::default(),
            agent,
            limits,
        }
    }
}

/// Counts a request for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Services>);

impl InFlight {
    pub(crate) fn begin(services: &Arc<Services>) -> Self {
        services.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(services))
    }

    /// How many there are.
    pub(crate) fn count(services: &Services) -> usize {
        services.in_flight.load(Ordering::Acquire)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Keeps a flood of bad clients from becoming a flood of log lines.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// The second that is counted, in the upper half, and how many lines it has had.
    window: AtomicU64,
    silenced: AtomicU64,
}

impl Complaints {
    /// Lines a second.
    const RATE: u64 = 20;

    /// Whether one more line may be written now: `Some` with the number of lines that were not
    /// since the last one.
    pub(crate) fn allow(&self, now_millis: i64) -> Option<u64> {
        let second = u64::try_from(now_millis / 1000).unwrap_or(0) << 32;
        let mut before = self.window.load(Ordering::Relaxed);
        loop {
            let same = before >> 32 == second >> 32;
            let count = if same { before & 0xffff_ffff } else { 0 };
            if count >= Self::RATE {
                self.silenced.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            match self.window.compare_exchange_weak(
                before,
                second | (count + 1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(self.silenced.swap(0, Ordering::Relaxed)),
                Err(current) => before = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_counted_by_the_second() {
        let complaints = Complaints::default();
        for _ in 0..Complaints::RATE {
            assert_eq!(complaints.allow(5_000), Some(0));
        }
        assert_eq!(complaints.allow(5_999), None);
        assert_eq!(complaints.allow(5_999), None);
        assert_eq!(complaints.allow(6_000), Some(2));
    }
}
