//! Settings as DescribeConfigs shows them: value, where it comes from, what else is set.

use std::collections::BTreeSet;

use alluvium_metadata::{State, Topic};

use super::Topics;
use super::broker_configs::{broker_config, broker_configs};
use super::client_metrics::CLIENT_METRICS_CONFIGS;
use super::definition::{Definition, Stance};
use super::group_configs::{self, GROUP_CONFIGS};
use super::settings::{self, Values};
use super::topic_configs::{TOPIC_CONFIGS, synonyms};

/// Where a value was set, by the numbers of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// On the topic.
    DynamicTopic = 1,
    /// On the cluster, while running.
    DynamicDefaultBroker = 3,
    /// In the process's configuration.
    StaticBroker = 4,
    /// Nowhere.
    Default = 5,
    /// On the client metrics subscription.
    ClientMetrics = 7,
    /// On the group.
    DynamicGroup = 8,
}

impl ConfigSource {
    /// The number in an answer.
    #[must_use]
    pub const fn number(self) -> i8 {
        self as i8
    }
}

/// A setting with its value.
#[derive(Clone, Debug)]
pub struct DescribedConfig {
    /// What it is.
    pub definition: &'static Definition,
    /// Its value; `None` for null and for secrets.
    pub value: Option<String>,
    /// Where the value was set.
    pub source: ConfigSource,
    /// Whether it cannot be changed while running.
    pub read_only: bool,
    /// Every place where it is set, the winner first.
    pub synonyms: Vec<Synonym>,
}

/// A place where a setting is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// Under which name.
    pub name: &'static str,
    /// To what; `None` for secrets.
    pub value: Option<String>,
    /// Where.
    pub source: ConfigSource,
}

/// Which settings to show: all, or these.
pub(super) type Keys<'a> = Option<&'a BTreeSet<&'a str>>;

impl Topics {
    /// All settings of a topic, or those named in `keys`.
    #[must_use]
    pub fn describe_topic(
        &self,
        state: &State,
        topic: &Topic,
        keys: Option<&BTreeSet<&str>>,
    ) -> Vec<DescribedConfig> {
        self.describe_topic_configs(state, &topic.configs, keys)
    }

    pub(super) fn describe_topic_configs(
        &self,
        state: &State,
        own: &Values,
        keys: Keys<'_>,
    ) -> Vec<DescribedConfig> {
        let statics = &self.shared.statics;
        let dynamics = state.cluster_configs();
        chosen(TOPIC_CONFIGS.iter(), keys)
            .map(|definition| {
                let value = settings::topic_value(statics, dynamics, own, definition);
                let names = synonyms(definition.name).iter().map(|(name, _)| *name);
                let mut synonyms: Vec<Synonym> = own
                    .get(definition.name)
                    .map(|value| Synonym {
                        name: definition.name,
                        value: Some(value.clone()),
                        source: ConfigSource::DynamicTopic,
                    })
                    .into_iter()
                    .collect();
                synonyms.extend(self.places(dynamics, names));
                DescribedConfig {
                    definition,
                    value: value.map(std::borrow::Cow::into_owned),
                    source: winner(&synonyms),
                    read_only: false,
                    synonyms,
                }
            })
            .collect()
    }

    /// All settings of this agent, or those named in `keys`. Settings whose values are refused are
    /// not among them.
    #[must_use]
    pub fn describe_broker(
        &self,
        state: &State,
        keys: Option<&BTreeSet<&str>>,
    ) -> Vec<DescribedConfig> {
        let dynamics = state.cluster_configs();
        chosen(broker_configs(), keys)
            .filter(|definition| !matches!(definition.stance, Stance::Refused(_)))
            .map(|definition| self.describe_broker_config(dynamics, definition))
            .collect()
    }

    /// The settings of the whole cluster that were set while running.
    #[must_use]
    pub fn describe_cluster(
        &self,
        state: &State,
        keys: Option<&BTreeSet<&str>>,
    ) -> Vec<DescribedConfig> {
        let dynamics = state.cluster_configs();
        let set = dynamics.keys().filter_map(|name| broker_config(name));
        chosen(set, keys)
            .map(|definition| {
                let mut described = self.describe_broker_config(dynamics, definition);
                described
                    .synonyms
                    .retain(|place| place.source == ConfigSource::DynamicDefaultBroker);
                described
            })
            .collect()
    }

