//! `[flush]`.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::errors::ConfigError;
use super::section;
use super::value::ByteSize;

section! {
    /// When produced batches are sealed into a chunk, and how chunks become durable.
    pub struct Flush in "flush." {
        /// Longest time that a batch waits in the buffer, up to 10s.
        interval: Duration = Duration::from_millis(250),
        /// A chunk is sealed at this size, from 64KiB to 64MiB.
        chunk_bytes: ByteSize = ByteSize(8 << 20),
        /// Chunks whose upload may be under way at once.
        concurrent_puts: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7),
        /// Uploads a second that may be made before the interval is over or a chunk is full, to answer
        /// producers sooner. Each costs money on a cloud's store and nothing on a disk: unset, it is
        /// 20, and 10000 for `file://` and `memory://`.
        early_puts_per_second: Option<u16> = None,
        /// Bytes a second that may become durable inside the metadata log instead of in an object
        /// (small chunks only). 0 turns that off.
        inline_bytes_per_second: ByteSize = ByteSize(1 << 20),
    }
}

impl Flush {
    /// Early uploads a second, for a store.
    pub(crate) fn early_puts(&self, store_url: &str) -> u32 {
        let is_free = ["file:", "memory:"]
            .iter()
            .any(|scheme| store_url.starts_with(scheme));
        let default = if is_free { 10_000 } else { 20 };
        u32::from(self.early_puts_per_second.unwrap_or(default))
    }

    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if self.interval > Duration::from_secs(10) {
            errors.push(ConfigError::of("flush.interval", "is longer than 10s"));
        }
        if !(64 << 10..=64 << 20).contains(&self.chunk_bytes.0) {
            errors.push(ConfigError::of(
                "flush.chunk_bytes",
                "is not between 64KiB and 64MiB",
            ));
        }
        if self.concurrent_puts.get() > 256 {
            errors.push(ConfigError::of("flush.concurrent_puts", "is more than 256"));
        }
    }
}
