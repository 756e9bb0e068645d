//! What a setting's value is: which of the places it may be set in wins, and what follows from it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use alluvium_protocol::compression::Codec;

use super::broker_configs::broker_configs;
use super::definition::{Definition, elements, nearest};
use super::topic_configs::{Convert, TOPIC_CONFIGS, synonyms, topic_config};
use super::{Lane, TopicSettings};

/// Settings by name.
pub(super) type Values = BTreeMap<String, String>;

static BROKER_BY_NAME: LazyLock<HashMap<&'static str, &'static Definition>> = LazyLock::new(|| {
    broker_configs()
        .map(|definition| (definition.name, definition))
        .collect()
});

/// Checks names and values of the static configuration, all of them.
pub(super) fn check_statics(given: Values) -> Result<Values, String> {
    let mut checked = Values::new();
    let mut faults = Vec::new();
    for (name, value) in given {
        match BROKER_BY_NAME
            .get(name.as_str())
            .map(|definition| definition.check(&value))
        {
            Some(Ok(value)) => _ = checked.insert(name, value),
            Some(Err(fault)) => faults.push(fault),
            None => faults.push(unknown_broker_config(&name)),
        }
    }
    faults.extend(conflicts(|name| {
        broker_number(&checked, &Values::new(), name)
    }));
    if faults.is_empty() {
        Ok(checked)
    } else {
        Err(faults.join("\n"))
    }
}

pub(super) fn unknown_broker_config(name: &str) -> String {
    let known = broker_configs().map(|definition| definition.name);
    let hint = nearest(name, known).map(|near| format!("; the nearest known one is {near}"));
    // A topic's own name for a setting is the likeliest mistake of all.
    let hint = match (hint, topic_config(name), synonyms(name)) {
        (_, Some(_), [(broker, _), ..]) => format!("; as a default for topics it is {broker}"),
        (hint, _, _) => hint.unwrap_or_default(),
    };
    format!("Unknown broker config name: {name}{hint}")
}

/// What is wrong with broker settings taken together.
pub(super) fn conflicts(number: impl Fn(&str) -> Option<i64>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ordered = |low: &str, high: &str| {
        if let (Some(least), Some(most)) = (number(low), number(high))
            && least > most
        {
            faults.push(format!(
                "{low} ({least}) must not be greater than {high} ({most})"
            ));
        }
    };
    ordered(
        "log.cleaner.min.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
    );
    ordered(
        "group.min.session.timeout.ms",
        "group.max.session.timeout.ms",
    );
    for name in [
        "log.retention.ms",
        "log.retention.minutes",
        "log.retention.hours",
    ] {
        if number(name) == Some(0) {
            faults.push(format!(
                "{name} must be unlimited (-1) or, equal or greater than 1"
            ));
        }
    }
    faults
}

/// A broker setting as it stands.
pub(super) fn broker_value<'a>(
    statics: &'a Values,
    dynamics: &'a Values,
    name: &str,
) -> Option<&'a str> {
    dynamics
        .get(name)
        .or_else(|| statics.get(name))
        .map(String::as_str)
        .or_else(|| BROKER_BY_NAME.get(name)?.default)
}

pub(super) fn broker_number(statics: &Values, dynamics: &Values, name: &str) -> Option<i64> {
    broker_value(statics, dynamics, name)?.parse().ok()
}

/// A topic setting's value where the topic does not set it.
pub(super) fn topic_default<'a>(
    statics: &'a Values,
    dynamics: &'a Values,
    definition: &Definition,
) -> Option<Cow<'a, str>> {
    synonyms(definition.name)
        .iter()
        .find_map(|(name, convert)| {
            Some(converted(broker_value(statics, dynamics, name)?, *convert))
        })
        .or_else(|| definition.default.map(Cow::Borrowed))
}

/// A topic setting's value.
pub(super) fn topic_value<'a>(
    statics: &'a Values,
    dynamics: &'a Values,
    own: &'a Values,
    definition: &Definition,
) -> Option<Cow<'a, str>> {
    match own.get(definition.name) {
        Some(value) => Some(Cow::Borrowed(value)),
        None => topic_default(statics, dynamics, definition),
    }
}

fn converted(value: &str, convert: Convert) -> Cow<'_, str> {
    let factor: i64 = match convert {
        Convert::Same => return Cow::Borrowed(value),
        Convert::Minutes => 60_000,
        Convert::Hours => 3_600_000,
    };
    match value.parse::<i64>() {
        Ok(number) if number < 0 => Cow::Borrowed("-1"),
        Ok(number) => Cow::Owned(number.saturating_mul(factor).to_string()),
        Err(_) => Cow::Borrowed(value),
    }
}

/// The settings of a topic with the overrides `own`.
pub(super) fn resolve(statics: &Values, dynamics: &Values, own: &Values) -> TopicSettings {
    let text = |name: &str| {
        topic_config(name)
            .and_then(|definition| topic_value(statics, dynamics, own, definition))
            .unwrap_or_default()
    };
    // What was stored has been checked; a number that cannot be read limits nothing.
    let number = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
    TopicSettings {
        max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(usize::MAX),
        compression: match text("compression.type").as_ref() {
            "uncompressed" => Some(Codec::None),
            "gzip" => Some(Codec::Gzip),
            "snappy" => Some(Codec::Snappy),
            "lz4" => Some(Codec::Lz4),
            "zstd" => Some(Codec::Zstd),
            _ => None,
        },
        log_append_time: text("message.timestamp.type") == "LogAppendTime",
        timestamp_before_max: number("message.timestamp.before.max.ms"),
        timestamp_after_max: number("message.timestamp.after.max.ms"),
        lane: match text("alluvium.lane").as_ref() {
            "object" => Lane::Object,
            "low-latency" => Lane::LowLatency,
            _ => Lane::Auto,
        },
        compacted: elements(&text("cleanup.policy")).any(|policy| policy == "compact"),
    }
}

/// Checks a topic's overrides together with the defaults they meet.
pub(super) fn check_topic(statics: &Values, dynamics: &Values, own: &Values) -> Result<(), String> {
    let number = |name: &str| {
        topic_value(statics, dynamics, own, topic_config(name)?)?
            .parse::<i64>()
            .ok()
    };
    let (low, high) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    match (number(low), number(high)) {
        (Some(least), Some(most)) if least > most => Err(format!(
            "conflict topic config setting {low} ({least}) > {high} ({most})"
        )),
        _ => Ok(()),
    }
}

/// Kafka's sentence for a topic setting that nobody knows, with a hint where there is one.
pub(super) fn unknown_topic_config(name: &str) -> String {
    let meant = TOPIC_CONFIGS
        .iter()
        .map(|definition| definition.name)
        .find(|topic| {
            let brokers = synonyms(topic);
            brokers.iter().any(|(broker, _)| *broker == name)
        });
    let known = TOPIC_CONFIGS.iter().map(|definition| definition.name);
    let hint = match (meant, nearest(name, known)) {
        (Some(meant), _) => format!("; of a topic it is {meant}"),
        (None, Some(near)) => format!("; the nearest known one is {near}"),
        (None, None) => String::new(),
    };
    format!("Unknown topic config name: {name}{hint}")
}
