//! `[cache]`.

use super::section;
use super::value::ByteSize;

section! {
    /// What is kept in memory for readers.
    pub struct Cache in "cache." {
        /// Blocks of objects that were read before.
        bytes: ByteSize = ByteSize(64 << 20),
        /// Chunks that were just written, for readers at the tail.
        recent_bytes: ByteSize = ByteSize(64 << 20),
    }
}
