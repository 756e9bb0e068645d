//! The broker settings that groups heed, and the walls behind them.

use alluvium_metadata::State;

use crate::topics::Topics;

/// Most members of one group, those included that were given an id and have not come back with it.
pub(crate) const MEMBERS_PER_GROUP: usize = 10_000;

/// Most bytes that the subscriptions of one member may hold.
pub(crate) const MEMBER_BYTES: usize = 1 << 20;

/// Most bytes that the subscriptions of one group may hold, and that its assignments may hold.
pub(crate) const GROUP_BYTES: usize = 8 << 20;

/// Most bytes that all groups may hold in memory.
pub(crate) const ALL_GROUPS_BYTES: usize = 128 << 20;

/// What a group and a member hold besides what clients sent.
pub(crate) const ENTRY_BYTES: usize = 1024;

/// Longest time that a new member's join may wait, in milliseconds. A client that gave up cannot be
/// told from one that waits; this bounds how long its place is kept.
pub(crate) const NEW_MEMBER_WAIT: i64 = 5 * 60 * 1000;

/// Pause before a record is written again that could not be written, in milliseconds.
pub(crate) const WRITE_PAUSE: i64 = 1000;

/// Broker settings. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `group.min.session.timeout.ms`
    pub(crate) min_session: i32,
    /// `group.max.session.timeout.ms`
    pub(crate) max_session: i32,
    /// `group.initial.rebalance.delay.ms`
    pub(crate) initial_delay: i64,
    /// `group.max.size`
    pub(crate) max_size: usize,
    /// `offset.metadata.max.bytes`
    pub(crate) offset_metadata_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_session: 6_000,
            max_session: 1_800_000,
            initial_delay: 3_000,
            max_size: MEMBERS_PER_GROUP,
            offset_metadata_bytes: 4096,
        }
    }
}

impl Settings {
    /// The settings as they stand.
    pub(crate) fn read(topics: &Topics, state: &State) -> Self {
        fn or<T: std::str::FromStr>(text: Option<String>, default: T) -> T {
            text.and_then(|text| text.parse().ok()).unwrap_or(default)
        }
        let broker = |name| topics.broker(state, name);
        let kafka = Self::default();
        Self {
            min_session: or(broker("group.min.session.timeout.ms"), kafka.min_session),
            max_session: or(broker("group.max.session.timeout.ms"), kafka.max_session),
            initial_delay: or(
                broker("group.initial.rebalance.delay.ms"),
                kafka.initial_delay,
            )
            .max(0),
            max_size: or(broker("group.max.size"), kafka.max_size).min(MEMBERS_PER_GROUP),
            offset_metadata_bytes: or(
                broker("offset.metadata.max.bytes"),
                kafka.offset_metadata_bytes,
            ),
        }
    }
}
