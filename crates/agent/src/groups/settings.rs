//! The broker settings that groups heed, and the walls behind them.

use alluvium_metadata::State;

use super::consumer::assignor::Assignor;
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
    /// `group.consumer.session.timeout.ms`
    pub(crate) consumer_session: i32,
    /// `group.consumer.heartbeat.interval.ms`
    pub(crate) consumer_heartbeat: i32,
    /// `group.consumer.max.size`
    pub(crate) consumer_max_size: usize,
    /// `group.consumer.assignors`, the default first
    pub(crate) assignors: [Option<Assignor>; 2],
    /// `group.consumer.migration.policy`
    pub(crate) migration: Migration,
}

/// In which directions a group with members may change its protocol (KIP-848).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Migration {
    Bidirectional,
    Upgrade,
    Downgrade,
    Disabled,
}

impl Migration {
    fn by_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "bidirectional" => Some(Self::Bidirectional),
            "upgrade" => Some(Self::Upgrade),
            "downgrade" => Some(Self::Downgrade),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }

    /// Whether classic members may become part of a group of the newer protocol.
    pub(crate) const fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    /// Whether a group whose last newer member leaves goes on as a classic one.
    pub(crate) const fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_session: 6_000,
            max_session: 1_800_000,
            initial_delay: 3_000,
            max_size: MEMBERS_PER_GROUP,
            offset_metadata_bytes: 4096,
            consumer_session: 45_000,
            consumer_heartbeat: 5_000,
            consumer_max_size: MEMBERS_PER_GROUP,
            assignors: Assignor::ALL.map(Some),
            migration: Migration::Bidirectional,
        }
    }
}

impl Settings {
    /// The assignors that members may ask for, the default first.
    pub(crate) fn offered(&self) -> Vec<Assignor> {
        self.assignors.into_iter().flatten().collect()
    }

    /// The settings with those of one group. It is they that hold while the group is served.
    pub(crate) fn of(topics: &Topics, state: &State, group: &str) -> Self {
        let own = |name| topics.group(state, group, name)?.parse().ok();
        let brokers = Self::read(topics, state);
        Self {
            consumer_session: own("consumer.session.timeout.ms")
                .unwrap_or(brokers.consumer_session),
            consumer_heartbeat: own("consumer.heartbeat.interval.ms")
                .unwrap_or(brokers.consumer_heartbeat)
                .max(100),
            ..brokers
        }
    }

    /// The settings as they stand.
    pub(crate) fn read(topics: &Topics, state: &State) -> Self {
        fn or<T: std::str::FromStr>(text: Option<String>, default: T) -> T {
            text.and_then(|text| text.parse().ok()).unwrap_or(default)
        }
        let broker = |name| topics.broker(state, name);
        let kafka = Self::default();
        let assignors = broker("group.consumer.assignors").unwrap_or_default();
        let mut assignors = assignors.split(',').map(str::trim);
        let mut assignors = [(); 2].map(|()| assignors.find_map(Assignor::by_name));
        if assignors[0].is_none() {
            assignors = kafka.assignors;
        }
        let migration = broker("group.consumer.migration.policy");
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
            consumer_session: or(
                broker("group.consumer.session.timeout.ms"),
                kafka.consumer_session,
            ),
            consumer_heartbeat: or(
                broker("group.consumer.heartbeat.interval.ms"),
                kafka.consumer_heartbeat,
            )
            .max(100),
            consumer_max_size: or(broker("group.consumer.max.size"), kafka.consumer_max_size)
                .min(MEMBERS_PER_GROUP),
            assignors,
            migration: migration
                .and_then(|name| Migration::by_name(name.trim()))
                .unwrap_or(kafka.migration),
        }
    }
}
