//! What a topic's settings say of its records' life.

use std::time::Duration;

use alluvium_compaction::{Policies, TopicPolicy};
use alluvium_metadata::{State, Topic};

use super::Topics;
use super::definition::elements;
use super::settings::{Values, topic_value};
use super::topic_configs::topic_config;

impl Policies for Topics {
    fn policy(&self, state: &State, topic: &Topic) -> TopicPolicy {
        let dynamics = state.cluster_configs();
        // Most topics of a large cluster set nothing, and all are asked for again and again.
        if dynamics.is_empty() && topic.configs.is_empty() {
            return self.shared.default_policy.clone();
        }
        resolve(&self.shared.statics, dynamics, &topic.configs)
    }
}

/// The policy of a topic with the overrides `own`.
pub(super) fn resolve(statics: &Values, dynamics: &Values, own: &Values) -> TopicPolicy {
    let text = |name: &str| {
        topic_config(name)
            .and_then(|definition| topic_value(statics, dynamics, own, definition))
            .unwrap_or_default()
    };
    // What was stored has been checked; a number that cannot be read limits nothing.
    let number = |name: &str| u64::try_from(text(name).parse::<i64>().unwrap_or(-1)).ok();
    let time = |name: &str| number(name).map(Duration::from_millis);
    let cleanup = text("cleanup.policy");
    let has = |wanted: &str| elements(&cleanup).any(|policy| policy == wanted);
    TopicPolicy {
        delete: has("delete"),
        compact: has("compact"),
        retention: time("retention.ms"),
        retention_bytes: number("retention.bytes"),
        delete_retention: time("delete.retention.ms").unwrap_or(Duration::MAX),
        min_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
        min_compaction_lag: time("min.compaction.lag.ms").unwrap_or_default(),
        max_compaction_lag: time("max.compaction.lag.ms").unwrap_or(Duration::MAX),
    }
}
