//! What share groups are bound by (KIP-932).

use alluvium_metadata::{ShareTerms, State};

use crate::topics::Topics;

/// The broker settings that share groups heed. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `group.share.session.timeout.ms`
    pub(crate) session: i32,
    /// `group.share.heartbeat.interval.ms`
    pub(crate) heartbeat: i32,
    /// `group.share.max.size`
    pub(crate) max_size: usize,
    /// `group.share.record.lock.duration.ms`, `group.share.delivery.count.limit`,
    /// `group.share.partition.max.record.locks`
    pub(crate) terms: ShareTerms,
}

/// Kafka's bounds: what is set beyond them counts as the bound.
const DELIVERIES: std::ops::RangeInclusive<u16> = 2..=10;
const IN_FLIGHT: std::ops::RangeInclusive<u32> = 100..=10_000;

impl Settings {
    /// The settings as they stand.
    pub(crate) fn read(topics: &Topics, state: &State) -> Self {
        fn or<T: std::str::FromStr>(text: Option<String>, default: T) -> T {
            text.and_then(|text| text.trim().parse().ok())
                .unwrap_or(default)
        }
        let broker = |name| topics.broker(state, name);
        let deliveries = or(broker("group.share.delivery.count.limit"), 5);
        let in_flight = or(broker("group.share.partition.max.record.locks"), 2000);
        Self {
            session: or(broker("group.share.session.timeout.ms"), 45_000).max(1000),
            heartbeat: or(broker("group.share.heartbeat.interval.ms"), 5_000).max(100),
            max_size: or(broker("group.share.max.size"), 200),
            terms: ShareTerms {
                lock: or(broker("group.share.record.lock.duration.ms"), 30_000).max(1000),
                deliveries: *DELIVERIES.start().max(&deliveries.min(*DELIVERIES.end())),
                in_flight: *IN_FLIGHT.start().max(&in_flight.min(*IN_FLIGHT.end())),
            },
        }
    }
}
