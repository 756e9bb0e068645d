//! `[journal]`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::errors::ConfigError;
use super::value::{ByteSize, Role};
use super::{Config, section};

section! {
    /// The agent's write-ahead buffer: chunks on its disk that are not in the object store yet.
    pub struct Journal in "journal." {
        /// Its folder. Unset, it is `journal` in `data_dir`.
        dir: Option<PathBuf> = None,
        /// Most bytes on disk, from 64MiB and eight times `flush.chunk_bytes`. While the object store takes nothing, producers on the lane
        /// `auto` go on until it is full. 0 turns it off: acks=1 is then as acks=all.
        bytes: ByteSize = ByteSize(1 << 30),
        /// Bytes of the newest chunks that stay in memory, for readers and for settling. Unset, it is 3%
        /// of `memory.limit`, up to 64MiB.
        memory_bytes: Option<ByteSize> = None,
        /// Copies of a chunk, in buffers of agents in different zones, without which it is not safe: it
        /// is settled at once, and read by nobody before. Unset, it is 1 where the metadata quorum is
        /// one node, else 2.
        min_copies: Option<NonZeroUsize> = None,
    }
}

impl Journal {
    /// Chunks of `chunk_bytes` must have room in the buffer several times over: it takes none while it
    /// has not.
    pub(super) fn check(&self, chunk_bytes: ByteSize, errors: &mut Vec<ConfigError>) {
        if (1..64 << 20).contains(&self.bytes.0) {
            errors.push(ConfigError::of(
                "journal.bytes",
                "is less than 64MiB and not 0",
            ));
        } else if (1..chunk_bytes.0.saturating_mul(8)).contains(&self.bytes.0) {
            errors.push(ConfigError::of(
                "journal.bytes",
                "is less than eight times flush.chunk_bytes: chunks would hardly find room in it",
            ));
        }
        if self.min_copies.is_some_and(|copies| copies.get() > 5) {
            errors.push(ConfigError::of("journal.min_copies", "is more than 5"));
        }
    }
}

impl Config {
    /// The folder of the write-ahead buffer.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        let dir = self.journal.dir.clone();
        dir.unwrap_or_else(|| self.process.data_dir.join("journal"))
    }

    /// Copies without which a chunk is not safe.
    pub(crate) fn journal_min_copies(&self) -> usize {
        let nodes = self.cluster.nodes.len();
        let is_alone = nodes <= 1 && self.has(Role::Metadata) && self.cluster.listen.is_none();
        let default = if nodes == 1 || is_alone { 1 } else { 2 };
        self.journal.min_copies.map_or(default, NonZeroUsize::get)
    }
}
