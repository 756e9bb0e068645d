//! What share groups are bound by (KIP-932).

use alluvium_metadata::{ShareTerms, State};

use crate::topics::{OffsetReset, Topics};

/// The settings that a share group heeds: its own, else those of the brokers. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `share.session.timeout.ms`
    pub(crate) session: i32,
    /// `share.heartbeat.interval.ms`
    pub(crate) heartbeat: i32,
    /// `group.share.max.size`
    pub(crate) max_size: usize,
    /// `share.record.lock.duration.ms`, `share.delivery.count.limit`,
    /// `share.partition.max.record.locks`
    pub(crate) terms: ShareTerms,
    /// `share.auto.offset.reset`
    pub(crate) begins: OffsetReset,
    /// `share.renew.acknowledge.enable`
    pub(crate) renews: bool,
}

/// Kafka's bounds of all bounds: what is set beyond them counts as the bound.
const DELIVERIES: std::ops::RangeInclusive<u16> = 2..=25;
const IN_FLIGHT: std::ops::RangeInclusive<u32> = 100..=10_000;

impl Settings {
    /// A group's settings as they stand.
    pub(crate) fn of(topics: &Topics, state: &State, group: &str) -> Self {
        fn or<T: std::str::FromStr>(text: Option<String>, default: T) -> T {
            text.and_then(|text| text.trim().parse().ok())
                .unwrap_or(default)
        }
        let own = |name| topics.group(state, group, name);
        let deliveries = or(own("share.delivery.count.limit"), 5);
        let in_flight = or(own("share.partition.max.record.locks"), 2000);
        let begins = own("share.auto.offset.reset").unwrap_or_default();
        Self {
            session: or(own("share.session.timeout.ms"), 45_000).max(1000),
            heartbeat: or(own("share.heartbeat.interval.ms"), 5_000).max(100),
            max_size: or(topics.broker(state, "group.share.max.size"), 200),
            terms: ShareTerms {
                lock: or(own("share.record.lock.duration.ms"), 30_000).max(1000),
                deliveries: *DELIVERIES.start().max(&deliveries.min(*DELIVERIES.end())),
                in_flight: *IN_FLIGHT.start().max(&in_flight.min(*IN_FLIGHT.end())),
            },
            begins: OffsetReset::parse(&begins).unwrap_or(OffsetReset::Latest),
            renews: own("share.renew.acknowledge.enable")
                .is_none_or(|text| !text.trim().eq_ignore_ascii_case("false")),
        }
    }
}
