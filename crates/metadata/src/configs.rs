//! Configuration of topics, of the cluster, of groups and of client metrics subscriptions. Values are not looked into: whoever made the command
//! has checked them.

use std::collections::BTreeMap;

use crate::command::{Change, ConfigChange, ConfigOp, ConfigTarget, Outcome, Refusal};
use crate::state::{NamedConfigs, State, unknown_topic};

pub(crate) fn alter(
    state: &mut State,
    target: &ConfigTarget,
    replace: bool,
    steps: Vec<ConfigChange>,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    match target {
        ConfigTarget::Cluster => take_all(&mut state.cluster_configs, replace, steps),
        ConfigTarget::Topic(id) => {
            let topic = state.topics.get_mut(id);
            let topic = topic.ok_or_else(|| unknown_topic(*id))?;
            take_all(&mut topic.configs, replace, steps);
        }
        ConfigTarget::Group(id) => {
            alter_named(&mut state.group_configs, id, replace, steps);
            changes.push(Change::Groups);
            return Ok(Outcome::Done);
        }
        ConfigTarget::ClientMetrics(name) => {
            alter_named(&mut state.client_metrics, name, replace, steps);
            return Ok(Outcome::Done);
        }
    }
    changes.push(Change::Topics);
    Ok(Outcome::Done)
}

/// What has no configuration left is not named any more.
fn alter_named(all: &mut NamedConfigs, name: &str, replace: bool, steps: Vec<ConfigChange>) {
    let mut configs = all.remove(name).unwrap_or_default();
    take_all(&mut configs, replace, steps);
    if !configs.is_empty() {
        all.insert(name.to_owned(), configs);
    }
}

fn take_all(configs: &mut BTreeMap<String, String>, replace: bool, steps: Vec<ConfigChange>) {
    if replace {
        configs.clear();
    }
    for step in steps {
        take(configs, step);
    }
}

/// One step, as KIP-339 has it.
fn take(configs: &mut BTreeMap<String, String>, step: ConfigChange) {
    let ConfigChange { name, op } = step;
    let value = match op {
        ConfigOp::Set(value) => value,
        ConfigOp::Delete => {
            configs.remove(&name);
            return;
        }
        ConfigOp::Append { default, value } => {
            let current = configs.get(&name).unwrap_or(&default);
            let mut list: Vec<&str> = elements(current).collect();
            for element in elements(&value) {
                if !list.contains(&element) {
                    list.push(element);
                }
            }
            list.join(",")
        }
        ConfigOp::Subtract { default, value } => {
            let current = configs.get(&name).unwrap_or(&default);
            let taken: Vec<&str> = elements(&value).collect();
            let left: Vec<&str> = elements(current)
                .filter(|element| !taken.contains(element))
                .collect();
            left.join(",")
        }
    };
    configs.insert(name, value);
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests;