    /// All settings of groups of this id, which need not exist, or those named in `keys`.
    #[must_use]
    pub fn describe_group(
        &self,
        state: &State,
        group: &str,
        keys: Option<&BTreeSet<&str>>,
    ) -> Vec<DescribedConfig> {
        let none = Values::new();
        let own = state.group_configs(group).unwrap_or(&none);
        let (statics, dynamics) = (&self.shared.statics, state.cluster_configs());
        let describe = |definition: &'static Definition| {
            let name = definition.name;
            let value = group_configs::group_value(statics, dynamics, own, definition);
            let own = own
                .get(name)
                .map(|value| synonym(name, value, ConfigSource::DynamicGroup));
            let mut synonyms: Vec<Synonym> = own.into_iter().collect();
            synonyms.extend(self.places(dynamics, group_configs::synonym(name).into_iter()));
            DescribedConfig {
                definition,
                value: Some(value.into_owned()),
                source: winner(&synonyms),
                read_only: false,
                synonyms,
            }
        };
        chosen(GROUP_CONFIGS.iter(), keys).map(describe).collect()
    }

    /// All settings of a client metrics subscription, which need not exist, or those named in `keys`.
    #[must_use]
    pub fn describe_client_metrics(
        &self,
        state: &State,
        name: &str,
        keys: Option<&BTreeSet<&str>>,
    ) -> Vec<DescribedConfig> {
        let own = state.client_metrics_configs(name);
        let describe = |definition: &'static Definition| {
            let set = own.and_then(|own| own.get(definition.name));
            let place = set.map(|value| Synonym {
                name: definition.name,
                value: Some(value.clone()),
                source: ConfigSource::ClientMetrics,
            });
            let synonyms: Vec<Synonym> = place.into_iter().collect();
            DescribedConfig {
                definition,
                value: set
                    .cloned()
                    .or_else(|| definition.default.map(str::to_owned)),
                source: winner(&synonyms),
                read_only: false,
                synonyms,
            }
        };
        let all = CLIENT_METRICS_CONFIGS.iter();
        chosen(all, keys).map(describe).collect()
    }

    fn describe_broker_config(
        &self,
        dynamics: &Values,
        definition: &'static Definition,
    ) -> DescribedConfig {
        let value = settings::broker_value(&self.shared.statics, dynamics, definition.name);
        let names = broker_synonyms(definition.name).unwrap_or_else(|| vec![definition.name]);
        let synonyms = self.places(dynamics, names.into_iter());
        DescribedConfig {
            definition,
            value: if definition.is_sensitive() {
                None
            } else {
                value.map(str::to_owned)
            },
            source: winner(&synonyms),
            read_only: !definition.dynamic,
            synonyms,
        }
    }

    /// Where the settings of these names are set, the strongest place first.
    fn places(
        &self,
        dynamics: &Values,
        names: impl Iterator<Item = &'static str> + Clone,
    ) -> Vec<Synonym> {
        let set_in = |values: &Values, source: ConfigSource| -> Vec<Synonym> {
            names
                .clone()
                .filter_map(|name| Some(synonym(name, values.get(name)?, source)))
                .collect()
        };
        let mut places = set_in(dynamics, ConfigSource::DynamicDefaultBroker);
        places.extend(set_in(&self.shared.statics, ConfigSource::StaticBroker));
        places.extend(names.clone().filter_map(|name| {
            Some(synonym(
                name,
                broker_config(name)?.default?,
                ConfigSource::Default,
            ))
        }));
        places
    }
}

fn synonym(name: &'static str, value: &str, source: ConfigSource) -> Synonym {
    let secret = broker_config(name).is_some_and(Definition::is_sensitive);
    Synonym {
        name,
        value: (!secret).then(|| value.to_owned()),
        source,
    }
}

fn winner(places: &[Synonym]) -> ConfigSource {
    places
        .first()
        .map_or(ConfigSource::Default, |place| place.source)
}

/// Settings of several names for one thing, the strongest first.
fn broker_synonyms(name: &str) -> Option<Vec<&'static str>> {
    const FAMILIES: [&str; 4] = [
        "retention.ms",
        "segment.ms",
        "segment.jitter.ms",
        "flush.ms",
    ];
    FAMILIES
        .into_iter()
        .map(|topic| {
            synonyms(topic)
                .iter()
                .map(|(broker, _)| *broker)
                .collect::<Vec<_>>()
        })
        .find(|family| family.contains(&name))
}

fn chosen<'a>(
    definitions: impl Iterator<Item = &'static Definition> + 'a,
    keys: Keys<'a>,
) -> impl Iterator<Item = &'static Definition> + 'a {
    definitions.filter(move |definition| keys.is_none_or(|keys| keys.contains(definition.name)))
}
