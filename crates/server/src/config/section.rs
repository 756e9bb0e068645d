//! How a section is declared and read.

use std::collections::BTreeMap;

use super::errors::ConfigError;
use super::layers::Setting;
use super::nearest::nearest;
use super::value::Value;

/// A struct whose fields are keys.
pub(crate) trait Section: Sized {
    /// The keys, section included.
    const KEYS: &'static [&'static str];

    /// Takes the section's keys out of `settings`; what is not set, or wrong, is as in `defaults`.
    fn read(settings: &mut Settings, defaults: &Self) -> Self;

    /// What each key means and is by default, given the defaults of both commands.
    fn explain(dev: &Self, server: &Self) -> Vec<Explained>;
}

/// A key as the documentation shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// `section.key`.
    pub key: &'static str,
    /// What it means, in Markdown.
    pub words: String,
    /// What it is when nobody sets it, in `alluvium dev`.
    pub dev: String,
    /// The same in `alluvium server`.
    pub server: String,
}

/// Declares a section: a struct with its keys' types, defaults and documentation.
macro_rules! section {
    (
        $(#[$doc:meta])*
        pub struct $name:ident in $prefix:literal {
            $($(#[doc = $field_doc:literal])* $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::config::section::Section for $name {
            const KEYS: &'static [&'static str] = &[$(concat!($prefix, stringify!($field)),)*];

            fn read(
                settings: &mut $crate::config::section::Settings,
                defaults: &Self,
            ) -> Self {
                Self {
                    $($field: settings
                        .take(concat!($prefix, stringify!($field)), &defaults.$field),)*
                }
            }

            fn explain(dev: &Self, server: &Self) -> Vec<$crate::config::section::Explained> {
                use $crate::config::value::Value;
                vec![$($crate::config::section::Explained {
                    key: concat!($prefix, stringify!($field)),
                    words: concat!($($field_doc),*).trim().to_owned(),
                    dev: dev.$field.write(),
                    server: server.$field.write(),
                },)*]
            }
        }
    };
}
pub(crate) use section;

/// Settings that nobody has taken yet, and what was wrong with those that were.
#[derive(Debug)]
pub(crate) struct Settings {
    left: BTreeMap<String, Setting>,
    errors: Vec<ConfigError>,
}

impl Settings {
    pub(crate) fn new(layers: BTreeMap<String, Setting>) -> Self {
        Self {
            left: layers,
            errors: Vec::new(),
        }
    }

    pub(crate) fn take<V: Value>(&mut self, key: &str, default: &V) -> V {
        let Some(setting) = self.left.remove(key) else {
            return default.clone();
        };
        match V::read(&setting.text) {
            Ok(value) => value,
            Err(reason) => {
                self.errors
                    .push(ConfigError::at(key, setting.source, reason));
                default.clone()
            }
        }
    }

    /// Tells what is left apart: Kafka's broker settings, and keys that nobody knows.
    pub(crate) fn split_rest(
        &mut self,
        ours: &[&'static str],
    ) -> (BTreeMap<String, String>, Vec<ConfigError>) {
        let mut broker = BTreeMap::new();
        let mut unknown = Vec::new();
        for (key, setting) in std::mem::take(&mut self.left) {
            let name = key.strip_prefix("kafka.").unwrap_or(&key);
            if is_broker_setting(name) {
                broker.insert(name.to_owned(), setting.text);
            } else {
                let known = ours.iter().copied().chain(broker_settings());
                let hint = nearest(name, known)
                    .map_or(String::new(), |hint| format!("; did you mean {hint}?"));
                unknown.push(ConfigError::at(
                    &key,
                    setting.source,
                    format!("unknown key{hint}"),
                ));
            }
        }
        (broker, unknown)
    }

    pub(crate) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }
}

fn is_broker_setting(name: &str) -> bool {
    broker_settings().any(|known| known == name)
}

/// The broker settings of Kafka that are understood.
fn broker_settings() -> impl Iterator<Item = &'static str> + Clone {
    alluvium_agent::topics::broker_configs().map(|definition| definition.name)
}
