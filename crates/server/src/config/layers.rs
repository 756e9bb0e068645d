//! The layers, each flattened to `section.key` and text, one laid over the other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Config;
use super::errors::ConfigError;
use super::nearest::nearest;

/// Variables of ours begin with this.
const PREFIX: &str = "ALLUVIUM_";

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// The environment; variables of other programs may be among them.
    pub env: Vec<(String, String)>,
    /// The command line, in order.
    pub overrides: Vec<Override>,
}

/// A key that the command line sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// `section.key`, or one of Kafka's broker settings.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The flag that set it, for error messages.
    pub flag: &'static str,
}

impl Override {
    /// Reads the argument of `--set`.
    ///
    /// # Errors
    /// It is not `key=value`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self {
                key: key.trim().to_owned(),
                value: value.to_owned(),
                flag: "--set",
            }),
            _ => Err(format!("{text:?} is not key=value")),
        }
    }
}

/// One value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) text: String,
    pub(crate) source: String,
}

/// Lays the layers over each other.
pub(crate) fn gather(sources: &Sources) -> (BTreeMap<String, Setting>, Vec<ConfigError>) {
    let mut settings = BTreeMap::new();
    let mut errors = Vec::new();
    if let Some(path) = &sources.file {
        let source = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => read_file(&text, &source, &mut settings, &mut errors),
            Err(error) => errors.push(ConfigError::of(source, format!("cannot be read: {error}"))),
        }
    }
    read_env(&sources.env, &mut settings);
    for Override { key, value, flag } in &sources.overrides {
        let setting = Setting {
            text: value.clone(),
            source: (*flag).to_owned(),
        };
        settings.insert(canonical(key), setting);
    }
    (settings, errors)
}

/// Kafka's settings may be written with or without our section's name.
fn canonical(key: &str) -> String {
    match key.strip_prefix("kafka.") {
        Some(name) if !Config::keys().contains(&key) => name.to_owned(),
        _ => key.to_owned(),
    }
}

fn read_file(
    text: &str,
    source: &str,
    settings: &mut BTreeMap<String, Setting>,
    errors: &mut Vec<ConfigError>,
) {
    match text.parse::<toml::Table>() {
        Ok(table) => flatten("", &table, source, settings, errors),
        Err(error) => errors.push(ConfigError::of(source, error.to_string().trim_end())),
    }
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    source: &str,
    settings: &mut BTreeMap<String, Setting>,
    errors: &mut Vec<ConfigError>,
) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if let toml::Value::Table(inner) = value {
            flatten(&format!("{key}."), inner, source, settings, errors);
        } else {
            match text_of(value) {
                Some(text) => {
                    let setting = Setting {
                        text,
                        source: source.to_owned(),
                    };
                    settings.insert(canonical(&key), setting);
                }
                None => errors.push(ConfigError::at(
                    key,
                    source,
                    "is neither a value nor a list of values",
                )),
            }
        }
    }
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(time) => Some(time.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .map(text_of)
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        toml::Value::Table(_) => None,
    }
}

fn read_env(env: &[(String, String)], settings: &mut BTreeMap<String, Setting>) {
    let ours = Config::keys();
    for (variable, value) in env {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let name = name.to_ascii_lowercase();
        let key = match name.split_once("__") {
            // Kafka's names have dots where a variable has underscores.
            Some(("kafka", rest)) if !ours.contains(&format!("kafka.{rest}").as_str()) => {
                rest.replace('_', ".")
            }
            Some((section, key)) => format!("{section}.{key}"),
            // Without a section it may be anybody's; only what looks like ours is taken.
            None if is_nearly_ours(&name, &ours) => name,
            None => continue,
        };
        settings.insert(
            key,
            Setting {
                text: value.clone(),
                source: variable.clone(),
            },
        );
    }
}

fn is_nearly_ours(name: &str, ours: &[&str]) -> bool {
    let top_level = || ours.iter().copied().filter(|key| !key.contains('.'));
    nearest(name, top_level()).is_some_and(|key| {
        let same = key
            .chars()
            .zip(name.chars())
            .take_while(|(a, b)| a == b)
            .count();
        key == name || (same >= 4 && key.len().abs_diff(name.len()) <= 2)
    })
}
