//! `[settle]`.

use std::time::Duration;

use super::errors::ConfigError;
use super::section;
use super::value::ByteSize;

section! {
    /// When chunks that lie inside the metadata log or in write-ahead buffers are moved to an object.
    pub struct Settle in "settle." {
        /// When there are this many,
        bytes: ByteSize = ByteSize(64 << 20),
        /// or after this long, from 100ms to 1h.
        interval: Duration = Duration::from_secs(30),
    }
}

impl Settle {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&self.interval) {
            errors.push(ConfigError::of(
                "settle.interval",
                "is not between 100ms and 1h",
            ));
        }
        if self.bytes.0 > 64 << 20 {
            errors.push(ConfigError::of("settle.bytes", "is more than 64MiB"));
        }
    }
}
