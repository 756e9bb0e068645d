//! Topics and their configuration: Kafka's rules, checked before a command is made.

use std::collections::BTreeMap;

use alluvium_metadata::{Refusal, State, Topic};
use alluvium_protocol::compression::Codec;
use alluvium_types::{Millis, TopicId};

/// Rules, defaults and the static configuration of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topics {}

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
    /// `cleanup.policy` contains "compact": every record needs a key.
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
    /// Every setting that is unknown or has an impossible value, in one text.
    pub fn new(broker_configs: BTreeMap<String, String>) -> Result<Self, String> {
        let _ = broker_configs;
        todo!()
    }

    /// A topic's settings.
    #[must_use]
    pub fn settings(&self, state: &State, topic: &Topic) -> TopicSettings {
        let _ = (state, topic);
        todo!()
    }

    /// A broker setting's value as it stands (dynamic, static, default), by name.
    #[must_use]
    pub fn broker(&self, state: &State, name: &str) -> Option<String> {
        let _ = (state, name);
        todo!()
    }

    /// Makes a topic on first use, when `auto.create.topics.enable` says so; its id, also when
    /// another request made it first.
    ///
    /// # Errors
    /// Not enabled, an invalid name, or the quorum's refusal.
    pub async fn auto_create(
        &self,
        metadata: &alluvium_cluster::Metadata,
        now: Millis,
        name: &str,
    ) -> Result<TopicId, Refusal> {
        let _ = (metadata, now, name);
        todo!()
    }
}
