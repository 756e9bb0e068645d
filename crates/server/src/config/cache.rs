//! `[cache]`.

use std::path::PathBuf;

use super::section;
use super::value::ByteSize;

section! {
    /// What is kept in memory for readers.
    pub struct Cache in "cache." {
        /// Blocks of objects that were read before. Unset, it is 25% of `memory.limit`.
        bytes: Option<ByteSize> = None,
        /// Chunks that were just written, for readers at the tail. Unset, it is 6% of `memory.limit`,
        /// up to 512MiB.
        recent_bytes: Option<ByteSize> = None,
        /// Bytes of the local disk that blocks may take too, found again after a restart. 0 is no such
        /// tier; a local SSD is worth one, the disk under a `file://` store is not.
        disk_bytes: ByteSize = ByteSize(0),
        /// Where they lie. Unset, it is `cache` in `data_dir`.
        disk_dir: Option<PathBuf> = None,
    }
}
