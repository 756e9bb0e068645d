//! Values as people write them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use alluvium_types::{parse_bytes, parse_duration};

/// Something that can be read from a setting's text.
pub(crate) trait Value: Clone {
    /// Reads it.
    ///
    /// # Errors
    /// What was expected instead.
    fn read(text: &str) -> Result<Self, String>;

    /// The text that [`Self::read`] makes this value of; empty for nothing at all.
    fn write(&self) -> String;
}

/// A number of bytes, written as `8MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a length in memory.
    #[must_use]
    pub fn get(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves clients.
    Agent,
    /// A voter of the metadata quorum.
    Metadata,
}

impl Role {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Metadata => "metadata",
        }
    }
}

/// What to do about a key that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKeys {
    /// Refuse to start.
    Error,
    /// Say so and go on.
    Warn,
}

impl Value for ByteSize {
    fn read(text: &str) -> Result<Self, String> {
        parse_bytes(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let whole = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        units
            .into_iter()
            .find(|(_, shift)| whole(*shift))
            .map_or_else(
                || self.0.to_string(),
                |(unit, shift)| format!("{}{unit}", self.0 >> shift),
            )
    }
}

impl Value for Duration {
    fn read(text: &str) -> Result<Self, String> {
        parse_duration(text).map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        let millis = self.as_millis();
        let units = [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
        ];
        let whole = |millis_each: u128| millis != 0 && millis.is_multiple_of(millis_each);
        units
            .into_iter()
            .find(|(_, each)| whole(*each))
            .map_or_else(
                || format!("{millis}ms"),
                |(unit, each)| format!("{}{unit}", millis / each),
            )
    }
}

impl Value for String {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; give it a value or leave the key out".to_owned());
        }
        Ok(text.to_owned())
    }

    fn write(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        String::read(text).map(Self::from)
    }

    fn write(&self) -> String {
        self.display().to_string()
    }
}

impl Value for NonZeroUsize {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is not a whole number above 0"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for u16 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is not a whole number from 0 to 65535"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is not a whole number"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl<V: Value> Value for Option<V> {
    fn read(text: &str) -> Result<Self, String> {
        V::read(text).map(Some)
    }

    fn write(&self) -> String {
        self.as_ref().map_or(String::new(), Value::write)
    }
}

impl<V: Value> Value for Vec<V> {
    fn read(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(V::read)
            .collect()
    }

    fn write(&self) -> String {
        self.iter().map(Value::write).collect::<Vec<_>>().join(", ")
    }
}

impl Value for Role {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "agent" => Ok(Self::Agent),
            "metadata" => Ok(Self::Metadata),
            _ => Err(format!(
                "{text:?} is no role; there are \"agent\" and \"metadata\""
            )),
        }
    }

    fn write(&self) -> String {
        self.name().to_owned()
    }
}

impl Value for UnknownKeys {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            _ => Err(format!("{text:?} is neither \"error\" nor \"warn\"")),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
        }
        .to_owned()
    }
}
