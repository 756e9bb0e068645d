//! Every setting that Kafka 4 knows of a single group (KIP-1240 and before).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::broker_configs::broker_config;
use super::definition::{Definition, Rule, boolean, int, string};
use super::reasons::{NEW_GROUPS, STREAMS};
use super::settings::{Values, broker_number, broker_value};

/// The isolation levels of share groups.
const ISOLATION: &[&str] = &["read_committed", "read_uncommitted"];

/// The table, by name.
pub const GROUP_CONFIGS: &[Definition] = &[
    int("consumer.assignment.interval.ms", "1000")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("consumer.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .doc("How often members of a consumer group give a sign of life, in milliseconds."),
    int("consumer.session.timeout.ms", "45000")
        .at_least(1.0)
        .doc("After how long without a sign a member of a consumer group has left, in milliseconds."),
    int("share.assignment.interval.ms", "1000")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    string("share.auto.offset.reset", "latest")
        .rule(Rule::OffsetReset)
        .doc(
            "Where a share group begins in a partition that is new to it: earliest, latest, or by_duration: \
             and how long ago, as PnDTnHnMn.nS.",
        ),
    int("share.delivery.count.limit", "5")
        .at_least(2.0)
        .doc("How often a record is delivered at most."),
    int("share.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .doc("How often members give a sign of life, in milliseconds."),
    string("share.isolation.level", "read_uncommitted")
        .one_of(ISOLATION)
        .refused("share groups get what transactions have not committed, too"),
    int("share.partition.max.record.locks", "2000")
        .at_least(100.0)
        .doc("Records of a partition between the first that is not done and the last that was acquired, most."),
    int("share.record.lock.duration.ms", "30000")
        .at_least(1000.0)
        .doc("For how long a record belongs to the member that acquired it, in milliseconds."),
    boolean("share.renew.acknowledge.enable", "true")
        .doc("Whether members may renew the lock of a record (KIP-1222)."),
    int("share.session.timeout.ms", "45000")
        .at_least(1.0)
        .doc("After how long without a sign a member has left, in milliseconds."),
    int("streams.assignment.interval.ms", "1000")
        .at_least(0.0)
        .no_effect(STREAMS),
    int("streams.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .no_effect(STREAMS),
    int("streams.initial.rebalance.delay.ms", "3000")
        .at_least(0.0)
        .no_effect(STREAMS),
    int("streams.num.standby.replicas", "0")
        .at_least(0.0)
        .no_effect(STREAMS),
    int("streams.session.timeout.ms", "45000")
        .at_least(1.0)
        .no_effect(STREAMS),
];

/// A group setting by name.
#[must_use]
pub fn group_config(name: &str) -> Option<&'static Definition> {
    GROUP_CONFIGS
        .iter()
        .find(|definition| definition.name == name)
}

/// The broker setting of that name in all groups, and what bounds it.
#[derive(Clone, Copy, Debug)]
struct Family {
    default: &'static Definition,
    least: Option<&'static Definition>,
    most: Option<&'static Definition>,
}

/// Broker settings go as `group.share.session.timeout.ms`, bounds as `group.share.min.session.timeout.ms`.
static FAMILIES: LazyLock<HashMap<&'static str, Family>> = LazyLock::new(|| {
    let family = |name: &'static str| {
        let (kind, rest) = name.split_once('.')?;
        // Kafka's one bound that goes by another name.
        let bounded = rest.strip_prefix("num.").unwrap_or(rest);
        let family = Family {
            default: broker_config(&format!("group.{name}"))?,
            least: broker_config(&format!("group.{kind}.min.{bounded}")),
            most: broker_config(&format!("group.{kind}.max.{bounded}")),
        };
        Some((name, family))
    };
    let names = GROUP_CONFIGS.iter().map(|definition| definition.name);
    names.filter_map(family).collect()
});

fn family(name: &str) -> Option<Family> {
    FAMILIES.get(name).copied()
}

/// The broker setting that a group setting follows where it is not set.
pub(super) fn synonym(name: &str) -> Option<&'static str> {
    family(name).map(|family| family.default.name)
}

/// A group setting's value where the group does not set it.
pub(super) fn group_default<'a>(
    statics: &'a Values,
    dynamics: &'a Values,
    definition: &Definition,
) -> &'a str {
    synonym(definition.name)
        .and_then(|name| broker_value(statics, dynamics, name))
        .or(definition.default)
        .unwrap_or_default()
}

/// A group setting's value. What the broker settings do not allow counts as the bound: they may have been
/// changed since it was set.
pub(super) fn group_value<'a>(
    statics: &'a Values,
    dynamics: &'a Values,
    own: &'a Values,
    definition: &Definition,
) -> Cow<'a, str> {
    let Some(value) = own.get(definition.name) else {
        return Cow::Borrowed(group_default(statics, dynamics, definition));
    };
    let bounds = family(definition.name).zip(value.parse::<i64>().ok());
    let Some((family, number)) = bounds else {
        return Cow::Borrowed(value);
    };
    let of = |bound: Option<&Definition>| broker_number(statics, dynamics, bound?.name);
    let most = of(family.most).unwrap_or(i64::MAX);
    let bounded = number.min(most).max(of(family.least).unwrap_or(i64::MIN));
    if bounded == number {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(bounded.to_string())
    }
}

/// Checks a group's settings together, and against the bounds that the broker settings give, in Kafka's words.
pub(super) fn check_group(statics: &Values, dynamics: &Values, own: &Values) -> Result<(), String> {
    for (name, value) in own {
        let Some((family, number)) = family(name).zip(value.parse::<i64>().ok()) else {
            continue;
        };
        let beyond = |bound: Option<&'static Definition>, exceeds: fn(i64, i64) -> bool| {
            let bound = bound?.name;
            let limit = broker_number(statics, dynamics, bound)?;
            exceeds(number, limit).then_some(bound)
        };
        if let Some(least) = beyond(family.least, |number, limit| number < limit) {
            return Err(format!("{name} must be greater than or equal to {least}"));
        }
        if let Some(most) = beyond(family.most, |number, limit| number > limit) {
            return Err(format!("{name} must be less than or equal to {most}"));
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let session = format!("{kind}.session.timeout.ms");
        let heartbeat = format!("{kind}.heartbeat.interval.ms");
        if !own.contains_key(&session) && !own.contains_key(&heartbeat) {
            continue;
        }
        let number = |name: &str| {
            let value = group_value(statics, dynamics, own, group_config(name)?);
            value.parse::<i64>().ok()
        };
        if number(&session) <= number(&heartbeat) {
            return Err(format!("{session} must be greater than {heartbeat}"));
        }
    }
    Ok(())
}
