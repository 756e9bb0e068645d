//! Configuration of topics and of the cluster. Values are not looked into: whoever made the command
//! has checked them.

use std::collections::BTreeMap;

use crate::command::{Change, ConfigChange, ConfigOp, ConfigTarget, Outcome, Refusal};
use crate::state::{State, unknown_topic};

pub(crate) fn alter(
    state: &mut State,
    target: &ConfigTarget,
    replace: bool,
    steps: Vec<ConfigChange>,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let configs = match target {
        ConfigTarget::Cluster => &mut state.cluster_configs,
        ConfigTarget::Topic(id) => {
            &mut state
                .topics
                .get_mut(id)
                .ok_or_else(|| unknown_topic(*id))?
                .configs
        }
    };
    if replace {
        configs.clear();
    }
    for step in steps {
        take(configs, step);
    }
    changes.push(Change::Topics);
    Ok(Outcome::Done)
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
