//! Altering the configuration of topics, of the cluster and of groups.

use std::collections::BTreeSet;

use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, ConfigChange, ConfigOp, ConfigTarget, Refusal, State};
use alluvium_types::ErrorCode;

use super::broker_configs::broker_config;
use super::definition::{Definition, Kind, Stance, elements, nearest};
use super::group_configs::{self, GROUP_CONFIGS, group_config};
use super::settings::{self, Values};
use super::topic_configs::topic_config;
use super::{Topics, check_name, decide, refuse, unknown_topic};

/// Longest name of what has settings, in bytes: group ids are bounded by it, too.
pub(super) const NAME_BYTES: usize = 1024;

/// What to do with a setting (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterationOp {
    /// 0: set it.
    Set,
    /// 1: back to the default.
    Delete,
    /// 2: add elements to a list.
    Append,
    /// 3: take elements from a list.
    Subtract,
}

impl AlterationOp {
    /// The operation that a wire number stands for.
    #[must_use]
    pub const fn from_number(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// One setting to alter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    /// Which.
    pub name: String,
    /// How.
    pub op: AlterationOp,
    /// With what; only [`AlterationOp::Delete`] does without.
    pub value: Option<String>,
}

/// The settings of one resource: how they are defined, what they are now.
pub(super) struct Target<'a> {
    pub(super) definition: fn(&str) -> Option<&'static Definition>,
    pub(super) current: &'a Values,
    pub(super) default: &'a dyn Fn(&Definition) -> String,
    /// Kafka's code for a value that is wrong.
    pub(super) code: ErrorCode,
    pub(super) unknown: fn(&str) -> String,
}

/// Has the quorum alter the settings of a resource.
pub(super) async fn decide_on(
    metadata: &Metadata,
    target: ConfigTarget,
    replace: bool,
    changes: Vec<ConfigChange>,
) -> Result<(), Refusal> {
    let command = Command::AlterConfigs {
        target,
        replace,
        changes,
    };
    decide(metadata, command).await.map(|_| ())
}

impl Topics {
    /// Alters a topic's settings; `replace` forgets those that are not named. Or only says whether
    /// it could be done.
    ///
    /// # Errors
    /// Kafka's codes and words for what is wrong with it.
    pub async fn alter_topic(
        &self,
        metadata: &Metadata,
        name: &str,
        alterations: &[Alteration],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        if name.is_empty() {
            let message = "Default topic resources are not allowed.";
            return Err(refuse(ErrorCode::InvalidRequest, message));
        }
        check_name(name)?;
        let (topic, changes) = metadata.read(|state| {
            let topic = state
                .topic_by_name(name)
                .ok_or_else(|| unknown_topic(name))?;
            let changes = self.check_topic_changes(state, &topic.configs, alterations, replace)?;
            Ok::<_, Refusal>((topic.id, changes))
        })?;
        if validate_only {
            return Ok(());
        }
        decide_on(metadata, ConfigTarget::Topic(topic), replace, changes).await
    }

    /// Alters the settings of the whole cluster (Kafka's dynamic broker defaults).
    ///
    /// # Errors
    /// See [`Self::alter_topic`]; and settings that cannot be changed while running.
    pub async fn alter_cluster(
        &self,
        metadata: &Metadata,
        alterations: &[Alteration],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let changes =
            metadata.read(|state| self.check_cluster_changes(state, alterations, replace))?;
        if validate_only {
            return Ok(());
        }
        decide_on(metadata, ConfigTarget::Cluster, replace, changes).await
    }

    /// Alters the settings of groups of an id, which need not exist.
    ///
    /// # Errors
    /// See [`Self::alter_topic`].
    pub async fn alter_group(
        &self,
        metadata: &Metadata,
        group: &str,
        alterations: &[Alteration],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        if group.is_empty() {
            let message = "Default group resources are not allowed.";
            return Err(refuse(ErrorCode::InvalidRequest, message));
        }
        if group.len() > NAME_BYTES {
            let message = format!("A group's id may have {NAME_BYTES} bytes.");
            return Err(refuse(ErrorCode::InvalidRequest, message));
        }
        let changes =
            metadata.read(|state| self.check_group_changes(state, group, alterations, replace))?;
        if validate_only {
            return Ok(());
        }
        let target = ConfigTarget::Group(group.to_owned());
        decide_on(metadata, target, replace, changes).await
    }

    fn check_group_changes(
        &self,
        state: &State,
        group: &str,
        alterations: &[Alteration],
        replace: bool,
    ) -> Result<Vec<ConfigChange>, Refusal> {
        let (statics, dynamics) = (&self.shared.statics, state.cluster_configs());
        let default = |definition: &Definition| {
            group_configs::group_default(statics, dynamics, definition).to_owned()
        };
        let none = Values::new();
        let target = Target {
            definition: group_config,
            current: state.group_configs(group).unwrap_or(&none),
            default: &default,
            code: ErrorCode::InvalidConfig,
            unknown: unknown_group_config,
        };
        let (changes, altered) = target.plan(alterations, replace)?;
        group_configs::check_group(statics, dynamics, &altered)
            .map_err(|message| refuse(ErrorCode::InvalidConfig, message))?;
        Ok(changes)
    }

    fn check_topic_changes(
        &self,
        state: &State,
        own: &Values,
        alterations: &[Alteration],
        replace: bool,
    ) -> Result<Vec<ConfigChange>, Refusal> {
        let (statics, dynamics) = (&self.shared.statics, state.cluster_configs());
        let default = |definition: &Definition| {
            settings::topic_default(statics, dynamics, definition)
                .unwrap_or_default()
                .into_owned()
        };
        let target = Target {
            definition: topic_config,
            current: own,
            default: &default,
            code: ErrorCode::InvalidConfig,
            unknown: settings::unknown_topic_config,
        };
        let (changes, altered) = target.plan(alterations, replace)?;
        settings::check_topic(statics, dynamics, &altered)
            .map_err(|message| refuse(ErrorCode::InvalidConfig, message))?;
        Ok(changes)
    }

