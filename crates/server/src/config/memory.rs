//! `[memory]`.

use super::errors::ConfigError;
use super::section;
use super::value::ByteSize;

section! {
    /// Bytes that all connections share. Past a bound a connection is not read, so that its client
    /// slows down.
    pub struct Memory in "memory." {
        /// Requests that were read and are not answered yet.
        requests: ByteSize = ByteSize(128 << 20),
        /// Records that were read for fetches and are not sent yet.
        responses: ByteSize = ByteSize(128 << 20),
    }
}

impl Memory {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        for (key, size) in [
            ("memory.requests", self.requests),
            ("memory.responses", self.responses),
        ] {
            if size.0 < 4 << 20 {
                errors.push(ConfigError::of(key, "is less than 4MiB"));
            }
        }
    }
}
