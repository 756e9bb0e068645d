//! Topics and their configuration: Kafka's rules, checked before a command is made.
//!
//! [`Topics`] carries the static configuration of the process. A setting's value is the dynamic one
//! of the cluster, else the static one, else the default; a topic's setting is its own, else what
//! the broker settings make its default. What a setting is and what becomes of it stands in one
//! table each for topics ([`TOPIC_CONFIGS`]) and brokers ([`broker_configs()`]).

mod alter;
mod broker_configs;
mod client_metrics;
mod create;
mod definition;
mod delete;
mod describe;
mod group_configs;
mod grow;
mod names;
mod offset_reset;
mod placement;
mod policy;
mod reasons;
mod settings;
mod topic_configs;
mod zone;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_compaction::TopicPolicy;
use alluvium_metadata::{Command, Outcome, Refusal, State, Topic};
use alluvium_protocol::compression::Codec;
use alluvium_types::{ErrorCode, Millis, TopicId};

pub use alter::{Alteration, AlterationOp};
pub use broker_configs::{broker_config, broker_configs};
pub use client_metrics::CLIENT_METRICS_CONFIGS;
pub use create::{CreatedTopic, NewTopic};
pub use definition::{Definition, Kind, Stance, nearest};
pub use describe::{ConfigSource, DescribedConfig, Synonym};
pub use group_configs::{GROUP_CONFIGS, group_config};
pub use names::{check_name, is_internal};
pub use offset_reset::OffsetReset;
pub use placement::Placement;
pub use topic_configs::{TOPIC_CONFIGS, topic_config};
pub use zone::zone_of_client;

/// Rules, defaults and the static configuration of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topics {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What the process was started with.
    statics: BTreeMap<String, String>,
    /// The settings of a topic that sets nothing, in a cluster that sets nothing.
    defaults: TopicSettings,
    /// And how long its records live.
    default_policy: TopicPolicy,
}

/// The settings of a topic that the data path heeds, defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: usize,
    /// `compression.type`: `None` is "producer".
    pub compression: Option<Codec>,
    /// `message.timestamp.type` is LogAppendTime.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max: Millis,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max: Millis,
    /// `alluvium.lane`.
    pub lane: Lane,
    /// `cleanup.policy` says compact: every record needs a key.
    pub compacted: bool,
}

/// `alluvium.lane`: how a topic's chunks become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// By size and budget.
    Auto,
    /// Always in objects.
    Object,
    /// Inline while the budget lasts.
    LowLatency,
}

impl Topics {
    /// Takes the process's static configuration: Kafka's broker settings by their names.
    ///
    /// # Errors
    /// Every setting that is unknown or has an impossible value, in one text, a line for each.
    pub fn new(broker_configs: BTreeMap<String, String>) -> Result<Self, String> {
        let statics = settings::check_statics(broker_configs)?;
        let none = BTreeMap::new();
        let defaults = settings::resolve(&statics, &none, &none);
        let default_policy = policy::resolve(&statics, &none, &none);
        Ok(Self {
            shared: Arc::new(Shared {
                statics,
                defaults,
                default_policy,
            }),
        })
    }

    /// A topic's settings.
    #[must_use]
    pub fn settings(&self, state: &State, topic: &Topic) -> TopicSettings {
        let dynamics = state.cluster_configs();
        if dynamics.is_empty() && topic.configs.is_empty() {
            return self.shared.defaults;
        }
        settings::resolve(&self.shared.statics, dynamics, &topic.configs)
    }

    /// A broker setting's value as it stands (dynamic, static, default), by name.
    #[must_use]
    pub fn broker(&self, state: &State, name: &str) -> Option<String> {
        settings::broker_value(&self.shared.statics, state.cluster_configs(), name)
            .map(str::to_owned)
    }

    /// A group setting's value as it stands (the group's own, else that of the broker settings), by name.
    #[must_use]
    pub fn group(&self, state: &State, group: &str, name: &str) -> Option<String> {
        let none = BTreeMap::new();
        let own = state.group_configs(group).unwrap_or(&none);
        let (statics, dynamics) = (&self.shared.statics, state.cluster_configs());
        let value = group_configs::group_value(statics, dynamics, own, group_config(name)?);
        Some(value.into_owned())
    }

    /// A broker setting that is a number; 0 if it has no value.
    #[must_use]
    pub fn broker_int(&self, state: &State, name: &str) -> i64 {
        settings::broker_value(&self.shared.statics, state.cluster_configs(), name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// A broker setting that is true or false.
    #[must_use]
    pub fn broker_bool(&self, state: &State, name: &str) -> bool {
        settings::broker_value(&self.shared.statics, state.cluster_configs(), name)
            .and_then(definition::parse_bool)
            .unwrap_or(false)
    }

    /// Makes a topic on first use, when `auto.create.topics.enable` says so; its id, also when
    /// another request made it first.
    ///
    /// # Errors
    /// Not enabled, an invalid name, or the quorum's refusal.
    pub async fn auto_create(
        &self,
        metadata: &Metadata,
        now: Millis,
        name: &str,
    ) -> Result<TopicId, Refusal> {
        let existing = |state: &State| state.topic_by_name(name).map(|topic| topic.id);
        if let Some(id) = metadata.read(existing) {
            return Ok(id);
        }
        if is_internal(name) {
            return Err(refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!("Topic '{name}' is internal; its contents are kept in the metadata."),
            ));
        }
        check_name(name)?;
        if !metadata.read(|state| self.broker_bool(state, "auto.create.topics.enable")) {
            return Err(refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!("Topic '{name}' does not exist and auto.create.topics.enable is false."),
            ));
        }
        match self
            .create(metadata, now, &NewTopic::named(name), false)
            .await
        {
            Ok(created) => Ok(created.id),
            Err(refusal) => match metadata.read(existing) {
                Some(id) => Ok(id),
                None => Err(refusal),
            },
        }
    }
}

fn refuse(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

/// Proposes a command; what the quorum refuses, or does not answer, is a refusal.
async fn decide(metadata: &Metadata, command: Command) -> Result<Outcome, Refusal> {
    match metadata.propose(command).await {
        Ok(applied) => match applied.outcome {
            Outcome::Refused(refusal) => Err(refusal),
            outcome => Ok(outcome),
        },
        // Both codes make Kafka's clients try again.
        Err(error @ ProposeError::Unavailable(_)) => {
            Err(refuse(ErrorCode::NotController, error.to_string()))
        }
        Err(error @ ProposeError::TimedOut) => {
            Err(refuse(ErrorCode::RequestTimedOut, error.to_string()))
        }
    }
}

fn unknown_topic(name: &str) -> Refusal {
    refuse(
        ErrorCode::UnknownTopicOrPartition,
        format!("The topic '{name}' does not exist."),
    )
}
