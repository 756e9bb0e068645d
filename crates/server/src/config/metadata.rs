//! `[metadata]`.

use super::errors::ConfigError;
use super::section;
use super::value::ByteSize;

section! {
    /// The voter of the metadata quorum.
    pub struct Metadata in "metadata." {
        /// A snapshot is taken after this many bytes of log, at least 1MiB.
        snapshot_log_bytes: ByteSize = ByteSize(64 << 20),
    }
}

impl Metadata {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if self.snapshot_log_bytes.0 < 1 << 20 {
            errors.push(ConfigError::of(
                "metadata.snapshot_log_bytes",
                "is less than 1MiB",
            ));
        }
    }
}
