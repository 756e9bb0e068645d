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
}

impl Value for Duration {
    fn read(text: &str) -> Result<Self, String> {
        parse_duration(text).map_err(|error| error.to_string())
    }
}

impl Value for String {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; give it a value or leave the key out".to_owned());
        }
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        String::read(text).map(Self::from)
    }
}

impl Value for NonZeroUsize {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is not a whole number above 0"))
    }
}

impl Value for u16 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is not a whole number from 0 to 65535"))
    }
}

impl<V: Value> Value for Option<V> {
    fn read(text: &str) -> Result<Self, String> {
        V::read(text).map(Some)
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
}

impl Value for UnknownKeys {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            _ => Err(format!("{text:?} is neither \"error\" nor \"warn\"")),
        }
    }
}