    fn check_cluster_changes(
        &self,
        state: &State,
        alterations: &[Alteration],
        replace: bool,
    ) -> Result<Vec<ConfigChange>, Refusal> {
        let (statics, dynamics) = (&self.shared.statics, state.cluster_configs());
        let fixed: Vec<&str> = alterations
            .iter()
            .filter_map(|alteration| broker_config(&alteration.name))
            .filter(|definition| !definition.dynamic || is_refused(definition))
            .map(|definition| definition.name)
            .collect();
        if !fixed.is_empty() {
            return Err(refuse(
                ErrorCode::InvalidRequest,
                format!(
                    "Cannot update these configs dynamically: [{}]",
                    fixed.join(", ")
                ),
            ));
        }
        let default = |definition: &Definition| {
            settings::broker_value(statics, &Values::new(), definition.name)
                .unwrap_or_default()
                .to_owned()
        };
        let target = Target {
            definition: broker_config,
            current: dynamics,
            default: &default,
            code: ErrorCode::InvalidRequest,
            unknown: settings::unknown_broker_config,
        };
        let (changes, altered) = target.plan(alterations, replace)?;
        let faults = settings::conflicts(|name| settings::broker_number(statics, &altered, name));
        if !faults.is_empty() {
            return Err(refuse(ErrorCode::InvalidRequest, faults.join("; ")));
        }
        Ok(changes)
    }
}

fn unknown_group_config(name: &str) -> String {
    let known = GROUP_CONFIGS.iter().map(|definition| definition.name);
    let near = nearest(name, known);
    let hint = near.map(|near| format!("; the nearest known one is {near}"));
    format!(
        "Unknown group config name: {name}{}",
        hint.unwrap_or_default()
    )
}

fn is_refused(definition: &Definition) -> bool {
    matches!(definition.stance, Stance::Refused(_))
}

impl Target<'_> {
    /// Checks alterations; the changes to propose, and what the settings will then be.
    pub(super) fn plan(
        &self,
        alterations: &[Alteration],
        replace: bool,
    ) -> Result<(Vec<ConfigChange>, Values), Refusal> {
        check_shape(alterations)?;
        let mut altered = if replace {
            Values::new()
        } else {
            self.current.clone()
        };
        let mut changes = Vec::with_capacity(alterations.len());
        for alteration in alterations {
            let Some(definition) = (self.definition)(&alteration.name) else {
                // As in Kafka, nothing is wrong with forgetting what was never known.
                if alteration.op == AlterationOp::Delete {
                    continue;
                }
                return Err(refuse(self.code, (self.unknown)(&alteration.name)));
            };
            let op = self.step(definition, alteration, &mut altered)?;
            changes.push(ConfigChange {
                name: alteration.name.clone(),
                op,
            });
        }
        Ok((changes, altered))
    }

    fn step(
        &self,
        definition: &'static Definition,
        alteration: &Alteration,
        altered: &mut Values,
    ) -> Result<ConfigOp, Refusal> {
        let name = definition.name;
        let given = alteration.value.as_deref().unwrap_or_default().trim();
        let invalid = |message: String| refuse(self.code, message);
        if alteration.op == AlterationOp::Delete {
            altered.remove(name);
            return Ok(ConfigOp::Delete);
        }
        if alteration.op == AlterationOp::Set {
            let value = definition.check(given).map_err(invalid)?;
            altered.insert(name.to_owned(), value.clone());
            return Ok(ConfigOp::Set(value));
        }
        if definition.kind != Kind::List {
            return Err(refuse(
                ErrorCode::InvalidConfig,
                format!(
                    "Can't {} to key {name} because its type is not LIST.",
                    alteration.op.name()
                ),
            ));
        }
        let default = (self.default)(definition);
        let old = altered.get(name).unwrap_or(&default).clone();
        let append = alteration.op == AlterationOp::Append;
        let value = definition
            .check(&combine(&old, given, append))
            .map_err(invalid)?;
        altered.insert(name.to_owned(), value);
        let value = given.to_owned();
        Ok(if append {
            ConfigOp::Append { default, value }
        } else {
            ConfigOp::Subtract { default, value }
        })
    }
}

/// A list with elements added at its end, or taken.
fn combine(old: &str, given: &str, append: bool) -> String {
    let mut list: Vec<&str> = elements(old).collect();
    for element in elements(given) {
        if !append {
            list.retain(|known| *known != element);
        } else if !list.contains(&element) {
            list.push(element);
        }
    }
    list.join(",")
}

/// What is wrong with a request whatever its settings mean.
fn check_shape(alterations: &[Alteration]) -> Result<(), Refusal> {
    let request = |message: String| Err(refuse(ErrorCode::InvalidRequest, message));
    let nulls: Vec<&str> = alterations
        .iter()
        .filter(|alteration| alteration.value.is_none() && alteration.op != AlterationOp::Delete)
        .map(|alteration| alteration.name.as_str())
        .collect();
    if !nulls.is_empty() {
        return request(format!(
            "Null value not supported for : {}",
            nulls.join(", ")
        ));
    }
    let mut seen = BTreeSet::new();
    if !alterations
        .iter()
        .all(|alteration| seen.insert(alteration.name.as_str()))
    {
        return request("Error due to duplicate config keys".to_owned());
    }
    Ok(())
}
